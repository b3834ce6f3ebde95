"""The queue of a confirmation: what is to be trained, what is not wanted any more, what is done."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.confirmation.choice import choose, complete_trial
from medfathom.confirmation.find import is_kept, job_key, predictions_file
from medfathom.confirmation.openings import JobKey
from medfathom.confirmation.record import ConfirmedRecord
from medfathom.errors import InputError
from medfathom.study.assignment import trial_seed
from medfathom.study.ids import storage_of, trial_id_of
from medfathom.study.record import auc_of
from medfathom.study.summary import WITHDRAWN

if TYPE_CHECKING:
    from medfathom.study.driver import Driver

FIRST_SEED = 2 * 10**6
"""Confirmation's seeds are drawn from here on: no search trial has such a number, so none is used twice."""


@dataclass(frozen=True)
class Job:
    """One configuration to be trained with one seed.

    Attributes:
        trial: the search trial whose hyperparameters are taken.
        seed_index: from 0; the same index is the same seed for all configurations.
    """

    trial: FrozenTrial
    seed_index: int

    @property
    def key(self) -> JobKey:
        """The same in every run."""
        return self.trial.number, self.seed_index


def list_jobs(study: Study, seeds: int, top: int | None, more: Sequence[int]) -> list[Job]:
    """Every configuration with its first seed, then with its second, …

    Args:
        study: the search.
        seeds: how often each configuration is trained.
        top: only so many strata, the best by validation; None: all under `goal = "compare"`; under "best"
            those that have a trial that may have the highest AUC (all, where that is not known).
        more: further search trials, by number.

    Raises:
        InputError: a number below 1.
        StorageError: no such trial, or it did not run its full length.
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least 1 is needed")
    if top is not None and top < 1:
        raise InputError(f"--top {top}: at least 1 is needed")
    choices = choose(study)
    chosen = choices.trials[:top] if top is not None else [*(choices.as_good or choices.trials)]
    known = {t.number for t in chosen}
    chosen += [complete_trial(study, n) for n in dict.fromkeys(more) if n not in known]
    return [Job(trial, seed) for seed in range(seeds) for trial in chosen]


def withdraw(driver: Driver, abandoned: Collection[int], wanted: Collection[JobKey]) -> int:
    """End what an earlier call left unfinished and this one does not want; it can be asked for again.

    Args:
        driver: has adopted the abandoned trials.
        abandoned: numbers of trials that an earlier call began. Where others run too, or another driver has
            the confirmation open, nothing is ended: it may have asked for it.
        wanted: keys of jobs.

    Returns:
        How many trials were ended.
    """
    running = driver.trials(TrialState.RUNNING)
    if driver.others_at_work or any(t.number not in abandoned for t in running):
        return 0
    reason = "withdrawn: a later `confirm` did not ask for this model"
    begun = [t for t in running if job_key(t) not in wanted]
    for trial in begun:
        driver.fail(trial.number, reason, {WITHDRAWN: True})
    queued = [t for t in driver.trials(TrialState.WAITING) if job_key(t) not in wanted]
    storage = storage_of(driver.study)  # Optuna's `tell` ends no trial that has not begun
    for trial in queued:
        storage.set_trial_user_attr(trial_id_of(trial), WITHDRAWN, True)
        storage.set_trial_user_attr(trial_id_of(trial), "stop_reason", reason)
        storage.set_trial_state_values(trial_id_of(trial), TrialState.FAIL)
    return len(begun) + len(queued)


def enqueue(driver: Driver, jobs: Sequence[Job], study_seed: int, folder: Path) -> bool:
    """Queue the jobs that are neither done nor under way; those that failed, or whose files are gone, again.

    Args:
        driver: of the confirmation.
        jobs: all that are wanted.
        study_seed: of the definition.
        folder: where every confirmed model has its own folder.

    Returns:
        Whether any of the jobs is still to be done.
    """
    under_way = {job_key(t) for t in driver.trials(TrialState.RUNNING, TrialState.WAITING)}
    complete = driver.trials(TrialState.COMPLETE)
    done = {job_key(t) for t in complete if _is_kept(t, folder)}
    for job in jobs:
        if job.key not in under_way | done:
            _enqueue(driver.study, job, trial_seed(study_seed, FIRST_SEED + job.seed_index))
    return any(job.key not in done for job in jobs)


def _is_kept(trial: FrozenTrial, folder: Path) -> bool:
    """Whether its files are there, and its own."""
    from medfathom.confirmation.predictions import read_predictions_with  # noqa: PLC0415  imports pandas

    kept = ConfirmedRecord.of(trial.user_attrs)
    own, each = folder / kept.folder, kept.datasets or {}
    if not is_kept(own, list(each)):
        return False
    aucs = {own / name: one.test.auc for name, one in each.items()} or {own: kept.test.auc}
    return all(
        auc is None or read_predictions_with(predictions_file(place, "test"), auc) is not None
        for place, auc in aucs.items()
    )


def _enqueue(confirmation: Study, job: Job, seed: int) -> None:
    attributes = {
        "search_trial": job.trial.number,
        "search_auc": auc_of(job.trial),
        "seed_index": job.seed_index,
        "seed": seed,
        "stratum": job.trial.user_attrs["stratum"],
    }
    confirmation.enqueue_trial(job.trial.params, user_attrs=attributes)
