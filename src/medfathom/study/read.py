"""Studies of a storage, read."""

from __future__ import annotations

from collections.abc import Collection

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import names
from medfathom.definitions.space import further_settings, label
from medfathom.errors import StorageError, did_you_mean
from medfathom.study.choice import log_loss_of, rule_of
from medfathom.study.connection import connect
from medfathom.study.ids import storage_of, study_id_of
from medfathom.study.record import auc_of
from medfathom.study.trial_rows import read_trials
from medfathom.text import command
from medfathom.urls import shown


def find_study_id(storage: BaseStorage, name: str) -> int | None:
    """A study's id; None where there is no study of that name."""
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        return None


def read_study(url: str, name: str) -> Study:
    """A study to read. Raises StorageError with the nearest names, and how the study would come there."""
    first = f"; `{command('run', name)}` makes it" if name in names("study_defs") else ""
    try:
        storage = connect(url, create=False)
    except StorageError as error:
        if not first or "no such storage" not in str(error):
            raise
        raise StorageError(f"study {name!r} has not been run yet: {shown(url)} is not there{first}") from None
    known = [s.study_name for s in storage.get_all_studies()]
    if name not in known:
        raise StorageError(f"{shown(url)}: no study {name!r}; {did_you_mean(name, known)}{first}")
    return optuna.load_study(study_name=name, storage=storage)


def read_studies(url: str) -> list[Study]:
    """All studies of a storage, to read."""
    storage = connect(url, create=False)
    return [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]


def sibling_study(study: Study, name: str) -> Study | None:
    """Another study of the same storage; None: there is none of that name."""
    storage = storage_of(study)
    if find_study_id(storage, name) is None:
        return None
    return optuna.load_study(study_name=name, storage=storage)


def brief_trials(url: str, study: Study, attributes: Collection[str]) -> list[FrozenTrial]:
    """A study's trials with only some of their user attributes: for a look at a large study."""
    return read_trials(connect(url, create=False).engine, study_id_of(study), attributes)


def records(study: Study) -> list[dict[str, object]]:
    """A study's trials as plain mappings: their user attributes (`auc` among them), `state`, data set."""
    definition = study.user_attrs["definition"]
    strata = StudyConfig.model_validate(definition).space.strata()
    further = {label(stratum): further_settings(stratum) for stratum in strata}
    dataset = definition["dataset"].get("name") or study.study_name
    common = {
        "dataset": dataset,
        "modality": study.user_attrs["modality"],
        "study": study.study_name,
        "choice_by": rule_of(study),
    }
    return [
        {
            **common,
            **t.user_attrs,
            "number": t.number,
            "setting": further.get(str(t.user_attrs.get("stratum", "")), ""),
            "state": t.state.name,
            "log_loss": log_loss_of(t),
            "auc": auc_of(t) if t.state == TrialState.COMPLETE else None,
        }
        for t in study.get_trials(deepcopy=False)
    ]
