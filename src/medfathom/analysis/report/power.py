"""The picture of a planned analysis: power against the number of architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from medfathom.analysis.planning import MOST_ARCHITECTURES, POWER, Design, Planned, power_curve
from medfathom.analysis.report.drawing import SMALL, SOFT, Drawing, Sheet, sheet
from medfathom.colours import PALETTE
from medfathom.files import write_atomically

TICKS = (5, 10, 20, 50, 100, 200, 400)
LEAST = 40
"""Architectures that the axis reaches to at least."""


def write_power(planned: Sequence[Planned], folder: Path, name: str) -> list[Path]:
    """Write the picture and its data beside it; nothing where nothing is planned."""
    if not planned:
        return []
    drawing = power(planned)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"svg": drawing.svg, "csv": drawing.data.to_csv(index=False)}
    files = {kind: folder / f"{name}-planning.{kind}" for kind in texts}
    for kind, file in files.items():
        write_atomically(file, texts[kind])
    return list(files.values())


def power(planned: Sequence[Planned]) -> Drawing:
    """A panel for each modality and predictor, a line for each number of data sets; the band is the "
    "pilot's."""
    page, panels = sheet(1.7, rows=len(planned), top=0.3)
    data = pd.concat(
        [_panel(page, axes, each) for axes, each in zip(panels, planned, strict=True)], ignore_index=True
    )
    panels[-1].set_xlabel("architectures, log scale")
    caption = (
        f"Power to find an effect of {planned[0].margin:g} AUC over the range of the networks. Band: 95 % "
        "interval from the uncertainty of the pilot, for the number of data sets nearest to the pilot's."
    )
    return page.drawing(data, caption, caption)


def _panel(page: Sheet, axes: Axes, each: Planned) -> pd.DataFrame:
    pilot = each.pilot
    counts = sorted({need.datasets for need in each.needs})
    own = min(counts, key=lambda count: abs(count - pilot.n_datasets))
    known = [need.to_find for need in each.needs if need.to_find is not None]
    most = min(MOST_ARCHITECTURES, max([LEAST, *(2 * n for n in known)]))
    parts = []
    for place, count in enumerate(counts):
        curve = power_curve(pilot, Design(0, count, round(pilot.seeds)), each.margin, each.tests, most)
        colour = PALETTE[place % len(PALETTE)]
        (line,) = axes.plot(
            curve["architectures"],
            curve["power"],
            color=colour,
            linewidth=2 if count == own else 1.2,
            label=str(count),
        )
        page.tell(line, f"{count} data sets")
        if count == own:
            axes.fill_between(
                curve["architectures"], curve["low95"], curve["high95"], color=colour, alpha=0.15, linewidth=0
            )
        parts.append(curve.assign(modality=pilot.modality, predictor=pilot.predictor.name, datasets=count))
    axes.axhline(POWER, color=SOFT, linewidth=0.8, linestyle="--")
    axes.set_title(f"{pilot.modality}: {pilot.predictor.noun}", fontsize=SMALL + 0.5, loc="left", pad=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("power")
    axes.legend(
        title="data sets", fontsize=SMALL - 1, title_fontsize=SMALL - 1, frameon=False, loc="lower right"
    )
    return pd.concat(parts, ignore_index=True)
