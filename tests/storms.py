"""A seeded storm over a study of small trials: what may happen to a study that runs for a week, in minutes.

Each fault comes a moment after a trial was seen to begin or end. A driver that died is started again, as its
user would do. What must hold in the end is in `Storm.verdict`.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from optuna.trial import TrialState

from killing import DRIVER, EPOCHS, descendants, kill_worker
from medfathom.study.read import read_study

MARK = "MEDFATHOM_STORM"
"""In the environment of every process of a storm: whatever is left of it is found by it."""
GRACE_S = 90.0
"""Ray's own processes notice within this time that their driver is gone."""
MOST_STARTS = 60


@dataclass
class Run:
    """One study, and the process that runs it just now."""

    name: str
    url: str
    trials: int
    place: Path
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    starts: int = 0
    done: bool = False
    resident: list[int] = field(default_factory=list)
    """KiB of the driver's memory at each line that it said, of its latest start."""

    def start(self, mark: str) -> None:
        """Start the driver, its output read by a thread."""
        code = DRIVER.replace('"name=killed"', f'"name={self.name}"')
        self.starts, self.resident = self.starts + 1, []
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, self.url, str(self.trials)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.place,
            env={**os.environ, MARK: mark},
        )
        Thread(target=self._listen, args=(self.process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.said.append(line)
                with suppress(OSError, IndexError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    self.resident.append(int(status.partition("VmRSS:")[2].split()[0]))

    @property
    def alive(self) -> bool:
        """Whether its driver runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the driver as a power cut would."""
        assert self.process
        self.process.kill()
        self.process.wait()


@dataclass
class Storm:
    """What a storm did and found.

    Attributes:
        place: a folder, best a small file system of its own: `full` fills it.
        seed: of all that is drawn.
        kinds: of faults, see `FAULTS`.
        pause_s: so long processes are stopped, and the disk is full.
    """

    place: Path
    seed: int
    runs: Sequence[Run]
    kinds: Sequence[str]
    pause_s: float
    counted: Counter[str] = field(default_factory=Counter)
    copy: Path | None = None

    @property
    def mark(self) -> str:
        """Of its processes."""
        return f"{os.getpid()}-{self.seed}"

    def blow(self, faults: int) -> None:
        """So many faults, then quiet until the studies have ended."""
        generator = random.Random(self.seed)
        left = [generator.choice(self.kinds) for _ in range(faults)]
        heard = dict.fromkeys((run.name for run in self.runs), 0)
        while not all(run.done for run in self.runs):
            for run in self.runs:
                if run.done:
                    continue
                if not run.alive:
                    self._ended(run)
                    continue
                news = sum(line.startswith("trial") for line in run.said)
                if left and news > heard[run.name]:
                    heard[run.name] = news
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
        run.start(self.mark)

    def verdict(self) -> list[str]:
        """What is not as it must be, a line each; empty: all is well."""
        found = [line for run in self.runs for line in _wrong(run)]
        deadline = time.monotonic() + GRACE_S
        while (left := list(marked(self.mark))) and time.monotonic() < deadline:
            time.sleep(1)
        found += [f"a process is left: {title[:60]}" for title in left]
        found += [f"half-written: {path}" for path in self.place.rglob("*.tmp")]
        return found


def _wrong(run: Run) -> Iterator[str]:
    trials = read_study(run.url, run.name).get_trials()
    if [t.number for t in trials] != list(range(run.trials)):
        yield f"{run.name}: {len(trials)} trials, asked for {run.trials}"
    for trial in trials:
        steps = list(trial.intermediate_values)
        where = f"{run.name}: trial {trial.number}"
        if not trial.state.is_finished():
            yield f"{where} is {trial.state.name}"
        if steps != list(range(1, len(steps) + 1)):
            yield f"{where} has a hole in its history: {steps}"
        if trial.state != TrialState.FAIL and (len(steps) == EPOCHS) != (trial.state == TrialState.COMPLETE):
            yield f"{where} is {trial.state.name} with {len(steps)} epochs"
        if trial.state == TrialState.FAIL and "worker was lost" not in trial.user_attrs["stop_reason"]:
            yield f"{where} failed: {trial.user_attrs['stop_reason']}"
    if len({tuple(t.params.items()) for t in trials}) != len(trials):
        yield f"{run.name}: parameters came twice"
    if any("Traceback" in line for line in run.said):
        text = "".join(run.said)
        yield f"{run.name}: a traceback: {text[text.index('Traceback') :][-2000:]}"
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


def _driver(storm: Storm, run: Run, generator: random.Random) -> bool:
    run.kill()
    return True


def _worker(storm: Storm, run: Run, generator: random.Random) -> bool:
    assert run.process
    return kill_worker(run.process.pid, generator)


def _node(storm: Storm, run: Run, generator: random.Random) -> bool:
    """Ray's own server of the node: the driver ends with it."""
    assert run.process
    servers = [pid for pid, title in descendants(run.process.pid) if "raylet/raylet" in title]
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    return bool(servers)


def _group(storm: Storm, run: Run, generator: random.Random) -> bool:
    """SIGTERM to all processes of a run, as `timeout` and batch systems send it."""
    assert run.process
    for pid in [*(pid for pid, _ in descendants(run.process.pid)), run.process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return True


def _stopped(storm: Storm, run: Run, generator: random.Random) -> bool:
    """All processes of a run stand still, as in a suspended virtual machine."""
    assert run.process
    stopped = [run.process.pid, *(pid for pid, _ in descendants(run.process.pid))]
    for how in (signal.SIGSTOP, signal.SIGCONT):
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        if how == signal.SIGSTOP:
            time.sleep(storm.pause_s)
    return True


def _full(storm: Storm, run: Run, generator: random.Random) -> bool:
    """No byte is left on the file system of the storage."""
    filler = storm.place / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**16))
            file.flush()
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    time.sleep(storm.pause_s)
    filler.unlink()
    return True


def _too_large(storm: Storm, run: Run, generator: random.Random) -> bool:
    """Whatever the driver writes fails, as on a file system that became read-only."""
    import resource  # noqa: PLC0415  not on Windows

    assert run.process
    before = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    time.sleep(storm.pause_s)
    with suppress(ProcessLookupError):
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, before)
    return True


def _copied(storm: Storm, run: Run, generator: random.Random) -> bool:
    """A copy of the storage is taken; a later one of these faults brings it back, as from a backup."""
    database = Path(run.url.removeprefix("sqlite:///"))
    if storm.copy is None:
        storm.copy = database.with_suffix(".backup")
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(storm.copy)) as copy:
            source.backup(copy)
        return True
    for each in storm.runs:
        if each.alive:
            each.kill()
        each.done = False
    for end in ("", "-wal", "-shm"):
        database.with_name(f"{database.name}{end}").unlink(missing_ok=True)
    storm.copy.rename(database)
    storm.copy = None
    return True


FAULTS: dict[str, Callable[[Storm, Run, random.Random], bool]] = {
    "driver": _driver,
    "worker": _worker,
    "node": _node,
    "group": _group,
    "stopped": _stopped,
    "full": _full,
    "too large": _too_large,
    "copied": _copied,
}
"""Kind of fault -> what does it to a run; False: it could not be done just now."""


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[bool]:
    """A file system of its own at a folder, where this may be mounted. Gives whether it could."""
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def storm(
    place: Path, seed: int, *, trials: int, kinds: Sequence[str], studies: int = 1, pause_s: float
) -> Storm:
    """A storm over so many studies of so many trials each, in one SQLite file."""
    (place / "storage").mkdir(exist_ok=True)
    url = f"sqlite:///{place / 'storage' / 'medfathom.db'}"
    runs = [Run(f"storm-{seed}-{i}", url, trials, place) for i in range(studies)]
    return Storm(place, seed, runs, kinds, pause_s)
