"""How often 95 % intervals of `confirm` and `evaluate` hold the true value; AUC's own: `auc_intervals.py`.

    python benchmarks/other_intervals.py [--studies 200] [--out benchmarks/results/other_intervals.md]

Scores are normal with a shift for the class; those of one patient share half of their variance, and all
images of a patient have one label. The probability is the true one given the score, so the calibration line
has slope 1 and intercept 0. The threshold is fixed. Sensitivity, specificity, PPV, NPV, drops and gains have
true values in closed form; average precision, log loss and Brier loss are those of a million images.

- `drop`: AUC of 200 patients with one image each, less that of the design's patients on harder images.
- `largest gap`: of four subgroups with the same AUC, in every fourth study (it costs most); it covers where
  it holds 0.
- `gain`: AUC of the mean of two scores less that of one of them, as for ensembles and flips; the errors of
  the two have a correlation of .5.

Net benefit, predictive values at other prevalences and the calibration error are told without intervals.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from medfathom.confirmation.paired import mean_auc_gain
from medfathom.evaluation.judging import Predictions, by_patient, metrics_of
from medfathom.evaluation.results import Value, difference, metric
from medfathom.evaluation.subgroups import subgroups_of
from medfathom.metrics.classification import evaluate
from medfathom.metrics.reliability import calibration_line

AUCS = (0.7, 0.9, 0.97, 0.99)
SHARE = 0.3
"""Of patients that are positive."""
WITHIN = 0.5
"""Correlation of a patient's images, and of two scores of one image."""
TRUTH = 1_000_000
LARGEST = 5_000
"""Images of a study, at most."""
FEW = 50
"""Studies with an interval, below which a coverage says nothing."""
NAMES = ["well", "ill"]
MEANS = ("average_precision", "log_loss", "brier_loss")
AT_THRESHOLD = ("sensitivity", "specificity", "precision", "npv")


@dataclass(frozen=True)
class Design:
    """Patients, images of each, and the true AUC."""

    patients: int
    images: int
    auc: float


def designs() -> list[Design]:
    pairs = [(n, k) for n, k in product((20, 50, 200, 1000), (1, 5, 20)) if n * k <= LARGEST]
    return [Design(n, k, auc) for (n, k), auc in product(pairs, AUCS)]


def shift_of(auc: float) -> float:
    """Between the classes' scores, of standard deviation 1."""
    return float(np.sqrt(2) * stats.norm.ppf(auc))


def log_odds(scores: np.ndarray, shift: float) -> np.ndarray:
    return shift * scores - shift**2 / 2 + np.log(SHARE / (1 - SHARE))


def probabilities(scores: np.ndarray, shift: float) -> np.ndarray:
    values: np.ndarray = 1 / (1 + np.exp(-log_odds(scores, shift)))
    return values


@dataclass(frozen=True)
class Study:
    """Images of some patients: labels, scores, and whose they are."""

    labels: np.ndarray
    scores: np.ndarray
    patients: np.ndarray


def simulated(random: np.random.Generator, patients: int, images: int, shift: float) -> Study:
    own = random.random(patients) < SHARE
    while own.all() or not own.any():
        own = random.random(patients) < SHARE
    member = np.repeat(np.arange(patients), images)
    shared, alone = random.normal(size=patients)[member], random.normal(size=len(member))
    labels = own[member].astype(np.int64)
    return Study(labels, shift * labels + np.sqrt(WITHIN) * shared + np.sqrt(1 - WITHIN) * alone, member)


@cache
def truths(auc: float) -> dict[str, float]:
    shift = shift_of(auc)
    passed = hit = float(stats.norm.cdf(shift / 2))
    positive = SHARE * hit + (1 - SHARE) * (1 - passed)
    random = np.random.default_rng(0)
    labels = (random.random(TRUTH) < SHARE).astype(np.int64)
    values = probabilities(shift * labels + random.normal(size=TRUTH), shift)[:, None]
    found = evaluate("binary", labels, values, NAMES).overall
    return {
        "sensitivity": hit,
        "specificity": passed,
        "precision": SHARE * hit / positive,
        "npv": (1 - SHARE) * passed / (1 - positive),
        **{name: found[name] for name in MEANS},
    }


def predictions(study: Study, shift: float) -> Predictions:
    """As `evaluate` judges them, at the threshold halfway between the classes."""
    at = float(probabilities(np.array([shift / 2]), shift)[0])
    config: Any = SimpleNamespace(
        task="binary",
        class_names=NAMES,
        positive="ill",
        unit="image",
        thresholds=[at],
        calibrated=lambda logits: 1 / (1 + np.exp(-logits[:, 1:])),
    )
    odds = log_odds(study.scores, shift)
    return Predictions(config, study.labels, np.stack([np.zeros_like(odds), odds], axis=1), study.patients)


def intervals(
    design: Design, random: np.random.Generator, with_gap: bool
) -> Iterator[tuple[str, Value, float]]:
    """Every interval of one simulated study, and the true value."""
    shift, true = shift_of(design.auc), truths(design.auc)
    study = simulated(random, design.patients, design.images, shift)
    found = predictions(study, shift)
    metrics = metrics_of(found)
    for name in AT_THRESHOLD:
        yield name, metric(metrics, name), true[name]
    line = calibration_line(study.labels == 1, found.probabilities[:, 0], study.patients)
    for name, truth in (("slope", 1.0), ("intercept", 0.0), ("in_the_large", 0.0)):
        fitted = getattr(line, name)
        yield f"calibration {name}", Value(fitted.value, fitted.low, fitted.high), truth
    ends = by_patient(found, metrics)
    for name in MEANS:
        yield name, ends.get(name, Value(getattr(metrics, name))), true[name]
    yield "drop", *drop(design, shift, random)
    yield "gain", *gain(study, shift, random)
    if with_gap:
        quarter = np.array([f"g{k % 4}" for k in range(design.patients)])[study.patients]
        gaps = subgroups_of(found, {"site": quarter}).gaps
        yield "largest gap", gaps[0].gap if gaps else Value(None), 0.0


