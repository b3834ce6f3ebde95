"""What weights from other data bring: a matrix of sources and targets, paired within architecture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import Floats, family_codes
from medfathom.analysis.questions.pretraining import (
    BASELINES,
    MeanBenefit,
    judged,
    mean_difference,
    over_architectures,
    paired,
)
from medfathom.analysis.size.inference import Settings

SOURCES = ("study:", "export:", "file:", "hub:")
"""How an init begins whose weights were trained on data that the user chose."""

REFERENCES = (*BASELINES, "imagenet")
"""What a source is compared with: the first of these that most targets have."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A cell of the matrix: weights from a source, tuned on a target.

    Attributes:
        source: the init; `imagenet` stands beside the others where it is not the reference.
        modality: of the target.
        dataset: the target.
        unfreeze_depth: 0 to 5, or another word of the table's.
        reference: the init that the source is compared with, the same in the whole matrix.
        n_architectures: seen with both.
        mean: AUC with the source's weights minus AUC with the reference's. Over architectures (families
            random) where there are two or more; of one over its seeds, which speaks for this one alone.
    """

    source: str
    modality: str
    dataset: str
    unfreeze_depth: str
    reference: str
    n_architectures: int
    mean: MeanBenefit = field(metadata=FLAT)


def transfer_matrix(rows: pd.DataFrame, settings: Settings, margin: float) -> list[Transfer]:
    """AUC by source and target, minus that of one reference init.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest difference that matters, in AUC.

    Returns:
        A cell for each source and target (data set, unfreeze depth) that share an architecture with the
        reference, adjusted by Holm's method over the matrix; empty where no init names its own weights.
    """
    named = rows["init"].str.startswith(SOURCES)
    reference = _reference(rows[rows["dataset"].isin(rows.loc[named, "dataset"])]) if named.any() else None
    if reference is None:
        return []
    found = [
        _cell(key, differences, rows, settings, margin)
        for key, differences in paired(rows, [reference])
        if key[3].startswith((*SOURCES, "imagenet"))
    ]
    targets = {(cell.dataset, cell.unfreeze_depth) for cell in found if cell.source.startswith(SOURCES)}
    cells = [cell for cell in found if (cell.dataset, cell.unfreeze_depth) in targets]
    means = judged([cell.mean for cell in cells])
    return [replace(cell, mean=mean) for cell, mean in zip(cells, means, strict=True)]


def _reference(rows: pd.DataFrame) -> str | None:
    """None: no target has any of the references."""
    targets = {name: rows.loc[rows["init"] == name, "dataset"].nunique() for name in REFERENCES}
    best = max(targets, key=lambda name: targets[name])  # the first of those that most targets have
    return best if targets[best] else None


def _cell(
    key: tuple[str, ...],
    differences: dict[str, Floats],
    rows: pd.DataFrame,
    settings: Settings,
    margin: float,
) -> Transfer:
    modality, dataset, depth, init, reference = key
    if len(differences) > 1:
        means = np.array([float(np.mean(each)) for each in differences.values()])
        mean = over_architectures(means, family_codes(rows, list(differences)), settings, margin)
    else:
        (only,) = differences.values()
        mean = mean_difference(only, margin, "seed")
    return Transfer(
        source=init,
        modality=modality,
        dataset=dataset,
        unfreeze_depth=depth,
        reference=reference,
        n_architectures=len(differences),
        mean=mean,
    )
