"""`medfathom plan` in a terminal: the forecast as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.definitions.load import load_definition
from medfathom.terminal.output import print_json, print_text
from medfathom.text import clock
from medfathom.validate import check_definition

if TYPE_CHECKING:
    from medfathom.plan import Forecast, Measured
    from medfathom.trial.kinds import Kind

TITLES = ["architecture", "init", "unfreeze", "trials", "epoch", "trial", "features", "images/s", "memory"]


def print_forecast(study: str, overrides: Sequence[str], *, as_json: bool) -> int:
    """Forecast a study and print it. The exit code: 1 where a kind of trial fails."""
    config = load_definition(study, overrides)
    check_definition(config)
    from medfathom.plan import plan_study  # noqa: PLC0415  imports torch

    if as_json:
        forecast = plan_study(config)
        print_json(forecast.to_dict())
    else:
        with Console().status("") as status:
            forecast = plan_study(config, status.update)
        print_text(forecast_text(forecast))
    return 1 if forecast.failures else 0


def forecast_text(forecast: Forecast) -> RenderableType:
    """The forecast as text for a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for title in TITLES:
        left = title in TITLES[:2]
        table.add_column(title, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for each in forecast.kinds:
        if isinstance(each.measured, str):
            table.add_row(*_kind_cells(each.kind), "fails", style="red")
        else:
            table.add_row(*_kind_cells(each.kind), *_measured_cells(each.measured))
    failed = [
        Text(f"{kind.params.architecture}, unfreeze_depth {kind.params.unfreeze_depth}: {why}", style="red")
        for kind, why in forecast.failures
    ]
    return Group(table, Text(), Text(_summary(forecast)), *failed)


def _summary(forecast: Forecast) -> str:
    least, most = (clock(3600 * hours) for hours in forecast.hours)
    stopped = f", {least} if every trial is stopped as early as possible" if least != most else ""
    return (
        f"{forecast.trials} trials of {forecast.epochs} epochs, {forecast.concurrent} at once on "
        f"{forecast.device}: {most}{stopped}; at most {forecast.device_hours[1]:.2g} device-hours"
    )


def _kind_cells(kind: Kind) -> list[str]:
    params = kind.params
    size = f" at {params.image_size} px" if params.image_size else ""
    return [
        f"{params.architecture}{size}",
        ", ".join(kind.inits),
        str(params.unfreeze_depth),
        f"{kind.trials:.3g}",
    ]


def _measured_cells(measured: Measured) -> list[str]:
    features = measured.seconds_of_features
    return [
        _seconds(measured.seconds_per_epoch),
        _seconds(measured.seconds_per_trial),
        f"{_seconds(features)} {measured.features}" if features else "",
        f"{measured.images_per_second:.3g}" if measured.images_per_second else "",
        f"{measured.peak_memory_bytes / 2**20:.0f} MiB",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}s" if seconds < 10 else clock(seconds)
