"""Do data sets agree on which architecture is best, and what does one architecture for all cost?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.as_json import OPTIONAL
from medfathom.analysis.effects import DIGITS, SETTING, Floats, cell_means, comparing_cells
from medfathom.analysis.size.estimate import NO_INTERVAL, Interval
from medfathom.analysis.size.permutation import arrangements, levels

FEWEST_RESAMPLES = 2_000
"""Bootstrap samples of data sets for a mean regret's interval, at least."""


@dataclass(frozen=True)
class Agreement:
    """Kendall's W and Friedman's test over judges (data sets) who rank objects (architectures).

    Attributes:
        w: 0 (no agreement) to 1 (the same order everywhere), corrected for ties.
        chi2: Friedman's statistic.
        p_chi2: its p-value by the chi-squared approximation, as textbooks give it.
        mean_ranks: shape (objects,), 1 is the highest value.
    """

    w: float
    chi2: float
    p_chi2: float
    mean_ranks: Floats


def kendalls_w(table: Floats) -> Agreement:
    """Agreement of the columns (judges) of a table (objects, judges); Kendall and Babington Smith 1939."""
    n, k = table.shape
    ranks = _ranks(table)
    ties = sum(float((counts**3 - counts).sum()) for counts in _tie_counts(ranks))
    squares = float(((ranks.sum(1) - k * (n + 1) / 2) ** 2).sum())
    scale = k**2 * (n**3 - n) - k * ties
    w = 12 * squares / scale if scale > 0 else 0.0
    chi2 = k * (n - 1) * w
    return Agreement(w, chi2, float(stats.chi2.sf(chi2, n - 1)), ranks.mean(1))


def _ranks(table: Floats) -> Floats:
    """Ranks (objects, judges) by judge, the highest first; values that only rounding tells apart are tied."""
    return np.column_stack([stats.rankdata(-levels(column)) for column in table.T])


def _tie_counts(ranks: Floats) -> list[Floats]:
    return [np.unique(column, return_counts=True)[1].astype(float) for column in ranks.T]


def p_by_permutation(table: Floats, *, draws: int, seed: int) -> float:
    """p-value of Friedman's statistic when every judge's ranks are shuffled: right for few judges too."""
    n, k = table.shape
    ranks = _ranks(table)
    blocks = np.repeat(np.arange(k), n)
    orders, _ = arrangements(blocks, draws, seed)
    shuffled = ranks.T.ravel()[orders].reshape(len(orders), k, n).sum(1)
    squares = ((shuffled - k * (n + 1) / 2) ** 2).sum(1)
    return float(np.mean(squares >= squares[0] * (1 - 1e-12)))


