"""What it brings to judge several images as one: AUC per case and per image, on real breast histology.

    python benchmarks/cases.py histidc_64.npz FOLDER

Writes the patches as files, a case for all patches of one patient that have the same label, and the
definition of a study; then runs `medfathom run` and `medfathom confirm`, and prints the rows of the table.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("no_idc", "idc")

STUDY = r"""
version = 1
name = "idc_cases"
question = "What does it bring to combine the patches of a case?"
goal = "compare"
sampler = "random"
scheduler = "none"
budget = {trials = 12, epochs = 8}

[dataset]
source = "folder"
path = "set"
modality = "WSI"
image_size = 64
unit = "case"
group_pattern = '/(p\d+)/'
class_names = ["no_idc", "idc"]

[space]
architecture = {value = "tf_efficientnet_lite0"}
init = {value = "imagenet"}
unfreeze_depth = {value = 0}
combine = {role = "scientific", choices = ["mean", "max", "attention"]}
learning_rate = {low = 1e-3, high = 3e-2, log = true}
"""


def write_set(arrays: Path, folder: Path) -> None:
    """`SPLIT/CLASS/PATIENT/*.png`: a folder is a case."""
    content = np.load(arrays)
    for split in ("train", "val", "test"):
        columns = (content[f"{split}_{what}"] for what in ("images", "labels", "groups"))
        for number, (pixels, label, patient) in enumerate(zip(*columns, strict=True)):
            place = folder / split / CLASSES[int(label[0])] / f"p{patient}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number:05d}.png")


def medfathom(folder: Path, *arguments: str) -> str:
    """Its standard output."""
    command = [sys.executable, "-c", "from medfathom.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    """Run the study, and print a row for each way to combine."""
    arrays, folder = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    write_set(arrays, folder / "set")
    (folder / "study.toml").write_text(STUDY)
    medfathom(folder, "run", "study.toml")
    found = json.loads(medfathom(folder, "confirm", "idc_cases", "--json"))
    for s in found["strata"]:
        interval = f"{s['ci'][0]:.3f} to {s['ci'][1]:.3f}"
        print(f"| {s['combine']} | {s['test_auc']:.3f} | {interval} | {s['image_auc']:.3f} |")


if __name__ == "__main__":
    main()
