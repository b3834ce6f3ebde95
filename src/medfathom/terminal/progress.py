"""What a user sees while a study runs: a live table, plain lines, or JSON lines."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from optuna.trial import TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.strategies import unfrozen
from medfathom.metrics.rules import is_auc, is_loss, objective_title
from medfathom.study.choice import best_so_far
from medfathom.study.record import value_of
from medfathom.study.summary import GOES_ON_FROM
from medfathom.study.watcher import State, Watcher
from medfathom.terminal.run_lines import EpochLine, Line, TrialEndsLine
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import QUIET, clock, spark, without_shared_prefix

if TYPE_CHECKING:
    from medfathom.definitions.space import TrialParams
    from medfathom.study.assignment import Assignment
    from medfathom.study.driver import Driver

STYLE = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan"}


SHOWN_ENDED = 12
"""Ended trials that the live table keeps in view."""


@dataclass
class Row:
    """A trial as it is shown."""

    number: int
    params: TrialParams
    begun: float
    curve: list[float] = field(default_factory=list)
    state: str = "RUNNING"
    reason: str = ""
    seconds: float = 0.0


class RunCount(Watcher):
    """Keeps count: what all displays for people have in common."""

    def __init__(self) -> None:
        self.running: dict[int, Row] = {}
        self.ended: deque[Row] = deque(maxlen=SHOWN_ENDED)
        self.count = {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
        self.objective = "auc"
        self.best: float | None = None
        self.best_number: int | None = None
        self.max_epochs = self.budget = 0
        self.trainings = 1
        self._counted_later: set[int] = set()
        self.started = time.monotonic()
        self._ended_here = 0

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        counts = driver.counts()
        self.count = {"COMPLETE": counts.complete, "PRUNED": counts.pruned, "FAIL": counts.failed}
        self.max_epochs, self.budget = config.budget.epochs, driver.budget
        self.objective = config.objective
        self.trainings = config.dataset.splits.trainings
        running = driver.trials(TrialState.RUNNING)
        self._counted_later = {t.number for t in running if GOES_ON_FROM in t.user_attrs}
        self.started = time.monotonic()
        if (trial := best_so_far(driver.trials(), self.objective)) is not None:
            self.best, self.best_number = value_of(trial), trial.number

    @property
    def title(self) -> str:
        """What the study looks for, as a heading."""
        return objective_title(self.objective)

    def _consider(self, number: int, value: float) -> None:
        sign = -1.0 if is_loss(self.objective) else 1.0
        if self.best is None or sign * value > sign * self.best:
            self.best, self.best_number = value, number

    @override
    def trial_begins(self, assignment: Assignment) -> None:
        curve = [value for _, value in sorted(assignment.reported.items())]
        self.running[assignment.number] = Row(assignment.number, assignment.params, time.monotonic(), curve)
        if assignment.scored and assignment.number not in self._counted_later:
            self.count["PRUNED"] -= 1  # the trial that it goes on from

    @override
    def epoch(self, number: int, epoch: int, value: float) -> None:
        row = self.running[number]
        if epoch > len(row.curve):
            row.curve.append(value)

    @override
    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        row = self.running.pop(number)
        row.state, row.reason, row.seconds = state, reason, time.monotonic() - row.begun
        self.ended.append(row)
        self.count[state] += 1
        self._ended_here += 1
        if state == "COMPLETE" and value is not None:
            self._consider(number, value)

    def _epochs(self, row: Row) -> str:
        """How far a trial is, of what its folds so far can have."""
        whole = self.max_epochs * (self.trainings if len(row.curve) > self.max_epochs else 1)
        return f"{len(row.curve)}/{whole}"

    def seconds_left(self) -> float | None:
        """From this run's own pace; None before a trial has ended."""
        if not self._ended_here:
            return None
        pace = (time.monotonic() - self.started) / self._ended_here
        return max(0.0, pace * (self.budget - sum(self.count.values())))

    def summary(self) -> str:
        """One line: how far, how good, how long."""
        done = sum(self.count.values())
        states = ", ".join(f"{n} {state.lower()}" for state, n in self.count.items() if n)
        best = (
            f"{'lowest' if is_loss(self.objective) else 'highest'} {self.title} {self.best:.4f} "
            f"(trial {self.best_number})"
            if self.best is not None
            else f"no {self.title} yet"
        )
        left = self.seconds_left()
        ahead = f"about {clock(left)} left" if left else ""
        parts = [f"{done} of {self.budget} trials" + (f" ({states})" if states else ""), best, ahead]
        return " · ".join(part for part in parts if part)


def watcher_for_people() -> Watcher:
    """A live table in a terminal, lines elsewhere; nobody is told with `-q`."""
    if QUIET.get():
        return Watcher()
    console = Console()
    return LiveTable(console) if console.is_terminal else PlainLines(console)


