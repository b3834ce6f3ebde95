"""What can be named: study definitions and pieces of search/."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from medfathom.definitions import names, read_toml


def print_definitions(kind: str, as_json: bool) -> None:
    """Print every definition of a kind (`study_defs`, `search/spaces`, …) with what it says of itself.

    Args:
        kind: the folder.
        as_json: print a JSON list instead of a table.

    Raises:
        DefinitionError: a file there is not TOML.
    """
    rows = []
    for name, path in names(kind).items():
        content = read_toml(path)
        about = content.get("question") or content.get("description") or ""
        rows.append({"name": name, "about": " ".join(str(about).split()), "file": str(path)})
    if as_json:
        print(json.dumps(rows, indent=2))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(row["name"], row["about"])
    Console().print(table)
