"""How much `evaluate` costs beyond the bare network, in CPU time; and all intervals alone.

    python benchmarks/evaluate.py [--images 10000] [--side 96]

Makes PNG files with a patient for every three, a network with random weights, and fingerprints of 2,000
training images. Prints rows of `results/evaluate.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import medfathom
from made_models import CONFIG
from medfathom.data.prints import Prints, write_prints
from medfathom.evaluation.judging import Predictions, by_patient, calibration_of, metrics_of
from medfathom.exported.model import Deployed
from medfathom.models.folder import PRINTS_FILE, WEIGHTS_FILE, write_config, write_manifest


def make(folder: Path, n: int, side: int) -> Path:
    """The model; images lie in `images/CLASS/`."""
    random = np.random.default_rng(0)
    for k in range(n):
        place = folder / "images" / ("well", "ill")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 255, (12, 12), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place / f"p{k // 3}_{k}.png")
    model = folder / "model"
    model.mkdir()
    config = CONFIG.model_copy(update={"image_size": side, "temperature": 1.0})
    state = Deployed(config).network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, model / WEIGHTS_FILE)
    write_config(model, config)
    looks = random.integers(-127, 127, (2000, 256)).astype(np.int8)
    hashes = np.arange(2000, dtype=np.uint64)
    write_prints(model / PRINTS_FILE, Prints("made", hashes, hashes, looks, hashes))
    write_manifest(model)
    (folder / "other.toml").write_text(
        f'[dataset]\nsource = "folder"\npath = "{folder}/images"\ngroup_pattern = "(p\\\\d+)_"\n'
    )
    return model


def intervals(n: int) -> float:
    """CPU seconds for every metric of n images with its interval, three images to a patient."""
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 2, n), random.normal(size=(n, 2)).astype(np.float32)
    config = CONFIG.model_copy(update={"temperature": 1.0})
    found = Predictions(config, labels, logits, np.arange(n) // 3)
    started = time.process_time()
    by_patient(found, metrics_of(found))
    calibration_of(found)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=96)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place), asked.images, asked.side) and Path(place)
        network = medfathom.load(folder / "model")
        batch = np.zeros((64, asked.side, asked.side, 1), np.uint8)
        bare = []
        for _ in range(2):  # before and after: other work beside moves both
            network.logits(batch)
            started = time.process_time()
            for _ in range(16):
                network.logits(batch)
            bare.append((time.process_time() - started) / (16 * 64))
            if len(bare) == 1:
                started = time.process_time()
                medfathom.evaluate(folder / "model", str(folder / "other.toml"))
                whole = time.process_time() - started
    per_image = float(np.mean(bare))
    print(
        f"| {asked.images} | {asked.side} | {1000 * per_image:.2f} | {whole:.1f} | "
        f"{asked.images * per_image / whole:.3f} | {intervals(asked.images):.2f} |"
    )


if __name__ == "__main__":
    main()
