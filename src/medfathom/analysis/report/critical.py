"""Demsar's critical-difference diagram, upright: mean ranks, and bars over those that are not told apart."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from medfathom.analysis.questions.ranking import Ranking
from medfathom.analysis.report.drawing import INK, LINE, SMALL, Drawing, room_for, sheet
from medfathom.colours import BLUE, VERMILION
from medfathom.text import short


def critical_difference(ranking: Ranking, name: str = "") -> Drawing:
    """One line per architecture, the best on top; Demsar 2006 draws the same lying down."""
    ranks, bars = ranking.mean_ranks, ranking.groups_not_told_apart
    n = len(ranks)
    page, (axes,) = sheet(0.5 + 0.21 * n, left=room_for([short(a, 28) for a in ranks], SMALL))
    for place, (architecture, rank) in enumerate(ranks.items()):
        axes.plot([1, rank], [place, place], color=LINE, linewidth=1)
        (mark,) = axes.plot(rank, place, "o", color=BLUE, markersize=6)
        page.tell(mark, f"{architecture}: mean rank {rank:.2f} over {ranking.n_datasets} data sets")
    reach = _bars(axes, list(ranks), bars, float(n))
    top = -1.2
    axes.plot([1, 1 + ranking.critical_difference], [top, top], color=VERMILION, linewidth=2, clip_on=False)
    axes.text(
        1,
        top - 0.35,
        f"critical difference {ranking.critical_difference:.2f}",
        fontsize=SMALL,
        color=VERMILION,
    )
    axes.set_yticks(range(n), [short(a, 28) for a in ranks], fontsize=SMALL, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0.7, max(reach, 1 + ranking.critical_difference) + 0.3)
    axes.set_ylim(n - 0.4, top - 1.1)
    axes.set_xticks([1, *range(5, n + 1, 5)] if n > 8 else range(1, n + 1))
    axes.set_xlabel("mean rank (1 is best); bars: no significant difference")
    text = (
        f"{name + ': ' if name else ''}Mean rank over {ranking.n_datasets} data sets, 1 is best. Bars join "
        "architectures that do not differ significantly (Nemenyi, 5 %)."
    )
    data = pd.DataFrame({"architecture": list(ranks), "mean_rank": list(ranks.values())})
    for number, group in enumerate(bars, 1):
        data[f"bar_{number}"] = data["architecture"].isin(group)
    told = "; ".join(f"{architecture} {rank:.1f}" for architecture, rank in ranks.items())
    return page.drawing(data, text, f"{text} {told}.")


def _bars(axes: Axes, names: list[str], bars: list[list[str]], right: float) -> float:
    """Bars at the right of all ranks, side by side where they overlap; how far they reach."""
    places = {name: place for place, name in enumerate(names)}
    step, ends = max(0.25, 0.03 * right), list[int]()
    for group in bars:
        first, last = places[group[0]], places[group[-1]]
        lane = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        x = right + 0.4 + step * lane
        axes.plot([x, x], [first - 0.25, last + 0.25], color=INK, linewidth=3, solid_capstyle="butt")
    return right + 0.4 + step * max(len(ends) - 1, 0)
