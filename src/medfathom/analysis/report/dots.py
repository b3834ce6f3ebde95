"""What pretraining brings, and how far to unfreeze: dots with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from medfathom.analysis.effects import family_codes
from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.questions.pretraining import Benefit, over_architectures
from medfathom.analysis.questions.pretraining_verdict import OVER_ALL
from medfathom.analysis.questions.unfreezing import UnfreezeDepths
from medfathom.analysis.report.drawing import (
    LINE,
    SMALL,
    SOFT,
    Drawing,
    Sheet,
    between,
    limits,
    room_for,
    sheet,
    signed,
    whisker,
)
from medfathom.analysis.size.estimate import NO_INTERVAL, Interval
from medfathom.analysis.size.inference import Settings
from medfathom.colours import BLUE
from medfathom.text import number_of, short

MOST_LINES = 40
"""Lines of a figure; where there are more, the others are in its CSV."""
MOST_TOLD = 400
"""Small dots that each say what they are; where there are more, each line's are one mark."""
MOST_LETTERS = 30
"""Of a line's name."""
FEWEST_COMPARED = 3
"""Architectures at every depth from which on depths are compared."""


@dataclass(frozen=True)
class Dot:
    """A line of a dot plot.

    Attributes:
        group: the heading that it stands below.
        name: at its left.
        value: in AUC.
        ci95: its 95 % interval.
        n: how many architectures, pairs of networks or data sets (`of`) it is over.
        others: small dots on the same line: what each is called, and its value.
        whole: it is over several data sets.
        kept: it is among those that may be the best.
    """

    group: str
    name: str
    value: float
    ci95: Interval
    n: int
    others: Sequence[tuple[str, float]] = field(default_factory=list)
    whole: bool = False
    kept: bool = True
    of: str = "architecture"


def pretraining(analysis: Analysis) -> Drawing | None:
    """AUC with pretrained weights minus AUC without; None where nothing is paired."""
    dots = [*_over_datasets(analysis), *_by_dataset(analysis.pretraining_benefit)]
    if not dots:
        return None
    text = (
        "AUC with pretrained weights minus AUC of the same networks without. Blue: mean over "
        "architectures with its 95 % interval (diamond: over data sets, too); small dots: single "
        "architectures."
    )
    return _plot(dots, "AUC gained by pretraining", text)


def attention(analysis: Analysis) -> Drawing | None:
    """AUC with an attention module less AUC of the same networks without; None where there are no pairs."""
    dots = [
        Dot(
            "all data sets" if each.scope == OVER_ALL else each.scope,
            each.attention,
            each.mean.benefit,
            each.mean.ci95,
            len(each.pairs),
            of="pair of networks",
        )
        for each in analysis.attention
    ]
    if not dots:
        return None
    text = (
        "AUC of convolutional networks with an attention module minus AUC of the same networks without, at "
        "nearly equal size, with 95 % intervals over networks (of one network: over its seeds)."
    )
    return _plot(dots, "AUC gained by attention", text)


def one_model(analysis: Analysis) -> Drawing | None:
    """Test AUC of one model for several data sets less that of the best for each; None: there is none."""
    dots = []
    for found in analysis.one_model:
        group = f"one model for {', '.join(found.datasets)}"
        dots += [_price(group, f"{p.modality}: {p.dataset}", p.price, p.ci95, 1) for p in found.prices]
        dots += [_price(group, "mean", m.price, m.ci95, m.n_datasets) for m in found.modalities[-1:]]
    if not dots:
        return None
    text = (
        "Test AUC of one model for several data sets minus that of the best model for each alone, with 95 % "
        "intervals. Below 0, the one model is worse."
    )
    return _plot(dots, "AUC of the one model minus the best for each", text)


def _price(group: str, name: str, price: float, ci95: Interval, n: int) -> Dot:
    low, high = ci95
    return Dot(
        group,
        name,
        -price,
        (None if high is None else -high, None if low is None else -low),
        n,
        of="data set",
    )


def _over_datasets(analysis: Analysis) -> list[Dot]:
    return [
        Dot(
            f"all {each.n_datasets} data sets",
            _start(each.init, each.baseline, each.unfreeze_depth),
            each.benefit,
            each.ci95,
            each.n_architectures,
            whole=True,
        )
        for each in analysis.pretraining_over_datasets
    ]


def _by_dataset(benefits: Sequence[Benefit]) -> list[Dot]:
    singles: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for b in benefits:
        if b.architecture is not None:
            singles.setdefault((b.dataset, b.init, b.baseline, b.unfreeze_depth), []).append(
                (b.architecture, b.mean.benefit)
            )
    return [
        Dot(
            b.dataset,
            _start(b.init, b.baseline, b.unfreeze_depth),
            b.mean.benefit,
            b.mean.ci95,
            b.mean.n,
            singles.get((b.dataset, b.init, b.baseline, b.unfreeze_depth), []),
        )
        for b in benefits
        if b.architecture is None
    ]


def _start(init: str, baseline: str, depth: str) -> str:
    what = init if baseline == "random" else f"{init} − {baseline}"
    return f"{what}, {_depth(depth)}"


def _depth(depth: str) -> str:
    return f"depth {depth}" if depth.isdigit() else depth


