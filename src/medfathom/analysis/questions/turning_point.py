"""When does pretraining stop helping? Its benefit against the number of training images.

Each unit (architecture; seed, where there is one architecture) gets its own line of the benefit on log10 of
the training images. Where the mean line is zero pretraining changes from helping to harming, or back. The
interval holds the numbers of images at which the mean of the units' lines does not differ significantly from
zero (Fieller 1954, J R Stat Soc B 16:175): it may be open, where no size that was tried is far enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import Floats, Ints, family_codes
from medfathom.analysis.questions.paired import mean_of_pairs
from medfathom.analysis.questions.pretraining import MeanBenefit, judged, mean_difference, over_architectures
from medfathom.analysis.questions.pretraining_verdict import with_and_without
from medfathom.analysis.size.estimate import NO_INTERVAL, Estimate, Interval
from medfathom.analysis.size.inference import Settings

PLACES = 33
"""Numbers of images, evenly on a logarithmic scale, at which the fitted benefit is tested."""


@dataclass(frozen=True, kw_only=True)
class BenefitAt:
    """What pretraining brings with so many training images; adjusted over all sizes and settings."""

    n_train: int
    mean: MeanBenefit = field(metadata=FLAT)


@dataclass(frozen=True, kw_only=True)
class TurningPoint:
    """What pretraining brings against the number of training images, in one setting.

    Attributes:
        modality: of the data set.
        dataset: its name.
        unfreeze_depth: 0 to 5, or another word of the table's.
        init: with learnt features.
        baseline: the init without.
        architectures: compared.
        domain_shift: of the data set, mean over these architectures; None: not measured.
        at: the benefit at each number of training images, fewest first.
        slope: of the benefit, per ten times as many images.
        turns_at: training images at which the fitted benefit is 0; None: at none between the fewest and the
            most.
        turns_ci95: its 95 % interval; an end is None where it is beyond the numbers that were tried.
    """

    modality: str
    dataset: str
    unfreeze_depth: str
    init: str
    baseline: str
    architectures: list[str]
    domain_shift: float | None
    at: list[BenefitAt]
    slope: Estimate
    turns_at: float | None = None
    turns_ci95: Interval = NO_INTERVAL


def turning_points(rows: pd.DataFrame, settings: Settings, margin: float) -> list[TurningPoint]:
    """One for each data set, unfreeze depth, init and baseline that were run with two training sizes or more.

    Args:
        rows: of results; `n_train` is the number of training images.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.
    """
    found = [
        _turning_point(key, pairs, rows, settings, margin)
        for key, pairs in _settings(rows)
        if pairs["n_train"].nunique() > 1
    ]
    means = iter(judged([at.mean for one in found for at in one.at]))
    return [replace(one, at=[replace(at, mean=next(means)) for at in one.at]) for one in found]


def _settings(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """((modality, data set, depth, init, baseline), its pairs with their number of training images)."""
    known = rows[rows["n_train"].notna()]
    for key, part in known.groupby(["modality", "dataset", "unfreeze_depth"], observed=True):
        if part["n_train"].nunique() < 2:
            continue
        images = part.groupby("setting", observed=True)["n_train"].median().round()
        for init, baseline, pairs in with_and_without(part):
            sized = pairs.assign(n_train=pairs["setting"].map(images).astype(int))
            yield (*map(str, key), init, baseline), sized


def _turning_point(
    key: tuple[str, ...], pairs: pd.DataFrame, rows: pd.DataFrame, settings: Settings, margin: float
) -> TurningPoint:
    modality, dataset, depth, init, baseline = key
    names = sorted(map(str, pairs["architecture"].unique()))
    own = rows[(rows["dataset"] == dataset) & rows["architecture"].isin(names)]
    shift = own["domain_shift"].mean()
    at = [
        BenefitAt(n_train=n, mean=mean_of_pairs(pairs[pairs["n_train"] == n], rows, settings, margin))
        for n in sorted(map(int, pairs["n_train"].unique()))
    ]
    point = TurningPoint(
        modality=modality,
        dataset=dataset,
        unfreeze_depth=depth,
        init=init,
        baseline=baseline,
        architectures=names,
        domain_shift=None if np.isnan(shift) else float(shift),
        at=at,
        slope=Estimate(),
    )
    return _with_line(point, pairs, rows, settings)


def _with_line(
    point: TurningPoint, pairs: pd.DataFrame, rows: pd.DataFrame, settings: Settings
) -> TurningPoint:
    """The fitted lines, where units were run at every number of images."""
    unit = "architecture" if len(point.architectures) > 1 else "seed"
    table = pairs.pivot_table(index=unit, columns="n_train", values="benefit", observed=True).dropna()
    if table.empty:
        return point
    x = np.log10(np.asarray(table.columns, dtype=float))
    slopes, starts = np.polyfit(x, table.to_numpy(float).T, 1)
    families = family_codes(rows, list(map(str, table.index))) if unit == "architecture" else None
    slope = _mean(slopes, families, settings)
    point = replace(point, slope=Estimate(slope.benefit, slope.ci95, slope.p_value))
    if slopes.mean() == 0 or not x[0] <= -starts.mean() / slopes.mean() <= x[-1]:
        return point
    zero = float(-starts.mean() / slopes.mean())
    grid = np.sort(np.append(np.linspace(x[0], x[-1], PLACES), zero))
    near = [_may_be_zero(_mean(starts + slopes * place, families, settings)) for place in grid]
    return replace(point, turns_at=10**zero, turns_ci95=_ends(grid, near, zero))


def _mean(values: Floats, families: Ints | None, settings: Settings) -> MeanBenefit:
    """Over architectures, families random; over seeds where there are no families."""
    if families is None:
        return mean_difference(values, 0.0, "seed")
    return over_architectures(values, families, settings)


def _may_be_zero(mean: MeanBenefit) -> bool:
    low, high = mean.ci95
    return (low is None or low <= 0) and (high is None or high >= 0)


def _ends(grid: Floats, near: list[bool], zero: float) -> Interval:
    """The neighbouring places around zero at which the benefit may be 0; None where they reach an end."""
    place = int(np.searchsorted(grid, zero))
    first = next((i for i in range(place, -1, -1) if not near[i]), None)
    last = next((i for i in range(place, len(grid)) if not near[i]), None)
    low = None if first is None else float(10 ** grid[first])
    high = None if last is None else float(10 ** grid[last])
    return low, high
