"""A forecast as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.text import clock

TITLES = ["architecture", "init", "unfreeze", "trials", "epoch", "trial", "features", "images/s", "memory"]


def forecast_text(forecast: Mapping[str, Any]) -> RenderableType:
    """The forecast as text for a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for title in TITLES:
        left = title in TITLES[:2]
        table.add_column(title, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    failed = []
    for row in forecast["kinds"]:
        cells = [
            row["architecture"],
            ", ".join(row["inits"]),
            str(row["unfreeze_depth"]),
            f"{row['trials']:.3g}",
        ]
        if "failure" in row:
            failed.append(Text(f"{cells[0]}, unfreeze_depth {cells[2]}: {row['failure']}", style="red"))
            table.add_row(*cells, "fails", style="red")
        else:
            table.add_row(*cells, *_measured_cells(row))
    least, most = (clock(3600 * hours) for hours in forecast["hours"])
    stopped = f", {least} if all trials are stopped as early as may be" if least != most else ""
    lines = [
        f"{forecast['trials']} trials of {forecast['epochs']} epochs, {forecast['concurrent']} at once on "
        f"{forecast['device']}: {most}{stopped}; {forecast['device_hours'][1]:.2g} device-hours at most"
    ]
    return Group(table, Text(), *map(Text, lines), *failed)


def _measured_cells(row: Mapping[str, Any]) -> list[str]:
    features = row["seconds_of_features"]
    return [
        _seconds(row["seconds_per_epoch"]),
        _seconds(row["seconds_per_trial"]),
        f"{_seconds(features)} {row['features']}" if features else "",
        f"{row['images_per_second']:.3g}" if row["images_per_second"] else "",
        f"{row['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}s" if seconds < 10 else clock(seconds)
