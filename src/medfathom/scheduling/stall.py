"""A fit that waits for a worker that does not come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray import tune

from medfathom.scheduling.environment import Unsaved

NO_WORKER_S = 300.0
"""So long, in seconds, a fit waits for a worker while none of its trials runs."""


class NoWorkerError(Exception):
    """Ray gave no worker to any trial of a fit."""


class Stall(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends a fit in which trials wait for workers and none runs, so that a new fit can ask again.

    Ray can lose count of its CPUs when workers are killed. A trial that needs the whole device (one that ran
    out of memory beside others) would then wait for ever.
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
