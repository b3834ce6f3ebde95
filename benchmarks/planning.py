"""Does `plan --analysis` forecast the power that an analysis then has?

    python benchmarks/planning.py [--studies 400] [--out benchmarks/results/planning.md]

Studies are made with known variances (architectures, architectures in a data set, seeds, slopes of data
sets), once with an effect of the margin and once without, and analysed by `size.inference.slope_in` as
`analyze` does. Counted: how often the slope is significant, and how often it is shown to be within the
margin. Beside: what `analysis.planning` forecasts from these variances, and from pilots of ten architectures
(the middle half of 100 pilots).
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from medfathom.analysis.modality import modality_of
from medfathom.analysis.planning import Design, Pilot, pilot_of, power_to_exclude, power_to_find
from medfathom.analysis.predictors import PARAMETERS
from medfathom.analysis.size.inference import Settings, slope_in
from medfathom.analysis.size.multiplicity import ALPHA, equivalence

SPREAD = 0.3
"""Standard deviation of the networks' log10 parameters; they span about 1."""
OWN, EACH, SEED, MARGIN = 0.008, 0.006, 0.004, 0.02
COARSE = Settings(permutations=999, draws=1_000)


def spread(n: int) -> np.ndarray:
    """Evenly spaced networks whose standard deviation does not depend on their number."""
    x = np.linspace(-0.5, 0.5, n)
    return x * SPREAD / np.std(x, ddof=1)


def study(design: Design, *, effect: float, tau: float, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of a study whose AUC rises by `effect` for ten times the parameters."""
    n = design.architectures
    x = spread(n)
    own = OWN * rng.standard_normal(n) + effect * x
    parts = []
    for k in range(design.datasets):
        each = own + EACH * rng.standard_normal(n) + tau * rng.standard_normal() * x
        for seed in range(design.seeds):
            auc = 0.8 + each + SEED * rng.standard_normal(n)
            parts.append(
                pd.DataFrame(
                    {
                        "architecture": [f"a{i:03d}" for i in range(n)],
                        "family": [f"f{i:03d}" for i in range(n)],
                        "n_params": 10 ** (7 + x),
                        "depth": 50.0,
                        "dataset": f"d{k}",
                        "modality": "CXR",
                        "init": "imagenet",
                        "unfreeze_depth": "5",
                        "setting": "",
                        "seed": str(seed),
                        "auc": auc,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def true_pilot(tau: float) -> Pilot:
    """What a pilot would say that knew the variances of `study`, of ten architectures in three data sets."""
    interaction = EACH**2 + SEED**2 / 3
    return Pilot(
        modality="CXR",
        predictor=PARAMETERS,
        n_architectures=10,
        n_datasets=3,
        cells=1.0,
        seeds=3.0,
        sd=SPREAD,
        kurtosis=1.8,
        span=1.0,
        residual=OWN**2 + interaction / 3,
        interaction=interaction,
        interaction_df=16,
        seed=SEED**2,
        seed_df=60,
        tau=tau,
    )


def measured(design: Design, tau: float, studies: int) -> tuple[float, float]:
    """How often an effect of the margin is found, and how often none is shown to be within it."""
    found = excluded = 0
    for number in range(studies):
        rng = np.random.default_rng([number, *vars(design).values()])
        for effect in (MARGIN, 0.0):
            modality = modality_of("CXR", study(design, effect=effect, tau=tau, rng=rng))
            assert modality is not None
            x = modality.values_of(PARAMETERS)
            slope, _, _ = slope_in(modality.effects, modality.per_dataset, x, modality.families, COARSE)
            if effect:
                found += slope.p_value() <= ALPHA
            else:
                excluded += equivalence(slope, MARGIN) <= ALPHA
    return found / studies, excluded / studies


def from_pilots(design: Design, tau: float, pilots: int = 100) -> tuple[float, float]:
    """The middle half of the powers to find that pilots forecast."""
    powers = []
    for number in range(pilots):
        frame = study(Design(10, 3, 3), effect=0.0, tau=tau, rng=np.random.default_rng([number, 7]))
        modality = modality_of("CXR", frame)
        assert modality is not None
        powers.append(power_to_find(pilot_of(modality, frame, PARAMETERS), design, MARGIN, 1))
    low, high = np.quantile(powers, [0.25, 0.75])
    return float(low), float(high)


GRID = [
    (Design(n, k, s), tau)
    for n, k, s, tau in (
        (8, 1, 1, 0.0),
        (16, 1, 1, 0.0),
        (30, 1, 3, 0.0),
        (10, 2, 1, 0.0),
        (12, 3, 1, 0.0),
        (20, 3, 3, 0.0),
        (12, 5, 3, 0.0),
        (20, 3, 1, 0.01),
        (20, 8, 1, 0.01),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "planning.md")
    parser.add_argument("--tau", type=float, nargs="*", help="only designs with such a tau")
    options = parser.parse_args()
    grid = [(design, tau) for design, tau in GRID if options.tau is None or tau in options.tau]
    lines = [
        "# What `plan --analysis` forecasts, and what analyses then find\n",
        f"Margin {MARGIN} AUC over the range; standard deviations: architectures {OWN}, architectures "
        f"in a data set {EACH}, "
        f"seeds {SEED}; tau: of the data sets' true effects over the range. {options.studies} studies "
        "each; the standard error "
        f"of a measured power is at most {0.5 / options.studies**0.5:.3f}.\n",
        "| architectures | data sets | seeds | tau | found: forecast | measured | middle half of pilots | "
        "shown within the margin: forecast | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for design, tau in grid:
        pilot = true_pilot(tau)
        find, exclude = (power(pilot, design, MARGIN, 1) for power in (power_to_find, power_to_exclude))
        found, excluded = measured(design, tau, options.studies)
        low, high = from_pilots(design, tau)
        lines.append(
            f"| {design.architectures} | {design.datasets} | {design.seeds} | {tau:g} | {find:.2f} | "
            f"{found:.2f} | "
            f"{low:.2f} to {high:.2f} | {exclude:.2f} | {excluded:.2f} |"
        )
        print(lines[-1], flush=True)
    lines.append(f"\n{date.today()}. `python benchmarks/planning.py --studies {options.studies}`.\n")
    options.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
