"""The pictures of an analysis, drawn with matplotlib without a screen and kept as SVG text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from itertools import chain, count

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medfathom.analysis.modality import Modality
from medfathom.analysis.pipeline import Analysis, ModalityFindings
from medfathom.analysis.predictors import Predictor
from medfathom.analysis.questions.ranking import Ranking
from medfathom.analysis.report.overview import overview
from medfathom.analysis.size.association import Association, NoSlope
from medfathom.analysis.size.estimate import Interval
from medfathom.colours import BLUE, GREEN, PALETTE, VERMILION

MARKERS = "osD^vP"
"""One after the other, each with all colours of the palette."""
MOST_NAMES = 40
"""Points beyond which names would hide one another."""


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Attributes:
        svg: the picture's text.
        caption: what is to be seen, and of which modality.
        modality: whose it is; None for those over all.
    """

    svg: str
    caption: str
    modality: str | None = None


def draw_all(analysis: Analysis) -> dict[str, Drawing]:
    """File name -> figure, in the order in which they are shown."""
    found: dict[str, Drawing] = {}
    compared = {
        name: findings
        for name, findings in analysis.modalities.items()
        if isinstance(findings, ModalityFindings)
    }
    whole = overview(analysis)
    if whole is not None:
        text = "AUC of the largest less that of the smallest network, 95 % intervals; band: the margin"
        found["overview.svg"] = Drawing(svg(whole), text)
    starts = slugs(compared)
    for name, findings in compared.items():
        rows = analysis.rows[analysis.rows["modality"] == name]
        for kind, (figure, text) in _of_modality(findings, rows).items():
            found[f"{starts[name]}_{kind}.svg"] = Drawing(svg(figure), f"{name}: {text}", name)
    scope = analysis.ranking_agreement.scopes["all"]
    if isinstance(scope, Ranking):
        text = "Mean ranks of architectures over data sets"
        found["ranking.svg"] = Drawing(svg(critical_difference(scope)), text)
    return found


def _of_modality(findings: ModalityFindings, rows: pd.DataFrame) -> dict[str, tuple[Figure, str]]:
    """Kind -> figure and what is to be seen."""
    drawn = {
        name: (
            scatter(
                findings.architectures if isinstance(answer, NoSlope) else answer.compared,
                answer.predictor,
                answer,
            ),
            f"AUC against {answer.predictor.axis}, one point per architecture. "
            "Line and band: the slope and what its 95 % interval allows.",
        )
        for name, answer in _shown(findings).items()
    }
    forest_text = "slopes by data set, 95 % intervals. Green: within the margin."
    drawn["forest"] = forest(findings.predictors), forest_text
    drawn["settings"] = settings_map(rows), "mean AUC by init and unfreeze depth."
    return drawn


