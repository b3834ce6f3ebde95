"""AUC against the size of networks: with the fitted line, and as a trade (the Pareto front)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from medfathom.analysis.effects import Floats
from medfathom.analysis.modality import Modality
from medfathom.analysis.predictors import Predictor
from medfathom.analysis.report.drawing import (
    INK,
    LETTER,
    LINE,
    PAPER,
    SMALL,
    SOFT,
    Drawing,
    Sheet,
    sheet,
)
from medfathom.analysis.report.levels import levels_of, on_the_front
from medfathom.analysis.size.association import Association
from medfathom.colours import BLUE, PALETTE
from medfathom.text import short

MARKERS = "osD^vP"
"""One after the other, each with all colours of the palette."""
MOST_NAMES = 60
"""Points beyond which names would only hide one another."""
MOST_FAMILIES = 24
"""Families beyond which a legend names none; the pointer does."""


def against(answer: Association) -> Drawing:
    """AUC against a predictor: one point per architecture, named, coloured by family, with line and band."""
    modality, predictor = answer.compared, answer.predictor
    table = levels_of(modality)
    legend = len(modality.family_names) <= min(MOST_FAMILIES, len(table) - 1)
    lines = -(-len(modality.family_names) // 3) if legend else 0
    page, (axes,) = sheet(2.9, bottom=0.5 + 0.19 * lines)
    x = table[predictor.column].to_numpy(float)
    drawn = _line(axes, answer, modality, table)
    _points(page, axes, answer, table)
    _x_axis(axes, predictor, x)
    whole = int(modality.effects.component.max()) == 0
    axes.set_ylabel("AUC" if whole else "AUC (comparable within groups)")
    axes.margins(x=0.12, y=0.14)
    if legend:
        page.figure.legend(
            loc="lower center", ncols=3, fontsize=SMALL, frameon=False, handletextpad=0.1, columnspacing=0.8
        )
    unnamed = _names(page, axes, x, table["auc"].to_numpy(float), list(table["architecture"]))
    text = (
        f"{modality.name}: AUC against {predictor.axis}, one point per architecture (mean over the "
        f"same cells for all).{drawn}"
    )
    if unnamed:
        text += f" There is no room for {unnamed} names: hold the pointer over a point, or see the CSV."
    columns = ["architecture", "family", predictor.column, "auc", "group"]
    return page.drawing(table[columns], text, f"{text} {_said(answer)}")


def _points(page: Sheet, axes: Axes, answer: Association, table: pd.DataFrame) -> None:
    """One mark per architecture; colour and shape are its family's."""
    modality, predictor = answer.compared, answer.predictor
    seen: set[int] = set()
    columns = [table[c].tolist() for c in ("architecture", predictor.column, "auc")]
    for code, name, x, auc in zip(modality.families.tolist(), *columns, strict=True):
        family = modality.family_names[code]
        (mark,) = axes.plot(
            x,
            auc,
            color=PALETTE[code % len(PALETTE)],
            marker=MARKERS[code // len(PALETTE) % len(MARKERS)],
            linestyle="",
            markersize=6,
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
            label=None if code in seen else short(family, 18),
        )
        seen.add(code)
        page.tell(mark, f"{name} ({family}): AUC {auc:.4f}, {predictor.quantity} {predictor.shown(x)}")


def _said(answer: Association) -> str:
    first, last = (answer.predictor.shown(value) for value in answer.range)
    return f"From {first} to {last} the line changes by {answer.effect:+.4f} AUC ({answer.verdict})."


def _line(axes: Axes, answer: Association, modality: Modality, table: pd.DataFrame) -> str:
    """The slope through the middle, and the lines that its 95 % interval allows; what was drawn, in words."""
    if int(modality.effects.component.max()) > 0:
        return ""
    x = modality.values_of(answer.predictor)
    ends: Floats = np.linspace(x.min(), x.max(), 40)
    raw, middle = answer.predictor.scale.inverse(ends), float(table["auc"].mean())
    axes.plot(raw, middle + answer.slope * (ends - x.mean()), color=SOFT, linewidth=1.4)
    low, high = answer.ci95
    if low is not None and high is not None:
        sides = [middle + slope * (ends - x.mean()) for slope in (low, high)]
        band = np.clip([np.minimum(*sides), np.maximum(*sides)], 0, 1)  # an AUC has no other values
        axes.fill_between(raw, *band, color=SOFT, alpha=0.16, linewidth=0)
        return " Line: the fitted slope; band: its 95 % interval."
    return " Line: the fitted slope. No band: its 95 % interval is open."


def _x_axis(axes: Axes, predictor: Predictor, x: Floats) -> None:
    """Its name, and values as people write them; those of a logarithmic axis are 1, 2 or 5 times a power."""
    if predictor.scale.times:
        axes.set_xscale("log")
        few = np.nanmax(x) < 30 * np.nanmin(x)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: predictor.shown(value)))
    axes.set_xlabel(f"{predictor.axis}{', log scale' if predictor.scale.times else ''}")


