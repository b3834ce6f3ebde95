"""What a worker does with an assignment: prepared data, the trial's epochs, results as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfathom.data.prepare import prepare
from medfathom.spaces import TrialParams
from medfathom.trial import EpochRecord, TrialTask, load_history, run_trial

if TYPE_CHECKING:
    from medfathom.scheduling.actor import Plan


def results(plan: Plan, assignment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A trial's results, epoch by epoch.

    A checkpoint can be ahead of what was reported (the driver died between the two): the epochs that the
    storage has not seen are told again first, then training goes on.
    """
    for record, losses in records(params_of(assignment), task_of(plan, assignment), assignment["reported"]):
        yield as_result(record, {"losses": losses})


def params_of(assignment: Mapping[str, Any]) -> TrialParams:
    """The parameters of an assignment."""
    return TrialParams.model_validate_json(assignment["params"])


def task_of(plan: Plan, assignment: Mapping[str, Any]) -> TrialTask:
    """Everything else of a trial; prepares the data on this node where that was not done."""
    return TrialTask(
        data=prepare(plan.config.dataset, plan.cache_dir),
        training=plan.config.training,
        max_epochs=plan.config.budget.epochs,
        seed=assignment["seed"],
        cache_dir=plan.cache_dir,
        checkpoint=Path(assignment["checkpoint"]),
        device="cuda:0" if plan.device == "cuda" else "cpu",
        threads=plan.threads,
    )


def records(
    params: TrialParams, task: TrialTask, reported: Mapping[str, float]
) -> Iterator[tuple[EpochRecord, dict[str, list[float]]]]:
    """Every epoch that the storage does not know yet, and the losses of all epochs up to it.

    The last epoch comes in any case: a driver may have died between hearing of it and ending the trial.
    """
    known = load_history(task.checkpoint) if task.checkpoint else []
    latest = max(map(int, reported), default=0)
    losses: dict[str, list[float]] = {"train": [], "val": []}
    for record in chain(known, run_trial(params, task)):
        losses["train"].append(record.metrics["train_loss"])
        losses["val"].append(record.metrics["val_loss"])
        if record.epoch > latest or record.finished:
            yield record, losses


def as_result(record: EpochRecord, more: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch as Tune and the ledger take it."""
    # One string: Ray would flatten and copy a nested table at every step.
    attributes = json.dumps({**record.attributes, **record.metrics, "epochs": record.epoch, **more})
    return {
        "auc": record.metrics["auc"],
        "epoch": record.epoch,
        "finished": record.finished,
        "done": record.finished,
        "attributes": attributes,
    }
