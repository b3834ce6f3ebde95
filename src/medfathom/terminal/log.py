"""A log file for each run: what its watcher is told, with the time, whatever the terminal shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from medfathom.errors import MedfathomError
from medfathom.files import home
from medfathom.study.watcher import State, Watcher

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig
    from medfathom.study.assignment import Assignment
    from medfathom.study.driver import Driver


@contextmanager
def logged(watcher: Watcher, kind: str) -> Iterator[Watcher]:
    """A watcher that also writes a log, from the moment a run begins; an error is its last line.

    Args:
        watcher: is told everything, too.
        kind: `run` or `confirm`: the beginning of the file's name in storage/logs.
    """
    log = _Logged(watcher, kind)
    try:
        yield log
    except MedfathomError as error:
        log.write(f"error: {error}")
        raise
    finally:
        log.close()


class _Logged(Watcher):
    """Bad input leaves nothing behind: lines are kept until trials begin, and only then is there a file."""

    def __init__(self, watcher: Watcher, kind: str) -> None:
        self._watcher, self._kind = watcher, kind
        self._waiting: list[str] = []
        self.path: Path | None = None

    def write(self, text: str) -> None:
        """A line with the time."""
        self._waiting.append(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
        if self.path is not None:
            self.close()

    def close(self) -> None:
        """Write what waits, where a run has begun."""
        if self.path is not None and self._waiting:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting)
            self._waiting.clear()

    @override
    def begin(self, config: StudyConfig, driver: Driver, concurrent: int) -> None:
        folder = home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        study = config.name.removesuffix(" (confirmed)")
        self.path = folder / f"{self._kind}-{study}-{datetime.now():%Y%m%d-%H%M%S}.log"
        self.write(f"begin: {concurrent} trials at once, budget {driver.budget}; {driver.counts()}")
        self._watcher.begin(config, driver, concurrent)

    @override
    def trial_begins(self, assignment: Assignment) -> None:
        params = assignment.params.model_dump(mode="json", exclude_unset=True)
        self.write(f"trial {assignment.number} begins: {params}")
        self._watcher.trial_begins(assignment)

    @override
    def epoch(self, number: int, epoch: int, auc: float) -> None:
        self.write(f"trial {number} epoch {epoch}: validation AUC {auc:.6f}")
        self._watcher.epoch(number, epoch, auc)

    @override
    def trial_ends(self, number: int, state: State, auc: float | None, reason: str) -> None:
        self.write(f"trial {number} {state}: {'no AUC' if auc is None else f'AUC {auc:.6f}'}; {reason}")
        self._watcher.trial_ends(number, state, auc, reason)

    @override
    def note(self, text: str) -> None:
        self.write(" ".join(text.split()))
        self._watcher.note(text)

    @override
    def end(self) -> None:
        self.write("end")
        self._watcher.end()
        self._watcher.note(f"Log: {self.path}")
