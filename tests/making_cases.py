"""Volumes that a small network can tell apart, as a table of folders."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from making import save
from medfathom.definitions.dataset import CsvDataset

SLICES = 4

SPLITS = {"train": 16, "val": 8, "test": 8}
"""Volumes of each split; two of a patient, one of either class."""


def volume_table(root: Path) -> Path:
    """Of an ill volume two slices of four have a bright square."""
    rows = []
    random = np.random.default_rng(0)
    for number in range(sum(SPLITS.values())):
        split = next(
            s for s, end in zip(SPLITS, np.cumsum(list(SPLITS.values())), strict=True) if number < end
        )
        name, ill = f"vol{number:02d}", number % 2
        for k in range(SLICES):
            pixels = random.normal(90, 25, (32, 32))
            if ill and k % 2:
                pixels[8:22, 8:22] += 70
            save(root / name / f"{k}.png", pixels.clip(0, 255).astype(np.uint8))
        rows.append((name, ("well", "ill")[ill], split, f"P{number // 2}"))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "patient"), *rows])
    return root / "labels.csv"


def volume_config(table: Path, **keys: Any) -> CsvDataset:
    """With `ill` as the positive class."""
    base = {
        **{"source": "csv", "modality": "OCT", "image_size": 32, "path": str(table), "unit": "volume"},
        **{"split_column": "split", "group_column": "patient", "class_names": ["well", "ill"]},
    }
    return CsvDataset.model_validate(base | keys)
