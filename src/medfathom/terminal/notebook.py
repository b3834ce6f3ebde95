"""Progress in a notebook: one table, redrawn in place."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from medfathom.definitions.strategies import unfrozen
from medfathom.html import lines, piece, table
from medfathom.study.watcher import State, Watcher, watch_by_default
from medfathom.terminal.progress import RunCount, short_architectures, watcher_for_people
from medfathom.text import clock, spark

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig
    from medfathom.study.assignment import Assignment
    from medfathom.study.driver import Driver
    from medfathom.terminal.progress import Row

REDRAWN_EVERY_S = 0.5
"""A notebook keeps every message until the page has drawn it."""

COLUMNS = ("trial", "state", "network", "init", "unfreeze", "rate", "epoch")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def progress() -> Watcher:
    """A watcher for where this runs: a table in a notebook or a terminal, plain lines elsewhere.

    In a notebook it is the default; in a script give it to a call:

        medfathom.run_study("demo", watcher=medfathom.progress())
    """
    return NotebookTable() if in_notebook() else watcher_for_people()


def watch_in_notebooks() -> None:
    """From now on calls in a notebook show their progress."""
    if in_notebook():
        watch_by_default(progress)


class NotebookTable(RunCount):
    """Running trials and the latest ended ones; notes below."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        self._notes: list[str] = []
        self._shown: Any = None
        self._drawn = 0.0
        self._study = ""

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        super().begin(config, driver, concurrent)
        self._names, self._study = short_architectures(config), config.name
        self._draw(now=True)

    @override
    def trial_begins(self, assignment: Assignment) -> None:
        super().trial_begins(assignment)
        self._draw()

    @override
    def epoch(self, number: int, epoch: int, value: float) -> None:
        super().epoch(number, epoch, value)
        self._draw()

    @override
    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        super().trial_ends(number, state, value, reason)
        self._draw()

    @override
    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw(now=True)

    @override
    def end(self) -> None:
        self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        from IPython.display import HTML, display  # noqa: PLC0415  there wherever a notebook is

        if not now and time.monotonic() - self._drawn < REDRAWN_EVERY_S:
            return
        self._drawn = time.monotonic()
        page = HTML(self.html())
        if self._shown is None:
            self._shown = display(page, display_id=True)
        else:
            self._shown.update(page)

    def html(self) -> str:
        """The table as it stands."""
        rows = [*self.ended, *self.running.values()]
        failed = [f"trial {row.number}: {row.reason}" for row in rows if row.state == "FAIL"]
        if not self._study:
            return lines(self._notes)
        columns = (*COLUMNS, self.title, "curve", "time")
        drawn = table(columns, [self._cells(row) for row in rows]) if rows else ""
        return piece(f"{self._study}: {self.summary()}", drawn, lines([*failed, *self._notes]))

    def _cells(self, row: Row) -> list[object]:
        p = row.params
        value = f"{row.curve[-1]:.4f}" if row.curve else ""
        return [
            row.number,
            row.state,
            self._names.get(p.architecture, p.architecture),
            p.init,
            unfrozen(p.unfreeze_depth, p.strategy),
            f"{p.learning_rate:.1e}",
            self._epochs(row),
            value,
            spark(row.curve[-20:]),
            clock(row.seconds or time.monotonic() - row.begun),
        ]
