"""How often verdicts are wrong, over designs that a straight line does and does not expect.

    python benchmarks/verdicts.py [--studies 300] [--only WORD] [--out benchmarks/results/verdicts.md]

AUC's standard deviation between networks is 0.01; sizes are drawn anew in each study. Counted: directional
verdicts on parameters (goal: at most .05 without an effect), negligible ones, and coverage of the 95 %
interval (goal: at least .93). Beside them the directional verdicts of a Student t-test of the slope, which is
what a permutation of raw AUCs gives. Holm over two tests, as for parameters and depth in one modality.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from medfathom.analysis.effects import effects_over_datasets, two_way
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import DEPTH, PARAMETERS
from medfathom.analysis.size.association import RankCorrelations, Unadjusted, WithinFamily, slope_on
from medfathom.analysis.size.comparable import comparable
from medfathom.analysis.size.diagnostics import diagnose
from medfathom.analysis.size.estimate import NO_INTERVAL
from medfathom.analysis.size.inference import Settings, SlopeInference, Spread
from medfathom.analysis.size.multiplicity import equivalence, holm, verdict
from medfathom.analysis.size.objections import against_direction, against_negligible
from medfathom.analysis.size.partial import beside

SD = 0.01
SET = Settings(permutations=499, draws=3_000)
STUDIES_PER_SIZES = 5
"""Studies of the same networks: a calibration belongs to them and is had once."""

Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""From standardised log parameters and log depth to effects in standard deviations."""


