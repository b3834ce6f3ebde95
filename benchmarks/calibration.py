"""How often medfathom's slope tests are wrong: simulated studies over a grid of designs.

    python benchmarks/calibration.py [--studies 400] [--seed 2] [--out benchmarks/results/calibration.md]

What is simulated: n architectures in families (the ten of arXiv 2408.17011 for n = 10), D data sets,
five settings, three seeds; standard deviation 1 between architectures, 0.7 of an architecture between
data sets, 0.5 between settings, 0.4 between seeds; everything shared by a cell (its difficulty, its test
images) added to all. `strong`: families vary with twice the standard deviation of architectures; `very
strong`: four times. `gaps`: 35 % of the (architecture, cell) pairs are missing. Effects: the slope moves
AUC by 0.5 (small) or 1.5 (large) standard deviations of architectures for one standard deviation of the
predictor. `slopes differ`: the true slope varies over data sets by 0.5 such units.

Every interval is the program's own (`slope_in`).
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from medfathom.analysis.effects import Effects, effects_over_datasets, two_way
from medfathom.analysis.size.inference import Settings, slope_in

PAPER_PARAMS = np.array([138.4, 143.7, 25.6, 44.5, 60.2, 23.8, 22.9, 8.0, 14.1, 20.0])
PAPER_FAMILIES = np.array([0, 0, 1, 1, 1, 2, 3, 4, 4, 4])
SETTINGS_, SEEDS = 5, 3
RATIO = {"none": 0.0, "strong": 4.0, "very strong": 16.0}
EFFECT = {"none": 0.0, "small": 0.5, "large": 1.5}
SET = Settings(permutations=1_999)
DESIGNS = 2


@dataclass(frozen=True)
class Scenario:
    n: int
    families: str
    datasets: int
    gaps: bool
    effect: str
    differ: float = 0.0
    shape: str = "normal"


def families_of(n: int) -> np.ndarray:
    if n == 5:
        return np.array([0, 0, 1, 1, 2])
    if n == 10:
        return PAPER_FAMILIES
    count = {20: 7, 40: 12}[n]
    rng = np.random.default_rng(n)
    return np.sort(np.r_[np.arange(count), rng.integers(0, count, n - count)])


def predictor_of(n: int, design: int) -> np.ndarray:
    """Differs more between families than within, as sizes do."""
    if n == 10 and design == 0:
        return np.log10(PAPER_PARAMS)
    rng = np.random.default_rng(1_000 * n + design)
    fam = families_of(n)
    return rng.normal(size=fam.max() + 1)[fam] * 0.35 + rng.normal(size=n) * 0.25


def kept_cells(n: int, datasets: int, gaps: bool, design: int) -> np.ndarray:
    """Which (data set, architecture, setting) are there; every architecture in two settings, at least."""
    if not gaps:
        return np.ones((datasets, n, SETTINGS_), dtype=bool)
    rng = np.random.default_rng(100 * n + 10 * datasets + design)
    keep = rng.random((datasets, n, SETTINGS_)) < 0.65
    for d in range(datasets):
        for a in range(n):
            keep[d, a, rng.permutation(SETTINGS_)[: max(0, 2 - keep[d, a].sum())]] = True
    return keep


def draw(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> np.ndarray:
    if shape == "heavy tails":
        return rng.standard_t(4, size) / np.sqrt(2)
    if shape == "skewed":
        return 1 - rng.exponential(size=size)
    return rng.standard_normal(size)


def simulate(s: Scenario, x: np.ndarray, studies: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """AUC-like results (studies, D, n, settings, seeds) and the true slope."""
    fam, n, D = families_of(s.n), s.n, s.datasets
    slope = EFFECT[s.effect] / x.std()
    family = draw(rng, s.shape, (studies, fam.max() + 1)) * np.sqrt(RATIO[s.families])
    slopes = slope + s.differ / x.std() * rng.standard_normal((studies, D))
    y = (family[:, fam] + draw(rng, s.shape, (studies, n)))[:, None] + slopes[:, :, None] * (x - x.mean())
    y = y + 0.7 * draw(rng, s.shape, (studies, D, n))
    cells = rng.standard_normal((studies, D, 1, SETTINGS_))
    y = y[..., None] + cells + 0.5 * rng.standard_normal((studies, D, n, SETTINGS_))
    return y[..., None] + 0.4 * rng.standard_normal((*y.shape, SEEDS)), slope


def names(n: int) -> list[str]:
    return [f"a{i:03d}" for i in range(n)]


def per_dataset(means: np.ndarray, keep: np.ndarray) -> dict[str, Effects]:
    """The program's own reduction of one study, (D, n, settings)."""
    found = {}
    for d in range(len(keep)):
        a, c = np.nonzero(keep[d])
        found[str(d)] = two_way([names(len(keep[0]))[i] for i in a], c, means[d][a, c])
    return found