def critical_difference(n_objects: int, n_judges: int, alpha: float = 0.05) -> float:
    """Nemenyi's: mean ranks further apart than this differ (Demsar 2006, JMLR 7:1)."""
    q = float(stats.studentized_range.ppf(1 - alpha, n_objects, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(n_objects * (n_objects + 1) / (6 * n_judges)))


@dataclass(frozen=True)
class Ranking:
    """Whether data sets rank architectures alike.

    Attributes:
        kendalls_w: 0 to 1 (the same order everywhere); one over the data sets is expected by chance.
        expected_w: that.
        friedman_chi2: Friedman's statistic.
        p_chi2: its p-value by the chi-squared approximation.
        p_value: by permutation, right for few data sets too: of the mean ranks of families, where some
            architectures are of one family, since members of a family go together.
        mean_ranks: architecture -> mean rank, the best (1 is best) first.
        critical_difference: Nemenyi's.
        groups_not_told_apart: runs of architectures within it.
        n_architectures: ranked, at least 3.
        n_datasets: that rank them, at least 2.
        datasets: their names.
        reason: empty.
    """

    kendalls_w: float
    expected_w: float
    friedman_chi2: float
    p_chi2: float
    p_value: float
    mean_ranks: dict[str, float]
    critical_difference: float
    groups_not_told_apart: list[list[str]]
    n_architectures: int
    n_datasets: int
    datasets: list[str]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class NoRanking:
    """A `Ranking` where architectures or data sets are too few: `reason` says it."""

    kendalls_w: None = None
    p_value: None = None
    n_architectures: int
    n_datasets: int
    reason: str


@dataclass(frozen=True)
class Chosen:
    """The architecture that the other data sets choose, and by how much AUC it is below the best here."""

    chosen: str
    regret: float


@dataclass(frozen=True)
class MeanRegret:
    """Regrets over data sets.

    Attributes:
        mean: of the regrets, in AUC.
        ci95: over data sets, from 0: noise alone makes a regret; none for fewer than three.
        datasets: by name.
        reason: why there is no interval; empty where there is one.
    """

    mean: float
    ci95: Interval
    datasets: dict[str, Chosen]
    reason: str


@dataclass(frozen=True)
class Regret:
    """What one architecture for all data sets costs.

    Attributes:
        universal: the architecture of the best mean over all data sets; None where there is no answer.
        all: over all data sets; None where there is no answer.
        modalities: modality -> over its data sets.
        reason: why there is no answer; empty where there is one.
    """

    universal: str | None
    all: MeanRegret | None = field(metadata=OPTIONAL)
    modalities: dict[str, MeanRegret]
    reason: str


@dataclass(frozen=True)
class RankingAgreement:
    """Rankings over data sets: `all` of them, and within each modality that has two; and the regret."""

    scopes: dict[str, Ranking | NoRanking]
    regret: Regret


def ranking_agreement(rows: pd.DataFrame, *, draws: int, seed: int) -> RankingAgreement:
    """Do data sets agree, and what does one architecture for all cost?"""
    scopes = {"all": rows} | {
        str(name): part
        for name, part in rows.groupby("modality", observed=True)
        if part["dataset"].nunique() >= 2 and rows["modality"].nunique() > 1
    }
    return RankingAgreement(
        {name: _one_scope(part, draws, seed) for name, part in scopes.items()}, _regrets(rows, draws, seed)
    )


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC, architectures x data sets, over the settings that all architectures of a data set share."""
    means = comparing_cells(cell_means(rows))
    if means.empty:
        return pd.DataFrame()
    columns = {}
    for dataset, part in means.groupby("dataset", observed=True):
        wide = part.pivot_table(index="architecture", columns=SETTING, values="value", observed=True)
        shared = wide.loc[:, wide.notna().sum() == wide.notna().sum().max()].dropna()
        columns[str(dataset)] = shared.mean(axis=1)
    return pd.DataFrame(columns).dropna().sort_index()


def _one_scope(rows: pd.DataFrame, draws: int, seed: int) -> Ranking | NoRanking:
    table = table_of(rows)
    n, k = table.shape
    if n < 3 or k < 2:
        reason = f"{n} architectures are in all of {k} data sets; at least 3 in 2 are needed"
        return NoRanking(n_architectures=n, n_datasets=k, reason=reason)
    found = kendalls_w(table.to_numpy(float))
    named = zip(table.index.map(str), found.mean_ranks.tolist(), strict=True)
    ranks = dict(sorted(named, key=lambda item: item[1]))
    difference = critical_difference(n, k)
    return Ranking(
        kendalls_w=found.w,
        expected_w=1 / k,
        friedman_chi2=found.chi2,
        p_chi2=found.p_chi2,
        p_value=p_by_permutation(_by_family(table, rows).to_numpy(float), draws=draws, seed=seed),
        mean_ranks=ranks,
        critical_difference=difference,
        groups_not_told_apart=_cliques(ranks, difference),
        n_architectures=n,
        n_datasets=k,
        datasets=list(table.columns),
    )


def _by_family(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The mean ranks of families (families x data sets); all architectures where they are of one."""
    family = rows.drop_duplicates("architecture").set_index("architecture")["family"].loc[table.index]
    if family.nunique() == 1:
        return table
    ranks = table.round(DIGITS).rank()
    return ranks.groupby(family.to_numpy(str)).mean()


def _cliques(ranks: dict[str, float], difference: float) -> list[list[str]]:
    """The longest runs of architectures whose mean ranks lie within the critical difference."""
    names, places = list(ranks), np.array(list(ranks.values()))
    runs, furthest = [], 0
    for start in range(len(names)):
        end = int(np.searchsorted(places, places[start] + difference, side="right"))
        if end - start >= 2 and end > furthest:
            runs.append(names[start:end])
            furthest = end
    return runs


def _regrets(rows: pd.DataFrame, draws: int, seed: int) -> Regret:
    """What choosing one architecture for all data sets costs on each, by modality.

    For each data set the universal architecture is the one with the best mean over the *other* data sets
    (so that no data set votes for itself); its regret is the best AUC there less its own. Noise makes
    the best look better than it is, so the regret is on the high side even where all architectures are
    equal; the interval, over data sets, therefore starts at 0.
    """
    table = table_of(rows)
    n, k = table.shape
    if n < 2 or k < 2:
        return Regret(
            None,
            None,
            {},
            f"{n} architectures are in all of {k} data sets; at least 2 in 2 are needed",
        )
    values = table.to_numpy(float)
    regret = {}
    for j, dataset in enumerate(table.columns):
        others = np.delete(values, j, axis=1).mean(1)
        chosen = int(np.argmax(others))
        regret[dataset] = Chosen(str(table.index[chosen]), float(values[:, j].max() - values[chosen, j]))
    kinds = rows.drop_duplicates("dataset").set_index("dataset")["modality"]
    modalities = {
        str(kind): _mean_regret({d: regret[d] for d in table.columns if kinds[d] == kind}, draws, seed)
        for kind in sorted(kinds.loc[list(table.columns)].unique())
    }
    universal = str(table.index[int(np.argmax(values.mean(1)))])
    return Regret(universal, _mean_regret(regret, draws, seed), modalities, "")


def _mean_regret(regret: dict[str, Chosen], draws: int, seed: int) -> MeanRegret:
    values = np.array([each.regret for each in regret.values()])
    count, mean = len(values), float(values.mean())
    if count < 3:
        return MeanRegret(
            mean, NO_INTERVAL, regret, f"no interval over {count} data sets; at least 3 are needed"
        )
    rng = np.random.default_rng(seed)
    resampled = rng.choice(values, (max(draws, FEWEST_RESAMPLES), count)).mean(1)
    reach = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    high = max(float(np.quantile(resampled, 0.975)), mean + reach)
    return MeanRegret(mean, (0.0, high), regret, "")
