"""The gate: format, lint, types, tests. `uv run tests/gate.py [--quick | --slow] [pytest arguments]`.

    uv run tests/gate.py            everything but the slow tests
    uv run tests/gate.py --quick    neither large tests nor those that need Ray, PostgreSQL or a browser
    uv run tests/gate.py --slow     the slow tests alone: real kills, several drivers, whole studies

Types are checked while the tests begin. Tests run in three processes, a module in one of them: on two cores,
as many wait for other processes more than they compute. Of the slow tests the longest module comes first.
"""

import os
import subprocess
import sys
from pathlib import Path

STYLE = (("ruff", "format", "--check", "--quiet", "."), ("ruff", "check", "--quiet", "."))

QUICK = "not slow and not large and not ray and not postgresql and not browser"


def main() -> int:
    """Stop at the first step that fails; pytest comes last, its summary line ends the output."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of hundreds of processes would compile torch anew
    arguments = sys.argv[1:]
    mode = arguments.pop(0) if arguments[:1] in (["--quick"], ["--slow"]) else ""
    chosen = {"": "not slow", "--quick": QUICK, "--slow": "slow"}[mode]
    order = ("--no-loadscope-reorder",) if mode == "--slow" else ()
    words = ("pytest", "-q", "-n", "3", *order, "--dist", "loadfile", "-m", chosen, *arguments)
    if mode == "--slow":
        return _begun(*words).wait()
    for step in STYLE:
        if _begun(*step).wait():
            return _failed(*step)
    types, tests = _begun("mypy", "--no-error-summary"), _begun(*words)
    if types.wait():
        tests.terminate()
        tests.wait()
        return _failed("mypy")
    return tests.wait()


def _begun(*words: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen([sys.executable, "-m", *words], cwd=root)


def _failed(*step: str) -> int:
    sys.stderr.write(f"gate: {' '.join(step)} failed\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
