"""How often the 95 % interval of an AUC holds the true one: images alone, patients, few of them, near 1.

    python benchmarks/auc_intervals.py [--studies 2000] [--out benchmarks/results/auc_intervals.md]

Scores are normal with a shift for the class; those of one patient share a part of their variance. Labels
belong to patients, or vary within them; patients have equally many images, or numbers that differ as a
geometric distribution does. The true AUC is that of two images of different patients. Beside medfathom's
interval stands the one without its two corrections for few patients that decide: the same standard error on
the logit scale, Student's quantile on the units of the rarer class less one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from medfathom.metrics.auc import delong, delong_interval
from medfathom.metrics.intervals import logit_ends, student_quantile

BLOCK = 100
"""Studies with the same patients and labels."""

AUCS = (0.7, 0.9, 0.97, 0.99)
CLASSES = 3


@dataclass(frozen=True)
class Design:
    """Simulated studies.

    Attributes:
        patients: how many.
        images: of each, on average.
        auc: the true one.
        share: of images (or patients) that are positive.
        mixed: whether labels vary within a patient.
        uneven: whether patients have different numbers of images.
        correlation: of the scores of a patient's images.
    """

    patients: int
    images: int
    auc: float
    share: float
    mixed: bool = False
    uneven: bool = False
    correlation: float = 0.0


def designs() -> list[Design]:
    alone = [Design(n, 1, auc, share) for n in (50, 200, 1000) for auc in AUCS for share in (0.5, 0.2, 0.1)]
    crossed = product((20, 40, 100, 200), (2, 5, 20), AUCS, (0.5, 0.15), *2 * [(False, True)], (0.3, 0.8))
    return alone + [Design(*one) for one in crossed]


@dataclass
class Count:
    """Studies, those whose interval lies above or below the truth, and the sum of the widths."""

    studies: int = 0
    above: int = 0
    below: int = 0
    width: float = 0.0

    def add(self, low: np.ndarray, high: np.ndarray, truth: float) -> None:
        self.studies += len(low)
        self.above += int((low > truth).sum())
        self.below += int((high < truth).sum())
        self.width += float((high - low).sum())

    @property
    def coverage(self) -> float:
        return 1 - (self.above + self.below) / self.studies


def patients_of(design: Design, random: np.random.Generator) -> np.ndarray:
    sizes = np.full(design.patients, design.images)
    if design.uneven:
        sizes = random.geometric(1 / design.images, design.patients)
    return np.repeat(np.arange(design.patients), sizes)


def labels_of(design: Design, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Two patients (or images) of each class at least."""
    n = design.patients
    if not design.mixed:
        chosen = random.permutation(n)[: max(2, round(design.share * n))]
        return np.isin(groups, chosen)
    while True:
        share = random.beta(2 * design.share, 2 * (1 - design.share), n)
        labels = random.random(len(groups)) < share[groups]
        if all(len(np.unique(groups[labels == one])) >= 2 for one in (False, True)):
            return labels


def scores_of(
    design: Design, groups: np.ndarray, labels: np.ndarray, random: np.random.Generator, columns: int
) -> np.ndarray:
    shared = random.standard_normal((design.patients, columns))[groups]
    own = random.standard_normal((len(groups), columns))
    shift = np.sqrt(2) * stats.norm.ppf(design.auc)
    mixed = np.sqrt(design.correlation) * shared + np.sqrt(1 - design.correlation) * own
    return mixed + shift * (labels if labels.ndim == 2 else labels[:, None])


