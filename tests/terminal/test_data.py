"""What `medfathom data check` writes to a terminal."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from making import images, npz, table
from medfathom.data.check.check import CheckReport
from medfathom.data.check.findings import Finding
from medfathom.data.check.near_copies import NearCopies
from medfathom.data.check.shortcuts import Shortcut
from medfathom.data.prepared import PreparedData
from medfathom.terminal.data import check_text, print_prepared


def test_names_with_brackets_are_shown_as_they_are() -> None:
    data = PreparedData(Path("d"), "0" * 64, "CXR", "binary", ("a", "b"), 32, 1, {"train": 2})
    findings = [
        Finding("error", "unusable", "1 images or rows cannot be used: set[red]/x[/red].png: damaged")
    ]
    shortcuts = [Shortcut("file and image size", 0.8123, 0.701, 0.912, 40)]
    report = CheckReport(data, findings, [], shortcuts, NearCopies([], 0.9, 0.5), 1.0)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(check_text(report, Path("reports/a-data.html")))
    text = capture.get()
    assert "set[red]/x[/red].png: damaged" in text
    assert "file and image size: AUC 0.812 [0.701, 0.912] (0.5 is chance)" in text
    assert "Page: reports/a-data.html" in text


def test_a_hint_names_the_definition_as_the_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {f"{split}_images": images(20, side=16, seed=len(split)) for split in ("train", "val", "test")}
    content["test_images"][0] = content["train_images"][0]
    labels = {f"{split}_labels": np.arange(20)[:, None] % 2 for split in ("train", "val", "test")}
    data = npz(tmp_path, **content, **labels)
    Path("mine.toml").write_text(
        'name = "other"\nversion = 1\n[dataset]\nsource = "npz"\nmodality = "CXR"\n'
        f'image_size = 16\npath = "{data}"\n'
    )
    print_prepared("mine.toml", [], samples=None, as_json=False)
    assert "data check mine.toml` lists them" in capsys.readouterr().out


def test_images_that_are_left_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path)
    (tmp_path / "images" / "3.png").write_bytes(b"")
    Path("mine.toml").write_text(
        'name = "other"\nversion = 1\n[dataset]\nsource = "csv"\nmodality = "CXR"\n'
        f'image_size = 16\npath = "{path}"\nsplit_column = "split"\non_bad_image = "skip"\n'
    )
    print_prepared("mine.toml", [], samples=None, as_json=False)
    line = "left out: 1 image or row that cannot be used: images/3.png (line 5): empty file"
    assert line in capsys.readouterr().out.splitlines()
    print_prepared("mine.toml", [], samples=None, as_json=True)
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert left_out == [{"name": "images/3.png (line 5)", "reason": "empty file"}]
