"""What runs in a worker: one trial after another, a step an epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from medfathom.errors import RunError
from medfathom.scheduling.messages import EpochResult, Failure, Order, Rest, Result, RunSettings

HARD_LIMIT = 1.5
"""An epoch is waited for until so many times a trial's time limit; then its worker is killed."""
REST_S = 120.0
"""So long, in seconds, no trial is tried again on a node that cannot take part."""
ASKED_AGAIN_S = 2.0
"""So often, in seconds, a worker that rests gives Tune the opportunity to end it."""


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in a worker: a step is an epoch.

    A failure inside a trial is a result like any other, so that its reason reaches the driver.
    """

    def setup(self, config: dict[str, Any], settings: RunSettings | None = None) -> None:
        """Keep what the first step needs; nothing may fail here, Ray would not retry it."""
        self._settings = settings
        self._results: Iterator[Result] | None = None
        self._limit: TimeLimit | None = None
        self._rests_until: float | None = None
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the work happens in `step`."""
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._let_go()
        self._order: Order = config["order"]
        self._rests_until = time.monotonic() if self._order.over else None

    def step(self) -> dict[str, Any]:
        """One epoch's result, or the reason why there is none."""
        if self._rests_until is not None:
            return self._rest(self._rests_until).to_tune()
        result = self._next()
        if isinstance(result, Failure) and result.mend and self._order.unfinished is not None:
            self._let_go()
            self._rests_until = time.monotonic() + REST_S
            result = replace(result, node=ray.get_runtime_context().get_node_id())
        return result.to_tune()

    def _rest(self, until: float) -> Rest:
        left = until - time.monotonic()
        time.sleep(max(0.0, min(ASKED_AGAIN_S, left)))
        return Rest(over=left <= ASKED_AGAIN_S)

    def _next(self) -> Result:
        try:
            if self._results is None:
                self._results = self._begin()
            result = next(self._results)
            if self._limit is not None and isinstance(result, EpochResult) and not result.record.finished:
                self._limit.check()
            return result
        except Exception as error:  # noqa: BLE001  whatever a trial raises is its own failure, with its reason
            return Failure.of(error)

    def _begin(self) -> Iterator[Result]:
        if self._settings is None:
            raise RunError("the worker received no settings")
        if self._settings.folder.is_dir():
            os.chdir(self._settings.folder)
        minutes = self._settings.config.budget.trial_minutes
        trainings = self._order.assignment.trainings(self._settings.config)
        self._limit = TimeLimit(minutes, trainings) if minutes is not None else None
        if self._settings.work is not None:
            return self._settings.work(self._settings, self._order)
        from medfathom.scheduling.worker import results  # noqa: PLC0415  imports torch, in the worker only

        return results(self._settings, self._order)

    def cleanup(self) -> None:
        """Let go of the network and its memory."""
        self._let_go()

    def _let_go(self) -> None:
        self._results = None
        if self._limit is not None:
            self._limit.lift()
            self._limit = None


class TimeLimit:
    """A trial's time limit. A worker that hangs, or is stopped, is killed by a process of its own.

    That process ends with its worker, however the worker ends: it reads from a pipe whose other end only the
    worker holds. Later, the worker's process id may be another's.
    """

    def __init__(self, minutes: float, trainings: int = 1) -> None:
        self._minutes = f"{minutes:g}" + (f" for each of {trainings} folds" if trainings > 1 else "")
        self._deadline = time.monotonic() + minutes * 60 * trainings
        wait = f"sleep {minutes * 60 * trainings * HARD_LIMIT:.3f}; kill -9 {os.getpid()}"
        self._killer = subprocess.Popen(  # noqa: S603  a number and our own process id
            # At the end of the pipe `kill -9 0` ends the whole session: this shell, and the one that waits.
            ["/bin/sh", "-c", f"({wait}) & read -r nothing; kill -9 0"],
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def check(self) -> None:
        """Raise RunError when the time is over."""
        if time.monotonic() > self._deadline:
            raise RunError(f"out of time: ran longer than budget.trial_minutes = {self._minutes}")

    def lift(self) -> None:
        """The trial ended. Lifting the limit again does nothing: the killer's id may be another's by then."""
        if self._killer.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._killer.pid, signal.SIGKILL)
        self._killer.communicate()  # closes the pipe, and waits
