"""ImageNet accuracy of pretrained weights, by timm's architecture and tag. Imports no torch.

The table is `results/results-imagenet.csv` of huggingface/pytorch-image-models (commit aa4b585,
Apache-2.0, taken on 2026-11-24): top-1 accuracy on the ImageNet-1k validation images, in per cent,
each model at its own image size.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("imagenet.csv")


@cache
def _accuracies() -> dict[str, dict[str, float]]:
    """Architecture -> tag -> top-1; the first tag of an architecture is its best."""
    found: dict[str, dict[str, float]] = {}
    with TABLE.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            name, _, tag = row["model"].partition(".")
            found.setdefault(name, {}).setdefault(tag, float(row["top1"]))
    return found


@cache
def timm_names() -> frozenset[str]:
    """Every architecture of the timm that medfathom is pinned to."""
    lines = TABLE.with_name("timm_names.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def imagenet_top1(architecture: str, tag: str) -> float | None:
    """Top-1 accuracy in per cent; None where the table lacks the architecture with this tag."""
    return _accuracies().get(architecture, {}).get(tag)
