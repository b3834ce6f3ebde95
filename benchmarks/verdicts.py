"""How often verdicts are wrong where the data are not what a straight line expects.

    python benchmarks/verdicts.py [--studies 300] [--out benchmarks/results/verdicts.md]

Networks are each their own family or in several families; AUC's standard deviation between networks is 0.01.
Counted:
directional verdicts on parameters (goal: at most .05 without an effect) and coverage of the 95 % interval
(goal: at least .93); in the last design the directional verdicts are the power. Holm over two tests, as for
parameters and depth in one modality.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from medfathom.analysis.modality import modality_of
from medfathom.analysis.predictors import DEPTH, PARAMETERS
from medfathom.analysis.size.association import Unadjusted, associate
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.size.verdicts import judge

SD = 0.01
SET = Settings(permutations=499, draws=2_000)
Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


def ends(x: np.ndarray) -> np.ndarray:
    """The quarter of the networks at the ends of the size range."""
    return np.abs(x) >= np.sort(np.abs(x))[-max(2, len(x) // 4)]


def outlier(rng: np.random.Generator, x: np.ndarray, at: int) -> np.ndarray:
    y = SD * rng.standard_normal(len(x))
    y[at] -= 0.15
    return y


def noisier_ends(rng: np.random.Generator, x: np.ndarray, times: float) -> np.ndarray:
    return SD * rng.standard_normal(len(x)) * np.where(ends(x), times, 1.0)


DESIGNS: dict[str, tuple[Draw, float]] = {
    "no effect": (lambda rng, x, d: SD * rng.standard_normal(len(x)), 0.0),
    "noisier ends (x 2)": (lambda rng, x, d: noisier_ends(rng, x, 2.0), 0.0),
    "noisier ends (x 3)": (lambda rng, x, d: noisier_ends(rng, x, 3.0), 0.0),
    "largest fails": (lambda rng, x, d: outlier(rng, x, int(np.argmax(x))), 0.0),
    "one at random fails": (lambda rng, x, d: outlier(rng, x, int(rng.integers(len(x)))), 0.0),
    "only depth acts": (lambda rng, x, d: SD * (rng.standard_normal(len(x)) + 2.5 * d), np.nan),
    "inverted U": (lambda rng, x, d: SD * (rng.standard_normal(len(x)) - 2 * x**2), np.nan),
    "effect": (lambda rng, x, d: SD * (rng.standard_normal(len(x)) + 1.2 * x), 1.2 * SD),
}
"""Name -> draw from standardised parameters and depth; the true slope on standardised parameters."""


def networks(n: int, families: bool, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    depth = -0.75 * size + np.sqrt(1 - 0.75**2) * rng.normal(size=n)
    family = rng.integers(0, max(2, n // 3), n) if families else np.arange(n)
    return pd.DataFrame(
        {
            "architecture": [f"a{i:02d}" for i in range(n)],
            "family": [f"f{k}" for k in family],
            "n_params": 10 ** (7.3 + 0.4 * size),
            "depth": 2 ** (5.5 + 0.8 * depth),
            "init": "imagenet",
            "unfreeze_depth": "5",
            "setting": "",
            "seed": None,
        }
    )


def study(
    base: pd.DataFrame, values: np.ndarray, datasets: int, tau: float, rng: np.random.Generator
) -> pd.DataFrame:
    x = np.log10(base["n_params"].to_numpy())
    z = (x - x.mean()) / x.std()
    parts = []
    for k in range(datasets):
        own = 0.5 * SD * rng.standard_normal(len(base)) + tau * SD * rng.standard_normal() * z
        parts.append(base.assign(dataset=f"d{k}", auc=0.85 + values + own))
    return pd.concat(parts, ignore_index=True)


def rates(name: str, n: int, families: bool, datasets: int, tau: float, studies: int) -> str:
    draw, truth = DESIGNS[name]
    base = networks(n, families, n)
    x, d = (p.values(base) for p in (PARAMETERS, DEPTH))
    z, w = (x - x.mean()) / x.std(), (d - d.mean()) / d.std()
    directional = covered = 0
    for number in range(studies):
        rng = np.random.default_rng([number, n, datasets])
        frame = study(base, draw(rng, z, w), datasets, tau, rng)
        modality = modality_of("CXR", frame)
        assert modality is not None
        found = {p.name: associate(modality, p, margin=0.01, settings=SET) for p in (PARAMETERS, DEPTH)}
        answer = judge(found)["log10_params"]
        assert isinstance(found["log10_params"], Unadjusted)
        directional += answer.verdict in ("increases", "decreases")
        low, high = answer.ci95
        covered += (low is None or low <= truth / x.std()) and (high is None or truth / x.std() <= high)
    coverage = "" if np.isnan(truth) else f"{covered / studies:.3f}"
    words = "several" if families else "each its own"
    return f"| {name} | {n} | {words} | {datasets} | {tau:g} | {directional / studies:.3f} | {coverage} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--architectures", type=int, nargs="*", default=[6, 10, 20])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "verdicts.md")
    options = parser.parse_args()
    grid = [(name, n, f, 1, 0.0) for name in DESIGNS for n in options.architectures for f in (False, True)]
    grid += [("no effect", 10, False, datasets, tau) for datasets in (2, 3, 5) for tau in (0.0, 1.0)]
    lines = []
    for cell in grid:
        lines.append(rates(*cell, options.studies))
        print(lines[-1], flush=True)
        head = (
            "# Verdicts on designs that a straight line does not expect\n\n"
            f"{date.today()}; {options.studies} studies each; `python benchmarks/verdicts.py --studies "
            f"{options.studies}`. With one or two data sets and a spread of slopes (tau) the "
            "verdict is about these data sets, whose slope is not 0.\n\n"
            "| design | networks | families | data sets | tau | directional verdicts | coverage |\n"
            "|---|---|---|---|---|---|---|\n"
        )
        options.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
