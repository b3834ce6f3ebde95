"""One model for several data sets as a user makes it: run, confirm, each alone, analyze, export, predict."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from json_holds import holds
from medfathom import cli
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from typing_commands import typed

STUDY = """
version = 1
name = "both"
question = "What does one model cost?"
asks = "one_model"
goal = "compare"
scheduler = "none"
sampler = "grid"

[joint]
channels = 3

[[datasets]]
source = "phantom-cxr"
name = "chest"
modality = "CXR"
image_size = 32
n_train = 48
n_val = 24
n_test = 36

[[datasets]]
source = "phantom-wsi"
name = "tissue"
modality = "WSI"
image_size = 32
classes = ["normal", "crowded"]
n_train = 32
n_val = 24
n_test = 36

[space.architecture]
role = "scientific"
choices = ["test_resnet"]

[space.init]
value = "random"

[space.norm]
role = "scientific"
choices = ["shared", "per_dataset"]

[space.sampling]
value = "equal"

[budget]
trials = 2
epochs = 2
"""


@pytest.fixture
def confirmed(workdir: Path, ray_cluster: None) -> dict[str, Any]:
    Path("both.toml").write_text(STUDY)
    assert "2 strata" in typed("validate", "both.toml")
    typed("run", "both.toml")
    result: dict[str, Any] = json.loads(typed("confirm", "both", "--seeds", "2", "--json"))
    return result


def test_one_model_for_two_data_sets(confirmed: dict[str, Any]) -> None:
    trials = read_study(default_url(), "both").get_trials()
    for trial in trials:
        found = trial.user_attrs
        aucs = [own["auc"] for own in found["datasets"].values()]
        assert trial.value == found["auc"] == pytest.approx(np.mean(aucs))
    assert {t.user_attrs["stratum"].rpartition("=")[2] for t in trials} == {"shared", "per_dataset"}
    assert "chest" in typed("show", "both")

    holds("confirm", confirmed)
    for stratum in confirmed["strata"]:
        own = stratum["datasets"]
        assert list(own) == ["chest", "tissue"]
        assert stratum["test_auc"] == pytest.approx(np.mean([each["test_auc"] for each in own.values()]))
        low, high = stratum["sampling_ci"]
        assert high - low < max(each["sampling_ci"][1] - each["sampling_ci"][0] for each in own.values())
    assert confirmed["n_test"] == 72

    for name in ("chest", "tissue"):
        typed("run", "both.toml", "--set", f"only={name}")
        typed("confirm", f"both-{name}", "--seeds", "2")
    typed("analyze", "both", "both-chest", "both-tissue", "--out", "report")
    found = json.loads(Path("report/analysis.json").read_text())
    holds("analyze", found)
    (price,) = found["one_model"]
    assert [each["dataset"] for each in price["prices"]] == ["chest", "tissue"]
    assert [each["modality"] for each in price["modalities"]] == ["CXR", "WSI", "all"]
    page = Path("report/report.html").read_text()
    assert "What does one model for several data sets cost?" in page
    assert "One model for chest, tissue has a mean test AUC" in page
    typed("analyze", "both", "--exploratory")

    typed("export", "both", "--out", "model", "--no-onnx")
    card = Path("model/README.md").read_text()
    assert "chest | CXR | 36" in card
    assert "data set `tissue`" in Path("model/tissue/README.md").read_text()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)).save("image.png")
    typed("predict", "model/tissue", "image.png", "--csv", "said.csv")
    with Path("said.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["image", "predicted", "normal", "crowded"]

    for line, said in (
        ("confirm both --by sex", "--by: cannot be used for a model of several data sets"),
        ("confirm both --ensemble 2", "--ensemble: cannot be used for a model of several data sets"),
        ("report both --checklist claim", "report uses one data set"),
    ):
        assert said in refused(line)


@pytest.mark.parametrize("command", ["data check", "data prepare", "data shift"])
def test_what_looks_at_one_data_set_says_so(workdir: Path, command: str) -> None:
    Path("both.toml").write_text(STUDY)
    assert f"{command} uses one data set" in refused(f"{command} both.toml")


def refused(line: str) -> str:
    """What a command that must fail says."""
    said = io.StringIO()
    argv = patch.object(sys, "argv", ["medfathom", *line.split()])
    with redirect_stderr(said), argv, pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code
    return " ".join(said.getvalue().split())
