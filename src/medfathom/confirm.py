"""The best configuration of every stratum, trained again with several seeds and judged on the test split."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.confirmation.choice import choose, unfinished_search
from medfathom.confirmation.find import (
    CONFIRMS,
    OPENINGS,
    confirmation_name,
    confirmed_folder,
    definition_of,
    find_confirmation,
    is_kept,
)
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.dashboard.notes import NotesAndPictures
from medfathom.data.leakage import LEAKAGE, leakage_note
from medfathom.definitions.config import SamplerConfig, SchedulerConfig, StudyConfig
from medfathom.errors import DataError, InputError, StorageError
from medfathom.files import home
from medfathom.study.connection import default_url
from medfathom.study.driver import trial_seed
from medfathom.study.ids import storage_of, trial_id_of
from medfathom.study.open import open_study
from medfathom.study.precision import settled_precision
from medfathom.study.read import read_study
from medfathom.study.summary import WITHDRAWN
from medfathom.study.watcher import Watcher

if TYPE_CHECKING:
    from medfathom.data.prepared import PreparedData
    from medfathom.study.driver import Driver
from medfathom.confirmation.choice import complete_trial

SEEDS = 3


FIRST_SEED = 2 * 10**6
"""Confirmation's seeds are drawn from here on: no search trial has such a number, so none is used twice."""


@dataclass(frozen=True)
class Job:
    """One configuration to be trained with one seed."""

    trial: FrozenTrial
    seed_index: int

    @property
    def key(self) -> tuple[int, int]:
        """Which job it is, in every run."""
        return self.trial.number, self.seed_index


@dataclass(frozen=True)
class Confirmation:
    """What a call of `confirm` left behind. `halted` says why it ended early; empty: it did not."""

    summary: dict[str, Any]
    halted: str


def confirm_study(
    name: str,
    *,
    seeds: int = SEEDS,
    top: int | None = None,
    trials: Sequence[int] = (),
    storage: str | None = None,
    address: str | None = None,
    watcher: Watcher | None = None,
) -> Confirmation:
    """Retrain the best configuration of every stratum and judge it on the test split, or go on with that.

    Args:
        name: of a study in the storage.
        seeds: how often each configuration is trained; the seeds are the same for all.
        top: only so many strata, the best by validation; None: all.
        trials: further search trials to confirm, by number.
        storage: an Optuna storage URL.
        address: of a Ray cluster; this machine alone when none is given.
        watcher: is told what happens.

    Raises:
        InputError: no such study or trial, nothing is complete, the data changed, no test split.
        RunError: the storage or the cluster failed.
    """
    watcher = watcher or Watcher()
    url = storage or default_url()
    study = read_study(url, name)
    jobs = _jobs(study, seeds, top, trials)
    config = _without_stopping(study)
    data = _prepared(config, study)
    leaks = leakage_note(data, name)
    study.set_user_attr(LEAKAGE, leaks)
    if leaks:
        watcher.note(leaks)
    unfinished = unfinished_search(study)
    if unfinished:
        watcher.note(unfinished)
    left = _queue(study, config, data, jobs, url, watcher)
    halted = _train(study, config, data, url, address, watcher) if left else ""
    summary = summarize_confirmation(study, find_confirmation(study))
    if summary["strata"] and not halted:
        from medfathom.confirmation import efficiency  # noqa: PLC0415  imports torch

        threads = config.resources.cpus_per_trial
        summary["efficiency"] = efficiency.keep(study, summary, confirmed_folder(study), threads)
    return Confirmation(summary, halted)


def _jobs(study: Study, seeds: int, top: int | None, more: Sequence[int]) -> list[Job]:
    """Every configuration with its first seed, then with its second, …"""
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least 1 is needed")
    if top is not None and top < 1:
        raise InputError(f"--top {top}: at least 1 is needed")
    chosen = choose(study).trials[:top]
    known = {t.number for t in chosen}
    chosen += [complete_trial(study, n) for n in dict.fromkeys(more) if n not in known]
    return [Job(trial, seed) for seed in range(seeds) for trial in chosen]


def _without_stopping(study: Study) -> StudyConfig:
    config = definition_of(study)
    budget = {"minutes": None, "device_hours": None, "patience": None, "trial_minutes": None}
    return config.model_copy(
        update={
            # Not the definition's name: a study that was set aside has another one by now.
            "name": confirmation_name(study.study_name),
            "question": f"Confirmation of {study.study_name}: {config.question}",
            "goal": "best",
            "sampler": SamplerConfig(name="random"),
            "scheduler": SchedulerConfig(name="none"),
            "budget": config.budget.model_copy(update=budget),
        }
    )


def _prepared(config: StudyConfig, study: Study) -> PreparedData:
    from medfathom.data.prepare import prepare  # noqa: PLC0415  imports image readers

    data = prepare(config.dataset, home() / "cache")
    known = study.user_attrs["dataset_fingerprint"]
    if data.fingerprint != known:
        raise StorageError(
            f"study {study.study_name!r} was searched on other data (fingerprint {known[:12]}, now "
            f"{data.fingerprint[:12]}); give it the old data back, or run it with --fresh"
        )
    if not data.sizes.get("test"):
        raise DataError(
            f"study {study.study_name!r}: its data set has no test split; [dataset.splits] draws one"
        )
    return data


