"""What a worker does with an assignment: prepared data, the trial's epochs, results as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfathom.data.prepare import prepare
from medfathom.errors import RunError
from medfathom.remote_checkpoints import RemoteCheckpoints
from medfathom.spaces import TrialParams
from medfathom.trial import EpochRecord, TrialTask, load_history, run_trial

if TYPE_CHECKING:
    from medfathom.scheduling.actor import Plan


def node_storage(plan: Plan) -> Path:
    """This node's storage folder: its own MEDFATHOM_STORAGE (absolute), else the driver's path."""
    own = Path(os.environ.get("MEDFATHOM_STORAGE", ""))
    return own if own.is_absolute() else plan.storage


def results(plan: Plan, assignment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A trial's results, epoch by epoch.

    A checkpoint can be ahead of what was reported (the driver died between the two): the epochs that the
    storage has not seen are told again first, then training goes on.
    """
    params = TrialParams.model_validate_json(assignment["params"])
    storage, name = node_storage(plan), str(assignment["checkpoint"])
    checkpoint = storage / "checkpoints" / name
    _remove_ended(checkpoint.parent, assignment["running"])
    url = plan.config.resources.checkpoint_url
    remote = RemoteCheckpoints(url) if url is not None else None
    if remote is not None:
        _fetch_newer(remote, name, checkpoint)
    task = TrialTask(
        data=prepare(plan.config.dataset, storage / "cache"),
        training=plan.config.training,
        max_epochs=plan.config.budget.epochs,
        seed=assignment["seed"],
        cache_dir=storage / "cache",
        checkpoint=checkpoint,
        device="cuda:0" if plan.device == "cuda" else "cpu",
        threads=plan.threads,
    )
    reported = max(map(int, assignment["reported"]), default=0)
    unseen = [record for record in load_history(checkpoint) if record.epoch > reported]
    for record in chain(unseen, run_trial(params, task)):
        trouble = {} if remote is None or record.finished else _stored(remote, name, checkpoint)
        yield _as_result(record, trouble)


def _remove_ended(folder: Path, running: Sequence[int] | None) -> None:
    """Remove checkpoints that trials left on this node and that ended since; the driver removes its own."""
    if running is None:
        return
    for path in folder.glob("trial-*.pt"):
        if int(path.stem.removeprefix("trial-")) not in running:
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


def _stored(remote: RemoteCheckpoints, name: str, checkpoint: Path) -> dict[str, str]:
    """Share the checkpoint; when that fails the trial goes on, and its record says so."""
    try:
        remote.store(name, checkpoint)
    except OSError as error:
        return {"checkpoint_url_failure": str(error)}
    return {}


def _as_result(record: EpochRecord, trouble: Mapping[str, str]) -> dict[str, Any]:
    # One string: Ray would flatten and copy a nested table at every step.
    attributes = json.dumps({**record.attributes, **record.metrics, "epochs": record.epoch, **trouble})
    return {
        "auc": record.metrics["auc"],
        "epoch": record.epoch,
        "finished": record.finished,
        "done": record.finished,
        "attributes": attributes,
    }
