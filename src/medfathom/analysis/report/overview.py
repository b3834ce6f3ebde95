"""The first picture of a report: every effect over the range of its networks, beside the margin."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.report.drawing import (
    PAPER,
    SMALL,
    SOFT,
    VERDICT_COLOURS,
    Drawing,
    Sheet,
    between,
    limits,
    room_for,
    sheet,
    signed,
    whisker,
)
from medfathom.analysis.size.association import Association, NoSlope
from medfathom.colours import GREEN
from medfathom.text import short

MOST_LETTERS = 26
"""Of a line's name."""


def answers(analysis: Analysis) -> list[tuple[str, Association]]:
    """(modality, answer) of everything with a slope, in the order of the report."""
    found: list[tuple[str, Association | NoSlope]] = [
        (name, answer)
        for name, modality in analysis.modalities.items()
        for answer in {**modality.predictors, modality.imagenet.predictor.name: modality.imagenet}.values()
    ]
    return [(name, answer) for name, answer in found if isinstance(answer, Association)]


def overview(analysis: Analysis) -> Drawing | None:
    """A line for each modality and predictor; None where nothing has a slope."""
    listed = answers(analysis)
    if not listed:
        return None
    lines: list[Association | str] = []
    for name in dict.fromkeys(name for name, _ in listed):
        lines += [name, *(answer for own, answer in listed if own == name)]
    names = [line if isinstance(line, str) else line.predictor.noun for line in lines]
    page, (axes,) = sheet(
        0.2 + 0.24 * len(lines),
        left=room_for([short(n, MOST_LETTERS) for n in names]),
        right=room_for(VERDICT_COLOURS, SMALL),
    )
    margin = analysis.margin
    axes.set_xlim(limits((end for _, a in listed for end in (a.effect, *a.effect_ci95)), -margin, margin))
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvspan(-margin, margin, color=GREEN, alpha=0.18, linewidth=0)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    for place, line in enumerate(lines):
        if isinstance(line, Association):
            _line(page, axes, place, line)
    axes.set_yticks(range(len(lines)), [short(n, MOST_LETTERS) for n in names])
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("AUC at the largest value minus AUC at the smallest")
    text = (
        "Each diamond: the difference in AUC between the largest and the smallest value that networks have "
        "(of parameters, depth, accuracy, …), on the fitted line, with its 95 % interval. Green band: "
        f"differences below {margin:g}, too small to matter."
    )
    if any(_has_no_interval(answer) for _, answer in listed):
        text += " Hollow diamond: there are too few networks for an interval; it is from −∞ to ∞."
    said = "; ".join(f"{name}, {_words(answer)}" for name, answer in listed)
    return page.drawing(overview_table(analysis), text, f"Effects over the range of the networks. {said}.")


def _line(page: Sheet, axes: Axes, place: float, answer: Association) -> None:
    colour = VERDICT_COLOURS[answer.verdict]
    whisker(axes, place, answer.effect_ci95, color=colour, linewidth=2.4)
    # Filled, and without a line beside it, it would look exact.
    inside = PAPER if _has_no_interval(answer) else colour
    (mark,) = axes.plot(answer.effect, place, "D", color=colour, markerfacecolor=inside, markersize=6.5)
    page.tell(mark, f"{answer.compared.name}, {_words(answer)}")
    axes.annotate(
        answer.verdict,
        (1, place),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        color=colour,
    )


def _has_no_interval(answer: Association) -> bool:
    return answer.effect_ci95 == (None, None)


def _words(answer: Association) -> str:
    interval = between(answer.effect_ci95)
    text = f"{answer.predictor.noun}: {answer.verdict}, {signed(answer.effect)} AUC over the range"
    return f"{text} (95 % interval {interval})" if interval else text


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