def strategies(analysis: Analysis) -> Drawing | None:
    """AUC with each transfer strategy less AUC with `fixed`; None where none is compared."""
    dots = []
    for each in analysis.strategies:
        if each.architecture is None:
            cell = (each.dataset, each.init, each.unfreeze_depth, each.strategy)
            others = [
                (one.architecture, one.mean.benefit)
                for one in analysis.strategies
                if one.architecture is not None
                and (one.dataset, one.init, one.unfreeze_depth, one.strategy) == cell
            ]
            group = f"{each.dataset}, {each.init}, {_depth(each.unfreeze_depth)}"
            dots.append(Dot(group, each.strategy, each.mean.benefit, each.mean.ci95, each.mean.n, others))
    if not dots:
        return None
    text = (
        "AUC with a transfer strategy minus AUC of the same networks with `fixed`. Blue: mean over "
        "architectures with its 95 % interval; small dots: single architectures."
    )
    return _plot(dots, "AUC gained over fixed", text)


def unfreezing(analysis: Analysis) -> Drawing | None:
    """Each unfreeze depth less the best of its data set; None where depths are not compared."""
    coarse = Settings(analysis.permutations, 1_200, analysis.seed)
    dots = [dot for found in analysis.unfreeze_depth for dot in _depths(found, analysis.rows, coarse)]
    if not dots:
        return None
    text = (
        "Mean AUC of each unfreeze depth minus that of the best one, over the architectures run at every "
        "depth, with 95 % intervals. Blue: may be the best; grey: significantly worse."
    )
    return _plot(dots, "AUC below the best depth", text)


def _depths(found: UnfreezeDepths, rows: pd.DataFrame, settings: Settings) -> list[Dot]:
    """The depths of one data set and init; the interval is over architectures, families random."""
    if found.mean_auc is None or found.best is None or found.n_architectures < FEWEST_COMPARED:
        return []
    own = rows[(rows["dataset"] == found.dataset) & (rows["init"] == found.init)]
    wide = own.pivot_table(
        index=["architecture", "setting"], columns="unfreeze_depth", values="auc", observed=True
    )
    complete = wide.dropna().groupby(level="architecture").mean()
    codes = family_codes(own, list(complete.index))
    dots = []
    for depth in found.mean_auc:
        lost = (complete[depth] - complete[found.best]).to_numpy(float)
        best = depth == found.best
        mean = over_architectures(lost, codes, settings)
        interval = NO_INTERVAL if best else mean.ci95
        name = f"{_depth(depth)}{' (best)' if best else ''}"
        others = [] if best else list(zip(map(str, complete.index), lost.tolist(), strict=True))
        dots.append(
            Dot(
                f"{found.dataset}, {found.init}",
                name,
                mean.benefit,
                interval,
                len(lost),
                others,
                kept=depth in found.not_worse,
            )
        )
    return dots


def _plot(dots: Sequence[Dot], axis: str, text: str) -> Drawing:
    shown = dots[:MOST_LINES]
    lines: list[Dot | str] = []
    for group in dict.fromkeys(dot.group for dot in shown):
        lines += [group, *(dot for dot in shown if dot.group == group)]
    names = [short(line if isinstance(line, str) else line.name, MOST_LETTERS) for line in lines]
    page, (axes,) = sheet(0.2 + 0.22 * len(lines), left=room_for(names, SMALL + 0.5))
    ends = [v for d in shown for v in (d.value, *d.ci95, *(value for _, value in d.others))]
    axes.set_xlim(limits(ends, 0.0))
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    told = sum(len(dot.others) for dot in shown) <= MOST_TOLD
    for place, line in enumerate(lines):
        if isinstance(line, Dot):
            _line(page, axes, place, line, told=told)
    axes.set_yticks(range(len(lines)), names)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(axis)
    if len(dots) > MOST_LINES:
        text += f" Shown are the first {MOST_LINES} of {len(dots)} lines; all are in the CSV."
    data = pd.DataFrame(
        [(d.group, d.name, d.value, *d.ci95, d.n, d.of) for d in dots],
        columns=["group", "line", "auc_difference", "low95", "high95", "n", "n_of"],
    )
    return page.drawing(data, text, f"{text} {'; '.join(map(_words, shown))}.")


def _line(page: Sheet, axes: Axes, place: float, dot: Dot, *, told: bool) -> None:
    style: dict[str, Any] = {
        "markersize": 3.5,
        "color": LINE,
        "markeredgecolor": SOFT,
        "markeredgewidth": 0.4,
    }
    if not told:
        values = [value for _, value in dot.others]
        axes.plot(values, [place] * len(values), "o", **style)
    for name, value in dot.others if told else ():
        (mark,) = axes.plot(value, place, "o", **style)
        page.tell(mark, f"{name}, {dot.group}, {dot.name}: {signed(value, 4)}")
    colour = BLUE if dot.kept else SOFT
    whisker(axes, place, dot.ci95, color=colour, linewidth=2)
    (mark,) = axes.plot(dot.value, place, "D" if dot.whole else "o", markersize=6, color=colour)
    page.tell(mark, _words(dot))


def _words(dot: Dot) -> str:
    ends = between(dot.ci95)
    interval = f" ({ends})" if ends else ""
    return f"{dot.group}, {dot.name}: {signed(dot.value, 4)}{interval}, {number_of(dot.n, dot.of)}"
