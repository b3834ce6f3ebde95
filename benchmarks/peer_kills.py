"""medfathom, Optuna, Ray Tune and Syne Tune under the same kills, each with its own way to go on.

    uv run --with syne-tune benchmarks/peer_kills.py [--seeds 3] [--trials 12] [--kills 5] [--only NAMES]

Kills, drawn by the seed, each up to 2.5 s after news of a trial: SIGKILL of the process that was started, of
one of its workers, SIGTERM to all of its processes, SIGSTOP of all for 4 s. What ended is started again with
the same command. Trials are equal: 4 epochs of .4 s, two at a time. `benchmarks/peers/killed_*.py` have them.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

from killing import DRIVER, EPOCHS, descendants
from medfathom.study.read import read_study
from storms import MARK, marked

KINDS = ("driver", "worker", "group", "stopped")
PAUSE_S, SILENT_S, GRACE_S = 4.0, 240.0, 30.0
"""How long processes stand still; after what silence a driver hangs; when its children must be gone."""
MOST_STARTS = 15
COUNTED = ("finished", "twice", "unfinished", "torn")
"""Trials: with all epochs; with another's parameters; begun and not ended; with epochs lost or repeated."""


@dataclass(frozen=True)
class Tool:
    """How a tool is started, and which of its processes run trials."""

    command: Callable[[Path, int], list[str]]
    is_worker: Callable[[str], bool]


def script(name: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, trials: [
        sys.executable, str(Path(__file__).parent / "peers" / f"killed_{name}.py"), str(folder), str(trials),
    ]  # fmt: skip


def _ray_worker(title: str) -> bool:
    return title.startswith("ray::") and not title.startswith(("ray::IDLE", "ray::RuntimeEnv", "ray::Dash"))


TOOLS = {
    "medfathom": Tool(
        lambda folder, trials: [sys.executable, "-c", DRIVER, f"sqlite:///{folder}/m.db", str(trials)],
        _ray_worker,
    ),
    "Optuna": Tool(script("optuna"), lambda _: False),
    "Ray Tune": Tool(script("ray_tune"), _ray_worker),
    "Syne Tune": Tool(script("syne_tune"), lambda title: "--rate" in title),
}


@dataclass
class Search:
    """One search by one tool, and what was done to it."""

    tool: Tool
    folder: Path
    trials: int
    mark: str
    said: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def start(self) -> subprocess.Popen[str]:
        self.done["starts"] += 1
        self.heard, self.spoke = len(self.said), time.monotonic()
        process = subprocess.Popen(
            self.tool.command(self.folder, self.trials),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, MARK: self.mark},
        )
        Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            self.said.append(line)
            self.spoke = time.monotonic()

    def news(self) -> bool:
        new, self.heard = self.said[self.heard :], len(self.said)
        return any(line.startswith("trial") for line in new)

    def through(self, kinds: list[str], generator: random.Random) -> None:
        """All kills, then to the end; a driver that hangs or gives up is started again."""
        process = self.start()
        while process.poll() != 0:
            if process.poll() is not None or time.monotonic() - self.spoke > SILENT_S:
                self.done["gave up"] += process.poll() is not None and process.returncode > 0
                self.done["hung"] += process.poll() is None
                process.kill()
                process.wait()
                if self.done["starts"] >= MOST_STARTS:
                    return
                process = self.start()
            elif kinds and self.news():
                time.sleep(generator.uniform(0, 2.5))
                if process.poll() is None:
                    self.done[self.kill(kinds.pop(0), process.pid, generator)] += 1
            time.sleep(0.1)

    def kill(self, kind: str, driver: int, generator: random.Random) -> str:
        """Do it; where there is no worker the driver is killed. Returns what was done."""
        below = list(descendants(driver))
        workers = sorted(pid for pid, title in below if self.tool.is_worker(title))
        if kind == "worker" and workers:
            _send(signal.SIGKILL, [generator.choice(workers)])
            return kind
        everything = [*(pid for pid, _ in below), driver]
        if kind == "stopped":
            _send(signal.SIGSTOP, everything)
            time.sleep(PAUSE_S)
            _send(signal.SIGCONT, everything)
            return kind
        if kind == "group":
            _send(signal.SIGTERM, everything)
            return kind
        _send(signal.SIGKILL, [driver])
        return "driver"

    def orphans(self) -> int:
        """Processes that are left when the search has ended; they are ended too."""
        deadline = time.monotonic() + GRACE_S
        while (left := list(marked(self.mark))) and time.monotonic() < deadline:
            time.sleep(1)
        return len(left)


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def counts(name: str, search: Search) -> dict[str, int]:
    """What the search has in the end: as the tool's own script tells, or from our storage."""
    if name != "medfathom":
        told = [line for line in search.said if line.startswith("{")]
        return dict(json.loads(told[-1])) if told else {"finished": 0}
    trials = read_study(f"sqlite:///{search.folder}/m.db", "killed").get_trials()
    ended = [t for t in trials if t.state.is_finished()]
    return {
        "finished": len(ended),
        "twice": len(ended) - len({tuple(t.params.items()) for t in ended}),
        "unfinished": len(trials) - len(ended),
        "torn": sum(
            list(t.intermediate_values) != list(range(1, t.user_attrs.get("epochs", EPOCHS) + 1))
            for t in ended
        ),
    }


def main() -> None:
    """Tool after tool, seed after seed; a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", default=",".join(TOOLS))
    options = parser.parse_args()
    heads = ["tool", "seed", "kills", "starts", "gave up", "hung", "asked", *COUNTED, "left"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    for name in options.only.split(","):
        for seed in range(1, options.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                search = Search(TOOLS[name], Path(folder), options.trials, f"{os.getpid()}-{name}-{seed}")
                generator = random.Random(seed)
                search.through([generator.choice(KINDS) for _ in range(options.kills)], generator)
                found, left = counts(name, search), search.orphans()
            did = ", ".join(f"{search.done[kind]} {kind}" for kind in KINDS if search.done[kind])
            cells = [
                name, seed, did, *(search.done[key] for key in ("starts", "gave up", "hung")), options.trials,
                *(found.get(key, "?") for key in COUNTED), left,
            ]  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
