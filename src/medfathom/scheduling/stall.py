"""Workers that do not come, and workers that are lost with their node."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune

from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import Order

NO_WORKER_S = 300.0
"""So long, in seconds, a fit waits for a worker while none of its trials runs."""


LONGEST_PAUSE_S = 16.0
"""Seconds. Ray takes up to 25 s to notice that a node is gone; until then it places trials on it again."""


class NoWorkerError(Exception):
    """Ray gave no worker to any trial of a fit."""


class Stall(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends a fit in which trials wait for workers and none runs, so that a new fit can ask again.

    Ray can lose count of its CPUs when workers are killed. A trial that needs the whole device (one that ran
    out of memory beside others) would then wait for ever. A Ray of our own is started anew (`Cluster`).
    """

    def __init__(self) -> None:
        self._since = time.monotonic()

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Tune calls this several times a second.

        Raises:
            NoWorkerError: trials have waited for `NO_WORKER_S` and none ran.
        """
        states = {trial.status for trial in trials}
        if "RUNNING" in states or "PENDING" not in states:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > NO_WORKER_S:
            raise NoWorkerError(f"no worker came for {NO_WORKER_S:g} s")


class Recoveries(Unsaved, tune.Callback):  # type: ignore[misc]
    """Tells which trial lost its worker, before another one goes on with it.

    On a cluster that others started it waits as well: without the pauses (2, 4, 8, 16 s) all tries of a trial
    can be lost with one node.
    """

    def __init__(self, tell: Callable[[str], None], *, pauses: bool) -> None:
        self._tell = tell
        self._pauses = pauses

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Tune calls this when it is about to begin a lost trial again."""
        order: Order = trial.config["order"]
        if not order.over:
            self._tell(f"trial {order.assignment.number} lost its worker; another worker goes on with it")
        if self._pauses:
            time.sleep(min(2.0**trial.num_failures, LONGEST_PAUSE_S))
