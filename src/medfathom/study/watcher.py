"""Who is told what happens in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from medfathom.definitions.config import StudyConfig

if TYPE_CHECKING:
    from medfathom.study.assignment import Assignment
    from medfathom.study.driver import Driver


State = Literal["COMPLETE", "PRUNED", "FAIL"]


class Watcher:
    """Is told what happens in a run; this one tells nobody. Called from the driver's main thread."""

    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        """The run starts; `driver` knows what earlier runs did."""

    def trial_begins(self, assignment: Assignment) -> None:
        """A trial was handed to a worker."""

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """An epoch ended; `value` is the validation AUC, or what else the study looks for."""

    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        """A trial ended; `value` is its last one."""

    def note(self, text: str) -> None:
        """Something worth knowing, in words."""

    def end(self) -> None:
        """The run is over."""


class _Default:
    make: Callable[[], Watcher] = Watcher


def watch_by_default(make: Callable[[], Watcher]) -> None:
    """From now on calls that are given no watcher take one from here."""
    _Default.make = staticmethod(make)


def default_watcher() -> Watcher:
    """For a call that was given none: nobody is told, in a notebook its reader."""
    return _Default.make()