def _open_test_split(study: Study, data: PreparedData, jobs: Sequence[Job]) -> None:
    """Write down that the test split is opened, for which models; then look whether it can judge them.

    What will be judged is settled before: a second call that goes on with the same models opens nothing anew.
    """
    from medfathom.data.heldout import open_test  # noqa: PLC0415
    from medfathom.metrics.classification import positives  # noqa: PLC0415

    openings = list(study.user_attrs.get(OPENINGS, []))
    before = {tuple(key) for opening in openings for key in opening["models"]}
    new = [job.key for job in jobs if job.key not in before]
    if new:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        opening = {"when": when, "by": "confirm", "models": new, "n_images": data.sizes["test"]}
        study.set_user_attr(OPENINGS, [*openings, opening])
    test = open_test(data)
    columns = 1 if data.task == "binary" else len(data.class_names)
    count = positives(data.task, test.labels, columns).sum(axis=0)
    if not ((count > 0) & (count < len(test))).any():
        raise DataError(
            f"study {study.study_name!r}: the {len(test)} images of its test split are all of one class: "
            "no AUC can be had; give it a test split that has both"
        )


def _queue(
    study: Study, config: StudyConfig, data: PreparedData, jobs: Sequence[Job], url: str, watcher: Watcher
) -> bool:
    """Settle what is to be trained, apart from other drivers: which study holds it, and its queue.

    Returns:
        Whether any of the jobs is still to be done.
    """
    # A confirmation of a study that was set aside since goes the same way.
    marks = {CONFIRMS: study.user_attrs["uid"]}
    with open_study(config, url, data.fingerprint, marks=marks, wait=watcher.note) as driver:
        abandoned = {assignment.number for assignment in driver.adopt()}  # takes the lock itself: not within
        with driver.exclusively():
            _open_test_split(study, data, jobs)
            withdrawn = _withdraw(driver, abandoned, {job.key for job in jobs})
            if withdrawn:
                watcher.note(f"{withdrawn} models of an earlier call are not asked for any more: not trained")
            return _enqueue(driver, jobs, config.seed, confirmed_folder(study))


def _withdraw(driver: Driver, abandoned: Collection[int], wanted: Collection[tuple[int, int]]) -> int:
    """End what an earlier call left unfinished and this one does not want; it can be asked for again.

    Args:
        driver: has adopted the abandoned trials.
        abandoned: numbers of trials that an earlier call began. Where others run too, another driver is at
            work, and nothing is ended: it may have asked for it.
        wanted: keys of jobs.

    Returns:
        How many trials were ended.
    """
    running = driver.trials(TrialState.RUNNING)
    if any(t.number not in abandoned for t in running):
        return 0
    reason = "not asked for any more"
    begun = [t for t in running if _key(t) not in wanted]
    for trial in begun:
        driver.fail(trial.number, reason, {WITHDRAWN: True})
    queued = [t for t in driver.trials(TrialState.WAITING) if _key(t) not in wanted]
    storage = storage_of(driver.study)  # Optuna's `tell` ends no trial that has not begun
    for trial in queued:
        storage.set_trial_user_attr(trial_id_of(trial), WITHDRAWN, True)
        storage.set_trial_user_attr(trial_id_of(trial), "stop_reason", reason)
        storage.set_trial_state_values(trial_id_of(trial), TrialState.FAIL)
    return len(begun) + len(queued)


def _enqueue(driver: Driver, jobs: Sequence[Job], study_seed: int, folder: Path) -> bool:
    """Queue the jobs neither done nor under way; once more those that failed, or whose files are gone.

    Returns:
        Whether any of the jobs is still to be done.
    """
    under_way = {_key(t) for t in driver.trials(TrialState.RUNNING, TrialState.WAITING)}
    done = {_key(t) for t in driver.trials(TrialState.COMPLETE) if is_kept(folder / t.user_attrs["folder"])}
    for job in jobs:
        if job.key in under_way | done:
            continue
        driver.study.enqueue_trial(
            job.trial.params,
            user_attrs={
                "search_trial": job.trial.number,
                "search_auc": job.trial.value,
                "seed_index": job.seed_index,
                "seed": trial_seed(study_seed, FIRST_SEED + job.seed_index),
                "stratum": job.trial.user_attrs["stratum"],
            },
        )
    return any(job.key not in done for job in jobs)


def _key(trial: FrozenTrial) -> tuple[int, int]:
    """Of a confirmation's trial, as `Job.key`."""
    return trial.user_attrs["search_trial"], trial.user_attrs["seed_index"]


def _train(
    study: Study,
    config: StudyConfig,
    data: PreparedData,
    url: str,
    address: str | None,
    watcher: Watcher,
) -> str:
    """Train what is queued. Returns why it ended early; empty: it did not."""
    from medfathom.confirmation.worker import confirmed_results  # noqa: PLC0415  imports torch
    from medfathom.scheduling import run_trials  # noqa: PLC0415  imports Ray

    with open_study(config, url, data.fingerprint, wait=watcher.note) as driver:
        if precision := settled_precision(study):
            driver.settle_precision(precision)
        counts = driver.counts()
        driver.budget = counts.finished + counts.running + len(driver.trials(TrialState.WAITING))
        driver.recorder = NotesAndPictures(driver.study, watcher.note, folder=confirmed_folder(study))
        first_seeds = frozenset(t.number for t in driver.trials() if t.user_attrs.get("seed_index") == 0)
        work = partial(
            confirmed_results,
            study=study.study_name,
            folder=confirmed_folder(study).absolute(),
            pictures=first_seeds,
        )
        try:
            halted = run_trials(config, driver, watcher, home(), address, work)
        finally:
            watcher.end()
        driver.close_records()
        return halted
