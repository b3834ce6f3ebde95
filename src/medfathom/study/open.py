"""Create a study, resume it, refuse it, or set it aside."""

from __future__ import annotations

import json
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.errors import StorageError, cause_of
from medfathom.files import home
from medfathom.study.connection import close, connect
from medfathom.study.driver import Driver
from medfathom.study.read import find_study_id
from medfathom.study.sharing import LEASE_S, Alone, Ownership, Shared
from medfathom.urls import shown, sqlite_file

SCHEMA = 1
"""Version of what medfathom writes into a study; a study of a newer one is refused."""


optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def open_study(
    config: StudyConfig,
    url: str,
    fingerprint: str,
    *,
    fresh: bool = False,
    marks: Mapping[str, str] = MappingProxyType({}),
    wait: Callable[[str], None] = lambda _: None,
) -> Iterator[Driver]:
    """Create the study, or resume it, and hold it while the block runs.

    Args:
        config: the definition.
        url: the storage.
        fingerprint: of the prepared data set.
        fresh: set an existing study of this name aside (it stays, renamed) and begin anew.
        marks: attributes that the study is created with; an existing one with others is set aside.
        wait: told, in words, while the storage does not answer.

    Raises:
        StorageError: the definition or the data changed, another run holds the study, no storage.
    """
    with _connected(url, config.name) as (storage, ownership), ExitStack() as opened:
        try:
            with ownership.exclusively():
                if fresh or _marked_otherwise(storage, config.name, marks):
                    _set_aside(storage, config.name, ownership)
                study = _create_or_resume(storage, config, fingerprint, marks)
                opened.enter_context(ownership.at_work_on(study._study_id))
        except (StorageInternalError, sa.exc.OperationalError) as error:
            raise _not_writable(url, error) from None
        driver = Driver(
            study,
            storage,
            config,
            ownership,
            checkpoints=home() / "checkpoints" / f"{study.study_name}-{study.user_attrs['uid']}",
            tell=wait,
            file=sqlite_file(url),
        )
        try:
            yield driver
        finally:
            driver.release()


@contextmanager
def _connected(url: str, name: str) -> Iterator[tuple[RDBStorage, Ownership]]:
    """A storage to write, and who works on what in it."""
    file = sqlite_file(url)
    with ExitStack() as opened:
        alone = opened.enter_context(Alone.locking(file, name)) if file is not None else None
        storage = connect(url, create=True)
        opened.callback(close, storage)
        try:
            ownership = alone or Shared(storage.engine)
        except sa.exc.OperationalError as error:
            raise _not_writable(url, error) from None
        yield storage, ownership


def _not_writable(url: str, error: Exception) -> StorageError:
    return StorageError(f"{shown(url)}: cannot be written ({cause_of(error)})")


def _marked_otherwise(storage: RDBStorage, name: str, marks: Mapping[str, str]) -> bool:
    study_id = find_study_id(storage, name)
    known = storage.get_study_user_attrs(study_id) if study_id is not None else {}
    return "definition" in known and any(known.get(key) != value for key, value in marks.items())


def _create_or_resume(
    storage: RDBStorage, config: StudyConfig, fingerprint: str, marks: Mapping[str, str]
) -> Study:
    if find_study_id(storage, config.name) is not None:
        study = optuna.load_study(study_name=config.name, storage=storage)
        if "definition" in study.user_attrs:  # else: killed between creating it and describing it
            _check_same(study, config, fingerprint)
            _describe(study, config)
            return study
    try:
        study = optuna.create_study(
            storage=storage, study_name=config.name, direction="maximize", load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["AUC"])
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=config.name, storage=storage)
    for key, value in marks.items():
        study.set_user_attr(key, value)
    study.set_user_attr("schema", SCHEMA)
    study.set_user_attr("uid", uuid.uuid4().hex[:8])
    study.set_user_attr("dataset_fingerprint", fingerprint)
    _describe(study, config)
    return study


def _describe(study: Study, config: StudyConfig) -> None:
    """Write down the definition, and what others read of it, as the latest run has it.

    What is not part of a study's identity may change: texts, the budget's totals, places, resources.
    """
    known = study.user_attrs
    attributes = {
        "question": config.question,
        "goal": config.goal,
        "modality": config.dataset.modality,
        "definition_hash": config.definition_hash,
        "identity": config.identity(),
        "definition": config.model_dump(mode="json"),  # the last: it tells that all are there
    }
    for key, value in attributes.items():
        if known.get(key) != value:
            study.set_user_attr(key, value)


def _set_aside(storage: RDBStorage, name: str, ownership: Ownership) -> None:
    """Give a study another name, where there is one: what was paid for stays.

    Raises:
        StorageError: another run has it open, or holds one of its trials.
    """
    study_id = find_study_id(storage, name)
    if study_id is None:
        return
    _check_nobody_is_at_work(storage, name, study_id, ownership)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    optuna.copy_study(
        from_study_name=name,
        from_storage=storage,
        to_storage=storage,
        to_study_name=f"{name} (until {stamp})",
    )
    optuna.delete_study(study_name=name, storage=storage)


def _check_nobody_is_at_work(storage: RDBStorage, name: str, study_id: int, ownership: Ownership) -> None:
    why = "another run is at work on it" if ownership.anyone_at_work_on(study_id) else ""
    running = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
    held = ownership.held_by_others(t._trial_id for t in running)
    numbers = [t.number for t in running if t._trial_id in held]
    if numbers and not why:  # its connections broke, or it died a moment ago
        why = f"trial {numbers[0]} is another run's, or was until less than {LEASE_S:.0f} s ago"
    if why:
        raise StorageError(
            f"study {name!r} cannot be set aside: {why}; wait for its end, or share the work without --fresh"
        )


def _check_same(study: Study, config: StudyConfig, fingerprint: str) -> None:
    attributes = study.user_attrs
    anew = "`--fresh` begins anew and keeps the old one under another name"
    if attributes["schema"] > SCHEMA:
        raise StorageError(
            f"study {config.name!r} was made by a newer medfathom (schema {attributes['schema']}); upgrade"
        )
    if attributes["definition_hash"] != config.definition_hash:
        changes = "; ".join(difference(attributes["identity"], config.identity()))
        raise StorageError(f"study {config.name!r} was begun with another definition ({changes}); {anew}")
    if attributes["dataset_fingerprint"] != fingerprint:
        raise StorageError(
            f"study {config.name!r} was begun on other data (fingerprint "
            f"{attributes['dataset_fingerprint'][:12]}, now {fingerprint[:12]}); {anew}"
        )


def difference(before: Any, after: Any, key: str = "") -> list[str]:
    """What changed between two nested tables, as `key: old -> new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(k for k in after if k not in before)]
        inner = (difference(before.get(k), after.get(k), f"{key}.{k}" if key else k) for k in names)
        return [line for lines in inner for line in lines]
    return [] if before == after else [f"{key}: {json.dumps(before)} -> {json.dumps(after)}"]
