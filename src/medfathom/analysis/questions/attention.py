"""Does attention help a convolutional network of equal size? Networks with it less the same without."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.questions.paired import differences, mean_of_pairs
from medfathom.analysis.questions.pretraining import MeanBenefit, judged
from medfathom.analysis.questions.pretraining_verdict import scopes_of
from medfathom.analysis.size.inference import Settings
from medfathom.models.attention_pairs import ATTENTION_PAIRS

KEYS = ["dataset", "pair", "init", "unfreeze_depth", "setting"]
"""What is the same with and without attention."""


@dataclass(frozen=True, kw_only=True)
class AttentionBenefit:
    """What an attention module brings, in one modality or over all data sets.

    Attributes:
        scope: the modality; `all` for the data sets of several.
        attention: `SE`, `ECA`, `GC`, `SK` or `BoT`; `any` for all of them together.
        n_datasets: with such pairs.
        pairs: networks with attention that are compared with the same without.
        mean: AUC with it less AUC without, the network without being the unit; adjusted over all of these.
    """

    scope: str
    attention: str
    n_datasets: int
    pairs: list[str]
    mean: MeanBenefit = field(metadata=FLAT)


def attention_benefits(rows: pd.DataFrame, settings: Settings, margin: float) -> list[AttentionBenefit]:
    """One for each scope and kind of attention with pairs, and one for all kinds together.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest difference that matters, in AUC.
    """
    found = []
    for scope, part in scopes_of(rows):
        pairs = _pairs(part)
        kinds = sorted(map(str, pairs["attention"].unique())) if len(pairs) else []
        for kind in [*kinds, *(["any"] if len(kinds) > 1 else [])]:
            own = pairs if kind == "any" else pairs[pairs["attention"] == kind]
            found.append(
                AttentionBenefit(
                    scope=scope,
                    attention=kind,
                    n_datasets=own["dataset"].nunique(),
                    pairs=sorted(map(str, own["pair"].unique())),
                    mean=mean_of_pairs(own, rows, settings, margin),
                )
            )
    means = judged([one.mean for one in found])
    return [replace(one, mean=mean) for one, mean in zip(found, means, strict=True)]


def _pairs(part: pd.DataFrame) -> pd.DataFrame:
    """Columns `pair` (with attention), `architecture` (without), `attention`, and those of `differences`."""
    present = set(map(str, part["architecture"].unique()))
    tables = []
    for name, (without, kind) in ATTENTION_PAIRS.items():
        if {name, without} <= present:
            own = part[part["architecture"].isin([name, without])].assign(pair=name)
            found = differences(own, "architecture", name, without, KEYS)
            tables.append(found.assign(architecture=without, attention=kind))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
