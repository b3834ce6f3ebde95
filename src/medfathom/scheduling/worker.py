"""What a worker does with an assignment: prepared data, the trial's epochs, results as plain values."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from medfathom.data.folds import open_folds
from medfathom.data.joint import prepare_study
from medfathom.data.prepared import PreparedData
from medfathom.data.sizes import at_size
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import JointDataset
from medfathom.definitions.space import TrialParams
from medfathom.errors import (
    DataError,
    MedfathomError,
    NodeError,
    OtherDataError,
    OtherPrecisionError,
    RunError,
)
from medfathom.scheduling.messages import EpochResult, Failure, Order, Result, RunSettings
from medfathom.scheduling.sources import fetch
from medfathom.text import command
from medfathom.trial.checkpoint import load_history, load_validation
from medfathom.trial.network import identity_record, undrawn_network
from medfathom.trial.precision import runs_in_bfloat16
from medfathom.trial.record import Losses, TrialRecord
from medfathom.trial.remote_checkpoints import RemoteCheckpoints
from medfathom.trial.task import TrialTask, identity_of
from medfathom.trial.trial import Waiting, run_trial
from medfathom.urls import without_passwords


def node_storage(settings: RunSettings) -> Path:
    """This node's storage folder: its own MEDFATHOM_STORAGE (absolute), else the driver's path."""
    own = Path(os.environ.get("MEDFATHOM_STORAGE", ""))
    return own if own.is_absolute() else settings.storage


def results(settings: RunSettings, order: Order) -> Iterator[Result]:
    """A trial's results, epoch by epoch.

    A checkpoint can be ahead of what was reported (the driver died between the two): the epochs that the
    storage has not seen are told again first, then training goes on.
    """
    params, task = order.assignment.params, task_of(settings, order)
    told = records(params, task, order.assignment.reported, waiting_beside(order, task))
    epochs = (EpochResult(share(settings, order, r), {}, _validation(task, r)) for r in told)
    yield from ended_by_failure(epochs, params, task)


def _validation(task: TrialTask, record: TrialRecord) -> bytes:
    """With the last epoch: what the trial says of the validation images. The driver keeps it."""
    return load_validation(task.checkpoint) if task.checkpoint is not None and record.finished else b""


def ended_by_failure(epochs: Iterator[EpochResult], params: TrialParams, task: TrialTask) -> Iterator[Result]:
    """A trial's epochs; where one raises, its failure comes last.

    A trial that fails before its first epoch is described: no record of it has said yet what it is.
    """
    begun = False
    try:
        for result in epochs:
            begun = True
            yield result
    except Exception as error:  # noqa: BLE001  whatever a trial raises is its own failure, with its reason
        yield Failure.of(error, None if begun else describe(params, task))


def describe(params: TrialParams, task: TrialTask) -> TrialRecord | None:
    """What a trial is that failed before its first epoch; None: its network cannot be built either."""
    try:
        return identity_record(params, task, undrawn_network(params, task))
    except MedfathomError:
        return None


def task_of(settings: RunSettings, order: Order) -> TrialTask:
    """Everything else of a trial; prepares the data on this node where that was not done."""
    storage = node_storage(settings)
    data = _prepared(settings.config.dataset, storage)
    if data.fingerprint != settings.fingerprint:
        raise OtherDataError(
            f"node {platform.node()}: {data.folder}: the data here have changed, or are another copy "
            f"(fingerprint {data.fingerprint[:12]}, the study's is {settings.fingerprint[:12]})",
            f"restore the study's data, then `{command('run')}` continues",
        )
    config = settings.config.dataset
    own = _prepared(at_size(config, order.assignment.params.image_size), storage)
    device = "cuda:0" if settings.device == "cuda" else "cpu"
    params = order.assignment.params
    if start := settings.sources.get(params.init, {}).get(params.architecture):
        fetch(settings.offers, storage, start)
    return TrialTask(
        data=own,
        training=settings.config.training.model_copy(update={"precision": _precision(settings, device)}),
        max_epochs=settings.config.budget.epochs,
        seed=order.assignment.seed,
        cache_dir=storage / "cache",
        checkpoint=_checkpoint(settings, order),
        device=device,
        threads=settings.threads,
        depths=settings.config.space.depths,
        objective=settings.config.objective,
        measures_latency=settings.config.objectives.cost == "latency_ms",
        folds=open_folds(own, config.splits, divided=data),
        scored=order.assignment.scored,
        sources={
            init: {architecture: storage / folder for architecture, folder in folders.items()}
            for init, folders in settings.sources.items()
        },
    )


def _prepared(config: DatasetConfig | JointDataset, storage: Path) -> PreparedData:
    """The data on this node. The driver could prepare them: where a node cannot, no trial can run there."""
    try:
        return prepare_study(config, storage / "cache")
    except MedfathomError as error:
        do = "give the node the same data" if isinstance(error, DataError) else "mend this"
        raise NodeError(
            f"node {platform.node()}: {error}",
            f"{do} or take the node out of the cluster, then `{command('run')}` continues",
        ) from None


def _precision(settings: RunSettings, device: str) -> str:
    """What to train in: what the study is trained in."""
    wanted = settings.config.training.precision
    if settings.precision is None:
        return wanted
    emulates = wanted == "auto" and not runs_in_bfloat16("auto", torch.device(device))
    if settings.precision == "bfloat16" and emulates:
        raise OtherPrecisionError(
            f"node {platform.node()}: it has no instructions for bfloat16, in which this study's trials are "
            "trained",
            'take the node out, or set training.precision = "float32" and run with --fresh',
        )
    return settings.precision


def waiting_beside(order: Order, task: TrialTask) -> list[Waiting]:
    """The trials whose heads are fitted beside a trial's own: of the same data, and so on."""
    folder = task.checkpoint.parent if task.checkpoint is not None else None
    return [
        (
            other.assignment.params,
            replace(
                task,
                seed=other.assignment.seed,
                checkpoint=None if folder is None else folder / Path(other.checkpoint).name,
            ),
        )
        for other in order.beside
    ]


