"""A study killed at 20 random moments, on SQLite and on PostgreSQL: drivers and workers, by SIGKILL.

    uv run benchmarks/kills.py [--kills 20] [--out benchmarks/results/kills.md]

What tests/integration/test_kills.py does with 5 kills in every gate, with more: the study must
end with all of its trials finished under consecutive numbers, none RUNNING, none twice, no hole in a history.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

TEST = Path(__file__).resolve().parents[1] / "tests" / "integration" / "test_kills.py"


def main() -> None:
    """Run the test with so many kills; print what was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"# {options.kills} random kills",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}. Trials of 4 epochs; "
        "SIGKILL at random moments. `uv run benchmarks/kills.py`",
        "",
        "| storage | drivers killed | workers killed | driver starts | minutes | as asked |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    failed = False
    for storage in ("sqlite", "postgresql"):
        began = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", f"{TEST}::test_random_kills[{storage}]"],
            capture_output=True, text=True, check=False, cwd=TEST.parents[2],
            env={**os.environ, "MEDFATHOM_KILLS": str(options.kills)},
        )  # fmt: skip
        counted = re.search(r"Kills\(drivers=(\d+), workers=(\d+), starts=(\d+)\)", ran.stdout)
        numbers = " | ".join(counted.groups()) if counted else "? | ? | ?"
        minutes = (time.perf_counter() - began) / 60
        failed = failed or ran.returncode != 0
        lines.append(f"| {storage} | {numbers} | {minutes:.1f} | {'no' if ran.returncode else 'yes'} |")
        if ran.returncode:
            print(ran.stdout[-4000:], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
