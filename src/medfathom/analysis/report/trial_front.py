"""AUC against cost of a study's own trials, and the front: those that none beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from medfathom.analysis.report.drawing import INK, LINE, SMALL, SOFT, Drawing, sheet
from medfathom.analysis.told import CostOfTrial, ToldOfStudy
from medfathom.colours import BLUE

LOGARITHMIC_FROM = 5.0
"""From such a ratio of the highest cost to the lowest on, the axis is logarithmic."""
MOST_NUMBERS = 12
"""More trials on a front are not numbered."""


def trial_front(told: ToldOfStudy) -> Drawing | None:
    """Every finished trial; those on the front joined, with intervals. None: AUC was the only objective."""
    if not told.costs:
        return None
    page, (axes,) = sheet(2.2)
    front = sorted((t for t in told.costs if t.on_front), key=lambda t: t.cost)
    others = [t for t in told.costs if not t.on_front]
    axes.step([t.cost for t in front], [t.auc for t in front], where="post", color=BLUE, linewidth=1.2)
    for trial in front:
        if trial.auc_ci_low is not None and trial.auc_ci_high is not None:
            axes.plot([trial.cost] * 2, [trial.auc_ci_low, trial.auc_ci_high], color=BLUE, alpha=0.4)
    for trials, colour in ((others, LINE), (front, BLUE)):
        for trial in trials:
            (mark,) = axes.plot(trial.cost, trial.auc, "o", color=colour, markersize=6, markeredgecolor=SOFT)
            page.tell(mark, f"trial {trial.number}: AUC {trial.auc:.4f}, {trial.cost:,.4g} {told.cost}")
    for trial in front if len(front) <= MOST_NUMBERS else ():
        place = (trial.cost, trial.auc)
        axes.annotate(str(trial.number), place, (4, 4), textcoords="offset points", fontsize=SMALL, color=INK)
    costs = np.array([t.cost for t in told.costs])
    if costs.min() > 0 and costs.max() > LOGARITHMIC_FROM * costs.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.set(xlabel=told.cost, ylabel="validation AUC")
    axes.margins(x=0.1, y=0.12)
    return page.drawing(_data(told.costs), _caption(told, front), f"{_caption(told, front)} {told.front}")


def _data(trials: Sequence[CostOfTrial]) -> pd.DataFrame:
    return pd.DataFrame([asdict(trial) for trial in trials]).sort_values(["cost", "auc"])


def _caption(told: ToldOfStudy, front: Sequence[CostOfTrial]) -> str:
    return (
        f"{told.study}: validation AUC of {len(told.costs)} finished trials against {told.cost}. On the "
        f"line: the {len(front)} trials of the front, with 95 % intervals and numbers."
    )


def _short(value: float) -> str:
    """A number of any size for an axis.

    >>> _short(4_300_000), _short(0.25)
    ('4.3 M', '0.25')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
