"""Which transfer strategy: each against `fixed`, paired within architecture, then over architectures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import DIGITS, Floats, family_codes
from medfathom.analysis.questions.pretraining import (
    MeanBenefit,
    judged,
    mean_difference,
    over_architectures,
    over_seeds,
)
from medfathom.analysis.results import STRATEGY
from medfathom.analysis.size.inference import Settings
from medfathom.definitions.strategies import DEFAULT

WORDS = {"increases": "better", "decreases": "worse"}


@dataclass(frozen=True, kw_only=True)
class StrategyGain:
    """AUC with a strategy less AUC with `fixed`: the same networks, data, init, depth and seeds.

    Attributes:
        modality: of the data set.
        dataset: its name.
        init: of both.
        unfreeze_depth: of both.
        strategy: the one that is compared with `fixed`.
        architecture: None for the mean over them; else of one, over its seeds.
        mean: the gain, its verdict one of better, worse, negligible, inconclusive. P-values are adjusted by
            Holm's method over the strategies, data sets and settings asked about; of single architectures
            over those of a strategy in a setting.
    """

    modality: str
    dataset: str
    init: str
    unfreeze_depth: str
    strategy: str
    architecture: str | None
    mean: MeanBenefit = field(metadata=FLAT)


def strategy_gains(rows: pd.DataFrame, settings: Settings, margin: float) -> list[StrategyGain]:
    """Every strategy against `fixed`, for each data set, init and unfreeze depth; first over architectures.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest gain that matters, in AUC.
    """
    found = []
    for key, differences in _pairs(rows):
        modality, dataset, init, depth, strategy = key
        means = np.array([float(np.mean(values)) for values in differences.values()])
        whole = over_architectures(means, family_codes(rows, list(differences)), settings, margin)
        each = [(name, mean_difference(values, margin, "seed")) for name, values in differences.items()]
        found += [
            StrategyGain(
                modality=modality,
                dataset=dataset,
                init=init,
                unfreeze_depth=depth,
                strategy=strategy,
                architecture=name,
                mean=mean,
            )
            for name, mean in [(None, whole), *each]
        ]
    asked = [
        () if g.architecture is None else (g.dataset, g.init, g.unfreeze_depth, g.strategy) for g in found
    ]
    answers = judged([gain.mean for gain in found], WORDS, asked)
    return [replace(gain, mean=mean) for gain, mean in zip(found, answers, strict=True)]


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], dict[str, Floats]]]:
    """((modality, data set, init, depth, strategy), architecture -> differences over shared seeds)."""
    prefix = f"{STRATEGY}="
    own = rows[rows["setting"].str.startswith(prefix)]
    parts = own["setting"].str.partition(", ")  # the strategy, and what else differs
    own = own.assign(setting=parts[0], rest=parts[2]) if len(own) else own
    for key, part in own.groupby(["modality", "dataset", "init", "unfreeze_depth"], observed=True):
        wide = part.assign(seed=part["seed"].fillna("")).pivot_table(
            index=["architecture", "rest", "seed"], columns="setting", values="auc", observed=True
        )
        if prefix + DEFAULT not in wide:
            continue
        for setting in wide.columns.drop(prefix + DEFAULT):
            gains = (wide[setting] - wide[prefix + DEFAULT]).dropna().round(DIGITS)
            if len(gains):
                runs = gains.rename("difference").reset_index().rename(columns={"rest": "setting"})
                by_name = runs.groupby("architecture", observed=True)
                strategy = str(setting).removeprefix(prefix)
                yield (*map(str, key), strategy), {str(name): over_seeds(own) for name, own in by_name}
