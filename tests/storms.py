"""A seeded storm over a study of small trials: what may happen to a study that runs for a week, in minutes.

Each fault comes a moment after a trial was seen to begin or end. A driver that died is started again, as its
user would do. What must hold in the end is in `Storm.verdict`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from optuna.trial import TrialState

from faults import FAULTS
from killing import DRIVER, EPOCHS
from medfathom.study.read import read_study
from storm_storages import Server, SqliteFile
from wrong_clock import clock_environment

MARK = "MEDFATHOM_STORM"
"""In the environment of every process of a storm: whatever is left of it is found by it."""
GRACE_S = 90.0
"""Ray's own processes notice within this time that their driver is gone."""
MOST_STARTS = 60


@dataclass
class Run:
    """One study, and the process that runs it just now."""

    name: str
    trials: int
    older: bool = False
    """Whether its next driver is of the older version."""
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    starts: int = 0
    heard: int = 0
    done: bool = False
    pids: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    """KiB of the driver's memory at each line that it said, of its latest start."""

    def start(self, storm: Storm) -> None:
        """Start the driver, its output read by a thread."""
        code = DRIVER.replace('"name=killed"', f'"name={self.name}"')
        self.starts, self.resident = self.starts + 1, []
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, storm.storage.url, str(self.trials)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=storm.place,
            env=storm.environment(older=self.older),
        )
        self.pids.append(self.process.pid)
        Thread(target=self._listen, args=(self.process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.said.append(line)
                with suppress(OSError, IndexError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    self.resident.append(int(status.partition("VmRSS:")[2].split()[0]))

    def has_news(self) -> bool:
        """Whether a trial began or ended since this was asked."""
        before, self.heard = self.heard, sum(line.startswith("trial") for line in self.said)
        return self.heard > before

    @property
    def alive(self) -> bool:
        """Whether its driver runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the driver as a power cut would; it is started again, also where it had ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process, self.done = None, False


@dataclass
class Storm:
    """What a storm did and found.

    Attributes:
        place: a folder, best a small file system of its own: `full` fills it.
        seed: of all that is drawn.
        faults: their kinds in order, see `FAULTS`.
        pause_s: so long processes are stopped, the disk is full, the server is gone.
        older: the tree of an older version; None: there is none.
        clock: the folder of `wrong_clock`.
    """

    place: Path
    seed: int
    storage: SqliteFile | Server
    runs: list[Run]
    faults: list[str]
    pause_s: float
    older: Path | None = None
    clock: Path | None = None
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def mark(self) -> str:
        """Of its processes."""
        return f"{os.getpid()}-{self.seed}"

    def environment(self, *, older: bool) -> dict[str, str]:
        """Of a driver, and so of all its processes."""
        found = {**os.environ, MARK: self.mark}
        if older:
            found["PYTHONPATH"] = f"{self.older}/src:{os.environ['PYTHONPATH']}"
        if "clock" in self.faults and self.clock is not None:
            found |= clock_environment(self.clock)
        return found

    def join(self, run: Run) -> None:
        """Let a driver of the older version work on a run's study beside it."""
        self.runs.append(Run(run.name, run.trials, older=True))

    def blow(self) -> None:
        """All faults, then quiet until the studies have ended."""
        generator, left = random.Random(self.seed), list(self.faults)
        while not all(run.done for run in self.runs):
            for run in list(self.runs):
                if run.done:
                    continue
                if not run.alive:
                    self._ended(run)
                elif left and run.has_news():
                    time.sleep(generator.uniform(0, 2.5))
                    if run.alive and FAULTS[left[0]](self, run, generator):
                        self.counted[left.pop(0)] += 1
            time.sleep(0.1)
        self.counted["not reached"] += len(left)

    def _ended(self, run: Run) -> None:
        """Start a driver that was killed, or gave up; one that reached the end of its study is not."""
        if run.process is not None and run.process.returncode == 0:
            run.done = True
            return
        if run.process is not None and run.process.returncode > 0:
            self.counted["gave up"] += 1
        if run.starts >= MOST_STARTS:
            raise AssertionError("".join(run.said[-30:]))
        run.start(self)

    def verdict(self) -> list[str]:
        """What is not as it must be, a line each; empty: all is well."""
        found = [] if self.storage.intact() else ["the database is damaged"]
        for name, trials in {run.name: run.trials for run in self.runs}.items():
            found += _wrong_trials(self.storage.url, name, trials)
        found += [line for run in self.runs for line in _wrong_driver(run)]
        deadline = time.monotonic() + GRACE_S
        while (left := list(marked(self.mark))) and time.monotonic() < deadline:
            time.sleep(1)
        found += [f"a process is left: {title[:60]}" for title in left]
        found += [f"half-written: {path}" for path in self.place.rglob("*.tmp")]
        return found


def _wrong_trials(url: str, name: str, asked: int) -> Iterator[str]:
    trials = read_study(url, name).get_trials()
    if [t.number for t in trials] != list(range(asked)):
        yield f"{name}: {len(trials)} trials, asked for {asked}"
    for trial in trials:
        steps = list(trial.intermediate_values)
        where = f"{name}: trial {trial.number}"
        if not trial.state.is_finished():
            yield f"{where} is {trial.state.name}"
        if steps != list(range(1, len(steps) + 1)):
            yield f"{where} has a hole in its history: {steps}"
        if trial.state != TrialState.FAIL and (len(steps) == EPOCHS) != (trial.state == TrialState.COMPLETE):
            yield f"{where} is {trial.state.name} with {len(steps)} epochs"
        if trial.state == TrialState.FAIL and "worker was lost" not in trial.user_attrs["stop_reason"]:
            yield f"{where} failed: {trial.user_attrs['stop_reason']}"
    if len({tuple(t.params.items()) for t in trials}) != len(trials):
        yield f"{name}: parameters came twice"


def _wrong_driver(run: Run) -> Iterator[str]:
    if any("Traceback" in line for line in run.said):
        text = "".join(run.said)
        yield f"{run.name}: a traceback: {text[text.index('Traceback') :][:6000]}"
    for pid in run.pids:
        for folder in Path(tempfile.gettempdir()).glob(f"mf-{pid}-*"):
            yield f"{run.name}: a folder is left: {folder}"
    half = run.resident[len(run.resident) // 2 :]
    if len(half) > 10 and max(half) > 1.2 * half[0]:
        yield f"{run.name}: memory grew from {half[0] >> 10} to {max(half) >> 10} MiB"


def marked(mark: str) -> Iterator[str]:
    """Command lines of living processes of a storm."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                wanted in (folder / "environ").read_bytes().split(b"\0")
                and " Z " not in (folder / "stat").read_text()
            ):
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