def naive(
    y: np.ndarray, keep: np.ndarray, x: np.ndarray, whole: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """|t| and p of naive tests: Spearman and regression over runs, regression over architectures."""
    studies, D, n, C, S = y.shape
    runs = np.broadcast_to(keep[None, ..., None], y.shape[:1] + keep.shape + (S,))
    there = runs[0].ravel()
    flat = y.reshape(studies, -1)[:, there]
    xs = np.broadcast_to(x[None, :, None, None], (*keep.shape, S)).ravel()[there]
    ranks, xr = stats.rankdata(flat, axis=1), stats.rankdata(xs)
    r = ((ranks - ranks.mean(1, keepdims=True)) @ (xr - xr.mean())) / (ranks.std(1) * xr.std() * len(xr))
    N = len(xs)
    found = {"Spearman, runs": (abs(r) * np.sqrt((N - 2) / (1 - r**2)), N - 2)}
    cell = np.broadcast_to(np.arange(D * C).reshape(D, 1, C, 1), (*keep.shape, S)).ravel()[there]
    sums = np.zeros((D * C, N))
    sums[cell, np.arange(N)] = 1
    size = sums.sum(1)
    xc = xs - (sums @ xs / size)[cell]
    yc = flat - (flat @ sums.T / size)[:, cell]
    b = yc @ xc / (xc @ xc)
    df = N - D * C - 1
    error = np.sqrt(((yc - b[:, None] * xc) ** 2).sum(1) / df / (xc @ xc))
    found["regression, runs"] = (abs(b / error), df)
    xa = x - x.mean()
    ya = whole - whole.mean(1, keepdims=True)
    b = ya @ xa / (xa @ xa)
    error = np.sqrt(((ya - b[:, None] * xa) ** 2).sum(1) / (n - 2) / (xa @ xa))
    found["regression, architectures"] = (abs(b / error), n - 2)
    return {name: (t, 2 * stats.t.sf(t, df)) for name, (t, df) in found.items()}


@dataclass(frozen=True)
class Rates:
    """Of a scenario: rejections at 5 %, coverage of 95 % intervals; by naive test its |t| and rejections."""

    rejected: float
    covered: float
    naive: dict[str, tuple[list[np.ndarray], float]]


def run(s: Scenario, studies: int, seed: int) -> Rates:
    """Rejections, coverage and the naive tests of one scenario, over `DESIGNS` designs."""
    rejected, covered = [], []
    others: dict[str, list] = {}
    for design in range(DESIGNS):
        words = len(s.effect), len(s.families), len(s.shape)
        rng = np.random.default_rng([seed, design, s.n, s.datasets, int(s.gaps), *words])
        x, fam = predictor_of(s.n, design), families_of(s.n)
        keep = kept_cells(s.n, s.datasets, s.gaps, design)
        y, slope = simulate(s, x, studies // DESIGNS, rng)
        values = np.empty((len(y), s.n))
        for k, means in enumerate(y.mean(-1)):
            each = per_dataset(means, keep)
            whole = each["0"] if len(each) == 1 else effects_over_datasets(each)
            values[k] = whole.values
            low, high = slope_in(whole, each, x, fam, SET)[0].interval(0.95)
            rejected.append(low > 0 or high < 0)
            covered.append(low <= slope <= high)
        for name, (t, p) in naive(y, keep, x, values).items():
            others.setdefault(name, []).append((t, p))
    naive_ = {
        name: ([t for t, _ in each], float((np.concatenate([p for _, p in each]) <= 0.05).mean()))
        for name, each in others.items()
    }
    return Rates(float(np.mean(rejected)), float(np.mean(covered)), naive_)


def corrected_power(null: Rates, found: Rates, name: str) -> float:
    """Power of a naive test whose critical value is the 95 % quantile of its statistic without an effect."""
    pairs = zip(null.naive[name][0], found.naive[name][0], strict=True)
    return float(np.mean([(t > np.quantile(t0, 0.95)).mean() for t0, t in pairs]))


def singles(n: int, studies: int, shape: str, seed: int) -> tuple[float, float]:
    """Every architecture its own family, one cell."""
    rng = np.random.default_rng([seed, n])
    rejected = covered = 0
    x = predictor_of(n, 1)
    for _ in range(studies):
        effects = two_way(names(n), np.zeros(n, dtype=np.int64), draw(rng, shape, (n,)))
        low, high = slope_in(effects, {"0": effects}, x, np.arange(n), SET)[0].interval(0.95)
        rejected += low > 0 or high < 0
        covered += low <= 0 <= high
    return rejected / studies, covered / studies


def line(s: Scenario, found: Rates, null: Rates | None) -> str:
    what = f"{s.n} | {s.families} | {s.datasets} | {'gaps' if s.gaps else 'complete'} | {s.effect}"
    rates = [
        rate if null is None else corrected_power(null, found, name)
        for name, (_, rate) in found.naive.items()
    ]
    numbers = " | ".join(f"{rate:.3f}" for rate in (found.rejected, found.covered, *rates))
    return f"| {what} | {numbers} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--seed", type=int, default=2, help="of the simulated studies")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.md")
    parser.add_argument("--architectures", type=int, nargs="*", default=[5, 10, 20, 40])
    options = parser.parse_args()
    began = time.perf_counter()
    with threadpool_limits(1):
        text = table(options)
    minutes = (time.perf_counter() - began) / 60
    command = f"python benchmarks/calibration.py --studies {options.studies} --seed {options.seed}"
    text += f"\n{minutes:.0f} minutes on {platform.machine()}, 2 cores shared; `{command}`, {date.today()}.\n"
    options.out.write_text(text)


def table(options: argparse.Namespace) -> str:
    lines, rejections, coverages = [], [], []
    for n, fam, datasets, gaps in product(
        options.architectures, ("none", "strong"), (1, 3, 5), (False, True)
    ):
        null = None
        for effect in EFFECT:
            found = run(s := Scenario(n, fam, datasets, gaps, effect), options.studies, options.seed)
            lines.append(line(s, found, null))
            null = null or found
            coverages.append(found.covered)
            if effect == "none":
                rejections.append(found.rejected)
            print(lines[-1], flush=True)
    extra = extras(options)
    worst, least, most = max(rejections), min(coverages), max(coverages)
    below, above = sum(c < 0.93 for c in coverages), sum(c > 0.97 for c in coverages)
    head = (
        "# Calibration of the slope's test and interval\n\n"
        f"{options.studies} simulated studies in each scenario "
        f"(Monte Carlo error of a rate of 5 %: {np.sqrt(0.05 * 0.95 / options.studies):.4f}).\n\n"
        f"**Type-I error, grid: at most {worst:.3f}** (asked: 0.06; "
        f"{sum(v > 0.06 for v in rejections)} of {len(rejections)} above). "
        f"**Coverage of 95 % intervals, grid: {least:.3f} to {most:.3f}** (asked: at least 0.93; "
        f"{below} of {len(coverages)} below, and {above} above 0.97).\n\n"
        "`rejected`: medfathom's rejections at 5 % (type-I error where there is no effect, else power). "
        "The last three columns are naive tests: without an effect, what they reject at their nominal 5 %; "
        "with one, their power once their critical value is corrected to 5 %, which needs to know the truth "
        "and is no test anyone can use.\n\n"
    )
    columns = (
        "| architectures | families | data sets | cells | effect | rejected | coverage | "
        "Spearman, runs | regression, runs | regression, architectures |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + columns + "\n".join(lines) + "\n" + extra


BEYOND = (
    ("very strong families, 1 data set", "very strong", 1, 0.0, "normal"),
    ("very strong families, 3 data sets", "very strong", 3, 0.0, "normal"),
    ("no families, 3 data sets, slopes differ", "none", 3, 0.5, "normal"),
    ("strong families, 5 data sets, slopes differ", "strong", 5, 0.5, "normal"),
    ("strong families, heavy tails", "strong", 1, 0.0, "heavy tails"),
    ("strong families, skewed", "strong", 1, 0.0, "skewed"),
)
"""Words, families, data sets, how slopes differ, distribution."""


def extras(options: argparse.Namespace) -> str:
    out = ["\n## Beyond the grid\n", "| scenario | rejected (no effect) | coverage |", "|---|---|---|"]
    for n in options.architectures:
        for words, families, datasets, differ, shape in BEYOND:
            scenario = Scenario(n, families, datasets, False, "none", differ, shape)
            found = run(scenario, options.studies, options.seed)
            out.append(f"| {n} architectures, {words} | {found.rejected:.3f} | {found.covered:.3f} |")
            print(out[-1], flush=True)
    for n in [m for m in options.architectures if m <= 20]:
        for shape in ("normal", "skewed"):
            rejected, covered = singles(n, options.studies, shape, options.seed)
            words = f"{n} architectures, each its own family, {shape}"
            out.append(f"| {words} | {rejected:.3f} | {covered:.3f} |")
            print(out[-1], flush=True)
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
