"""How often the interval of the expected best holds, and when strata of a comparison are settled.

    python benchmarks/tuning.py [--studies 400] [--out benchmarks/results/tuning.md]

Trials are independent draws from five distributions of validation AUC over settings. First: coverage of the
95 % interval of the best of n / 2 from n trials (goal: at least .93). Second: a stratum is topped up until it
is settled (at most 60 trials); its deficit is the AUC that it lacks to the best setting there is, in standard
errors of the AUC on the validation images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from medfathom.metrics.tuning import LEAST, chances_of_choice, expected_choice
from medfathom.study.tuning import WITHIN_NOISE

Draw = Callable[[np.random.Generator, int], np.ndarray]
MOST = 60
BEST = 0.9


def bowl(dimensions: int) -> Draw:
    """The best setting in the middle of a range of as many dimensions."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return BEST - 0.15 * np.square(2 * rng.random((n, dimensions)) - 1).sum(axis=1)

    return draw


def some_diverge(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.3, 0.5 + 0.1 * rng.random(n), BEST - 0.05 * rng.random(n))


def one_in_ten_is_good(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.1, BEST - 0.02 * rng.random(n), 0.65 + 0.1 * rng.random(n))


def saturated(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.minimum(1.0, 0.99 + 0.01 * rng.standard_normal(n))


DESIGNS: dict[str, Draw] = {
    "one dimension": bowl(1),
    "two dimensions": bowl(2),
    "three in ten diverge": some_diverge,
    "one in ten is good": one_in_ten_is_good,
    "many reach 1": saturated,
}


@dataclass(frozen=True)
class Coverage:
    """How often the interval holds the truth, to within .001 AUC, and its median width.

    Attributes:
        met: share of the studies with a trial among the best tenth of all settings.
        if_met, if_not: how often it holds in these, and in the others.
    """

    held: float
    width: float
    met: float
    if_met: float
    if_not: float


def coverage(draw: Draw, n: int, studies: int, rng: np.random.Generator) -> Coverage:
    """Of the interval of the best of n / 2 from n trials."""
    good = np.quantile(draw(rng, 100_000), 0.9)
    truth = draw(rng, 20_000 * (n // 2)).reshape(-1, n // 2).max(axis=1).mean()
    drawn = [draw(rng, n) for _ in range(studies)]
    found = [expected_choice(auc, np.full(n, np.nan), n // 2, "auc") for auc in drawn]
    held = np.array([each.low - 1e-3 <= truth <= each.high + 1e-3 for each in found])
    met = np.array([auc.max() >= good for auc in drawn])
    width = float(np.median([each.high - each.low for each in found]))
    return Coverage(held.mean(), width, met.mean(), _mean(held[met]), _mean(held[~met]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def settled_after(draw: Draw, error: float, rng: np.random.Generator) -> tuple[int, float]:
    """Trials of a stratum, and its deficit in standard errors; .3 of the error is a trial's own."""
    true = draw(rng, MOST)
    seen = true + 0.3 * error * rng.standard_normal(MOST)
    for n in range(LEAST, MOST + 1):
        half = chances_of_choice(seen[:n], np.full(n, np.nan), n // 2, "auc") @ seen[:n]
        if seen[:n].max() - half <= WITHIN_NOISE * error:
            break
    return n, float((BEST - true[seen[:n].argmax()]) / error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    lines = [
        "# Tuning of strata",
        "",
        f"{date.today()}; {given.studies} studies a row; `python benchmarks/tuning.py`.",
        "",
        "## Coverage of the 95 % interval of the best of n / 2",
        "",
        "Best tenth met: in this share of the studies a trial had a setting of the best tenth of all. Of "
        "good settings that no trial met the interval can know nothing; n trials miss the best tenth in .9^n "
        "of the studies: .43, .19, .03.",
        "",
        "| settings | n | coverage | median width | best tenth met | coverage if met | if not |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, draw in DESIGNS.items():
        for n in (LEAST, 16, 32):
            c = coverage(draw, n, given.studies, rng)
            numbers = (f"{value:.3f}" for value in (c.met, c.if_met, c.if_not))
            lines.append(f"| {name} | {n} | {c.held:.3f} | {c.width:.4f} | {' | '.join(numbers)} |")
    lines += [
        "",
        f"## Trials until a stratum is settled (at most {MOST})",
        "",
        "| settings | standard error | trials, median | trials, 90 % | deficit, mean | deficit, 90 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, draw in list(DESIGNS.items())[:4]:
        for error in (0.003, 0.01, 0.03):
            found = np.array([settled_after(draw, error, rng) for _ in range(given.studies)])
            trials, deficit = found.T
            numbers = f"{np.median(trials):.0f} | {np.quantile(trials, 0.9):.0f}"
            lines.append(
                f"| {name} | {error:g} | {numbers} | {deficit.mean():.2f} | {np.quantile(deficit, 0.9):.2f} |"
            )
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