def short_architectures(config: StudyConfig) -> dict[str, str]:
    """Each architecture of the space without the words that all begin with."""
    names = [str(name) for name in config.space.values("architecture")]
    return dict(zip(names, without_shared_prefix(names), strict=True))


def heading(objective: str) -> str:
    """What a search looks for, as the heading of a narrow column."""
    title = objective_title(objective)
    return title if len(title) <= len("log loss") else "objective"


def live_columns(config: StudyConfig | None, names: Mapping[str, str]) -> list[Column]:
    """Columns as wide as their widest cell will be, so that they do not jump."""
    epochs = 0 if config is None else config.budget.epochs
    inits = [] if config is None else [str(name) for name in config.space.values("init")]
    title = heading("auc" if config is None else config.objective)
    return [
        Column("trial", width=5),
        Column("state", left=True, width=8),
        Column("architecture", left=True, width=max(map(len, names.values()), default=0)),
        Column("init", left=True, width=max(map(len, inits), default=0)),
        Column("unfreeze"),
        Column("rate", minor=2, width=7),
        Column("epoch", minor=1, width=2 * len(str(epochs)) + 1),
        Column(title, width=max(6, len(title))),
        Column("curve", left=True, minor=4, width=max(5, min(epochs, 20))),
        Column("time", minor=3, width=7),
    ]


class LiveTable(RunCount):
    """For a terminal: running trials and the latest ended ones, redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._names: dict[str, str] = {}
        self._columns = live_columns(None, {})
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=False)

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        super().begin(config, driver, concurrent)
        self._names = short_architectures(config)
        self._columns = live_columns(config, self._names)
        self._live.start()

    @override
    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"), soft_wrap=True)  # a command is copied whole

    @override
    def end(self) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The table as it stands."""
        table = FittedTable(self._columns, header_style="bold")
        rows = [*self.ended, *self.running.values()]
        for row in rows:
            table.add_row(*self._cells(row))
        failed = [Text(f"trial {row.number}: {row.reason}", "red") for row in rows if row.state == "FAIL"]
        return Group(table, *failed, Text(), Text(self.summary(), style="bold"))

    def _cells(self, row: Row) -> list[RenderableType]:
        seconds = row.seconds or time.monotonic() - row.begun
        best = row.number == self.best_number
        value = f"{row.curve[-1]:.4f}" if row.curve else ""
        return [
            str(row.number),
            Text(row.state, style=STYLE[row.state]),
            self._names.get(row.params.architecture, row.params.architecture),
            row.params.init,
            unfrozen(row.params.unfreeze_depth, row.params.strategy),
            f"{row.params.learning_rate:.1e}",
            self._epochs(row),
            Text(value, style="bold green" if best else ""),
            Text(spark(row.curve[-20:])),
            clock(seconds),
        ]


class PlainLines(RunCount):
    """Where no terminal is: a line for each trial that ends."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    @override
    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        row = self.running[number]
        super().trial_ends(number, state, value, reason)
        p = row.params
        depth = unfrozen(p.unfreeze_depth, p.strategy)
        what = f"{p.architecture} init={p.init} unfreeze_depth={depth} rate={p.learning_rate:.1e}"
        result = reason if state == "FAIL" else f"{self.title} {value:.4f} at epoch {self._epochs(row)}"
        self._print(f"trial {number:3d}  {state:8}  {what}  {result}  {clock(row.seconds)}")

    @override
    def note(self, text: str) -> None:
        self._print(text)

    @override
    def end(self) -> None:
        self._print(self.summary())

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class JsonLines(Watcher):
    """For machines: one JSON object a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._objective = "auc"

    def _write(self, line: Line) -> None:
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        self._objective = config.objective
        self._write(
            {
                "event": "begin",
                "study": config.name,
                "objective": config.objective,
                "trials": driver.budget,
                "concurrent": concurrent,
            }
        )

    @override
    def trial_begins(self, assignment: Assignment) -> None:
        params = assignment.params.model_dump(mode="json")
        self._write({"event": "trial_begins", "number": assignment.number, "params": params})

    @override
    def epoch(self, number: int, epoch: int, value: float) -> None:
        line: EpochLine = {"event": "epoch", "number": number, "epoch": epoch}
        self._write({**line, "auc": value} if is_auc(self._objective) else {**line, "value": value})

    @override
    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        line: TrialEndsLine = {"event": "trial_ends", "number": number, "state": state, "reason": reason}
        self._write({**line, "auc": value} if is_auc(self._objective) else {**line, "value": value})

    @override
    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    @override
    def end(self) -> None:
        self._write({"event": "end"})