def _shown(findings: ModalityFindings) -> dict[str, Association | NoSlope]:
    """The answers that have a picture: ImageNet accuracy only where it is known."""
    imagenet = findings.imagenet
    known = {} if isinstance(imagenet, NoSlope) else {imagenet.predictor.name: imagenet}
    return {**findings.predictors, **known}


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Name -> how the names of its files begin: no two alike, in a file system without upper case neither.

    >>> slugs(["OCT/A", "OCT A", "CXR"])
    {'OCT/A': 'OCT_A', 'OCT A': 'OCT_A-2', 'CXR': 'CXR'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        tried = chain([plain], (f"{plain}-{number}" for number in count(2)))
        found[name] = next(slug for slug in tried if slug.casefold() not in taken)
        taken.add(found[name].casefold())
    return found


def svg(figure: Figure) -> str:
    """A figure as SVG text; the same picture gives the same text."""
    buffer = StringIO()
    with rc_context({"svg.hashsalt": "medfathom"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def scatter(modality: Modality, predictor: Predictor, answer: Association | NoSlope) -> Figure:
    """Architecture effects against a predictor: coloured by family and named, with the slope and its band."""
    figure, axes = _axes(6.4, 4.4)
    raw = modality.table[predictor.column].to_numpy(float)
    values = modality.effects.values
    for code, family in enumerate(modality.family_names):
        own = modality.families == code
        marker = MARKERS[code // len(PALETTE) % len(MARKERS)]
        axes.scatter(
            raw[own], values[own], color=PALETTE[code % len(PALETTE)], marker=marker, label=family, zorder=3
        )
    if len(raw) <= MOST_NAMES:
        for name, place, value in zip(modality.effects.names, raw, values, strict=True):
            axes.annotate(
                name, (place, value), fontsize=6.5, xytext=(4, 3), textcoords="offset points", color="0.25"
            )
    if predictor.scale.times:
        axes.set_xscale("log")
    _line(axes, predictor, modality, answer)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{predictor.axis}{', log scale' if predictor.scale.times else ''}")
    axes.set_ylabel("AUC less the cell's mean")
    axes.margins(x=0.15, y=0.12)
    if len(modality.family_names) <= 24:
        axes.legend(
            fontsize=6.5,
            title="family",
            title_fontsize=7,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
        )
    return figure


def _line(axes: Axes, predictor: Predictor, modality: Modality, answer: Association | NoSlope) -> None:
    """The slope through the middle, and the lines that its 95 % interval allows."""
    if answer.slope is None or int(modality.effects.component.max()) > 0:
        return
    x = modality.values_of(predictor)
    ends = np.linspace(x.min(), x.max(), 60)
    raw, middle = predictor.scale.inverse(ends), float(modality.effects.values.mean())
    axes.plot(raw, middle + answer.slope * (ends - x.mean()), color="0.3", linewidth=1.2)
    low, high = answer.ci95
    if low is not None and high is not None:
        sides = [middle + s * (ends - x.mean()) for s in (low, high)]
        axes.fill_between(raw, np.minimum(*sides), np.maximum(*sides), color="0.5", alpha=0.15, linewidth=0)


def forest(predictors: Mapping[str, Association | NoSlope]) -> Figure:
    """Slopes by data set and over all, one panel for each predictor."""
    rows = max((len(answer.per_dataset) for answer in predictors.values()), default=0) + 1
    figure = Figure(figsize=(6.4, 1.3 + 0.32 * rows), layout="constrained")
    panels = figure.subplots(1, len(predictors), squeeze=False)[0]
    for axes, answer in zip(panels, predictors.values(), strict=True):
        _whisker(axes, 0, answer.slope, answer.ci95, True)
        own = {dataset: each.estimate for dataset, each in answer.per_dataset.items()}
        for place, estimate in enumerate(reversed(own.values()), start=1):
            _whisker(axes, place, estimate.slope, estimate.ci95, False)
        axes.set_yticks(range(len(own) + 1), ["all", *reversed(own)], fontsize=7)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.axvspan(-answer.margin, answer.margin, color=GREEN, alpha=0.12, linewidth=0)
        axes.set_xlabel(f"AUC per {answer.predictor.unit}", fontsize=7)
        axes.tick_params(axis="x", labelsize=6.5)
        axes.set_ylim(-0.6, len(own) + 0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _whisker(axes: Axes, place: int, slope: float | None, ci95: Interval, whole: bool) -> None:
    if slope is None:
        axes.annotate("no slope", (0, place), fontsize=6.5, va="center", color="0.4")
        return
    low, high = ci95
    colour = BLUE if not whole else "black"
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2 if whole else 1.2)
    axes.plot(slope, place, "D" if whole else "o", color=colour, markersize=5)


def settings_map(rows: pd.DataFrame) -> Figure:
    """Mean AUC by init and unfreeze depth."""
    wide = rows.pivot_table(
        index="init", columns="unfreeze_depth", values="auc", aggfunc="mean", observed=True
    )
    figure, axes = _axes(6.4, 1.1 + 0.32 * wide.shape[0])
    shown = axes.imshow(wide.to_numpy(float), cmap="viridis", aspect="auto")
    low, high = shown.get_clim()
    for i, j in np.argwhere(np.isfinite(wide.to_numpy(float))):
        value = float(wide.iloc[i, j])
        colour = "white" if high > low and (value - low) / (high - low) < 0.6 else "black"
        axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(wide.shape[1]), list(wide.columns), fontsize=7)
    axes.set_yticks(range(wide.shape[0]), list(wide.index), fontsize=7)
    axes.set_xlabel("unfreeze depth", fontsize=8)
    axes.set_ylabel("init", fontsize=8)
    return figure


def critical_difference(ranking: Ranking) -> Figure:
    """Demsar's diagram: mean ranks on a line, bars over those not told apart."""
    ranks = ranking.mean_ranks
    names = list(ranks)
    half = (len(names) + 1) // 2
    bars = ranking.groups_not_told_apart
    figure, axes = _axes(6.8, 1.2 + 0.2 * half + 0.14 * len(bars))
    top = 0.6 + 0.35 * len(bars)
    for place, name in enumerate(names):
        left = place < half
        height = -0.6 * (place + 1) if left else -0.6 * (len(names) - place)
        edge = 0.6 if left else len(names) + 0.4
        axes.plot([ranks[name], ranks[name], edge], [0, height, height], color="0.4", linewidth=0.8)
        axes.text(edge, height, f" {name} ", fontsize=7, va="center", ha="right" if left else "left")
    for level, group in enumerate(bars):
        ends = [ranks[group[0]] - 0.06, ranks[group[-1]] + 0.06]
        axes.plot(ends, [0.35 * (level + 1)] * 2, color="black", linewidth=3, solid_capstyle="butt")
    axes.plot([1, 1 + ranking.critical_difference], [top + 0.5] * 2, color=VERMILION, linewidth=1.5)
    axes.text(
        1, top + 0.7, f"critical difference {ranking.critical_difference:.2f}", fontsize=7, color=VERMILION
    )
    axes.axhline(0, color="black", linewidth=1)
    for rank in range(1, len(names) + 1):
        axes.text(rank, 0.08, str(rank), fontsize=6.5, ha="center", color="0.3")
    axes.set_xlim(-1.5, len(names) + 2.5)
    axes.set_ylim(-0.6 * (half + 0.6), top + 1.4)
    axes.axis("off")
    return figure
