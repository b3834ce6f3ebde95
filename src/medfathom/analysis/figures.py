"""The pictures of an analysis, drawn with matplotlib without a screen."""

from __future__ import annotations

from io import StringIO

import numpy as np
from matplotlib.figure import Figure

from medfathom.analysis.association import PREDICTORS, Modality

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31", "#5254A3")
"""Okabe and Ito's colours, told apart by colour-blind readers, and two more."""

AXIS = {"log10_params": "parameters (log scale)", "log2_depth": "depth, weighted layers (log scale)"}


def svg(figure: Figure) -> str:
    """A figure as SVG text; the same picture gives the same text."""
    from matplotlib import rc_context  # noqa: PLC0415

    buffer = StringIO()
    with rc_context({"svg.hashsalt": "medfathom", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()


def scatter(modality: Modality, predictor: str) -> Figure:
    """Architecture effects against a predictor, families coloured, names on points."""
    x = (
        10 ** modality.predictor(predictor)
        if predictor == "log10_params"
        else 2 ** modality.predictor(predictor)
    )
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for code, family in enumerate(modality.family_names):
        own = modality.families == code
        axes.scatter(
            x[own], modality.effects.values[own], color=PALETTE[code % len(PALETTE)], label=family, zorder=3
        )
    for name, place, value in zip(modality.effects.names, x, modality.effects.values, strict=True):
        axes.annotate(name, (place, value), fontsize=7, xytext=(4, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set_xlabel(AXIS[predictor])
    axes.set_ylabel("AUC against the cells' mean")
    axes.set_title(modality.name)
    if np.ptp(x) > 0:
        axes.margins(0.12)
    axes.legend(fontsize=7, title="family", title_fontsize=7)
    return figure


__all__ = ["PREDICTORS", "scatter", "svg"]
