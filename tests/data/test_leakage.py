"""Copies and patients in two splits are counted at preparation, and `run` says them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from making import config, images, npz, save, table
from medfathom import scheduling
from medfathom.data.leakage import leakage_note
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition
from medfathom.run import run_study
from medfathom.study.watcher import Watcher

DEFINITION = """
version = 1
name = "leaking"
question = "?"
sampler = "random"
scheduler = "none"

[dataset]
source = "csv"
modality = "CXR"
image_size = 32
path = "table.csv"
split_column = "split"
group_column = "patient"

[space.architecture]
value = "tf_efficientnet_lite0"

[space.init]
value = "random"

[budget]
trials = 1
epochs = 1
"""


def leaking(folder: Path) -> Path:
    """A table where two files are in two splits, and one patient is; one copy within a split is no leak."""
    path = table(folder)
    save(folder / "images" / "again.png", images(1)[0])  # as 0.png, in train
    for row in range(4):
        save(folder / "copies" / f"{row}.png", images(4)[row])
    rows = ["images/again.png,well,train,0", "copies/0.png,well,test,90", "copies/1.png,ill,val,91"]
    rows += ["copies/2.png,well,val,92", "copies/3.png,ill,val,3"]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    return path


SAID = (
    "Leakage: 4 images have exact copies in several splits (3 in train and val, 1 in train and test), "
    "and 1 patients or slides are in several splits (1 in val and test): AUCs look better than they are; "
    "`medfathom data check leaking` lists them"
)


def test_copies_and_patients_in_two_splits_are_counted(tmp_path: Path) -> None:
    found = config("csv", path=str(leaking(tmp_path)), split_column="split", group_column="patient")
    assert leakage_note(prepare(found, tmp_path / "cache"), "leaking") == SAID
    groupless = config("csv", path=found.path, split_column="split")
    note = leakage_note(prepare(groupless, tmp_path / "cache"), "leaking")
    assert "patients" not in note
    assert "3 in train and val, 1 in train and test" in note


def test_nothing_is_said_where_nothing_is_in_two_splits(tmp_path: Path) -> None:
    path = npz(tmp_path)
    assert leakage_note(prepare(config("npz", path=str(path)), tmp_path / "cache"), "clean") == ""


def test_run_says_it_and_goes_on(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaking(workdir)
    (workdir / "leaking.toml").write_text(DEFINITION)
    events: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            events.append(text)

    def run_trials(*_: Any) -> str:
        events.append("trials")
        return ""

    monkeypatch.setattr(scheduling, "run_trials", run_trials)
    run_study(load_definition("leaking.toml"), watcher=Listening())
    assert events == ["positive class: 'well'", SAID, "trials"]