def ends(x: np.ndarray) -> np.ndarray:
    """The quarter of the networks at the ends of the size range."""
    return np.abs(x) >= np.sort(np.abs(x))[-max(2, len(x) // 4)]


def noisier(rng: np.random.Generator, which: np.ndarray, times: float) -> np.ndarray:
    return rng.standard_normal(len(which)) * np.where(which, times, 1.0)


def failed(rng: np.random.Generator, n: int, at: int) -> np.ndarray:
    y = rng.standard_normal(n)
    y[at] -= 15
    return y


def heavy(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_t(3, n) / np.sqrt(3)


@dataclass(frozen=True)
class Design:
    """One kind of studies.

    Attributes:
        draw: of the networks' effects.
        slope: the true one on standardised log parameters, in standard deviations; NaN: there is no line.
        correlation: of log parameters and log depth.
        networks: how many.
        families: `own`, `several` or `one`.
        datasets: how many.
        tau: standard deviation of the data sets' slopes, in standard deviations of AUC.
        missing: cells left out: ``, `random`, `size` or `auc`.
        middle: AUC about which they lie; near 1 effects are on the logit scale.
    """

    draw: Draw = lambda rng, x, d: rng.standard_normal(len(x))
    slope: float = 0.0
    correlation: float = 0.0
    networks: tuple[int, ...] = (6, 8, 10, 20, 40)
    families: tuple[str, ...] = ("own", "several")
    datasets: tuple[int, ...] = (1,)
    tau: float = 0.0
    missing: str = ""
    middle: float = 0.85


DESIGNS: dict[str, Design] = {
    "no effect": Design(networks=(4, 6, 8, 10, 20, 40), families=("own", "several", "one")),
    "noisier ends (x 2)": Design(lambda rng, x, d: noisier(rng, ends(x), 2.0)),
    "noisier ends (x 3)": Design(lambda rng, x, d: noisier(rng, ends(x), 3.0)),
    "noise rises with size (to x 3)": Design(
        lambda rng, x, d: rng.standard_normal(len(x)) * (1 + 2 * stats.rankdata(x) / len(x))
    ),
    "heavy tails": Design(lambda rng, x, d: heavy(rng, len(x)), networks=(6, 10, 40), families=("own",)),
    "largest fails": Design(lambda rng, x, d: failed(rng, len(x), int(np.argmax(x)))),
    "one at random fails": Design(lambda rng, x, d: failed(rng, len(x), int(rng.integers(len(x))))),
    "only depth acts, a little": Design(
        lambda rng, x, d: rng.standard_normal(len(x)) + 0.9 * d, np.nan, -0.75, families=("own",)
    ),
    "only depth acts": Design(lambda rng, x, d: rng.standard_normal(len(x)) + 2.5 * d, np.nan, -0.75),
    "inverted U": Design(lambda rng, x, d: rng.standard_normal(len(x)) - 2 * x**2, np.nan),
    "ceiling (AUC .99)": Design(families=("own",), networks=(6, 10, 40), middle=0.99),
    "data sets agree": Design(networks=(6, 10, 20), families=("own", "several"), datasets=(2, 3, 5)),
    "data sets differ": Design(networks=(6, 10, 20), families=("own",), datasets=(2, 3, 5), tau=1.0),
    "cells missing at random": Design(networks=(6, 10, 20), datasets=(3,), missing="random"),
    "cells missing by size": Design(networks=(6, 10, 20), datasets=(3,), missing="size"),
    "cells missing by AUC": Design(networks=(6, 10, 20), datasets=(3,), missing="auc"),
    "effect": Design(lambda rng, x, d: rng.standard_normal(len(x)) + x * power_slope(len(x)), 1.0),
    "large effect": Design(
        lambda rng, x, d: rng.standard_normal(len(x)) + 1.4 * x * power_slope(len(x)), 1.4
    ),
    "effect, depth correlated": Design(
        lambda rng, x, d: rng.standard_normal(len(x)) + x * power_slope(len(x)),
        1.0,
        -0.75,
        families=("own",),
    ),
}
"""By name."""


def power_slope(n: int) -> float:
    """A slope that a t-test finds in most studies, and not in all."""
    return 4.0 / np.sqrt(n - 1) + (1.0 if n < 8 else 0.0)


def networks(n: int, families: str, correlation: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, n])
    size = rng.normal(size=n)
    depth = correlation * size + np.sqrt(1 - correlation**2) * rng.normal(size=n)
    family = {"own": np.arange(n), "one": np.zeros(n, int), "several": rng.integers(0, max(2, n // 3), n)}
    return pd.DataFrame(
        {
            "architecture": [f"a{i:02d}" for i in range(n)],
            "family": [f"f{k:02d}" for k in family[families]],
            "n_params": 10 ** (7.3 + 0.4 * size),
            "depth": 2 ** (5.5 + 0.8 * depth),
        }
    )


@dataclass(frozen=True)
class Study:
    """One study's AUCs, (data sets, networks), which cells there are, and the slopes of its data sets."""

    auc: np.ndarray
    there: np.ndarray
    slopes: np.ndarray


def drawn(design: Design, z: np.ndarray, w: np.ndarray, datasets: int, rng: np.random.Generator) -> Study:
    shared = design.draw(rng, z, w)
    n, own = len(z), np.zeros((datasets, len(z)))
    if datasets > 1:
        own = 0.5 * rng.standard_normal((datasets, n))
    tilt = design.tau * rng.standard_normal(datasets)
    whole = shared + own + tilt[:, None] * z
    there = np.ones((datasets, n), dtype=bool)
    if design.missing == "random":
        there = rng.random((datasets, n)) > 0.25
    elif design.missing == "size":
        whole[0] += 3.0  # an easy data set, which large networks lack
        there[0] = stats.rankdata(z) <= max(2, 0.6 * n)
    elif design.missing == "auc":
        there = ~((stats.rankdata(whole, axis=1) <= 0.25 * n) & (rng.random((datasets, n)) < 0.7))
    logit = np.log(design.middle / (1 - design.middle)) + whole * SD / (0.85 * 0.15)
    auc = design.middle + SD * whole if design.middle < 0.9 else 1 / (1 + np.exp(-logit))
    return Study(auc, there, tilt)


def in_rows(base: pd.DataFrame, study: Study) -> pd.DataFrame:
    parts = [
        base.assign(dataset=f"d{k}", auc=auc, init="imagenet", unfreeze_depth="5", setting="", seed=None).loc[
            there
        ]
        for k, (auc, there) in enumerate(zip(study.auc, study.there, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def reduced(base: pd.DataFrame, study: Study) -> Modality:
    """As `modality_of` does for tables without gaps, without its rows."""
    n = study.auc.shape[1]
    names = base["architecture"].tolist()
    each = {f"d{k}": two_way(names, np.zeros(n, dtype=np.int64), auc) for k, auc in enumerate(study.auc)}
    effects = next(iter(each.values())) if len(each) == 1 else effects_over_datasets(each)
    family_names, families = np.unique(base["family"].to_numpy(str), return_inverse=True)
    table = base.set_index("architecture")
    return Modality("CXR", effects, each, families.astype(np.int64), list(family_names), table, n)


@dataclass(frozen=True)
class Outcome:
    """A study's verdict on parameters, and whether the 95 % interval holds the truth."""

    verdict: str
    covered: bool


def outcome(base: pd.DataFrame, study: Study, truth: float, missing: bool) -> Outcome | None:
    """As `associate` and `judge` reach it, without what a verdict does not need."""
    rows = in_rows(base, study) if missing else None
    whole = reduced(base, study) if rows is None else modality_of("CXR", rows)
    if whole is None:
        return None
    compared = {p: whole if rows is None else comparable(whole, rows, p)[0] for p in (PARAMETERS, DEPTH)}
    found = {p: slope_on(own, p, SET) for p, own in compared.items() if own is not None}
    spans = {p: float(np.ptp(own.values_of(p))) for p, own in compared.items() if own is not None}
    if len(found) < 2:
        return None
    p_holm = holm([inference.p_value() for inference, _, _ in found.values()])[0]
    p_equivalence = holm([equivalence(inference, SD / spans[p]) for p, (inference, _, _) in found.items()])[0]
    own, (inference, _, spread) = compared[PARAMETERS], found[PARAMETERS]
    assert own is not None
    word = verdict(inference.estimate, p_holm, p_equivalence)
    if word != "inconclusive":
        x = PARAMETERS.values(own.table)
        answer = answer_of(own, x, inference, spread)
        if (against_negligible if word == "negligible" else against_direction)(answer):
            word = "inconclusive"
    return Outcome(word, inference.p_value(truth) > 0.05)


def answer_of(
    modality: Modality, x: np.ndarray, inference: SlopeInference, spread: Spread | None
) -> Unadjusted:
    """What the objections to a verdict look at; the rest is left empty."""
    pair = beside(modality, PARAMETERS, DEPTH, SET)
    return Unadjusted(
        predictor=PARAMETERS,
        compared=modality,
        slope=inference.estimate,
        span=float(np.ptp(x)),
        range=(0.0, 0.0),
        effect=0.0,
        effect_ci95=NO_INTERVAL,
        prediction95=NO_INTERVAL,
        heterogeneity=spread,
        ci95=NO_INTERVAL,
        ci90=NO_INTERVAL,
        p_value=inference.p_value(),
        smallest_reachable_p=inference.smallest_p,
        p_equivalence=1.0,
        per_dataset={},
        ranks=RankCorrelations(None, None),
        p_within_family=None,
        within_family=WithinFamily(),
        n_architectures=len(x),
        margin=SD,
        curve_of_margins={},
        diagnostics=diagnose(modality.effects, x, modality.families, modality.family_names, inference),
        beside={DEPTH.name: pair} if pair else {},
        method="",
        speaks_for="",
    )


def students(x: np.ndarray, d: np.ndarray, y: np.ndarray) -> bool:
    """Whether the t-test of the slope on x is significant after Holm."""
    return holm([float(stats.pearsonr(one, y).pvalue) for one in (x, d)])[0] <= 0.05


def row(name: str, design: Design, n: int, families: str, datasets: int, studies: int) -> str:
    directional = negligible = covered = plain = told = 0
    for number in range(studies):
        base = networks(n, families, design.correlation, number // STUDIES_PER_SIZES)
        x, d = PARAMETERS.values(base), DEPTH.values(base)
        z, w = (x - x.mean()) / x.std(), (d - d.mean()) / d.std()
        rng = np.random.default_rng([number, n, datasets])
        study = drawn(design, z, w, datasets, rng)
        truth = design.slope * (power_slope(n) if design.slope else 1.0)
        truth = (truth + (study.slopes.mean() if datasets < 3 else 0.0)) * SD / x.std()
        answer = outcome(base, study, 0.0 if np.isnan(truth) else truth, bool(design.missing))
        plain += students(x, d, study.auc.mean(0)) if not design.missing else 0
        if answer is None:
            continue
        told += 1
        directional += answer.verdict in ("increases", "decreases")
        negligible += answer.verdict == "negligible"
        covered += answer.covered
    coverage = (
        "" if np.isnan(design.slope) or (design.middle > 0.9 and design.slope) else f"{covered / told:.3f}"
    )
    by_t = "" if design.missing else f"{plain / studies:.3f}"
    shares = f"{directional / told:.3f} | {negligible / told:.3f} | {coverage} | {by_t}"
    return f"| {name} | {n} | {families} | {datasets} | {studies} | {shares} |"


def text(lines: list[str], studies: int) -> str:
    return (
        "# Verdicts on designs that a straight line does and does not expect\n\n"
        f"{date.today()}; `python benchmarks/verdicts.py --studies {studies}`. Standard error of a rate of "
        f".05: {np.sqrt(0.05 * 0.95 / 200):.3f} for 200 studies, {np.sqrt(0.05 * 0.95 / 100):.3f} for 100."
        "\n\n"
        "Goals: directional verdicts without an effect at most .05, coverage at least .93, and of the power "
        "of a t-test (last column) at most a tenth lost where that test is valid. There is an effect in "
        "`effect`, `large effect`, and `effect, depth correlated`; a curve and no direction in `inverted U`; "
        "and where two data sets differ, in these two data sets, about which the verdict then speaks.\n\n"
        "| design | networks | families | data sets | studies | directional | negligible | coverage "
        "| t-test |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--only", default="")
    parser.add_argument("--networks", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "verdicts.md")
    options = parser.parse_args()
    lines = []
    cells = [
        (name, design, n, families, datasets)
        for name, design in DESIGNS.items()
        if options.only in name
        for n in design.networks
        if not options.networks or n in options.networks
        for families in design.families
        for datasets in design.datasets
    ]
    with threadpool_limits(1):
        for cell in cells:
            lines.append(row(*cell, options.studies))
            print(lines[-1], flush=True)
            options.out.write_text(text(lines, options.studies))


if __name__ == "__main__":
    main()
