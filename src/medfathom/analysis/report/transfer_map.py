"""Sources by targets: what weights from other data bring, a heat map with intervals."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import Rectangle

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.questions.transfer import Transfer
from medfathom.analysis.report.drawing import (
    SMALL,
    WIDTH,
    Drawing,
    Sheet,
    between,
    room_for,
    sheet,
    signed,
)
from medfathom.text import natural, short

COLOURS = LinearSegmentedColormap.from_list("gained", ["#b5500a", "#efc7a8", "#f2f5f7", "#a9cfe6", "#0b5a8f"])
LEAST_SCALE = 0.02
"""AUC at which the colour is the fullest, at least: small differences stay pale."""
CELL_WIDTH = 1.15
"""Inches: an interval has to fit."""


def sources_of(analysis: Analysis) -> dict[str, str]:
    """Init -> what its weights were trained on, where that is known."""
    return {init: text for told in analysis.studies for init, text in told.sources.items()}


def transfer_map(analysis: Analysis) -> Drawing | None:
    """A row for each source, a column for each target; None where no weights come from other data."""
    cells = {(cell.source, _target(cell)): cell for cell in analysis.transfer}
    if not cells:
        return None
    known = sources_of(analysis)
    sources = sorted({source for source, _ in cells}, key=natural)
    targets = sorted({target for _, target in cells}, key=lambda target: [natural(part) for part in target])
    several = len({depth for _, depth in targets}) > 1
    names = [short(_named(source, known), 40) for source in sources]
    titles = [short(f"{dataset}, depth {depth}" if several else dataset) for dataset, depth in targets]
    left, top = room_for(names, SMALL), 0.82 * room_for(titles, SMALL)
    page, (axes,) = sheet(
        0.42 * len(sources),
        width=max(WIDTH, left + CELL_WIDTH * len(targets) + 0.6 * top),
        left=left,
        right=0.6 * top,
        top=top,
        bottom=0.06,
    )
    _draw(page, axes, cells, sources, targets)
    axes.xaxis.tick_top()
    axes.set_xticks(
        [j + 0.4 for j in range(len(targets))], titles, rotation=30, ha="left", rotation_mode="anchor"
    )
    axes.set_yticks([i + 0.5 for i in range(len(sources))], names)
    axes.set_xlim(0, len(targets))
    axes.set_ylim(len(sources), 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    text = _caption(analysis.transfer)
    return page.drawing(
        _data(analysis.transfer, known), text, f"{text} {'; '.join(map(_words, cells.values()))}."
    )


def _target(cell: Transfer) -> tuple[str, str]:
    return cell.dataset, cell.unfreeze_depth


def _named(source: str, known: dict[str, str]) -> str:
    return f"{source.partition(':')[2] or source}{f' ({known[source]})' if source in known else ''}"


def _caption(cells: list[Transfer]) -> str:
    units = {cell.mean.unit for cell in cells}
    over = {
        "architecture": "architectures (families as random effects)",
        "seed": "the seeds of one architecture (it applies to this one only)",
    }
    unit = " or ".join(text for name, text in over.items() if name in units)
    return (
        "Rows: where the weights come from. Columns: the data set that they were tuned on. Each number is "
        f"AUC minus AUC with init {cells[0].reference}, with its 95 % interval over {unit}. Blue: better; "
        "orange: worse; framed: significant after Holm correction over the map, and not negligible."
    )


def _draw(
    page: Sheet,
    axes: Axes,
    cells: dict[tuple[str, tuple[str, str]], Transfer],
    sources: list[str],
    targets: list[tuple[str, str]],
) -> None:
    scale = max(LEAST_SCALE, *(abs(cell.mean.benefit) for cell in cells.values()))
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            if (source, target) in cells:
                _one(page, axes, cells[source, target], (j, i), scale)


def _one(page: Sheet, axes: Axes, cell: Transfer, place: tuple[int, int], scale: float) -> None:
    (x, y), gained = place, cell.mean.benefit
    colour = to_hex(COLOURS(0.5 + 0.5 * gained / scale))
    patch = axes.add_artist(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, color=colour, linewidth=0))
    page.tell(patch, _words(cell))
    if cell.mean.verdict in ("helps", "harms"):
        frame = Rectangle((x + 0.04, y + 0.07), 0.92, 0.86, fill=False, edgecolor="#111111", linewidth=1.8)
        axes.add_artist(frame)
    ink = "#ffffff" if abs(gained) > 0.75 * scale else "#111111"
    ends = between(cell.mean.ci95)
    write = partial(axes.text, ha="center", va="center", color=ink)
    write(x + 0.5, y + (0.36 if ends else 0.5), signed(gained), fontsize=SMALL)
    write(x + 0.5, y + 0.7, ends, fontsize=SMALL - 1.5)


def _words(cell: Transfer) -> str:
    ends = between(cell.mean.ci95, 4)
    said = f" ({ends}; {cell.mean.verdict})" if ends else " (no interval)"
    count = f"{cell.mean.n} {cell.mean.unit}{'' if cell.mean.n == 1 else 's'}"
    where = f"{cell.source} to {cell.dataset}, depth {cell.unfreeze_depth}"
    return f"{where}: {signed(cell.mean.benefit, 4)}{said}, {count}"


def _data(cells: list[Transfer], known: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (
                cell.source,
                known.get(cell.source, ""),
                cell.modality,
                cell.dataset,
                cell.unfreeze_depth,
                cell.reference,
                cell.mean.benefit,
                *cell.mean.ci95,
                cell.mean.p_holm,
                cell.mean.verdict,
                cell.mean.n,
                cell.mean.unit,
            )
            for cell in cells
        ],
        columns=[
            "source",
            "trained_on",
            "modality",
            "dataset",
            "unfreeze_depth",
            "reference",
            "auc_difference",
            "low95",
            "high95",
            "p_holm",
            "verdict",
            "n",
            "unit",
        ],
    )
