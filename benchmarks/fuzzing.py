"""Every reader of strangers' files against damaged ones: an hour, or so many examples.

    uv run benchmarks/fuzzing.py [--hours 1 | --examples 20000] [--only tiff,dicom] [--seed 0] [--out FILE]

The long form of tests/test_fuzzing.py, with other damages for each seed. Each kind of file has a process of
its own with 8 GB of address space, so that one that crashes or takes all memory is counted and named. A file
that broke its reader is kept in the folder `fuzzed/`.
"""

import argparse
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
ADDRESS_SPACE = 8 * 2**30
SLOW_S = 10.0
"""A file of a few kB that takes longer is a finding."""


def fuzz(kind: str, seconds: float, examples: int, seed: int) -> None:
    """Damage files of a kind until the time or the number is over; print what was counted."""
    sys.path.insert(0, str(TESTS))
    from fuzzing import READERS, damaged, survives, valid

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    content, reader, began = valid(kind), READERS[kind], time.perf_counter()
    read, slowest, number = 0, 0.0, 0
    kept = Path("fuzzed")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, examples + 1):
            tried = damaged(content, random.Random(f"{seed} {kind} {number}"))
            file = kept / f"{kind}-{seed}-{number}{Path(reader.name).suffix}"
            kept.mkdir(exist_ok=True)
            file.write_bytes(tried)  # before: the process may not live to do it
            before = time.perf_counter()
            read += survives(reader, Path(folder), tried)
            took = time.perf_counter() - before
            slowest = max(slowest, took)
            if took < SLOW_S:
                file.unlink()
            if time.perf_counter() - began > seconds:
                break
    print("counted", number, read, slowest)


def main() -> None:
    """Fuzz every kind in a process of its own; a table."""
    sys.path.insert(0, str(TESTS))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="of all kinds together")
    parser.add_argument("--examples", type=int, default=10**9, help="of each kind at most")
    parser.add_argument("--only", help="kinds, parted by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        fuzz(options.kind, options.seconds, options.examples, options.seed)
        return
    from fuzzing import READERS

    kinds = options.only.split(",") if options.only else list(READERS)
    lines = [
        "# Damaged files",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, seed {options.seed}. "
        "A file is read or refused in one line; nothing else happened where `broke` is empty. "
        "`uv run benchmarks/fuzzing.py`",
        "",
        "| kind | files | still read | slowest, s | broke |",
        "| --- | --- | --- | --- | --- |",
    ]
    broke = False
    for kind in kinds:
        done = subprocess.run(
            [sys.executable, __file__, "--kind", kind, "--seed", str(options.seed),
             "--seconds", str(options.hours * 3600 / len(kinds)), "--examples", str(options.examples)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = [line for line in done.stdout.splitlines() if line.startswith("counted")]
        if said:
            _, number, read, slowest = said[-1].split()
            lines.append(f"| {kind} | {number} | {read} | {float(slowest):.2f} | |")
            continue
        broke = True
        last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        lines.append(f"| {kind} | ? | ? | ? | {last[:120]} |")
        print(done.stderr[-3000:], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    sys.exit(broke)


if __name__ == "__main__":
    main()
