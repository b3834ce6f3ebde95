"""The first picture of a report: every effect over the range of its networks, beside the margin."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.size.association import Association, NoSlope
from medfathom.colours import BLUE, GREEN, VERMILION

COLOURS = {"increases": BLUE, "decreases": VERMILION, "negligible": GREEN, "inconclusive": "0.45"}


def answers(analysis: Analysis) -> list[tuple[str, Association]]:
    """(modality, answer) of everything with a slope, in the order of the report."""
    found: list[tuple[str, Association | NoSlope]] = [
        (name, answer)
        for name, modality in analysis.modalities.items()
        for answer in [*modality.predictors.values(), modality.imagenet]
    ]
    return [(name, answer) for name, answer in found if isinstance(answer, Association)]


def overview(analysis: Analysis) -> Figure | None:
    """A line for each modality and predictor; None where nothing has a slope."""
    listed = answers(analysis)
    if not listed:
        return None
    figure = Figure(figsize=(6.4, 1.1 + 0.24 * len(listed)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-analysis.margin, analysis.margin, color=GREEN, alpha=0.15, linewidth=0)
    axes.axvline(0, color="0.5", linewidth=0.8)
    for place, (_, answer) in enumerate(reversed(listed)):
        low, high = answer.effect_ci95
        colour = COLOURS[answer.verdict]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2)
        axes.plot(answer.effect, place, "D", color=colour, markersize=6)
    names = [f"{name}: {answer.predictor.quantity}" for name, answer in reversed(listed)]
    axes.set_yticks(range(len(listed)), names, fontsize=8)
    axes.set_ylim(-0.7, len(listed) - 0.3)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("AUC: largest less smallest network; band: does not matter", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def overview_table(analysis: Analysis) -> pd.DataFrame:
    """What the picture shows, one row a line of it."""
    columns = [
        "modality",
        "predictor",
        "verdict",
        "effect",
        "low95",
        "high95",
        "p_holm",
        "p_equivalence_holm",
    ]
    rows = [
        (name, a.predictor.name, a.verdict, a.effect, *a.effect_ci95, a.p_holm, a.p_equivalence_holm)
        for name, a in answers(analysis)
    ]
    return pd.DataFrame(rows, columns=columns)
