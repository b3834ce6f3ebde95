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
    params = TrialParams.model_validate_json(assignment["params"])
    checkpoint = Path(assignment["checkpoint"])
    task = TrialTask(
        data=prepare(plan.config.dataset, plan.cache_dir),
        training=plan.config.training,
        max_epochs=plan.config.budget.epochs,
        seed=assignment["seed"],
        cache_dir=plan.cache_dir,
        checkpoint=checkpoint,
        device="cuda:0" if plan.device == "cuda" else "cpu",
        threads=plan.threads,
    )
    reported = max(map(int, assignment["reported"]), default=0)
    unseen = [record for record in load_history(checkpoint) if record.epoch > reported]
    for record in chain(unseen, run_trial(params, task)):
        yield _as_result(record)


def _as_result(record: EpochRecord) -> dict[str, Any]:
    # One string: Ray would flatten and copy a nested table at every step.
    attributes = json.dumps({**record.attributes, **record.metrics, "epochs": record.epoch})
    return {
        "auc": record.metrics["auc"],
        "epoch": record.epoch,
        "finished": record.finished,
        "done": record.finished,
        "attributes": attributes,
    }
