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
from medfathom.scheduling.messages import EpochResult, Order, Plan, Result
from medfathom.trial.record import TrialRecord

ATTRIBUTES = {f"attribute_{i}": i for i in range(30)}


def result(plan: Plan, epoch: int, auc: float, **more: Any) -> EpochResult:
    """An epoch's result as a worker reports it."""
    record = TrialRecord(auc=auc, epochs=epoch, max_epochs=plan.config.budget.epochs)
    return EpochResult(record, {**ATTRIBUTES, **more})


def quick(plan: Plan, order: Order) -> Iterator[Result]:
    """Random AUC, the same for the same trial, after the epochs already reported."""
    generator = random.Random(order.assignment.seed)
    reported = max(order.assignment.reported, default=0)
    for epoch in range(1, plan.config.budget.epochs + 1):
        auc = generator.random()
        if epoch > reported:
            yield result(plan, epoch, auc)


def other_data(plan: Plan, order: Order) -> Iterator[Result]:
    """As on a node with another copy of the data."""
    raise OtherDataError("the data here have changed")
    yield result(plan, 1, 0.5)


def slow(plan: Plan, order: Order) -> Iterator[Result]:
    """As `quick`, but an epoch takes a while: time to interrupt it."""
    for each in quick(plan, order):
        threading.Event().wait(0.4)
        yield each


def leaving_a_file(plan: Plan, order: Order) -> Iterator[Result]:
    """As `quick`; writes to a relative path."""
    Path(f"trial-{order.assignment.number}").touch()
    yield from quick(plan, order)


def by_number(plan: Plan, order: Order) -> Iterator[Result]:
    """What becomes of a trial goes by its number: 0 raises, 1 cannot go on, 2 loses its worker."""
    number = order.assignment.number
    yield result(plan, 1, 0.9 - 0.01 * number)
    if number == 0:
        raise ValueError("a message\nof two lines")
    if number == 1:
        raise RunError("non-finite loss at epoch 2")
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    for epoch in range(2, plan.config.budget.epochs + 1):
        yield result(plan, epoch, 0.9 - 0.01 * number)


def stuck(plan: Plan, order: Order) -> Iterator[Result]:
    """Trial 0 takes too long for each epoch, trial 1 stops for good, others are quick."""
    for each in quick(plan, order):
        if order.assignment.number == 0:
            threading.Event().wait(1.0)
        if order.assignment.number == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        yield each


def greedy(plan: Plan, order: Order) -> Iterator[Result]:
    """Trial 0 never fits into memory, trial 1 only beside others, others always."""
    if order.assignment.number == 0 or (order.assignment.number == 1 and not order.alone):
        raise OutOfMemoryError("out of memory: one image does not fit")
    yield from quick(plan, order)


def on_gpu(plan: Plan, order: Order) -> Iterator[Result]:
    """Says what share of a GPU it was given, and that it used a tenth of one's memory."""
    given = ray.get_runtime_context().get_assigned_resources()["GPU"]
    memory = {"peak_memory_bytes": 8 * 2**30, "device_memory_bytes": 80 * 2**30}
    for epoch in range(1, plan.config.budget.epochs + 1):
        yield result(plan, epoch, 0.5, gpus=given, **memory)