def simple_interval(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    found = delong(labels, scores, groups)
    error = np.sqrt(np.square(found.influence).sum(axis=1))
    low, high = logit_ends(found.auc, student_quantile(found.units.min(axis=0) - 1) * error)
    whole = delong_interval(labels, scores, groups)  # perfect separation: Newcombe's in both
    return np.where(error > 0, low, whole.low), np.where(error > 0, high, whole.high)


def judged(design: Design, studies: int) -> tuple[Count, Count]:
    """Of medfathom's interval, and of the simple one."""
    ours, simple = Count(), Count()
    for block in range(studies // BLOCK):
        random = np.random.default_rng(
            [block, design.patients, design.images, int(1000 * design.auc), int(100 * design.share)]
        )
        groups = patients_of(design, random)
        labels = labels_of(design, groups, random)
        scores = scores_of(design, groups, labels, random, BLOCK)
        given = groups if design.images > 1 else None
        interval = delong_interval(labels, scores, given)
        ours.add(interval.low, interval.high, design.auc)
        simple.add(*simple_interval(labels, scores, given), design.auc)
    return ours, simple


def judged_mean(design: Design, studies: int) -> Count:
    """Of the mean over classes, one against the rest; every class has the same AUC."""
    count = Count()
    random = np.random.default_rng(17)
    groups = patients_of(design, random)
    one_hot = (groups % CLASSES)[:, None] == np.arange(CLASSES)
    for _ in range(studies // 4):
        scores = scores_of(design, groups, one_hot, random, CLASSES)
        interval = delong_interval(one_hot, scores, groups if design.images > 1 else None)
        count.add(np.array([interval.mean_low]), np.array([interval.mean_high]), design.auc)
    return count


def row(names: Sequence[object], ours: Sequence[Count], simple: Sequence[Count]) -> str:
    covered = np.array([one.coverage for one in ours])
    before = np.array([one.coverage for one in simple])
    wider = sum(one.width for one in ours) / sum(one.width for one in simple)
    above, below = (
        np.mean([getattr(one, side) / one.studies for one in ours]) for side in ("above", "below")
    )
    numbers = (
        f"{covered.min():.3f} | {np.median(covered):.3f} | {covered.max():.3f} | {above:.3f} | {below:.3f}"
    )
    return (
        f"| {' | '.join(map(str, names))} | {len(ours)} | {numbers} | {before.min():.3f} | "
        f"{np.median(before):.3f} | {wider:.2f} |"
    )


def tables(studies: int) -> str:
    found = {design: judged(design, studies) for design in designs()}
    lines = []
    for patients, images, auc in dict.fromkeys((d.patients, d.images, d.auc) for d in found):
        same = [both for d, both in found.items() if (d.patients, d.images, d.auc) == (patients, images, auc)]
        lines.append(row((patients, images, auc), [a for a, _ in same], [b for _, b in same]))
    covered = np.array([ours.coverage for ours, _ in found.values()])
    before = np.array([simple.coverage for _, simple in found.values()])
    means = [
        (d, judged_mean(d, studies))
        for n, images in ((60, 1), (30, 5), (60, 5), (60, 20))
        for d in (Design(n, images, auc, 1 / 3, correlation=0.5 * (images > 1)) for auc in AUCS)
    ]
    return (
        f"Of {len(found)} designs, {(covered < 0.93).sum()} cover less than .93, {(covered < 0.92).sum()} "
        f"less than .92, {(covered > 0.97).sum()} more than .97 (most of these: few units of a class near "
        f"AUC 1, where perfect separation is common); least {covered.min():.3f}, median "
        f"{np.median(covered):.3f}. "
        f"Without the corrections: {(before < 0.93).sum()} less than .93, {(before < 0.92).sum()} less than "
        f".92, {(before > 0.97).sum()} more than .97; least {before.min():.3f}, median "
        f"{np.median(before):.3f}.\n\n"
        "`above`, `below`: intervals that lie wholly above or below the truth, on average over the "
        "designs of the row (share positive, labels by patient or within, even or uneven "
        "numbers of images, correlation .3 or .8).\n\n"
        "| patients | images each | AUC | designs | least | median | most | above | below | least without "
        "| median without | width: with / without |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n\nThe mean over {CLASSES} classes, one against the rest, correlation .5 "
        f"({studies // 4} studies):\n\n"
        "| patients | images each | AUC | coverage | above | below |\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {d.patients} | {d.images} | {d.auc} | {c.coverage:.3f} | {c.above / c.studies:.3f} | "
            f"{c.below / c.studies:.3f} |"
            for d, c in means
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "auc_intervals.md")
    options = parser.parse_args()
    with threadpool_limits(1):
        found = tables(options.studies)
    error = np.sqrt(0.05 * 0.95 / options.studies)
    options.out.write_text(
        "# Coverage of the interval of an AUC\n\n"
        f"{date.today()}; `python benchmarks/auc_intervals.py --studies {options.studies}`. Standard error "
        f"of a coverage of .95: {error:.4f}.\n\n{found}\n"
    )


if __name__ == "__main__":
    main()
