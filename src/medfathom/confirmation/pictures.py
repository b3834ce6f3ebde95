"""Pictures of a confirmed model on the test split, drawn where it was trained; they become artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medfathom.colours import GREEN, PALETTE
from medfathom.data.prepared import Split
from medfathom.metrics.auc import Counts, Flags, resampled_counts, roc_auc_score
from medfathom.metrics.calibration import decide
from medfathom.metrics.classification import average_precision_score, positives
from medfathom.metrics.influences import Floats
from medfathom.metrics.rules import CALIBRATIONS
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.models.folder import ModelConfig
from medfathom.units import counted

MOST_CURVES = 8
"""Classes with a curve in one picture."""

DRAWS = 300
"""Resamples of a band."""

GRID = np.linspace(0.0, 1.0, 101)
"""Where curves are drawn."""

BINS = 10
"""Of the reliability diagram."""

Curve = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Judged:
    """A model's probabilities on the test split.

    Attributes:
        config: of the model.
        test: the test split, of m images or cases.
        positive: which of them are of each column's class, (m, C).
        probabilities: (m, C), calibrated; binary: one column, of the second class.
        names: of the C columns.
        of_images: the same for the images of cases, (n, C); None where images are judged by themselves.
    """

    config: ModelConfig
    test: Split
    positive: Flags
    probabilities: Floats
    names: list[str]
    of_images: Floats | None = None


def judged(
    config: ModelConfig, test: Split, probabilities: Floats, of_images: Floats | None = None
) -> Judged:
    """What pictures are drawn from; arguments as in `Judged`."""
    names = config.class_names[1:] if config.task == "binary" else config.class_names
    positive = positives(config.task, test.units.labels, probabilities.shape[1])
    return Judged(config, test, positive, probabilities, list(names), of_images)


@contextmanager
def names_as_text() -> Iterator[None]:
    """A name with a $ in it is no formula: Matplotlib would stop at one that it cannot read."""
    with rc_context({"text.parse_math": False}):
        yield


def draw_metrics(folder: Path, found: Judged) -> list[str]:
    """Draw ROC, precision and recall, confusion, reliability. Returns the names of the files."""
    with names_as_text():
        figures = {
            "roc.png": roc(found),
            "precision_recall.png": precision_recall(found),
            "calibration.png": reliability(found),
        }
        if found.config.task != "multilabel":
            figures["confusion.png"] = confusion(found)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=110)
    return list(figures)


def _axes(width: float = 4.6, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _counts(found: Judged) -> Counts:
    """How often each image or case counts: once in the first column, then in each resample of the groups."""
    n = len(found.positive)
    groups = np.arange(n) if found.test.units.groups is None else found.test.units.groups
    member = np.unique(groups, return_inverse=True)[1]
    resampled = resampled_counts(member, DRAWS, np.random.default_rng(0))
    return np.concatenate([np.ones((n, 1), dtype=np.float32), resampled], axis=1)


def _curves(found: Judged, curve: Curve) -> list[tuple[int, Floats, Floats]]:
    """For each class that can be judged: the curve on `GRID`, and the ends of its band (2, grid)."""
    counts, drawn = _counts(found), []
    for k in range(min(found.positive.shape[1], MOST_CURVES)):
        positive = found.positive[:, k]
        if is_present(positive).any() and is_absent(positive).any():
            line, *resampled = _on_grid(positive, found.probabilities[:, k], counts, curve)
            drawn.append((k, line, np.percentile(resampled, [2.5, 97.5], axis=0)))
    return drawn


def _on_grid(positive: Flags, scores: Floats, counts: Counts, curve: Curve) -> Iterator[Floats]:
    """The curve with each column of counts in which both classes are."""
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    true, false = (
        np.cumsum(counts[order] * flags[order, None], axis=0, dtype=np.float64)[last_of_equals]
        for flags in (is_present(positive), is_absent(positive))
    )
    for hits, alarms in zip(true.T, false.T, strict=True):
        if hits[-1] > 0 and alarms[-1] > 0:
            yield curve(hits, alarms)


def _sensitivity(true: Floats, false: Floats) -> Floats:
    values: Floats = np.interp(GRID, np.append(0, false / false[-1]), np.append(0, true / true[-1]))
    return values


def _precision(true: Floats, false: Floats) -> Floats:
    """Precision at each recall: the best at that recall or a higher one."""
    recall, precision = true / true[-1], true / np.maximum(true + false, 1e-12)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.minimum(np.searchsorted(recall, GRID - 1e-12), len(recall) - 1)
    values: Floats = envelope[at]
    return values


def roc(found: Judged) -> Figure:
    """Sensitivity against 1 - specificity."""
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for k, line, (low, high) in _curves(found, _sensitivity):
        auc = roc_auc_score(found.positive[:, k], found.probabilities[:, k])[0]
        _draw(axes, k, line, low, high, f"{found.names[k]}: AUC {auc:.3f}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    axes.set_title(_title(found, "ROC"), fontsize=9)
    axes.legend(fontsize=8, loc="lower right", frameon=False)
    return figure


def precision_recall(found: Judged) -> Figure:
    """Precision against recall."""
    figure, axes = _axes()
    for k, line, (low, high) in _curves(found, _precision):
        value = average_precision_score(found.positive[:, [k]], found.probabilities[:, [k]])[0]
        _draw(axes, k, line, low, high, f"{found.names[k]}: average precision {value:.3f}")
        positive = found.positive[:, k]
        share = is_present(positive).sum() / (is_present(positive) | is_absent(positive)).sum()
        axes.axhline(float(share), color=PALETTE[k], linewidth=0.6, linestyle=":")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", ylim=(0, 1.02))
    axes.set_title(_title(found, "Precision and recall"), fontsize=9)
    axes.legend(fontsize=8, loc="lower left", frameon=False)
    return figure


def _draw(axes: Axes, k: int, line: Floats, low: Floats, high: Floats, label: str) -> None:
    colour = PALETTE[k]
    axes.plot(GRID, line, color=colour, linewidth=1.5, label=label)
    axes.fill_between(GRID, low, high, color=colour, alpha=0.15, linewidth=0)


def _title(found: Judged, what: str) -> str:
    units, config = found.test.units, found.config
    count = counted(len(found.test), None if units.cases is None else len(units), config.unit)
    return f"{what}, {count}\n{config.architecture}, init {config.init}"


def confusion(found: Judged) -> Figure:
    """Counts of true against predicted classes."""
    config, names = found.config, found.config.class_names
    if config.task == "binary":
        said = decide(found.probabilities, config.thresholds)[:, 0].astype(np.int64)
    else:
        said = found.probabilities.argmax(axis=1)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (found.test.units.labels, said), 1)
    side = max(3.6, 0.45 * len(names) + 2.4)
    figure, axes = _axes(side + 0.4, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axes.text(
            column,
            row,
            f"{count}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color=colour,
        )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(_title(found, "Confusion"), fontsize=9)
    return figure


def reliability(found: Judged) -> Figure:
    """Observed share of each class against its mean predicted probability, in bins."""
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for k in range(min(found.positive.shape[1], MOST_CURVES)):
        flags = found.positive[:, k]
        known = is_present(flags) | is_absent(flags)
        if not known.any():
            continue
        values, came_true = found.probabilities[known, k], is_present(flags[known])
        bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        there = count > 0
        mean = np.bincount(bins, weights=values, minlength=BINS)[there] / count[there]
        share = np.bincount(bins, weights=came_true, minlength=BINS)[there] / count[there]
        colour = PALETTE[k]
        axes.plot(mean, share, color=colour, linewidth=1, label=found.names[k])
        axes.scatter(mean, share, s=8 + 120 * count[there] / len(values), color=colour, alpha=0.6)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(_title(found, f"Reliability ({_how(found.config)})"), fontsize=9)
    axes.legend(fontsize=8, loc="upper left", frameon=False)
    return figure


def _how(config: ModelConfig) -> str:
    """How the probabilities are calibrated."""
    if config.calibration == "temperature":
        return f"temperature {config.temperature:.2f}"
    return CALIBRATIONS[config.calibration]


def learning_curves(losses: Mapping[str, Sequence[float]], aucs: Sequence[float]) -> Figure:
    """Losses of both splits, and validation AUC, over epochs."""
    figure = Figure(figsize=(6.6, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for (name, values), colour in zip(losses.items(), PALETTE, strict=False):
        left.plot(range(1, len(values) + 1), values, color=colour, marker=".", label=name)
    left.set_ylabel("loss")
    left.legend(fontsize=8, frameon=False)
    right.plot(range(1, len(aucs) + 1), aucs, color=GREEN, marker=".")
    right.set_ylabel("validation AUC")
    return figure
