"""One trial as a plain function: parameters in, one record for each epoch out. No Ray, no Optuna."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence

import torch

from medfathom.definitions.space import TrialParams
from medfathom.errors import MedfathomError
from medfathom.trial.checkpoint import load_history
from medfathom.trial.cross_validation import RunningFold
from medfathom.trial.memory import as_run_error
from medfathom.trial.record import FoldScore, TrialRecord
from medfathom.trial.stack import fit_side_by_side
from medfathom.trial.task import TrialTask, identity_of
from medfathom.trial.training import Training

Waiting = tuple[TrialParams, TrialTask]
"""A trial that has not begun."""


def run_trial(
    params: TrialParams, task: TrialTask, waiting: Sequence[Waiting] = ()
) -> Generator[TrialRecord]:
    """Train one network, epoch by epoch.

    The caller stops a trial early by asking no further (`close()`). With a checkpoint there, training goes on
    after its last epoch, as if never interrupted; the earlier records are had through `load_history`.

    Args:
        params: of the trial.
        task: everything else of it.
        waiting: further trials, `alike` this one (`trial.alike`). Their heads are fitted beside its own, and
            they leave checkpoints of all epochs but the last, from which each goes on in its turn. What goes
            wrong in one of them is left for that.

    Yields:
        One record for each epoch, after its checkpoint is on disk.

    Raises:
        RunError: training diverged, memory ran out, or the checkpoint is another trial's.
        InputError: the architecture, its weights or the data cannot be used.
    """
    torch.set_num_threads(task.threads)
    with as_run_error(f"{params.architecture} on {task.device}"):
        if task.folds is None:
            yield from _epochs(Training(params, task), waiting)
            return
        scored = latest = list(_scored_before(params, task))
        while len(scored) < len(task.folds):
            for record in _epochs(Training(params, task, RunningFold(task.folds, tuple(scored)))):
                latest = record.folds or []
                yield record
            scored = latest


def _scored_before(params: TrialParams, task: TrialTask) -> Sequence[FoldScore]:
    """The folds that are done, by the checkpoint, else by what the study knows."""
    known = load_history(task.checkpoint, identity_of(params, task)) if task.checkpoint is not None else []
    if not known:
        return task.scored
    last, scores = known[-1], known[-1].folds or []
    return scores if (last.epochs or 0) % task.max_epochs == 0 else scores[:-1]


def _epochs(training: Training, waiting: Sequence[Waiting] = ()) -> Generator[TrialRecord]:
    """The epochs of a training that are left, others beside it as long as they can be.

    Not in the last one: what follows it is long where a model is kept, and the others would wait for it.
    """
    left = training.epochs_left()
    others = _beside(training, waiting) if len(left) > 1 else []
    for epoch in left:
        if not others or epoch == left[-1] or not training.fits_one_layer(epoch):
            yield training.run_epoch(epoch)
            continue
        before = time.perf_counter()
        loss, *losses = fit_side_by_side([each.fit for each in (training, *others)], epoch)
        seconds = (time.perf_counter() - before) / (1 + len(others))
        pairs = zip(others, losses, strict=True)
        beside = len(losses)
        others = [other for other, its in pairs if _ended_epoch(other, epoch, its, seconds, beside)]
        training.fit.check(loss, epoch, training.fit.steps - 1)
        yield training.end_epoch(epoch, loss, seconds, beside)


def _beside(training: Training, waiting: Sequence[Waiting]) -> list[Training]:
    """Those of the waiting trials that can be fitted beside a training now."""
    found = []
    epochs = training.epochs_left()
    for params, task in waiting if training.fits_one_layer(epochs[0]) else ():
        try:
            other = training.with_own_head(params, task)
        except MedfathomError:
            continue  # it fails for this reason in its own turn
        alike = other.can_be_beside and other.fit.n_images == training.fit.n_images
        if alike and other.epochs_left() == epochs:
            found.append(other)
    return found


def _ended_epoch(other: Training, epoch: int, loss: float, seconds: float, beside: int) -> bool:
    """Judge an epoch of another trial. False: something is wrong with it, which its own turn will show."""
    if not math.isfinite(loss):
        return False
    try:
        other.end_epoch(epoch, loss, seconds, beside)
    except MedfathomError:
        return False
    return True
