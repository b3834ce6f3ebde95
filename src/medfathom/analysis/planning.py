"""How many architectures, data sets and seeds an analysis needs, from a pilot and with its uncertainty.

A slope over n architectures and D data sets varies because architectures differ from the line (in all data
sets alike), because they do so anew in each data set, because of seeds, and because data sets have slopes of
their own. The pilot gives these four variances. Power is then had by drawing what `size.inference` would see:
the slope, its standard error and the spread over data sets, with their degrees of freedom; the same rule as
there decides. Networks are taken to be spread over the predictor as the pilot's are, each from a family of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import factorial

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from medfathom.analysis.effects import CELL, Floats
from medfathom.analysis.facts import Lookup
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import PREDICTORS, Predictor
from medfathom.analysis.rows import prepare
from medfathom.analysis.size.association import why_no_slope
from medfathom.analysis.size.comparable import comparable
from medfathom.analysis.size.inference import NOISE_TAKEN_OFF, spread_of_slopes
from medfathom.analysis.size.multiplicity import ALPHA

POWER = 0.80
MOST_ARCHITECTURES = 400
"""Beyond so many none are asked for."""
DRAWS = 1_500
"""Studies drawn for a power: its standard error is at most 0.013."""
RESAMPLES = 100
"""Pilots drawn for the interval of a number of architectures."""
DATASETS, SEEDS = (1, 2, 3, 5, 8), (1, 3, 5)
FEWEST = 4
"""Architectures with which a slope has an interval worth the name."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What a pilot says of one predictor in one modality; variances are of AUC, squared.

    Attributes:
        modality: its name.
        predictor: what the slope is on.
        n_architectures: compared.
        n_datasets: seen.
        cells: (init, unfreeze depth, setting) per data set.
        seeds: runs of an architecture in a cell, on average.
        sd: of the predictor between architectures, on its scale.
        kurtosis: of the predictor: 1.8 where it is spread evenly, more where few architectures are far out.
        span: of the predictor, from the smallest to the largest architecture.
        residual: variance of the pilot's architecture effects about the line.
        interaction: variance of an (architecture, data set) mean about both; None for one data set.
        interaction_df: its degrees of freedom.
        seed: variance of a run about its cell's mean for the architecture; None without repeats.
        seed_df: its degrees of freedom.
        tau: standard deviation of the data sets' true slopes; 0 for one data set.
    """

    modality: str
    predictor: Predictor
    n_architectures: int
    n_datasets: int
    cells: float
    seeds: float
    sd: float
    kurtosis: float
    span: float
    residual: float
    interaction: float | None
    interaction_df: int
    seed: float | None
    seed_df: int
    tau: float

    def resampled(self, rng: np.random.Generator) -> Pilot:
        """The variances as they may truly be: each estimate over a chi-squared on its degrees of freedom."""

        def drawn(value: float | None, df: int) -> float | None:
            return None if value is None or df < 1 else value * df / float(rng.chisquare(df))

        slope_noise = (self.interaction or 0.0) / self._width(self.n_architectures)
        total = self.tau**2 + slope_noise
        other = drawn(total, self.n_datasets - 1) if self.n_datasets > 1 else None
        return replace(
            self,
            residual=drawn(self.residual, self.n_architectures - 2) or 0.0,
            interaction=drawn(self.interaction, self.interaction_df),
            seed=drawn(self.seed, self.seed_df),
            tau=float(np.sqrt(max(0.0, (other or 0.0) - slope_noise))),
        )

    def slope_variances(self, design: Design) -> tuple[float, float]:
        """Variance of the slope over the design's data sets, and of each data set's slope about it."""
        own, each = self._variances(design.seeds)
        width = self._width(design.architectures)
        return (own + each / design.datasets) / width, each / width

    def df(self, architectures: int) -> float:
        """Degrees of freedom of a robust (HC2) standard error of the slope; Bell and McCaffrey 2002.

        They hold back what is lost by letting each architecture have a noise of its own: few that are far
        out carry the slope and its error.
        """
        return max(1.0, min(architectures - 2, architectures / self.kurtosis))

    def _width(self, architectures: int) -> float:
        return (architectures - 1) * self.sd**2

    def _variances(self, seeds: int) -> tuple[float, float]:
        """Of an architecture in all data sets alike, and of its mean in one data set with so many seeds."""
        if self.interaction is None:
            seed = 0.0 if self.seed is None else self.seed * (1 / seeds - 1 / self.seeds) / self.cells
            return max(0.0, self.residual + seed), 0.0
        runs = 0.0 if self.seed is None else self.seed / self.cells
        between = max(0.0, self.interaction - runs / self.seeds)
        own = max(0.0, self.residual - self.interaction / self.n_datasets)
        return own, between + runs / seeds


@dataclass(frozen=True)
class Design:
    """A planned analysis: so many architectures in each of so many data sets, with so many seeds each."""

    architectures: int
    datasets: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Need:
    """Architectures needed with so many data sets and seeds; None beyond `MOST_ARCHITECTURES`.

    Attributes:
        datasets: planned.
        seeds: planned.
        to_find: to find an effect of the margin, with 80 % power.
        to_find95: its 95 % interval from the pilot's uncertainty.
        to_exclude: to show that an effect is within the margin, with 80 % power where there is none.
        to_exclude95: likewise.
    """

    datasets: int
    seeds: int
    to_find: int | None
    to_find95: tuple[int | None, int | None]
    to_exclude: int | None
    to_exclude95: tuple[int | None, int | None]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What is needed for one predictor in one modality.

    Attributes:
        pilot: that it follows from.
        margin: AUC over the range of the pilot's architectures.
        tests: that Holm's method adjusts for.
        needs: by data sets and seeds.
    """

    pilot: Pilot
    margin: float
    tests: int
    needs: list[Need]