def records(
    params: TrialParams,
    task: TrialTask,
    reported: Mapping[int, float],
    waiting: Sequence[Waiting] = (),
) -> Iterator[TrialRecord]:
    """A record for every epoch that the storage does not know yet, with the losses of all epochs up to it.

    The last epoch comes in any case: a driver may have died between hearing of it and ending the trial.
    """
    known = load_history(task.checkpoint, identity_of(params, task)) if task.checkpoint else []
    latest = max(reported, default=0)
    train: list[float] = []
    val: list[float] = []
    for record in chain(known, run_trial(params, task, waiting)):
        train.append(record.train_loss or 0.0)
        val.append(record.val_loss or 0.0)
        if (record.epochs or 0) > latest or record.finished:
            yield record.model_copy(update={"losses": Losses(train=train[:], val=val[:])})


def _checkpoint(settings: RunSettings, order: Order) -> Path:
    """The trial's checkpoint on this node, brought up to what other nodes left."""
    url = settings.config.resources.checkpoint_url
    checkpoint = node_storage(settings) / "checkpoints" / order.checkpoint
    _remove_ended(checkpoint.parent, order.unfinished)
    if url is not None:
        _fetch_newer(RemoteCheckpoints(url), order.checkpoint, checkpoint)
    return checkpoint


def _remove_ended(folder: Path, unfinished: Sequence[int] | None) -> None:
    """Remove what trials left on this node that ended since; the driver removes its own.

    `unfinished` is as old as the assignment: hours, where the trial's worker died and Tune gives it out
    again. Trials asked for since have higher numbers, and stay.
    """
    if not unfinished:
        return
    latest = max(unfinished)
    for path in folder.glob("trial-*.pt"):
        number = int(path.stem.removeprefix("trial-"))
        if number <= latest and number not in unfinished:
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _fetch_newer(remote: RemoteCheckpoints, name: str, checkpoint: Path) -> None:
    """Take the shared checkpoint where it is ahead of this node's own."""
    beside = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}.fetched")
    try:
        if remote.fetch(name, beside) and len(load_history(beside)) > len(load_history(checkpoint)):
            beside.replace(checkpoint)
    except OSError as error:
        raise RunError(
            f"resources.checkpoint_url: {name} cannot be read ({without_passwords(str(error))})"
        ) from None
    finally:
        beside.unlink(missing_ok=True)


def share(settings: RunSettings, order: Order, record: TrialRecord) -> TrialRecord:
    """Copy the checkpoint to where other nodes find it.

    When that fails the trial goes on, and its record says so.
    """
    url = settings.config.resources.checkpoint_url
    if url is None or record.finished:
        return record
    try:
        RemoteCheckpoints(url).store(
            order.checkpoint, node_storage(settings) / "checkpoints" / order.checkpoint
        )
    except OSError as error:
        return record.model_copy(update={"checkpoint_url_failure": without_passwords(str(error))})
    return record
