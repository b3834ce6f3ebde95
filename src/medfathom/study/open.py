"""Create a study, resume it, refuse it, or set it aside."""

from __future__ import annotations

import json
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.study import Study
from optuna.trial import TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.growth import news_of
from medfathom.definitions.space import Dimension, SpaceConfig
from medfathom.errors import RunError, StorageError, cause_of
from medfathom.files import home
from medfathom.metrics.rules import is_loss, objective_title
from medfathom.study.connection import close, connect
from medfathom.study.driver import Driver
from medfathom.study.front import COSTS
from medfathom.study.growth import EARLIER, grow, told
from medfathom.study.ids import study_id_of, trial_id_of
from medfathom.study.patience import UNANSWERED
from medfathom.study.read import SCHEMA, find_study_id, refuse_newer, stored_definition
from medfathom.study.sharing import LEASE_S, Alone, Ownership, Shared
from medfathom.study.storage import Storage
from medfathom.study.summary import GOES_ON_FROM
from medfathom.urls import shown, sqlite_file

optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def open_study(
    config: StudyConfig,
    url: str,
    fingerprint: str,
    *,
    fresh: bool = False,
    marks: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Driver]:
    """Create the study, or resume it, and hold it while the block runs.

    Args:
        config: the definition.
        url: the storage.
        fingerprint: of the prepared data set.
        fresh: set an existing study of this name aside (it stays, renamed) and begin anew.
        marks: attributes that the study is created with; an existing one with others is set aside.
        tell: told, in a line, what is new in a study that goes on, and while the storage does not answer.

    Raises:
        StorageError: the definition or the data changed, another run holds the study, no storage.
        RunError: the storage ceased to answer.
    """
    with _connected(url, config.name) as (storage, ownership), ExitStack() as opened:
        try:
            with ownership.exclusively():
                if fresh or _marked_otherwise(storage, config.name, marks):
                    _set_aside(storage, config.name, ownership)
                study = _create_or_resume(storage, config, fingerprint, marks, ownership, tell)
                others = ownership.anyone_at_work_on(study_id_of(study))
                opened.enter_context(ownership.at_work_on(study_id_of(study)))
        except UNANSWERED as error:
            raise _not_writable(url, error) from None
        driver = Driver(
            study,
            storage,
            config,
            ownership,
            checkpoints=home() / "checkpoints" / f"{study.study_name}-{study.user_attrs['uid']}",
            tell=tell,
            file=sqlite_file(url),
        )
        driver.others_at_work = others
        try:
            yield driver
        except UNANSWERED as error:  # outside of the driver's patience: attributes of the study
            raise RunError(
                f"{shown(url)}: the storage does not answer ({cause_of(error)}); "
                "the same command goes on once it does"
            ) from None
        finally:
            driver.release()


@contextmanager
def _connected(url: str, name: str) -> Iterator[tuple[Storage, Ownership]]:
    """A storage to write, and who works on what in it."""
    file = sqlite_file(url)
    with ExitStack() as opened:
        alone = opened.enter_context(Alone.locking(file, name)) if file is not None else None
        storage = connect(url, create=True)
        opened.callback(close, storage)
        try:
            ownership = alone or Shared(storage.engine)
        except UNANSWERED as error:
            raise _not_writable(url, error) from None
        yield storage, ownership


def _not_writable(url: str, error: Exception) -> StorageError:
    return StorageError(f"{shown(url)}: cannot be written ({cause_of(error)})")


def _marked_otherwise(storage: Storage, name: str, marks: Mapping[str, str]) -> bool:
    found = find_study_id(storage, name)
    known = storage.get_study_user_attrs(found) if found is not None else {}
    return "definition" in known and any(known.get(key) != value for key, value in marks.items())


def _create_or_resume(
    storage: Storage,
    config: StudyConfig,
    fingerprint: str,
    marks: Mapping[str, str],
    ownership: Ownership,
    tell: Callable[[str], None],
) -> Study:
    if find_study_id(storage, config.name) is not None:
        study = optuna.load_study(study_name=config.name, storage=storage)
        if "definition" in study.user_attrs:  # else: killed between creating it and describing it
            news = _check_same(study, config, fingerprint)
            if news:
                tell(_grown(storage, study, config, ownership, news))
                return optuna.load_study(study_name=config.name, storage=storage)  # it keeps no old trials
            _describe(study, config)
            return study
    try:
        cost = config.objectives.cost
        first: Literal["minimize", "maximize"] = "minimize" if is_loss(config.objective) else "maximize"
        name = objective_title(config.objective)
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            directions=[first, "minimize"] if cost else [first],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([name, COSTS[cost]] if cost else [name])
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
    for key, value in _description(config).items():
        if known.get(key) != value:
            study.set_user_attr(key, value)


