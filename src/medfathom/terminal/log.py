"""A log file for each long command, which can be sent to somebody: what ran where, and what happened when.

It has no names of files, patients or groups of a data set: what is told of the data before the work begins,
and errors about data, stay on the screen. It has no passwords.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from medfathom.definitions.write import resolved
from medfathom.errors import DataError, MedfathomError
from medfathom.files import home
from medfathom.machine import cpus, gpus_here, memory_bytes
from medfathom.metrics.rules import objective_title
from medfathom.study.watcher import State, Watcher
from medfathom.urls import without_passwords

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig
    from medfathom.study.assignment import Assignment
    from medfathom.study.driver import Driver

PACKAGES = (
    *("medfathom", "torch", "timm", "ray", "optuna", "optuna-dashboard", "sqlalchemy"),
    *("numpy", "scipy", "pandas", "pillow", "pydicom", "tifffile", "nibabel"),
)
"""Whose versions matter when something goes wrong."""


class LogFile:
    """Bad input leaves nothing behind: lines are kept until the work begins, only then there is a file."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._waiting: list[str] = []
        self.path: Path | None = None

    def write(self, text: str) -> None:
        """A line with the time."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._waiting.append(f"{now} {without_passwords(text)}\n")
        if self.path is not None:
            self.flush()

    def begin(self, name: str, config: StudyConfig | None = None) -> None:
        """Make the file: its head has the versions, the machine, and the definition where there is one."""
        folder = home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{self._kind}-{name}-{datetime.now():%Y%m%d-%H%M%S}.log"
        self.write(f"{self._kind} {name}")
        for line in (*_head(), *_definition(config)):
            self.write(line)

    def fail(self, error: MedfathomError) -> None:
        """The last line of what went wrong."""
        if isinstance(error, DataError):
            self.write("error: about the data; its text may name files, so it was shown on the screen only")
        else:
            self.write(f"error: {' '.join(str(error).split())}")

    def flush(self) -> None:
        """Write what waits, where the work has begun."""
        if self.path is not None and self._waiting:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting)
            self._waiting.clear()


def _head() -> Iterator[str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    yield f"Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {each}" for name, each in found.items())
    gpus = ", ".join(gpus_here()) or "none"
    yield f"{cpus()} CPUs, {memory_bytes() / 2**30:.1f} GiB of memory, GPUs: {gpus}"


def _definition(config: StudyConfig | None) -> list[str]:
    return [] if config is None else [f"| {line}" for line in resolved(config).splitlines()]


@contextmanager
def logged(watcher: Watcher, kind: str) -> Iterator[Watcher]:
    """A watcher that also writes a log, from the moment a run begins; an error is its last line.

    Args:
        watcher: is told everything, too.
        kind: `run` or `confirm`: the beginning of the file's name in storage/logs.
    """
    log = _Logged(watcher, LogFile(kind))
    try:
        yield log
    except MedfathomError as error:
        log.file.fail(error)
        raise
    finally:
        log.file.flush()


@contextmanager
def logged_steps(kind: str, name: str, config: StudyConfig | None = None) -> Iterator[Callable[[str], None]]:
    """Gives what is called with each step of a long command; the first call makes the log.

    Args:
        kind: the command: the beginning of the file's name in storage/logs.
        name: of the study.
        config: its definition.
    """
    log = LogFile(kind)

    def step(text: str) -> None:
        if log.path is None:
            log.begin(name, config)
        log.write(text)

    try:
        yield step
        log.write("end")
    except MedfathomError as error:
        log.fail(error)
        raise
    finally:
        log.flush()
        if log.path is not None:
            print(f"Log: {log.path}", file=sys.stderr)  # noqa: T201


def telling(
    step: Callable[[str], None], tell: Callable[[str, int, int], None]
) -> Callable[[str, int, int], None]:
    """A progress bar's own, which also logs where each step begins and is done."""
    begun: set[str] = set()

    def both(name: str, done: int, total: int) -> None:
        if name not in begun:
            begun.add(name)
            step(f"{name}: {total:,}")
        if done >= total:
            step(f"{name}: done")
        tell(name, done, total)

    return both


class _Logged(Watcher):
    """What a run's watcher is told; nothing of what is told before it begins: that is about the data."""

    def __init__(self, watcher: Watcher, file: LogFile) -> None:
        self._watcher, self.file = watcher, file
        self._title = "AUC"

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        self.file.begin(config.name.removesuffix(" (confirmed)"), driver.config)
        self.file.write(f"begin: {concurrent} trials at once, budget {driver.budget}; {driver.counts()}")
        self._title = objective_title(config.objective)
        self._watcher.begin(config, driver, concurrent)

    @override
    def trial_begins(self, assignment: Assignment) -> None:
        params = assignment.params.model_dump(mode="json", exclude_unset=True)
        self.file.write(f"trial {assignment.number} begins: {params}")
        self._watcher.trial_begins(assignment)

    @override
    def epoch(self, number: int, epoch: int, value: float) -> None:
        self.file.write(f"trial {number} epoch {epoch}: validation {self._title} {value:.6f}")
        self._watcher.epoch(number, epoch, value)

    @override
    def trial_ends(self, number: int, state: State, value: float | None, reason: str) -> None:
        reached = f"no {self._title}" if value is None else f"{self._title} {value:.6f}"
        self.file.write(f"trial {number} {state}: {reached}; {reason}")
        self._watcher.trial_ends(number, state, value, reason)

    @override
    def note(self, text: str) -> None:
        if self.file.path is not None:
            self.file.write(" ".join(text.split()))
        self._watcher.note(text)

    @override
    def end(self) -> None:
        self.file.write("end")
        self._watcher.end()
        if self.file.path is not None:
            self._watcher.note(f"Log: {self.file.path}")
