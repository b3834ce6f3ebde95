"""Studies of small trials under seeded storms of faults: what is asked for comes, once, and nothing is left.

    uv run benchmarks/chaos.py [--storms 24] [--trials 40] [--faults 12] [--pause 120] [--out FILE]

Faults (`tests/storms.py`): SIGKILL of the driver, of a worker, of Ray's node; SIGTERM to all processes;
SIGSTOP of all for `--pause` seconds; a full disk (a tmpfs, where mounting is allowed); writes that fail, as
on a disk that became read-only; an older copy of the storage brought back. Every second storm has two
studies at once.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

from storms import FAULTS, small_disk, storm

DISK_MIB = 192


def main() -> None:
    """Storm after storm; a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storms", type=int, default=24)
    parser.add_argument("--first", type=int, default=1, help="the first storm's seed")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--pause", type=float, default=120.0, help="seconds")
    parser.add_argument("--only", help="kinds of faults, parted by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kinds = options.only.split(",") if options.only else list(FAULTS)
    lines = [
        "# Storms",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}; load "
        f"{os.getloadavg()[0]:.0f} at the start. `uv run benchmarks/chaos.py {' '.join(sys.argv[1:])}`",
        "",
        "| seed | studies | faults | driver starts | gave up | minutes | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    failed = False
    for seed in range(options.first, options.first + options.storms):
        began, studies = time.perf_counter(), 1 + seed % 2
        with tempfile.TemporaryDirectory() as name, small_disk(Path(name), DISK_MIB) as mounted:
            # Without a file system of its own, the whole disk would be filled.
            possible = [kind for kind in kinds if mounted or kind != "full"]
            one = storm(
                Path(name),
                seed,
                trials=options.trials,
                kinds=possible,
                studies=studies,
                pause_s=options.pause,
            )
            one.blow(options.faults)
            wrong = one.verdict()
        failed = failed or bool(wrong)
        told = ", ".join(f"{n} {kind}" for kind, n in one.counted.items() if kind in FAULTS and n)
        starts, minutes = sum(run.starts for run in one.runs), (time.perf_counter() - began) / 60
        lines.append(
            f"| {seed} | {studies} | {told} | {starts} | {one.counted['gave up']} | {minutes:.1f} | "
            f"{'; '.join(wrong) or 'nothing'} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