def _description(config: StudyConfig) -> dict[str, object]:
    definition = config.model_dump(mode="json")
    if url := config.resources.checkpoint_url:
        definition["resources"]["checkpoint_url"] = shown(url)  # whoever sees the storage sees no password
    return {
        "question": config.question,
        "goal": config.goal,
        "modality": config.dataset.modality,
        "definition_hash": config.definition_hash,
        "definition": definition,  # the last: it tells that all are there
    }


def _grown(storage: Storage, study: Study, config: StudyConfig, ownership: Ownership, news: list[str]) -> str:
    """Take the study's trials into the wider space. Returns what is new, in a line.

    Raises:
        StorageError: another run is at work on the study, with the space as it was.
    """
    found = study_id_of(study)
    if why := _who_is_at_work(storage, found, ownership):
        raise StorageError(
            f"study {config.name!r} cannot take in what is new ({'; '.join(news)}): {why}; wait until it ends"
        )
    before = _space_of(study, config)
    begun = [t for t in study.get_trials(deepcopy=False) if GOES_ON_FROM not in t.user_attrs]
    earlier = [
        *study.user_attrs.get(EARLIER, []),
        {"space": before.model_dump(mode="json"), "trials": len(begun)},
    ]
    trials = grow(storage, found, before, config, {EARLIER: earlier, **_description(config)})
    return told(before, config, trials, news)


def _space_of(study: Study, config: StudyConfig) -> SpaceConfig:
    """As the study's latest run had it; where only the new one has sizes, with the size of its data."""
    definition = study.user_attrs["definition"]
    space = SpaceConfig.model_validate(definition["space"])
    if "image_size" in space.dimensions or "image_size" not in config.space.dimensions:
        return space
    size = Dimension(role="fixed", value=definition["dataset"]["image_size"])
    return space.model_copy(update={"dimensions": {**space.dimensions, "image_size": size}})


def _set_aside(storage: Storage, name: str, ownership: Ownership) -> None:
    """Give a study another name, where there is one: what was paid for stays.

    Raises:
        StorageError: another run has it open, or holds one of its trials.
    """
    found = find_study_id(storage, name)
    if found is None:
        return
    if why := _who_is_at_work(storage, found, ownership):
        raise StorageError(
            f"study {name!r} cannot be set aside: {why}; wait until it ends, or share the work "
            "without --fresh"
        )
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    optuna.copy_study(
        from_study_name=name,
        from_storage=storage,
        to_storage=storage,
        to_study_name=f"{name} (until {stamp})",
    )
    optuna.delete_study(study_name=name, storage=storage)


def _who_is_at_work(storage: Storage, found: int, ownership: Ownership) -> str:
    """That another run is at work on a study, in words; empty: none is."""
    if ownership.anyone_at_work_on(found):
        return "another run is working on it"
    running = storage.get_all_trials(found, deepcopy=False, states=(TrialState.RUNNING,))
    held = ownership.held_by_others(map(trial_id_of, running))
    numbers = [t.number for t in running if trial_id_of(t) in held]
    if not numbers:
        return ""
    # Its connections broke, or it died a moment ago.
    return f"trial {numbers[0]} belongs to another run, or did until less than {LEASE_S:.0f} s ago"


def _check_same(study: Study, config: StudyConfig, fingerprint: str) -> list[str]:
    """Raise StorageError where this is another study. Returns what its space has beyond the study's."""
    attributes = study.user_attrs
    anew = "`--fresh` starts a new one and keeps the old one under another name"
    refuse_newer(study)
    news: list[str] = []
    if attributes["definition_hash"] != config.definition_hash:
        before, after = _identity(study), config.identity()
        news = news_of(_space_of(study, config), config.space) or []
        if news:
            before, after = ({**whole, "space": None} for whole in (before, after))
        changes = "; ".join(difference(before, after))
        if changes:
            raise StorageError(
                f"study {config.name!r} was started with another definition ({changes}); {anew}"
            )
    if attributes["dataset_fingerprint"] != fingerprint:
        raise StorageError(
            f"study {config.name!r} was started on other data (fingerprint "
            f"{attributes['dataset_fingerprint'][:12]}, now {fingerprint[:12]}); {anew}"
        )
    return news


def _identity(study: Study) -> dict[str, object]:
    """What makes a study the same, from its stored definition."""
    # A confirmation's name is none that a definition may have.
    name = study.user_attrs["definition"]["name"]
    return stored_definition(study, name="study").identity() | {"name": name}


def difference(before: Any, after: Any, key: str = "") -> list[str]:
    """What changed between two nested tables, as `key: old -> new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(k for k in after if k not in before)]
        inner = (difference(before.get(k), after.get(k), f"{key}.{k}" if key else k) for k in names)
        return [line for lines in inner for line in lines]
    return [] if before == after else [f"{key}: {json.dumps(before)} -> {json.dumps(after)}"]