def plan_from(
    frame: pd.DataFrame, *, margin: float, lookup: Lookup | None = None, seed: int = 0
) -> tuple[list[Planned], dict[str, str]]:
    """Plan an analysis of parameters and depth from a pilot's rows.

    Args:
        frame: rows as `analysis.analyze` takes them.
        margin: AUC over the range of the architectures that matters.
        lookup: architecture name -> facts, by default the catalog's.
        seed: of the draws.

    Returns:
        What is needed, and for what no number can be given: name -> why.

    Raises:
        ResultsError: for rows that cannot be used.
    """
    pilots, without = _pilots(prepare(frame, lookup)[0])
    tests = len(pilots)
    planned = [
        Planned(pilot=pilot, margin=margin, tests=tests, needs=list(_needs(pilot, margin, tests, seed)))
        for pilot in pilots
    ]
    return planned, without


def _pilots(rows: pd.DataFrame) -> tuple[list[Pilot], dict[str, str]]:
    pilots, without = [], {}
    for name, part in rows.groupby("modality", sort=True):
        whole = modality_of(str(name), part)
        for predictor in PREDICTORS.values():
            what = f"{name}: {predictor.noun}"
            if whole is None:
                without[what] = (
                    "no two architectures were trained with the same data, init and unfreeze depth"
                )
                continue
            modality, own, notes = comparable(whole, part, predictor)
            if modality is None:
                without[what] = notes[-1]
                continue
            reason = why_no_slope(modality.values_of(predictor), modality.effects.component)
            if len(modality.effects.names) < FEWEST and not reason:
                reason = f"{len(modality.effects.names)} architectures are too few for a pilot"
            if reason:
                without[what] = reason
                continue
            pilots.append(pilot_of(modality, own, predictor))
    return pilots, without


def pilot_of(modality: Modality, rows: pd.DataFrame, predictor: Predictor) -> Pilot:
    """The variances of a pilot.

    Args:
        modality: its architectures, at least four with two values of the predictor.
        rows: its results, prepared.
        predictor: what the slope is on.
    """
    x, effects = modality.values_of(predictor), modality.effects
    n, k = len(x), len(modality.per_dataset)
    design = np.column_stack([np.ones(n), x])
    residual = effects.values - design @ np.linalg.lstsq(design, effects.values, rcond=None)[0]
    spread = spread_of_slopes(effects, modality.per_dataset, x)
    width = float(((x - x.mean()) ** 2).sum())
    interaction = None
    if spread is not None and spread.f > 0:
        interaction = float(np.var(list(spread.slopes.values()), ddof=1)) / spread.f * width
    seed, seed_df, seeds = _repeats(rows)
    return Pilot(
        modality=modality.name,
        predictor=predictor,
        n_architectures=n,
        n_datasets=k,
        cells=effects.n_cells / k,
        seeds=seeds,
        sd=float(np.std(x, ddof=1)),
        kurtosis=float(((x - x.mean()) ** 4).mean() / np.var(x) ** 2),
        span=float(np.ptp(x)),
        residual=float(residual @ residual) / (n - 2),
        interaction=interaction,
        interaction_df=max(effects.noise_df - (k - 1), 0),
        seed=seed,
        seed_df=seed_df,
        tau=0.0 if spread is None else spread.tau,
    )


def _repeats(rows: pd.DataFrame) -> tuple[float | None, int, float]:
    """Variance of runs within (architecture, cell), its degrees of freedom, and runs each on average."""
    grouped = rows.groupby(["architecture", *CELL], observed=True)["auc"]
    counts = grouped.size()
    df = int((counts - 1).sum())
    if df < 1:
        return None, 0, 1.0
    squares = float(((counts - 1) * grouped.var().fillna(0.0)).sum())
    return squares / df, df, float(counts.mean())


