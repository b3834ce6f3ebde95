"""`medfathom plan --analysis` in a terminal: how many architectures, data sets and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.analysis.as_json import FLAT, plain
from medfathom.errors import InputError
from medfathom.terminal.analysis import columns_of, margin_of, named_pairs
from medfathom.terminal.output import print_json, print_text

if TYPE_CHECKING:
    from medfathom.analysis.planning import Need, Planned


@dataclass(frozen=True)
class PlannedRow:
    """What one question of an analysis needs.

    Attributes:
        margin: AUC over the range of the architectures that does not matter.
        tests: so many tests are adjusted together, by Holm's method.
    """

    modality: str
    predictor: str
    margin: float
    tests: int
    need: Need = field(metadata=FLAT)


class PlanJson(TypedDict):
    """What `plan --analysis` found; `not_planned` has what cannot be planned, and why."""

    planned: list[Annotated[dict[str, object], PlannedRow]]
    not_planned: dict[str, str]
    files: list[str]


@dataclass(frozen=True)
class TableOptions:
    """Options about tables, as they are typed."""

    maps: Sequence[str]
    wheres: Sequence[str]
    fixed: Sequence[str]
    names: Sequence[str]
    settings: Sequence[str]
    percent: bool
    best_by: str | None = None
    wide: str | None = None

    def none_given(self, study: str | None, tables: Sequence[Path] | None) -> str:
        """The study of a plan without `--analysis`, which takes no tables."""
        given = (self.maps, self.wheres, self.names, self.settings, self.percent, self.best_by, self.wide)
        if tables or any(given):
            raise InputError("options for tables need `plan --analysis`")
        if study is None:
            raise InputError("name a study; `plan --analysis --table FILE.csv` plans an analysis")
        return study


def plan_analysis(
    study: str | None,
    tables: Sequence[Path],
    options: TableOptions,
    margin: float | None,
    storage: str | None,
    *,
    exploratory: bool,
    as_json: bool,
) -> int:
    """Plan an analysis from a pilot and print it. The exit code: 1 where nothing can be planned."""
    pairs = named_pairs(options.maps, options.wheres, options.fixed, options.names)
    from medfathom.analysis.tables import Reading  # noqa: PLC0415
    from medfathom.answer import plan_all  # noqa: PLC0415

    planned, without, files = plan_all(
        [study] if study else [],
        tables,
        storage=storage,
        reading=Reading(
            maps=pairs[0],
            wheres=pairs[1],
            fixed=pairs[2],
            names=pairs[3],
            settings=options.settings,
            percent=options.percent,
            best_by=options.best_by,
            wide=columns_of(options.wide),
        ),
        margin=margin_of(margin),
        exploratory=exploratory,
    )
    if as_json:
        found: PlanJson = {
            "planned": [plain(row) for row in planned_rows(planned)],
            "not_planned": dict(without),
            "files": list(map(str, files)),
        }
        print_json(found)
    else:
        print_text(planning_text(planned, without, files))
    return 0 if planned else 1


def planned_rows(planned: Sequence[Planned]) -> list[PlannedRow]:
    """A row for each predictor, modality, number of data sets and of seeds."""
    return [
        PlannedRow(each.pilot.modality, each.pilot.predictor.name, each.margin, each.tests, need)
        for each in planned
        for need in each.needs
    ]


def planning_text(
    planned: Sequence[Planned], without: Mapping[str, str], files: Sequence[Path]
) -> RenderableType:
    """What is needed as text for a terminal."""
    parts: list[RenderableType] = []
    for each in planned:
        pilot = each.pilot
        parts.append(
            Text.assemble(
                (f"{pilot.modality}: {pilot.predictor.noun}", "bold"),
                f"  architectures for 80 % power at a margin of {each.margin:g} AUC over the range, "
                f"Holm over {each.tests} tests",
            )
        )
        parts += [_needs(each), Text()]
    parts += [Text(f"Not planned: {what}: {why}.", "yellow") for what, why in without.items()]
    if planned:
        parts.append(
            Text(
                "A result from one or two data sets applies to these only; from three or more it applies to "
                "data sets like them. The 95 % intervals come from the uncertainty of the pilot.",
                "dim",
            )
        )
    parts += [Text(f"Picture: {file}") for file in files if file.suffix == ".svg"]
    return Group(*parts)


def _needs(each: Planned) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("data sets", "seeds", "to find it", "95 %", "to show that it is smaller", "95 %"):
        table.add_column(title, justify="right")
    for need in each.needs:
        table.add_row(
            str(need.datasets),
            str(need.seeds),
            _count(need.to_find),
            " to ".join(map(_count, need.to_find95)),
            _count(need.to_exclude),
            " to ".join(map(_count, need.to_exclude95)),
        )
    return table


def _count(number: int | None) -> str:
    return "over 400" if number is None else str(number)
