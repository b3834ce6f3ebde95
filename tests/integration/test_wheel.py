"""The wheel by itself: built, installed into an empty environment, and at work far from the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*words: object, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MEDFATHOM_STORAGE")}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_checkout(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=REPOSITORY)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # Its dependencies are those of the tests; a path in a .pth file brings no editable install with it.
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    where = tmp_path / "elsewhere"
    where.mkdir()
    program = tmp_path / "env" / "bin" / "medfathom"
    place = run(python, "-c", "import medfathom; print(medfathom.__file__)", cwd=where)
    assert Path(place.strip()).is_relative_to(site)
    assert "demo: valid; 36 strata, 16 trials" in run(program, "validate", "demo", cwd=where)
    assert "pneumoniamnist" in run(program, "list", "studies", cwd=where)
    facts = run(python, "-c", "import importlib.metadata as m; print(m.requires('medfathom'))", cwd=where)
    assert "ray[tune]>=2.60; extra == 'search'" in facts
    run(program, "samples", "samples", cwd=where)
    assert "120 images of 60 patients" in run(program, "init", "samples/oct-scans", cwd=where)
    assert (where / "oct-scans.toml").is_file()
    assert '"task": "multiclass"' in run(program, "data", "prepare", "oct-scans.toml", "--json", cwd=where)
    # A search, a confirmation and an export: workers find the package and its shipped definitions there.
    fit = "import medfathom; medfathom.fit('oct-scans.toml', out='model', trials=1)"
    run(python, "-c", fit, cwd=where)
    said = run(program, "predict", "model", "samples/new-scans", cwd=where)
    assert said.count("scan") >= 12