def _needs(pilot: Pilot, margin: float, tests: int, seed: int) -> Iterator[Need]:
    rng = np.random.default_rng(seed)
    resampled = [pilot.resampled(rng) for _ in range(RESAMPLES)]
    for datasets in DATASETS if pilot.interaction is not None else DATASETS[:1]:
        for seeds in SEEDS if pilot.seed is not None else (1,):
            plan = Design(0, datasets, seeds)
            found = {
                power: (
                    architectures_for(pilot, plan, margin, tests, power),
                    _interval([architectures_for(p, plan, margin, tests, power) for p in resampled]),
                )
                for power in (power_to_find, power_to_exclude)
            }
            (to_find, to_find95), (to_exclude, to_exclude95) = found.values()
            yield Need(
                datasets=datasets,
                seeds=seeds,
                to_find=to_find,
                to_find95=to_find95,
                to_exclude=to_exclude,
                to_exclude95=to_exclude95,
            )


def _interval(counts: Sequence[int | None]) -> tuple[int | None, int | None]:
    """2.5 % and 97.5 % quantiles; None stands for more than any."""
    ranked = sorted(counts, key=lambda count: np.inf if count is None else count)
    return ranked[int(0.025 * len(ranked))], ranked[int(np.ceil(0.975 * len(ranked))) - 1]


Power = Callable[[Pilot, Design, float, int], float]


def architectures_for(pilot: Pilot, plan: Design, margin: float, tests: int, power: Power) -> int | None:
    """The fewest architectures with 80 % power; None beyond `MOST_ARCHITECTURES`.

    Args:
        pilot: whose variances hold.
        plan: its data sets and seeds.
        margin: AUC over the range.
        tests: that Holm's method adjusts for.
        power: which.
    """
    low, high = _fewest(tests) - 1, MOST_ARCHITECTURES
    if power(pilot, replace(plan, architectures=high), margin, tests) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(pilot, replace(plan, architectures=middle), margin, tests) >= POWER:
            high = middle
        else:
            low = middle
    return high


def _fewest(tests: int) -> int:
    """Architectures whose arrangements can give a two-sided p-value that survives the adjustment."""
    return next(n for n in range(FEWEST, 20) if 2 / factorial(n) <= ALPHA / tests)


def power_to_find(pilot: Pilot, design: Design, margin: float, tests: int) -> float:
    """Probability that the slope is significant after the adjustment where its effect is the margin."""
    true = margin / pilot.span
    slope, reach = _drawn(pilot, design, 1 - ALPHA / tests / 2)
    return float(np.mean(np.abs(slope + true) > reach))


def power_to_exclude(pilot: Pilot, design: Design, margin: float, tests: int) -> float:
    """Probability that the effect is shown to be within the margin where there is none."""
    slope, reach = _drawn(pilot, design, 1 - ALPHA / tests)
    return float(np.mean(np.abs(slope) + reach < margin / pilot.span))


def _drawn(pilot: Pilot, design: Design, quantile: float) -> tuple[Floats, Floats]:
    """Estimated slopes about the true one, and how far their intervals reach, shape (DRAWS,) each."""
    n, k, df = design.architectures, design.datasets, pilot.df(design.architectures)
    variance, noise = pilot.slope_variances(design)
    normal, between, own, inside = _standard(n, k, df)
    reach2 = stdtrit(df, quantile) ** 2 * variance * own
    if k < 3:  # a verdict speaks for these data sets
        return normal * np.sqrt(variance), np.sqrt(reach2)
    seen = (pilot.tau**2 + noise) * between - NOISE_TAKEN_OFF * noise * inside
    reach2 = reach2 + stdtrit(k - 1, quantile) ** 2 * np.maximum(seen, 0.0) / k
    return normal * np.sqrt(variance + pilot.tau**2 / k), np.sqrt(reach2)


@lru_cache(maxsize=1_024)
def _standard(n: int, k: int, df: float) -> tuple[Floats, ...]:
    """A normal, and chi-squareds over their freedom: of data sets' slopes, of the error, of the "
    "interaction."""
    rng = np.random.default_rng(0)
    freedom = (k - 1, df, (n - 2) * max(k - 1, 1))
    chi2 = (rng.chisquare(each, DRAWS) / each if each > 0 else np.ones(DRAWS) for each in freedom)
    return (rng.standard_normal(DRAWS), *chi2)


def power_curve(pilot: Pilot, plan: Design, margin: float, tests: int, most: int) -> pd.DataFrame:
    """Power to find an effect of the margin by number of architectures, up to so many, with its 95 "
    "% interval."""
    rng = np.random.default_rng(0)
    pilots = [pilot, *(pilot.resampled(rng) for _ in range(RESAMPLES))]
    counts = np.unique(np.geomspace(_fewest(tests), most, 16).round().astype(int)).tolist()
    rows = []
    for count in counts:
        design = replace(plan, architectures=count)
        own, *others = [power_to_find(each, design, margin, tests) for each in pilots]
        rows.append((count, own, *np.quantile(others, [0.025, 0.975]).tolist()))
    return pd.DataFrame(rows, columns=["architectures", "power", "low95", "high95"])
