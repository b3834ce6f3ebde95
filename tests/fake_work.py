"""Trials that train nothing: what the scheduling tests let workers do."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from medfathom.errors import OtherDataError, OutOfMemoryError, RunError
from medfathom.scheduling.messages import EpochResult, Order, Result, RunSettings
from medfathom.trial.record import TrialRecord

ATTRIBUTES = {f"attribute_{i}": i for i in range(30)}


def result(settings: RunSettings, epoch: int, auc: float, **more: Any) -> EpochResult:
    """An epoch's result as a worker reports it."""
    record = TrialRecord(auc=auc, epochs=epoch, max_epochs=settings.config.budget.epochs)
    return EpochResult(record, {**ATTRIBUTES, **more})


def quick(settings: RunSettings, order: Order) -> Iterator[Result]:
    """Random AUC, the same for the same trial, after the epochs already reported; the last in any case."""
    generator = random.Random(order.assignment.seed)
    reported, epochs = max(order.assignment.reported, default=0), settings.config.budget.epochs
    for epoch in range(1, epochs + 1):
        auc = generator.random()
        if epoch > reported or epoch == epochs:
            yield result(settings, epoch, auc)


def other_data(settings: RunSettings, order: Order) -> Iterator[Result]:
    """As on a node with another copy of the data."""
    raise OtherDataError("the data here have changed", "restore the study's data")
    yield result(settings, 1, 0.5)


def slow(settings: RunSettings, order: Order) -> Iterator[Result]:
    """As `quick`, but an epoch takes a while: time to interrupt it."""
    for each in quick(settings, order):
        threading.Event().wait(0.4)
        yield each


def until_all_came(settings: RunSettings, order: Order) -> Iterator[Result]:
    """Half a second each, but once two workers have left their mark, at a relative path, no time at all."""
    Path(f"worker-{os.getpid()}").touch()
    if len(list(Path().glob("worker-*"))) < 2:
        threading.Event().wait(0.5)
    yield from quick(settings, order)


def by_number(settings: RunSettings, order: Order) -> Iterator[Result]:
    """What becomes of a trial goes by its number: 0 raises, 1 cannot go on, 2 loses its worker."""
    number = order.assignment.number
    yield result(settings, 1, 0.9 - 0.01 * number)
    if number == 0:
        raise ValueError("a message\nof two lines")
    if number == 1:
        raise RunError("non-finite loss at epoch 2")
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    for epoch in range(2, settings.config.budget.epochs + 1):
        yield result(settings, epoch, 0.9 - 0.01 * number)


def stuck(settings: RunSettings, order: Order) -> Iterator[Result]:
    """Trial 0 takes too long for each epoch, trial 1 stops for good, others are quick."""
    for each in quick(settings, order):
        if order.assignment.number == 0:
            threading.Event().wait(1.0)
        if order.assignment.number == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        yield each


def greedy(settings: RunSettings, order: Order) -> Iterator[Result]:
    """Trial 0 never fits into memory, trial 1 only beside others, others always."""
    if order.assignment.number == 0 or (order.assignment.number == 1 and not order.alone):
        raise OutOfMemoryError("out of memory: one image does not fit")
    yield from quick(settings, order)


def on_gpu(settings: RunSettings, order: Order) -> Iterator[Result]:
    """Says what share of a GPU it was given, and that it used a tenth of one's memory."""
    given = ray.get_runtime_context().get_assigned_resources()["GPU"]
    memory = {"peak_memory_bytes": 8 * 2**30, "device_memory_bytes": 80 * 2**30}
    for epoch in range(1, settings.config.budget.epochs + 1):
        yield result(settings, epoch, 0.5, gpus=given, **memory)


class Unreadable:
    """Work that no worker can read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return not_here, ()

    def __call__(self, settings: RunSettings, order: Order) -> Iterator[Result]:
        return quick(settings, order)


def not_here() -> None:
    """As the import of a library that is broken."""
    raise ImportError("libcudart.so: no such file")
