"""Which resolution is enough? AUC at each image size less AUC at the largest, everything else the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.questions.paired import differences, mean_of_pairs
from medfathom.analysis.questions.pretraining import MeanBenefit, judged
from medfathom.analysis.questions.pretraining_verdict import scopes_of
from medfathom.analysis.size.inference import Settings

WORDS = {"increases": "better", "decreases": "worse", "negligible": "as good"}

SIZE = re.compile(r"(?:^|(?<=[ ,]))(?:image_size|resolution)=(\d+)(?:, |,| |$)")
"""An image size among the settings of a row."""

KEYS = ["dataset", "architecture", "init", "unfreeze_depth", "rest"]
"""What is the same at both sizes."""


@dataclass(frozen=True, kw_only=True)
class ResolutionStep:
    """One image size against the largest, in one modality or over all data sets.

    Attributes:
        scope: the modality; `all` for the data sets of several.
        image_size: pixels.
        largest: the image size that it is compared with.
        n_datasets: with both.
        architectures: likewise.
        mean: AUC at this size less AUC at the largest; `verdict` is better, worse, as good or inconclusive;
            adjusted over all sizes and scopes.
    """

    scope: str
    image_size: int
    largest: int
    n_datasets: int
    architectures: list[str]
    mean: MeanBenefit = field(metadata=FLAT)


def resolution_steps(rows: pd.DataFrame, settings: Settings, margin: float) -> list[ResolutionStep]:
    """One for each scope and image size but the largest; none where all results have one size.

    Args:
        rows: of results; the size stands in `setting`, as `image_size=64` or `resolution=64`.
        settings: how much is simulated.
        margin: the smallest difference that matters, in AUC.
    """
    found = [_size(text) for text in rows["setting"].astype(str)]
    sized = rows.assign(size=[size for size, _ in found], rest=[rest for _, rest in found])
    sized = sized[sized["size"] > 0]
    steps = []
    for scope, part in scopes_of(sized) if len(sized) else ():
        sizes = sorted(map(int, part["size"].unique()))
        for size in sizes[:-1]:
            pairs = differences(part, "size", size, sizes[-1], KEYS)
            if len(pairs):
                steps.append(
                    ResolutionStep(
                        scope=scope,
                        image_size=size,
                        largest=sizes[-1],
                        n_datasets=pairs["dataset"].nunique(),
                        architectures=sorted(map(str, pairs["architecture"].unique())),
                        mean=mean_of_pairs(pairs, rows, settings, margin),
                    )
                )
    means = judged([step.mean for step in steps], WORDS)
    return [replace(step, mean=mean) for step, mean in zip(steps, means, strict=True)]


def _size(setting: str) -> tuple[int, str]:
    """The image size among a row's settings (0: none is given), and the others."""
    match = SIZE.search(setting)
    if match is None:
        return 0, setting
    return int(match[1]), (setting[: match.start()] + setting[match.end() :]).strip(", ")


def enough(steps: list[ResolutionStep], scope: str) -> int | None:
    """The smallest size that is as good as the largest, or better, with all sizes above it; None: none is."""
    found = None
    for step in sorted((s for s in steps if s.scope == scope), key=lambda s: -s.image_size):
        if step.mean.verdict not in ("as good", "better"):
            break
        found = step.image_size
    return found
