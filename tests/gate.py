"""The one gate: format, lint, types, tests. `uv run tests/gate.py [pytest arguments]`.

Tests run in two processes, a module in one of them.
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


def main() -> int:
    """Stop at the first step that fails; pytest comes last, its summary line ends the output."""
    root = Path(__file__).resolve().parents[1]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of hundreds of processes would compile torch anew
    for step in STEPS:
        if subprocess.run([sys.executable, "-m", *step], cwd=root, check=False).returncode:
            sys.stderr.write(f"gate: {' '.join(step)} failed\n")
            return 1
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *sys.argv[1:]],
        cwd=root,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
