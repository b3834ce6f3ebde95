"""Architectures by settings: the AUC of every network in every cell, the best of each cell marked."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import Rectangle

from medfathom.analysis.effects import CELL, Floats, cell_means
from medfathom.analysis.report.drawing import (
    LETTER,
    SMALL,
    SOFT,
    WIDTH,
    Drawing,
    Sheet,
    room_for,
    sheet,
)
from medfathom.colours import VERMILION
from medfathom.text import natural, short

MOST_COLUMNS = 36
"""Cells in a map; where there are more, those with the most networks are shown."""
MOST_NUMBERS = 700
"""AUCs in a map beyond which they are not written, but read by the pointer."""
WORST = 0.10
"""AUC below the best of a cell from which on the colour is the lightest."""
COLOURS = LinearSegmentedColormap.from_list("lost", ["#0b5a8f", "#5d9fc9", "#bcd7e8", "#f2f5f7"])


def settings_map(name: str, rows: pd.DataFrame) -> Drawing | None:
    """A row for each architecture, a column for each cell; None where there is one row or nothing to compare.

    Nothing is averaged but repeats (seeds) of one network in one cell. Colour: AUC below the best of the
    column, since cells differ in how easy they are.

    Args:
        name: of the modality.
        rows: its results.
    """
    table = cells_by_architecture(rows)
    shown = _shown(table)
    if shown.shape[0] < 2 or shown.shape[1] < 1:
        return None
    n, k = shown.shape
    names, titles = [short(str(a), 26) for a in shown.index], [short(title) for title in _titles(shown)]
    groups = _groups(shown)
    left, top = room_for(names, SMALL), 0.82 * room_for(titles, SMALL)
    page, (axes,) = sheet(
        0.24 * n,
        width=max(WIDTH, left + 0.44 * k + 0.6 * top),
        left=left,
        right=0.6 * top,
        top=top,
        bottom=0.3 if groups else 0.06,
    )
    _cells(page, axes, shown)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(k) + 0.4, titles, rotation=55, ha="left", rotation_mode="anchor")
    axes.set_yticks(np.arange(n) + 0.5, names)
    axes.set_xlim(0, k)
    axes.set_ylim(n, 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for dataset, (first, last) in groups.items():
        axes.plot([first + 0.1, last + 0.9], [n + 0.25] * 2, color=SOFT, linewidth=1, clip_on=False)
        room = int(0.44 * 72 * (last - first + 1) / (LETTER * SMALL))
        axes.text((first + last + 1) / 2, n + 0.9, short(dataset, max(room, 3)), ha="center", fontsize=SMALL)
    text = (
        f"{name}: AUC of each network in each setting. Only repeats of the same network are averaged. Darker "
        "is closer to the best of its column; the best is framed."
    )
    if k < table.shape[1]:
        text += f" Shown are the {k} of {table.shape[1]} settings with the most networks; all are in the CSV."
    best = "; ".join(f"{' '.join(filter(None, cell))}: {shown[cell].idxmax()}" for cell in _cells_of(shown))
    return page.drawing(_long(table), text, f"{text} Best: {best}.")


def cells_by_architecture(rows: pd.DataFrame) -> pd.DataFrame:
    """AUC, architectures (largest first) x cells (columns `CELL`)."""
    order = (
        rows.groupby("architecture", observed=True)["n_params"].median().sort_values(ascending=False).index
    )
    means = cell_means(rows)
    means[CELL] = means[CELL].astype(str)
    wide = means.pivot_table(index="architecture", columns=CELL, values="value", observed=True)
    cells = sorted(_cells_of(wide), key=lambda cell: [natural(part) for part in cell])
    return wide.reindex(order)[cells]


def _cells_of(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(table.columns.to_frame(index=False).astype(str).itertuples(index=False, name=None))


def _long(table: pd.DataFrame) -> pd.DataFrame:
    return pd.Series(table.stack(CELL, future_stack=True)).dropna().rename("auc").reset_index()


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    counted = table.notna().sum()
    kept = counted[counted >= 2].sort_values(ascending=False, kind="stable").index[:MOST_COLUMNS]
    return table.loc[:, [column in set(kept) for column in table]].dropna(how="all")


def _groups(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Data set -> its first and last column; empty where each has one column."""
    datasets = [str(name) for name in table.columns.get_level_values("dataset")]
    if len(set(datasets)) == len(datasets):
        return {}
    return {
        name: (datasets.index(name), len(datasets) - 1 - datasets[::-1].index(name))
        for name in dict.fromkeys(datasets)
    }


def _titles(table: pd.DataFrame) -> list[str]:
    """The columns' names: of init, depth and setting those that differ; of data set where nothing does."""
    parts = table.columns.to_frame(index=False).astype(str)
    keys = {key for setting in parts["setting"] for key in re.findall(r"(\w+)=", setting)}
    if len(keys) == 1:
        parts["setting"] = parts["setting"].str.removeprefix(f"{keys.pop()}=")
    depth = parts["unfreeze_depth"]
    words = parts.assign(unfreeze_depth=("depth " + depth).where(depth.str.fullmatch(r"\d+"), depth))
    different = [part for part in parts if parts[part].nunique() > 1]
    if _groups(table) and len(different) > 1:
        different = [part for part in different if part != "dataset"]
    return [" · ".join(filter(None, line)) for line in words[different or ["dataset"]].to_numpy()]


def _cells(page: Sheet, axes: Axes, table: pd.DataFrame) -> None:
    values, titles = table.to_numpy(float), [" · ".join(filter(None, cell)) for cell in _cells_of(table)]
    best: Floats = np.nanmax(values, axis=0)
    lost = best - values
    scale = max(min(float(np.nanmax(lost)), WORST), 1e-6)
    written = int(np.isfinite(values).sum()) <= MOST_NUMBERS
    for i, j in np.argwhere(np.isfinite(values)):
        share = min(1.0, lost[i, j] / scale)
        patch = axes.add_artist(
            Rectangle((j + 0.03, i + 0.04), 0.94, 0.92, color=to_hex(COLOURS(share)), linewidth=0)
        )
        page.tell(
            patch, f"{table.index[i]}, {titles[j]}: AUC {values[i, j]:.4f}, {lost[i, j]:.4f} below the best"
        )
        if lost[i, j] <= 0:
            axes.add_artist(
                Rectangle((j + 0.05, i + 0.06), 0.90, 0.88, fill=False, edgecolor=VERMILION, linewidth=1.8)
            )
        if written:
            number = f"{values[i, j]:.3f}".removeprefix("0")
            axes.text(
                j + 0.5,
                i + 0.53,
                number,
                ha="center",
                va="center",
                fontsize=SMALL - 0.5,
                color="#ffffff" if share < 0.4 else "#111111",
            )
    for i, j in np.argwhere(~np.isfinite(values)):
        axes.text(j + 0.5, i + 0.5, "·", ha="center", va="center", color=SOFT, fontsize=SMALL)
