"""A study of volumes as a user runs it: check, run, show, confirm, analyze, export, predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from json_holds import holds
from making_cases import SLICES, SPLITS, volume_table
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from typing_commands import typed

STUDY = """
version = 1
name = "volumes"
question = "Is a volume told by the mean of its slices, or by attention?"
scheduler = "none"
sampler = "grid"

[dataset]
source = "csv"
path = "set/labels.csv"
unit = "volume"
modality = "OCT"
image_size = 32
split_column = "split"
group_column = "patient"
class_names = ["well", "ill"]

[space.architecture]
value = "test_resnet"

[space.init]
value = "random"

[space.combine]
role = "scientific"
choices = ["mean", "max", "attention"]

[budget]
trials = 3
epochs = 2
"""


@pytest.fixture
def confirmed(workdir: Path, ray_cluster: None) -> dict[str, Any]:
    volume_table(workdir / "set")
    Path("volumes.toml").write_text(STUDY)
    typed("run", "volumes.toml")
    result: dict[str, Any] = json.loads(typed("confirm", "volumes", "--seeds", "1", "--json"))
    return result


def test_a_study_of_volumes(confirmed: dict[str, Any]) -> None:
    trials = read_study(default_url(), "volumes").get_trials()
    for trial in trials:
        found = trial.user_attrs
        assert trial.value == found["auc"]
        assert (found["unit"], found["n_cases"]) == ("volume", SPLITS["val"])
        assert "image_auc" in found
    assert {trial.user_attrs["combine"] for trial in trials} == {"mean", "max", "attention"}

    assert "Best trials (validation AUC per volume)" in typed("show", "volumes")
    check = json.loads(typed("data", "check", "volumes.toml", "--json"))
    assert [split["n_cases"] for split in check["splits"]] == list(SPLITS.values())
    assert any(
        "AUCs are per volume: train 16 volumes of 8 patients" in f["message"] for f in check["findings"]
    )

    holds("confirm", confirmed)
    holds("data check", check)
    strata = confirmed["strata"]
    assert {s["combine"] for s in strata} == {"mean", "max", "attention"}
    assert {(s["unit"], s["n_test_cases"]) for s in strata} == {("volume", SPLITS["test"])}
    assert all(s["image_auc"] is not None for s in strata)

    typed("analyze", "volumes", "--out", "report")
    page = Path("report/report.html").read_text()
    assert "AUCs are per volume, over 8 test volumes" in page

    for s in strata:
        folder = f"model-{s['combine']}"
        typed("export", "volumes", "--trial", s["search_trial"], "--out", folder)
        assert "8 volumes (32 images)" in Path(folder, "README.md").read_text()
        typed("predict", folder, "set", "--csv", "said.csv")
        with Path("said.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == sum(SPLITS.values())
        assert {row["images"] for row in rows} == {str(SLICES)}
        assert list(rows[0]) == ["case", "images", "predicted", "well", "ill"]