def _names(page: Sheet, axes: Axes, x: Floats, y: Floats, names: list[str], *, above: bool = False) -> int:
    """Write each name beside (or above) its point where it hides nothing; the number of those "
    "without room."""
    if len(names) > MOST_NAMES:
        return len(names)
    axes.autoscale_view()
    places = axes.transData.transform(np.column_stack([x, y])) * 72 / page.figure.dpi
    wide, high = 72 * page.figure.get_size_inches()
    box = axes.get_position()
    frame = (box.x0 * wide, box.y0 * high, box.x1 * wide, box.y1 * high)
    taken = [(px - 4, py - 4, px + 4, py + 4) for px, py in places]
    missing = 0
    for (px, py), value, height, name in zip(places, x, y, names, strict=True):
        text = short(name, 24)
        width = LETTER * len(text) * (SMALL - 1)
        spot = next((s for s in _spots(px, py, width, above) if _free(s, taken, frame)), None)
        if spot is None:
            missing += 1
            continue
        taken.append(spot)
        axes.annotate(
            text,
            (value, height),
            (spot[0] - px, spot[1] - py + 2),
            textcoords="offset points",
            fontsize=SMALL - 1,
            color=INK,
        )
    return missing


Box = tuple[float, float, float, float]


def _spots(px: float, py: float, width: float, above: bool) -> list[Box]:
    """Boxes for a name around a point, the best first; in points."""
    height = SMALL + 1.5
    lefts = {"right": px + 5, "left": px - 5 - width, "middle": px - width / 2}
    bottoms = {"level": py - height / 2, "above": py + 4.5, "below": py - 4.5 - height}
    order = [
        ("right", "level"), ("left", "level"), ("middle", "above"), ("middle", "below"),
        ("right", "above"), ("right", "below"), ("left", "above"), ("left", "below"),
    ]  # fmt: skip
    if above:
        order = [*order[2:], *order[:2]]
    return [(lefts[a], bottoms[b], lefts[a] + width, bottoms[b] + height) for a, b in order]


def _free(box: Box, taken: list[Box], frame: Box) -> bool:
    inside = box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] + 6 and box[3] < frame[3] + 4
    return inside and all(
        box[2] <= other[0] or box[0] >= other[2] or box[3] <= other[1] or box[1] >= other[3]
        for other in taken
    )


def pareto(modality: Modality, costs: list[Predictor]) -> Drawing | None:
    """AUC against cost, and the networks that none beats in both; None where no cost is known for all."""
    table = levels_of(modality)
    known = [cost for cost in costs if cost.column in table and table[cost.column].gt(0).all()]
    if not known or len(table) < 3 or int(modality.effects.component.max()) > 0:
        return None
    page, panels = sheet(2.2, rows=len(known))
    for axes, cost in zip(panels, known, strict=True):
        table[f"on_front_{cost.column}"] = _front(page, axes, table, cost)
    text = (
        f"{modality.name}: AUC against cost. The line joins networks that no cheaper network beats. Small "
        "steps may be noise."
    )
    fronts = "; ".join(
        f"{cost.quantity}: {', '.join(table.loc[table[f'on_front_{cost.column}'], 'architecture'])}"
        for cost in known
    )
    columns = [
        "architecture",
        "family",
        *(c.column for c in known),
        "auc",
        *(f"on_front_{c.column}" for c in known),
    ]
    return page.drawing(table[columns], text, f"{text} {fronts}.")


def _front(page: Sheet, axes: Axes, table: pd.DataFrame, cost: Predictor) -> pd.Series[bool]:
    x, auc = table[cost.column], table["auc"]
    front = on_the_front(x, auc)
    steps = table[front].sort_values(cost.column)
    axes.step(steps[cost.column], steps["auc"], where="post", color=BLUE, linewidth=1.2)
    for name, size, value, best in zip(table["architecture"], x, auc, front, strict=True):
        colour = BLUE if best else LINE
        (mark,) = axes.plot(
            size, value, "o", markersize=6, color=colour, markeredgecolor=SOFT, markeredgewidth=0.5
        )
        page.tell(mark, f"{name}: AUC {value:.4f}, {cost.shown(size)} {cost.quantity}")
    _x_axis(axes, cost, x.to_numpy(float))
    axes.set_ylabel("AUC")
    axes.margins(x=0.14, y=0.16)
    ordered = pd.concat([steps, table[~front]])
    _names(
        page,
        axes,
        ordered[cost.column].to_numpy(float),
        ordered["auc"].to_numpy(float),
        list(ordered["architecture"]),
        above=True,
    )
    return front
