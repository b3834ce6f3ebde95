"""A wrong name is answered, and help given, before anything heavy is imported: in under a second.

Seconds depend on the machine, imports do not: so the test holds imports.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "ray",
    "optuna",
    "optuna_dashboard",
    "matplotlib",
    "pandas",
    "scipy",
    "statsmodels",
    "sklearn",
    "onnx",
    "onnxruntime",
    "rich",
}

ALLOWED = {
    "--help": {"rich"},
    "run --help": {"rich"},
    "run nosuch": set(),
    "init nosuch": {"rich", "scipy"},
    "show nosuch --definition": {"rich", "optuna"},
    "submit nosuch --slurm": {"rich"},
    "validate nosuch": {"rich"},
    "plan nosuch": {"rich"},
    "show nosuch": {"rich", "optuna"},
    "dashboard": {"rich", "optuna"},
    "confirm nosuch": {"rich", "optuna"},
    "analyze nosuch": {"rich", "optuna", "pandas", "scipy", "matplotlib"},
    "export nosuch --out x": {"rich", "optuna"},
    "export-runs nosuch --mlflow x": {"rich", "optuna"},
    "report nosuch --checklist claim": {"rich", "optuna"},
    "report nosuch --checklist nosuch": {"rich", "optuna"},
    "predict nosuch x.png": {"rich"},
    "evaluate nosuch x.toml": {"rich", "optuna", "scipy"},
    "list studies": {"rich"},
    "list architectures": {"rich"},
    "data check nosuch": {"rich", "scipy"},
    "data prepare nosuch": {"rich", "scipy"},
    "data shift nosuch": {"rich"},
}
"""Command -> which of `HEAVY` it may import before it finds out that there is nothing to do."""

CODE = """
import atexit, json, sys
heavy = set(json.loads(sys.argv[1]))
atexit.register(lambda: print(json.dumps(sorted(heavy & set(sys.modules))), file=sys.stderr))
sys.argv = ["medfathom", *sys.argv[2:]]
from medfathom.cli import main
main()
"""


@pytest.mark.parametrize("typed", ALLOWED)
def test_nothing_heavy_comes_before_the_work(workdir: Path, typed: str) -> None:
    arguments = [sys.executable, "-c", CODE, json.dumps(sorted(HEAVY)), *typed.split()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "nosuch" in typed or typed == "dashboard" else 0)
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert imported <= ALLOWED[typed]
    assert list(workdir.iterdir()) == []
