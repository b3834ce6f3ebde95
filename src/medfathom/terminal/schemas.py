"""The JSON schema of what each command prints with `--json`, and `medfathom list schemas`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from rich.table import Table
from rich.text import Text

from medfathom.errors import InputError, did_you_mean
from medfathom.terminal.json_schema import Schema, schema_of
from medfathom.terminal.output import print_json, print_text

PACKAGE = "medfathom"


@dataclass(frozen=True)
class Printed:
    """What a command prints with `--json`.

    Attributes:
        kind: the type, as "module:Class" below the package; "module:Class[]" is a list of them.
        lines: one such value on each line, not one in all.
        instead: field -> its type in JSON, where the field's annotation does not tell.
        nan_is_null: numbers that are not finite are written as `null`.
            more: name in `$defs` -> schema of keys that it may have besides.
    """

    kind: str
    lines: bool = False
    instead: Mapping[str, str] = field(default_factory=dict)
    nan_is_null: bool = False
    more: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


METRICS = {"StratumJson": {"type": ["number", "null"]}}
"""A confirmed configuration has the mean of every metric of its test split, by name."""

NAMED = Printed("terminal.listing:NamedRow[]")

PRINTED: Mapping[str, Printed] = {
    "init": Printed("terminal.init:WrittenJson"),
    "run": Printed("terminal.run_lines:Line", lines=True),
    "show": Printed("study.summary:StudySummary", instead={"states": "study.summary:ByState"}),
    "show --definition": Printed("definitions.config:StudyConfig"),
    "plan": Printed("forecast:Forecast"),
    "plan --analysis": Printed("terminal.planning:PlanJson"),
    "confirm": Printed("confirmation.results:ConfirmationSummary", more=METRICS),
    "analyze": Printed(
        "analysis.pipeline:Analysis",
        instead={
            "confirmed": "confirmation.results:ConfirmationSummary[]",
            "model_comparison": "confirmation.comparison:ClassComparison[]",
        },
        nan_is_null=True,
        more=METRICS,
    ),
    "export": Printed("export:Exported", more=METRICS),
    "predict": Printed("terminal.predictions:PredictedJson"),
    "evaluate": Printed("evaluation.results:Evaluation"),
    "report": Printed("reporting.filled:Report"),
    "data check": Printed("data.check.check:CheckReport"),
    "data check STUDY OTHER": Printed("data.check.sets:SharedReport"),
    "data prepare": Printed("terminal.data:PreparedJson"),
    "data shift": Printed("models.domain_shift:DomainShift[]"),
    "list studies": NAMED,
    "list spaces": NAMED,
    "list samplers": NAMED,
    "list schedulers": NAMED,
    "list budgets": NAMED,
    "list architectures": Printed("models.facts:ArchitectureFacts[]"),
    "list datasets": Printed("terminal.listing:DatasetRow[]"),
    "list schemas": Printed("terminal.schemas:SchemaRow[]"),
}
"""Command -> what it prints with `--json`."""


class SchemaRow(TypedDict):
    """A command, and the schema of what it prints with `--json`; with `lines`, of each line."""

    command: str
    lines: bool
    schema: dict[str, object]


def json_schema(command: str) -> Schema:
    """The schema of what a command prints with `--json`; of `run`, of each line.

    Raises:
        InputError: no such command, or it has no `--json`.
    """
    if command not in PRINTED:
        raise InputError(f"{command}: no command with --json; {did_you_mean(command, PRINTED)}")
    printed = PRINTED[command]
    instead = {name: _resolved(kind) for name, kind in printed.instead.items()}
    schema = schema_of(_resolved(printed.kind), instead=instead, nan_is_null=printed.nan_is_null)
    for name, more in printed.more.items():
        schema["$defs"][name]["additionalProperties"] = dict(more)
    return {"title": f"medfathom {command} --json", **schema}


def _resolved(kind: str) -> Any:
    found = pkgutil.resolve_name(f"{PACKAGE}.{kind.removesuffix('[]')}")
    return list[found] if kind.endswith("[]") else found  # type: ignore[valid-type]


def keys_of(schema: Schema) -> str:
    """The keys of the values, those that may be missing in brackets; of several kinds one after another."""
    definitions = schema["$defs"]
    kinds = schema.get("anyOf", [schema.get("items", schema)])
    return "; ".join(_keys(definitions[kind["$ref"].rpartition("/")[2]]) for kind in kinds)


def _keys(schema: Schema) -> str:
    required = schema.get("required", ())
    names = [name if name in required else f"[{name}]" for name in schema["properties"]]
    event = schema["properties"].get("event", {}).get("enum")
    return f"{event[0]}: {', '.join(names[1:]) or 'nothing more'}" if event else ", ".join(names)


def print_schemas(command: str | None, *, as_json: bool) -> None:
    """The schema of one command as JSON; or all commands with the keys of their values, in a table."""
    if command is not None:
        return print_json(json_schema(command))
    schemas = {name: json_schema(name) for name in PRINTED}
    if as_json:
        rows: list[SchemaRow] = [
            {"command": name, "lines": PRINTED[name].lines, "schema": schema}
            for name, schema in schemas.items()
        ]
        return print_json(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("command", no_wrap=True)
    table.add_column("keys")
    for name, schema in schemas.items():
        table.add_row(name, Text(keys_of(schema)))
    return print_text(table)
