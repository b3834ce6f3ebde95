"""Why a run ends before its budget of trials."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from ray import tune

from medfathom.definitions.config import StudyConfig
from medfathom.metrics.rules import is_loss, objective_title
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import RESTS
from medfathom.study.driver import Driver
from medfathom.study.record import value_of
from medfathom.study.summary import WITHDRAWN

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Halt(Unsaved, tune.Stopper):  # type: ignore[misc]
    """Why the run ends before its budget of trials: an interrupt, time, no improvement, an error."""

    def __init__(self, config: StudyConfig, driver: Driver) -> None:
        self.reason = ""
        self.final = False
        """Whether the same command would not go on: the trials in hand are ended."""
        self.error: Exception | None = None
        self._driver = driver
        self._budget = config.budget
        self._deadline = time.monotonic() + (config.budget.minutes or float("inf")) * 60
        self._seen = -1

    def or_halt(self, action: Callable[[], Any], otherwise: Any) -> Any:
        """Do it; an error halts the run instead of passing through Ray."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001  raised again after the fit
            self.error = self.error or error
            self.reason = self.reason or str(error) or type(error).__name__
            return otherwise

    def interrupt(self, *_: Any) -> None:
        """Signal handler: end the run now.

        Tune would wait for running epochs to end, up to 15 s; what is raised here passes through it. Should
        it be swallowed on the way, `stop_all` ends the run all the same.
        """
        self.reason = self.reason or "interrupted"
        raise KeyboardInterrupt

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Of single trials only a worker is stopped from here that rests while nothing is left to do."""
        return RESTS in result and bool(self.or_halt(self._driver.done, otherwise=True))

    def stop_all(self) -> bool:
        """Whether the run ends now. Tune asks after every event."""
        self.or_halt(self._driver.renew, otherwise=None)
        if not self.reason and time.monotonic() > self._deadline:
            self.reason = f"{self._budget.minutes:g} minutes are over"
        if not self.reason:
            self.or_halt(self._check_trials, otherwise=None)
        return bool(self.reason)

    def _check_trials(self) -> None:
        if self._budget.patience is None and self._budget.device_hours is None:
            return
        # A trial that was withdrawn before its first epoch counts as nothing, here too.
        ended = [t for t in self._driver.trials() if t.state.is_finished() and WITHDRAWN not in t.user_attrs]
        if len(ended) == self._seen:
            return
        self._seen = len(ended)
        hours = sum(t.user_attrs.get("train_seconds", 0.0) for t in ended) / 3600
        if self._budget.device_hours is not None and hours >= self._budget.device_hours:
            self.reason = f"{self._budget.device_hours:g} device-hours are spent (budget.device_hours)"
        elif (
            self._budget.patience is not None
            and since_best(ended, self._driver.config.objective) >= self._budget.patience
        ):
            title = objective_title(self._driver.config.objective)
            self.reason = f"no better {title} in {self._budget.patience} trials (budget.patience)"
        self.final = bool(self.reason)


def since_best(ended: list[FrozenTrial], objective: str = "auc") -> int:
    """How many trials ended after the first with the best value of an objective; 0 when none is complete."""
    complete = [t for t in ended if t.state == TrialState.COMPLETE and value_of(t) is not None]
    if not complete:
        return 0
    sign = -1.0 if is_loss(objective) else 1.0
    best = max(complete, key=lambda t: (sign * (value_of(t) or 0.0), -t.number))
    return sum(
        t.datetime_complete > best.datetime_complete
        for t in ended
        if t.datetime_complete is not None and best.datetime_complete is not None
    )


def _undecided(number: signal.Signals) -> bool:
    """Whether nobody but Python or Ray has said what a signal is to do, and this thread may say it."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(number)
    from_ray = str(getattr(handler, "__module__", "")).startswith("ray.")
    return from_ray or handler in (signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def callers_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM when it starts: it goes back to whoever had decided about it."""
    undecided, decided = _undecided(signal.SIGTERM), signal.getsignal(signal.SIGTERM)
    yield
    if not undecided and signal.getsignal(signal.SIGTERM) is not decided:
        signal.signal(signal.SIGTERM, decided)


@contextmanager
def signals(halt: Halt) -> Iterator[None]:
    """SIGINT and SIGTERM halt the run; its trials stay to be gone on with.

    Where whoever runs this has said what a signal is to do, it does that: a job of Slurm goes on after the
    SIGTERM of a preemption, since one that ends by itself is not queued again.
    """
    free = [s for s in (signal.SIGINT, signal.SIGTERM) if _undecided(s)]
    before = {s: signal.signal(s, halt.interrupt) for s in free}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