def drop(design: Design, shift: float, random: np.random.Generator) -> tuple[Value, float]:
    """Of the AUC from an internal test split to harder images elsewhere."""
    harder = shift_of(design.auc - 0.05)
    inside = simulated(random, 200, 1, shift)
    outside = simulated(random, design.patients, design.images, harder)
    first, second = (metric(metrics_of(predictions(each, shift)), "auc") for each in (inside, outside))
    return difference(first, second) or Value(None), 0.05


def gain(study: Study, shift: float, random: np.random.Generator) -> tuple[Value, float]:
    """Of the mean of two scores against one of them."""
    noise = study.scores - shift * study.labels
    second = shift * study.labels + WITHIN * noise + np.sqrt(1 - WITHIN**2) * random.normal(size=len(noise))
    mean, alone = (study.scores + second)[:, None] / 2, study.scores[:, None]
    first, other, (low, high) = mean_auc_gain((study.labels == 1)[:, None], mean, alone, list(study.patients))
    deviation = np.sqrt((1 + WITHIN) / 2)
    truth = stats.norm.cdf(shift / deviation / np.sqrt(2)) - stats.norm.cdf(shift / np.sqrt(2))
    return Value(first - other, low, high), float(truth)


@dataclass
class Count:
    """Studies, those without an interval, those whose interval lies above or below the truth."""

    studies: int = 0
    without: int = 0
    above: int = 0
    below: int = 0

    def add(self, found: Value, truth: float) -> None:
        self.studies += 1
        if found.low is None or found.high is None or not np.isfinite([found.low, found.high]).all():
            self.without += 1
            return
        self.above += found.low > truth
        self.below += found.high < truth

    @property
    def coverage(self) -> float:
        known = self.studies - self.without
        return 1 - (self.above + self.below) / known if known else float("nan")


Key = tuple[str, int, int]


def simulate(studies: int) -> dict[Key, dict[float, Count]]:
    """Kind, patients and images -> AUC -> count."""
    counts: dict[Key, dict[float, Count]] = defaultdict(lambda: defaultdict(Count))
    for number, design in enumerate(designs()):
        random = np.random.default_rng(number)
        for study in range(studies):
            for kind, found, truth in intervals(design, random, with_gap=study % 4 == 0):
                counts[kind, design.patients, design.images][design.auc].add(found, truth)
    return counts


def kinds_of(counts: dict[Key, dict[float, Count]]) -> list[str]:
    return list(dict.fromkeys(kind for kind, *_ in counts))


def together(counts: Iterable[Count]) -> Count:
    """One count of several."""
    parts, names = list(counts), ("studies", "without", "above", "below")
    return Count(*(sum(getattr(count, name) for count in parts) for name in names))


def summary(counts: dict[Key, dict[float, Count]]) -> list[str]:
    """A row for each interval: coverage by the number of patients, over all AUCs and numbers of images."""
    patients = sorted({patients for _, patients, _ in counts})
    lines = [f"| interval | {' | '.join(f'{n:,} patients' for n in patients)} |", "|---" * 5 + "|"]
    for kind in kinds_of(counts):
        cells = []
        for n in patients:
            own = [count for key, by in counts.items() if key[:2] == (kind, n) for count in by.values()]
            known = [count.coverage for count in own if count.studies - count.without >= FEW]
            cells.append(f"{together(own).coverage:.3f} ({min(known):.3f})" if known else "")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def details(counts: dict[Key, dict[float, Count]]) -> list[str]:
    """A row for each interval, number of patients and number of images."""
    titles = " | ".join(f"AUC {auc:g}".replace("0.", ".") for auc in AUCS)
    lines = [
        f"| interval | patients | images each | {titles} | all | above | below | without |",
        "|---" * (len(AUCS) + 7) + "|",
    ]
    order = {kind: place for place, kind in enumerate(kinds_of(counts))}
    for kind, patients, images in sorted(counts, key=lambda key: (order[key[0]], *key[1:])):
        own = counts[kind, patients, images]
        whole = together(own.values())
        each = [*(own[auc] for auc in AUCS), whole]
        known = [count.studies - count.without >= FEW for count in each]
        cells = [f"{count.coverage:.3f}" if kept else "" for count, kept in zip(each, known, strict=True)]
        cells += [f"{getattr(whole, name) / whole.studies:.3f}" for name in ("above", "below", "without")]
        lines.append(f"| {kind} | {patients} | {images} | {' | '.join(cells)} |")
    return lines


def report(counts: dict[Key, dict[float, Count]], studies: int) -> str:
    error = np.sqrt(0.95 * 0.05 / studies)
    lines = [
        "# Coverage of intervals other than AUC's",
        "",
        f"{date.today():%Y-%m-%d}; `python benchmarks/other_intervals.py --studies {studies}`. Standard "
        f"error of a coverage of .95 in one cell: {error:.3f}.",
        "",
        "What is simulated: see the script. First the coverage over all AUCs and numbers of images; in "
        "brackets the least of a cell of the full table below.",
        "",
        *summary(counts),
        "",
        "*above*, *below*: intervals that lie wholly above or below the truth, of all AUCs. *without*: "
        "studies that have none (a class is absent or has one patient, classes are separated, fewer than 10 "
        f"positives or negatives in a subgroup). No number where fewer than {FEW} studies have an interval.",
        "",
        *details(counts),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with threadpool_limits(1):
        text = report(simulate(given.studies), given.studies)
    if given.out:
        given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
