"""`medfathom plan` in a terminal: the forecast as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from medfathom.definitions.load import load_definition
from medfathom.definitions.strategies import unfrozen
from medfathom.terminal.log import logged_steps
from medfathom.terminal.output import print_json, print_text
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import QUIET, clock, without_shared_prefix
from medfathom.validate import check_definition, sources_for

if TYPE_CHECKING:
    from medfathom.forecast import Forecast, Measured
    from medfathom.trial.kinds import Kind

COLUMNS = (
    Column("architecture", left=True, shorten=without_shared_prefix),
    Column("init", left=True),
    Column("unfreeze"),
    Column("trials", minor=2),
    Column("epoch", minor=1),
    Column("trial"),
    Column("features", minor=3),
    Column("images/s", minor=4),
    Column("memory"),
)


def print_forecast(
    study: str, overrides: Sequence[str], *, seconds: float, storage: str | None, as_json: bool
) -> int:
    """Forecast a study within so many seconds and print it. The exit code: 1 where a kind of trial fails."""
    config = load_definition(study, overrides)
    check_definition(config, sources=sources_for(config, storage))
    from medfathom.plan import plan_study  # noqa: PLC0415  imports torch

    with logged_steps("plan", config.name, config) as step, _Progress() as progress:

        def say(what: str) -> None:
            step(what)
            progress.say(what)

        forecast = plan_study(config, say, seconds=seconds, told=progress.told, storage=storage)
    if as_json:
        print_json(forecast.to_dict())
    else:
        print_text(forecast_text(forecast))
    return 1 if forecast.failures else 0


class _Progress:
    """To standard error: a line that is redrawn in a terminal, lines elsewhere, nothing with `-q`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, quiet=QUIET.get(), soft_wrap=True)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._answer = ""

    def __enter__(self) -> _Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, what: str) -> None:
        """What is under way."""
        text = f"{self._answer}{what}"
        if self._status:
            self._status.update(text)
        else:
            self._console.print(text, highlight=False)

    def told(self, forecast: Forecast) -> None:
        """The answer so far: the first comes after one measurement."""
        most = clock(3600 * forecast.hours[1])
        n, measured = len(forecast.kinds), len(forecast.kinds) - forecast.n_estimated
        self._answer = f"about {most} ({measured} of {n} kinds measured); "


def forecast_text(forecast: Forecast) -> RenderableType:
    """The forecast as text for a terminal."""
    table = FittedTable(COLUMNS)
    for each in forecast.kinds:
        if isinstance(each.measured, str):
            cells = ["fails", *[""] * (len(COLUMNS) - 5)]
        else:
            cells = _measured_cells(each.measured, "~" if each.estimated else "")
        table.add_row(*_kind_cells(each.kind), *cells)
    failed = [
        Text(f"{kind.params.architecture}, unfreeze_depth {_depth(kind)}: {why}", style="red")
        for kind, why in forecast.failures
    ]
    return Group(table, Text(), Text(_summary(forecast)), *_estimated(forecast), *failed)


def _estimated(forecast: Forecast) -> list[Text]:
    if not forecast.n_estimated:
        return []
    n, of = forecast.n_estimated, len(forecast.kinds)
    return [Text(f"~ estimated: {n} of {of} kinds of trials were not measured; `--seconds` gives more time.")]


def _summary(forecast: Forecast) -> str:
    least, most = (clock(3600 * hours) for hours in forecast.hours)
    stopped = f", {least} if every trial is stopped as early as possible" if least != most else ""
    return (
        f"{forecast.trials} trials of {forecast.epochs} epochs, {forecast.concurrent} at once on "
        f"{forecast.device}: {most}{stopped}; at most {forecast.device_hours[1]:.2g} device-hours"
    )


def _depth(kind: Kind) -> str:
    return unfrozen(kind.params.unfreeze_depth, kind.params.strategy)


def _kind_cells(kind: Kind) -> list[str]:
    params = kind.params
    size = f" at {params.image_size} px" if params.image_size else ""
    return [
        f"{params.architecture}{size}",
        ", ".join(kind.inits),
        _depth(kind),
        f"{kind.trials:.3g}",
    ]


def _measured_cells(measured: Measured, mark: str) -> list[str]:
    features = measured.seconds_of_features
    return [
        mark + _seconds(measured.seconds_per_epoch),
        mark + _seconds(measured.seconds_per_trial),
        f"{mark}{_seconds(features)} {measured.features}" if features else "",
        f"{mark}{measured.images_per_second:.3g}" if measured.images_per_second else "",
        f"{mark}{measured.peak_memory_bytes / 2**20:.0f} MiB",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}s" if seconds < 10 else clock(seconds)
