"""What can be named: study definitions, pieces of search/, architectures, data sets."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from medfathom.definitions import names, read_toml
from medfathom.errors import InputError, did_you_mean
from medfathom.models.catalog import shipped


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
    _print(rows, as_json, {"name": "name", "about": "what it is"})


def print_datasets(as_json: bool) -> None:
    """Print the data set of every study definition."""
    rows = []
    for name, path in names("study_defs").items():
        content = read_toml(path)
        dataset = content.get("dataset", {})
        rows.append(
            {
                "name": str(dataset.get("name", name)),
                "modality": str(dataset.get("modality", "")),
                "source": str(dataset.get("source", "")),
                "licence": str(content.get("licence", "")),
                "obtain": " ".join(str(content.get("obtain", "")).split()),
                "study": name,
            }
        )
    shown = {"study": "study", "modality": "modality", "source": "source", "licence": "licence"}
    _print(rows, as_json, shown)


def print_architectures(pattern: str, sort: str, as_json: bool) -> None:
    """Print the shipped catalog, filtered and sorted. Raises InputError for an unknown column to sort by."""
    columns = ["name", "family", "n_params", "depth", "macs"]
    if sort not in columns:
        raise InputError(f"--sort {sort}: no such column; {did_you_mean(sort, columns)}")
    found = [a for a in shipped() if pattern in a.name or pattern in a.family]
    found.sort(key=lambda a: (getattr(a, sort), a.n_params))
    if as_json:
        print(json.dumps([asdict(a) for a in found], indent=2))  # noqa: T201
        return
    rows = [
        {
            "name": a.name,
            "family": a.family,
            "n_params": f"{a.n_params / 1e6:.1f} M",
            "depth": str(a.depth),
            "macs": f"{a.macs / 1e9:.2f} G",
            "native_size": str(a.native_size),
            "weights": str(len(a.pretrained_tags)),
        }
        for a in found
    ]
    titles = {"n_params": "params", "macs": "MACs", "native_size": "native px", "weights": "weights"}
    _print(rows, False, {k: titles.get(k, k) for k in (rows[0] if rows else {"name": ""})})


def _print(rows: list[dict[str, Any]], as_json: bool, titles: dict[str, str]) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, title in titles.items():
        numeric = key in ("n_params", "depth", "macs", "native_size", "weights")
        table.add_column(
            title,
            no_wrap=numeric or key in ("name", "study", "family"),
            justify="right" if numeric else "left",
        )
    for row in rows:
        table.add_row(*(row[key] for key in titles))
    Console().print(table)
