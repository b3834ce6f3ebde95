"""Lines with intervals: the benefit of pretraining against training images, AUC against image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.questions.pretraining import MeanBenefit
from medfathom.analysis.questions.pretraining_verdict import OVER_ALL
from medfathom.analysis.questions.resolution import ResolutionStep
from medfathom.analysis.report.drawing import SMALL, SOFT, Drawing, Sheet, between, sheet, signed
from medfathom.colours import GREEN, PALETTE
from medfathom.text import short

MOST_LINES = 8
"""Lines of a figure; the CSV has all."""

APART = 0.012
"""How far lines are moved apart, so that their intervals do not hide one another: a share of the axis."""


@dataclass(frozen=True)
class Curve:
    """A line: its name, and (place on the x axis, mean) of its points, from left to right."""

    name: str
    points: Sequence[tuple[int, MeanBenefit]]


def benefit_by_images(analysis: Analysis) -> Drawing | None:
    """What pretraining brings against the number of training images; None where one size was run."""
    several = len({point.dataset for point in analysis.turning_points}) > 1
    curves = [
        Curve(
            f"{point.dataset + ', ' if several else ''}depth {point.unfreeze_depth}"
            + (f", {point.init} − {point.baseline}" if point.baseline != "random" else ""),
            [(at.n_train, at.mean) for at in point.at],
        )
        for point in analysis.turning_points
    ]
    text = (
        "AUC with pretrained weights minus AUC of the same networks without, by number of training images "
        f"and unfreeze depth, with 95 % intervals. Green: a difference below {analysis.margin:g}."
    )
    return _plot(curves, analysis.margin, "training images", "AUC gained by pretraining", text)


def auc_by_size(analysis: Analysis) -> Drawing | None:
    """AUC at each image size less that at the largest; None where one size was run."""
    by_scope: dict[str, list[ResolutionStep]] = {}
    for step in analysis.resolution:
        by_scope.setdefault(step.scope, []).append(step)
    curves = [
        Curve("all data sets" if scope == OVER_ALL else scope, [(s.image_size, s.mean) for s in steps])
        for scope, steps in by_scope.items()
    ]
    text = (
        "AUC at each image size minus AUC of the same networks at the largest size, with 95 % intervals. "
        f"Green: a difference below {analysis.margin:g}, which does not matter."
    )
    return _plot(curves, analysis.margin, "image size (px)", "AUC minus that at the largest", text)


def _plot(curves: Sequence[Curve], margin: float, x_axis: str, y_axis: str, text: str) -> Drawing | None:
    if not curves:
        return None
    shown = curves[:MOST_LINES]
    lines = -(-len(shown) // 2)
    page, (axes,) = sheet(2.6, bottom=0.5 + 0.19 * lines, left=0.75)
    axes.set_xscale("log")
    axes.axhspan(-margin, margin, color=GREEN, alpha=0.18, linewidth=0)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    places = sorted({place for curve in shown for place, _ in curve.points})
    width = np.log10(places[-1] / places[0]) or 1.0
    for number, curve in enumerate(shown):
        move = 10 ** (APART * width * (number - (len(shown) - 1) / 2))
        _draw(page, axes, curve, move, PALETTE[number % len(PALETTE)], x_axis)
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.margins(x=0.08, y=0.1)
    axes.set_xlabel(x_axis)
    axes.set_ylabel(y_axis)
    page.figure.legend(loc="lower center", ncols=2, fontsize=SMALL, frameon=False, columnspacing=0.8)
    data = pd.DataFrame(
        [(c.name, place, m.benefit, *m.ci95, m.verdict) for c in curves for place, m in c.points],
        columns=["line", x_axis, "auc_difference", "low95", "high95", "verdict"],
    )
    said = "; ".join(_words(c.name, place, mean, x_axis) for c in shown for place, mean in c.points)
    return page.drawing(data, text, f"{text} {said}.")


def _draw(page: Sheet, axes: Axes, curve: Curve, move: float, colour: str, x_axis: str) -> None:
    x = [place * move for place, _ in curve.points]
    axes.plot(
        x, [m.benefit for _, m in curve.points], color=colour, linewidth=1.4, label=short(curve.name, 30)
    )
    for place, (at, mean) in zip(x, curve.points, strict=True):
        low, high = mean.ci95
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=colour, linewidth=2, solid_capstyle="butt")
        (mark,) = axes.plot(place, mean.benefit, "o", color=colour, markersize=5.5)
        page.tell(mark, _words(curve.name, at, mean, x_axis))


def _words(name: str, place: int, mean: MeanBenefit, x_axis: str) -> str:
    ends = between(mean.ci95)
    interval = f" ({ends})" if ends else ""
    return f"{name}, {x_axis} {place:,}: {signed(mean.benefit, 4)}{interval}, {mean.verdict}"
