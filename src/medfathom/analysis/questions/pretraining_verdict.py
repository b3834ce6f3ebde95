"""Does pretraining help? One word for each modality and one over all data sets, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.questions.paired import differences, mean_of_pairs
from medfathom.analysis.questions.pretraining import BASELINES, WITHOUT_FEATURES, MeanBenefit, judged
from medfathom.analysis.size.inference import Settings

OVER_ALL = "all"
"""The scope of what is said over the data sets of several modalities."""

KEYS = ["dataset", "architecture", "unfreeze_depth", "setting"]
"""What is the same with and without pretraining."""


@dataclass(frozen=True, kw_only=True)
class PretrainingVerdict:
    """What pretraining does in one modality, or over all data sets.

    The benefit is averaged over the seeds, unfreeze depths and further settings that both inits were run
    with, within each architecture and data set. What it is then averaged over is `unit`: `data set and
    architecture` where there are at least three data sets and two architectures (both are samples),
    `architecture` where there are fewer data sets (it speaks for these), `data set` or `seed` where there is
    one architecture (it speaks for that one).

    Attributes:
        scope: the modality; `all` for the data sets of several.
        init: with learnt features.
        baseline: the init without, that it is compared with.
        unfreeze_depths: that it is averaged over.
        settings: further settings that it is averaged over; empty where there are none.
        n_datasets: with such pairs.
        architectures: likewise.
        mean: the benefit; its p-values are adjusted by Holm's method over all these verdicts.
    """

    scope: str
    init: str
    baseline: str
    unfreeze_depths: list[str]
    settings: list[str]
    n_datasets: int
    architectures: list[str]
    mean: MeanBenefit = field(metadata=FLAT)


def pretraining_verdicts(rows: pd.DataFrame, settings: Settings, margin: float) -> list[PretrainingVerdict]:
    """One for each modality, init and baseline with pairs; of several modalities also one over all data sets.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.
    """
    found = [
        PretrainingVerdict(
            scope=scope,
            init=init,
            baseline=baseline,
            unfreeze_depths=sorted(map(str, pairs["unfreeze_depth"].unique())),
            settings=sorted(filter(None, map(str, pairs["setting"].unique()))),
            n_datasets=pairs["dataset"].nunique(),
            architectures=sorted(map(str, pairs["architecture"].unique())),
            mean=mean_of_pairs(pairs, rows, settings, margin),
        )
        for scope, part in scopes_of(rows)
        for init, baseline, pairs in with_and_without(part)
    ]
    means = judged([one.mean for one in found])
    return [replace(one, mean=mean) for one, mean in zip(found, means, strict=True)]


def scopes_of(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each modality's rows; where they are several, also all rows."""
    scopes = [(str(name), part) for name, part in rows.groupby("modality", observed=True, sort=True)]
    return [*scopes, (OVER_ALL, rows)] if len(scopes) > 1 else scopes


def with_and_without(part: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(init, baseline, their pairs) of every pretrained init and every baseline that have some."""
    inits = sorted(map(str, part["init"].unique()))
    for baseline in (i for i in BASELINES if i in inits):
        for init in (i for i in inits if i not in WITHOUT_FEATURES):
            pairs = differences(part, "init", init, baseline, KEYS)
            if len(pairs):
                yield init, baseline, pairs
