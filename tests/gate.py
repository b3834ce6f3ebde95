"""The gate: format, lint, types, tests. `uv run tests/gate.py [--quick | --slow] [pytest arguments]`.

    uv run tests/gate.py            everything but the slow tests
    uv run tests/gate.py --quick    neither large tests nor those that need Ray, PostgreSQL or a browser
    uv run tests/gate.py --slow     the slow tests alone: real kills, several drivers, whole studies

Tests run in two processes, a module in one of them. The slow tests run in three, as they wait for other
processes more than they compute; their longest module comes first.
"""

import os
import subprocess
import sys
from pathlib import Path

STEPS = (
    ("ruff", "format", "--check", "--quiet", "."),
    ("ruff", "check", "--quiet", "."),
    ("mypy",),
)

QUICK = "not slow and not large and not ray and not postgresql and not browser"


def main() -> int:
    """Stop at the first step that fails; pytest comes last, its summary line ends the output."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of hundreds of processes would compile torch anew
    arguments = sys.argv[1:]
    mode = arguments.pop(0) if arguments[:1] in (["--quick"], ["--slow"]) else ""
    steps = () if mode == "--slow" else STEPS
    for step in steps:
        if _run(*step):
            sys.stderr.write(f"gate: {' '.join(step)} failed\n")
            return 1
    chosen = {"": "not slow", "--quick": QUICK, "--slow": "slow"}[mode]
    spread = ("-n", "3", "--no-loadscope-reorder") if mode == "--slow" else ("-n", "2")
    return _run("pytest", "-q", *spread, "--dist", "loadfile", "-m", chosen, *arguments)


def _run(*words: str) -> int:
    root = Path(__file__).resolve().parents[1]
    return subprocess.run([sys.executable, "-m", *words], cwd=root, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
