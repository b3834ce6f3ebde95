"""Without Ray, and without what only Linux and macOS have: everything but training works.

As on a laptop with `pip install medfathom`, Windows included: a process in which these imports fail.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from made_models import CONFIG
from medfathom.definitions.load import load_definition
from medfathom.exported.network import Deployed
from medfathom.models.folder import write_config, write_manifest
from medfathom.study.connection import default_url
from medfathom.study.open import open_study

BLOCKED = ("ray", "fcntl", "resource", "termios", "grp")
CODE = f"""
import importlib.abc, io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
del os.sched_getaffinity, os.posix_fallocate
from medfathom import cli

told = []
for typed in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["medfathom", *typed]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture
def laptop(workdir: Path) -> Path:
    """A study that was run elsewhere, a model, an image, a table of results."""
    with open_study(load_definition("demo", ["sampler=random"]), default_url(), "data") as driver:
        driver.assign()
    network = Deployed(CONFIG).network
    (workdir / "model").mkdir()
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, workdir / "model" / "model.safetensors"
    )
    write_config(workdir / "model", CONFIG)
    write_manifest(workdir / "model")
    Image.fromarray(np.full((32, 32), 100, dtype=np.uint8)).save("x.png")
    rows = [f"{name},d,CXR,0.{80 + k}" for k, name in enumerate(("vgg16", "resnet18", "densenet121"))]
    Path("t.csv").write_text("\n".join(["architecture,dataset,modality,auc", *rows]))
    return workdir


def typed(*commands: list[str]) -> list[tuple[int, str, str]]:
    """What each command says, all typed in one process: its exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.mark.large
def test_everything_but_training_works(laptop: Path) -> None:
    validated, shown, analyzed, predicted, run, confirmed, planned, nothing, schema = typed(
        ["validate", "demo"],
        ["show", "demo"],
        ["analyze", "--table", "t.csv", "--out", "report"],
        ["predict", "model", "x.png", "--json"],
        ["run", "demo", "--set", "name=other"],
        ["confirm", "demo"],
        ["plan", "demo"],
        ["show", "other"],
        ["list", "schemas", "plan"],
    )
    assert validated[0] == 0, validated
    assert "demo: valid" in validated[1]
    assert shown[0] == 0, shown
    assert "demo" in shown[1]
    assert analyzed[0] == 0, analyzed
    assert "inconclusive" in analyzed[1]
    assert predicted[0] == 0, predicted
    assert len(json.loads(predicted[1])["images"]) == 1
    for code, _, error in (run, confirmed, planned):
        assert code == 2
        assert "needs Ray, which is not installed: install medfathom[search]" in error
        assert error.count("\n") == 1
    assert "no study 'other'" in nothing[2]  # nothing was begun
    assert "$defs" in json.loads(schema[1])
