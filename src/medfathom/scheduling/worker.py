"""What a worker does with an assignment: prepared data, the trial's epochs, results as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfathom.data.prepare import prepare
from medfathom.definitions.space import TrialParams
from medfathom.errors import OtherDataError, RunError
from medfathom.text import command
from medfathom.trial.remote_checkpoints import RemoteCheckpoints
from medfathom.trial.trial import EpochRecord, TrialTask, identity_of, load_history, run_trial

if TYPE_CHECKING:
    from medfathom.scheduling.messages import Plan


def node_storage(plan: Plan) -> Path:
    """This node's storage folder: its own MEDFATHOM_STORAGE (absolute), else the driver's path."""
    own = Path(os.environ.get("MEDFATHOM_STORAGE", ""))
    return own if own.is_absolute() else plan.storage


def results(plan: Plan, assignment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A trial's results, epoch by epoch.

    A checkpoint can be ahead of what was reported (the driver died between the two): the epochs that the
    storage has not seen are told again first, then training goes on.
    """
    task = task_of(plan, assignment)
    for record, losses in records(params_of(assignment), task, assignment["reported"]):
        yield as_result(record, {"losses": losses} | share(plan, assignment, record))


def params_of(assignment: Mapping[str, Any]) -> TrialParams:
    """The parameters of an assignment."""
    return TrialParams.model_validate_json(assignment["params"])


def task_of(plan: Plan, assignment: Mapping[str, Any]) -> TrialTask:
    """Everything else of a trial; prepares the data on this node where that was not done."""
    storage = node_storage(plan)
    data = prepare(plan.config.dataset, storage / "cache")
    if data.fingerprint != plan.fingerprint:
        raise OtherDataError(
            f"{data.folder}: the data here have changed, or are another copy (fingerprint "
            f"{data.fingerprint[:12]}, the study's is {plan.fingerprint[:12]}); bring the study's back, then "
            f"`{command('run')}` again goes on"
        )
    return TrialTask(
        data=data,
        training=plan.config.training,
        max_epochs=plan.config.budget.epochs,
        seed=assignment["seed"],
        cache_dir=storage / "cache",
        checkpoint=_checkpoint(plan, assignment),
        device="cuda:0" if plan.device == "cuda" else "cpu",
        threads=plan.threads,
        depths=plan.config.space.depths,
    )


def records(
    params: TrialParams, task: TrialTask, reported: Mapping[str, float]
) -> Iterator[tuple[EpochRecord, dict[str, list[float]]]]:
    """Every epoch that the storage does not know yet, and the losses of all epochs up to it.

    The last epoch comes in any case: a driver may have died between hearing of it and ending the trial.
    """
    known = load_history(task.checkpoint, identity_of(params, task)) if task.checkpoint else []
    latest = max(map(int, reported), default=0)
    losses: dict[str, list[float]] = {"train": [], "val": []}
    for record in chain(known, run_trial(params, task)):
        losses["train"].append(record.metrics["train_loss"])
        losses["val"].append(record.metrics["val_loss"])
        if record.epoch > latest or record.finished:
            yield record, losses


def _checkpoint(plan: Plan, assignment: Mapping[str, Any]) -> Path:
    """The trial's checkpoint on this node, brought up to what other nodes left."""
    name, url = str(assignment["checkpoint"]), plan.config.resources.checkpoint_url
    checkpoint = node_storage(plan) / "checkpoints" / name
    _remove_ended(checkpoint.parent, assignment["running"])
    if url is not None:
        _fetch_newer(RemoteCheckpoints(url), name, checkpoint)
    return checkpoint


def _remove_ended(folder: Path, running: Sequence[int] | None) -> None:
    """Remove checkpoints that trials left on this node and that ended since; the driver removes its own.

    `running` is as old as the assignment: hours, where the trial's worker died and Tune gives it out again.
    Trials begun since have higher numbers, and stay.
    """
    if not running:
        return
    latest = max(running)
    for path in folder.glob("trial-*.pt"):
        number = int(path.stem.removeprefix("trial-"))
        if number <= latest and number not in running:
            path.unlink(missing_ok=True)


def _fetch_newer(remote: RemoteCheckpoints, name: str, checkpoint: Path) -> None:
    """Take the shared checkpoint where it is ahead of this node's own."""
    beside = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}.fetched")
    try:
        if remote.fetch(name, beside) and len(load_history(beside)) > len(load_history(checkpoint)):
            beside.replace(checkpoint)
    except OSError as error:
        raise RunError(f"resources.checkpoint_url: {name} cannot be read ({error})") from None
    finally:
        beside.unlink(missing_ok=True)


def share(plan: Plan, assignment: Mapping[str, Any], record: EpochRecord) -> dict[str, str]:
    """Copy the checkpoint to where other nodes find it.

    When that fails the trial goes on, and its record says so.
    """
    url, name = plan.config.resources.checkpoint_url, str(assignment["checkpoint"])
    if url is None or record.finished:
        return {}
    try:
        RemoteCheckpoints(url).store(name, node_storage(plan) / "checkpoints" / name)
    except OSError as error:
        return {"checkpoint_url_failure": str(error)}
    return {}


def as_result(record: EpochRecord, more: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch as Tune and the driver take it."""
    # One string: Ray would flatten and copy a nested table at every step.
    attributes = json.dumps({**record.attributes, **record.metrics, "epochs": record.epoch, **more})
    return {
        "auc": record.metrics["auc"],
        "epoch": record.epoch,
        "finished": record.finished,
        "done": record.finished,
        "attributes": attributes,
    }
