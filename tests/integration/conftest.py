"""What the tests of whole studies share."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pages import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a user has before the first command; `uv run` takes the environment of the tests."""
    folder = tmp_path / "checkout"
    for name in ("study_defs", "search"):
        shutil.copytree(REPOSITORY / name, folder / name)
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\n[ "$1" = run ] || exit 64\nshift\nexport UV="$0"\nexec "$@"\n')
    uv.chmod(0o755)
    places = [str(uv.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    monkeypatch.delenv("MEDFATHOM_STORAGE", raising=False)
    return folder
