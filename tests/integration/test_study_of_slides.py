"""A study of whole slides as a user runs it: validate, run, confirm, export, predict."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from making_slides import aperio, glass

SPLITS = {"train": 8, "val": 4, "test": 4}
TILES = 3

STUDY = """
version = 1
name = "slides"
question = "Does the program read whole slides?"
scheduler = "none"
sampler = "grid"

[dataset]
source = "csv"
path = "set/slides.csv"
unit = "slide"
mpp = 1.0
tiles = 3
modality = "WSI"
image_size = 32
split_column = "split"
group_column = "patient"
class_names = ["well", "ill"]

[space.architecture]
value = "test_resnet"

[space.init]
value = "random"

[budget]
trials = 1
epochs = 2
"""


def slide_table(root: Path) -> None:
    """Ill tissue is purple, well tissue is pink; two slides of a patient."""
    rows, random = [], np.random.default_rng(0)
    splits = [split for split, n in SPLITS.items() for _ in range(n)]
    for number, split in enumerate(splits):
        ill = number % 2
        pixels = glass(512, 256).astype(int)
        noise = random.normal(0, 12, (128, 256, 3))
        pixels[64:192, 128:384] = np.array((110, 60, 160) if ill else (220, 130, 180)) + noise
        aperio(root / f"{number}.svs", pixels.clip(0, 255).astype(np.uint8), 0.5)
        rows.append((f"{number}.svs", ("well", "ill")[ill], split, f"P{number // 2}"))
    with (root / "slides.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "patient"), *rows])


def medfathom(*arguments: object) -> str:
    command = [sys.executable, "-c", "from medfathom.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_study_of_slides(workdir: Path) -> None:
    slide_table(workdir / "set")
    Path("slides.toml").write_text(STUDY)
    assert "16 slides; their tissue is looked for" in medfathom("validate", "slides.toml")
    medfathom("run", "slides.toml")
    confirmed = json.loads(medfathom("confirm", "slides", "--seeds", "1", "--json"))
    (stratum,) = confirmed["strata"]
    assert (stratum["unit"], stratum["n_test_cases"]) == ("slide", SPLITS["test"])

    medfathom("export", "slides", "--trial", stratum["search_trial"], "--out", "model")
    assert "4 slides (12 images)" in Path("model/README.md").read_text()
    medfathom("predict", "model", "set", "--csv", "said.csv")
    with Path("said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == [str(TILES)] * len(rows)
    assert [Path(row["case"]).name for row in rows] == sorted(
        (f"{n}.svs" for n in range(16)), key=lambda name: int(name[:-4])
    )
