"""Studies of a storage, read."""

from __future__ import annotations

from collections.abc import Collection

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import names
from medfathom.definitions.space import further_settings, label
from medfathom.errors import NoStudyError, StorageError, did_you_mean
from medfathom.study.choice import log_loss_of, rule_of
from medfathom.study.connection import connect, engine_to_read
from medfathom.study.ids import storage_of, study_id_of
from medfathom.study.record import auc_of
from medfathom.study.summary import WITHDRAWN
from medfathom.study.trial_rows import read_trials
from medfathom.text import command
from medfathom.urls import shown

SCHEMA = 1
"""Version of what medfathom writes into a study. It rises when an older one would misread what is written:
not for a new attribute, which an older one passes over. Older schemas stay readable."""


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
        raise NoStudyError(f"study {name!r} has not been run yet: {shown(url)} is not there{first}") from None
    known = [s.study_name for s in storage.get_all_studies()]
    if name not in known:
        raise NoStudyError(f"{shown(url)}: no study {name!r}; {did_you_mean(name, known)}{first}")
    study = optuna.load_study(study_name=name, storage=storage)
    refuse_newer(study)
    return study


def refuse_newer(study: Study) -> None:
    """Raise StorageError for a study that a newer medfathom wrote: what it means by it is not known here."""
    if (found := study.user_attrs.get("schema", SCHEMA)) > SCHEMA:
        raise StorageError(
            f"study {study.study_name!r} was made by a newer medfathom (schema {found}; this one reads up to "
            f"{SCHEMA}); upgrade: pip install -U medfathom"
        )


def stored_definition(study: Study, **changes: object) -> StudyConfig:
    """The definition, as the study's latest run had it, with some of its keys changed.

    Raises:
        StorageError: a newer medfathom wrote it, with a key or a value that is not known here.
    """
    try:
        return StudyConfig.model_validate({**study.user_attrs["definition"], **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StorageError(
            f"study {study.study_name!r}: its definition has what this medfathom does not know ({where}: "
            f"{first['msg'].lower()}); a newer one ran it: pip install -U medfathom"
        ) from None


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
    return read_trials(engine_to_read(url), study_id_of(study), attributes)


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
        "choice_by": "auc" if rule_of(study) == "objective" else rule_of(study),  # an analysis is of AUCs
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
        if WITHDRAWN not in t.user_attrs
    ]
