"""Kills a running study's driver or one of its workers at random moments, and starts it again, to its end."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EPOCHS = 4
WORKERS = ("ray::TrialActor", "ray::ResourceTrainable")
"""What Ray calls a worker of ours: between steps, and in one."""
DRIVER = f"""
import sys
from pathlib import Path
from medfathom.scheduling import run_trials  # before Ray itself, which reads its environment
from fake_work import slow
from medfathom.errors import MedfathomError
from medfathom.study import sharing
from medfathom.definitions.load import load_definition
from medfathom.terminal.progress import PlainLines
from medfathom.study.open import open_study
from rich.console import Console
sharing.LEASE_S = 6.0
changes = ["name=killed", f"budget.trials={{sys.argv[2]}}", "budget.epochs={EPOCHS}", "sampler=random"]
config = load_definition("demo", changes)
try:
    with open_study(config, sys.argv[1], "data") as driver:
        halted = run_trials(config, driver, PlainLines(Console()), Path("."), work=slow)
        sys.exit(f"halted: {{halted}}" if halted else 0)
except MedfathomError as error:  # as the command line ends
    sys.exit(f"error: {{error}}")
"""


@dataclass
class Kills:
    """What was killed, and how often the driver was started."""

    drivers: int = 0
    workers: int = 0
    starts: int = 0


def run_and_kill(url: str, trials: int, kills: int, seed: int) -> Kills:
    """Run a study of so many trials to its end in the working folder, killing so many times on the way.

    Every kill comes up to 2.5 s (uniformly) after a trial was seen to end or to lose its worker.
    Ray's own words must not stand among what the driver prints: `run --json` has its lines there.
    """
    generator = random.Random(seed)
    done = Kills()
    while True:
        done.starts += 1
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, url, str(trials)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert driver.stdout
        said = []
        for line in driver.stdout:
            said.append(line)
            if "(raylet)" in line:
                raise AssertionError(line)
            if not line.startswith("trial") or done.drivers + done.workers >= kills:
                continue
            time.sleep(generator.uniform(0, 2.5))
            if generator.random() < 0.5 and kill_worker(driver.pid, generator):
                done.workers += 1
            else:
                driver.kill()
                done.drivers += 1
                break
        driver.stdout.close()
        if driver.wait(timeout=120) == 0:
            return done
        if driver.returncode != -signal.SIGKILL:
            raise AssertionError("".join(said))


def kill_worker(driver: int, generator: random.Random) -> bool:
    """Kill one of the driver's Ray workers; False where there is none just now."""
    worker = some_worker(driver, generator)
    if worker is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    return True


def some_worker(driver: int, generator: random.Random) -> int | None:
    """Process id of one of the driver's Ray workers; None where there is none just now."""
    # Not Ray's own agents: when one of those dies its node goes with it, and the driver with its node.
    busy = sorted(pid for pid, name in descendants(driver) if name.startswith(WORKERS))
    return generator.choice(busy) if busy else None


def _title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    return ""


def descendants(root: int) -> Iterator[tuple[int, str]]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            parents[pid] = int(rest[1])
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and pid != root:
            yield pid, _title(pid)
