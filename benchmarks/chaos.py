"""Studies of small trials under seeded storms of faults: what is asked for comes, once, and nothing is left.

    uv run benchmarks/chaos.py [--storms 24] [--trials 40] [--faults 12] [--pause 120] [--out FILE]

`tests/faults.py` has the faults, `tests/storms.py` what must hold in the end. Every third storm is on a
PostgreSQL server of its own, the others on SQLite in a small file system (a tmpfs, where mounting is
allowed); every third of each has two studies at once. Faults are dealt from shuffled packs, one for each
storage: every kind comes as often.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

from faults import dealt, possible
from storm_storages import Server, SqliteFile, postgresql_server, small_disk
from storms import Run, Storm
from wrong_clock import build_clock

DISK_MIB = 192
SERVER_EVERY = TWO_STUDIES_EVERY = 3


def main() -> None:
    """Storm after storm; a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storms", type=int, default=24)
    parser.add_argument("--first", type=int, default=1, help="the first storm's seed")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--pause", type=float, default=120.0, help="seconds")
    parser.add_argument("--only", help="kinds of faults, parted by commas")
    parser.add_argument("--older", help="a commit: its drivers take part; default: the last tag")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Storms",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}; load "
        f"{os.getloadavg()[0]:.0f} at the start. `uv run benchmarks/chaos.py {' '.join(sys.argv[1:])}`",
        "",
        "| seed | storage | studies | faults | driver starts | gave up | minutes | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    failed = False
    with older_tree(options.older) as older:
        for seed in range(options.first, options.first + options.storms):
            line, wrong = blown(seed, options, older)
            failed = failed or bool(wrong)
            lines.append(line)
            print(line, flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    sys.exit(failed)


def blown(seed: int, options: argparse.Namespace, older: Path | None) -> tuple[str, list[str]]:
    """One storm: its row of the table, and what was wrong."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory() as clock,
        storage_for(seed, Path(name)) as storage,
    ):
        clocks = Path(clock) if build_clock(Path(clock)) else None
        kinds = possible(storage, older=older is not None, wrong_clock=clocks is not None)
        if options.only:
            kinds = [kind for kind in options.only.split(",") if kind in kinds]
        on_server = isinstance(storage, Server)
        hand = seed // SERVER_EVERY if on_server else seed - seed // SERVER_EVERY
        studies = 2 if hand % TWO_STUDIES_EVERY == 0 else 1
        runs = [Run(f"storm-{seed}-{i}", options.trials) for i in range(studies)]
        faults = dealt(kinds, hand, options.faults)
        storm = Storm(Path(name), seed, storage, runs, faults, options.pause, older, clocks)
        storm.blow()
        wrong = storm.verdict()
    print("\n".join(wrong), file=sys.stderr, flush=True)
    minutes = (time.perf_counter() - began) / 60
    lines = "; ".join(line.splitlines()[0] for line in wrong) or "nothing"
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(storm.counted.items()) if n and kind != "gave up")
    row = [
        seed, "PostgreSQL" if on_server else "SQLite", studies, told, sum(run.starts for run in storm.runs),
        storm.counted["gave up"], f"{minutes:.1f}", lines,
    ]  # fmt: skip
    return f"| {' | '.join(map(str, row))} |", wrong


@contextmanager
def storage_for(seed: int, place: Path) -> Iterator[SqliteFile | Server]:
    """Every third storm is on a server."""
    if seed % SERVER_EVERY == 0:
        with postgresql_server() as server:
            yield server
        return
    with small_disk(place, DISK_MIB) as mounted:
        (place / "storage").mkdir()
        # Without a file system of its own, the whole disk would be filled.
        yield SqliteFile(place / "storage" / "medfathom.db", place if mounted else None)


@contextmanager
def older_tree(commit: str | None) -> Iterator[Path | None]:
    """A checkout of an older version; None: this is no clone, or has no tag."""
    told = ["git", "-C", str(Path(__file__).parent)]
    if commit is None:
        found = subprocess.run(
            [*told, "describe", "--tags", "--abbrev=0"], capture_output=True, text=True, check=False
        )
        commit = found.stdout.strip()
    if not commit:
        yield None
        return
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "older"
        subprocess.run([*told, "worktree", "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*told, "worktree", "remove", "--force", str(tree)], check=True)


if __name__ == "__main__":
    main()
