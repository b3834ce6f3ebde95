"""What can be named: study definitions, pieces of search/, architectures, data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypedDict

from rich.table import Table

from medfathom.errors import InputError, did_you_mean
from medfathom.models.catalog import lookup
from medfathom.models.facts import ArchitectureFacts, shipped
from medfathom.terminal.output import print_json, print_text


class NamedRow(TypedDict):
    """A definition, or a piece of search/: its name, what it says of itself, its file."""

    name: str
    about: str
    file: str


class DatasetRow(TypedDict):
    """The data set of a study definition; `obtain` says where it can be had."""

    name: str
    modality: str
    source: str
    licence: str
    obtain: str
    study: str


def print_definitions(kind: str, as_json: bool) -> None:
    """Print every definition of a kind (`study_defs`, `search/spaces`, …) with what it says of itself.

    Args:
        kind: the folder.
        as_json: print a JSON list instead of a table.

    Raises:
        DefinitionError: a file there is not TOML.
    """
    from medfathom.definitions.load import names, read_toml  # noqa: PLC0415 - pydantic: the catalog needs none

    rows: list[NamedRow] = []
    for name, path in names(kind).items():
        content = read_toml(path)
        about = content.get("question") or content.get("description") or ""
        rows.append({"name": name, "about": " ".join(str(about).split()), "file": str(path)})
    _print(rows, as_json, {"name": "name", "about": "description"})


def print_datasets(as_json: bool) -> None:
    """Print the data sets of every study definition."""
    from medfathom.definitions.load import names, read_toml  # noqa: PLC0415

    rows: list[DatasetRow] = []
    for name, path in names("study_defs").items():
        content = read_toml(path)
        rows += [
            {
                "name": str(dataset.get("name", name)),
                "modality": str(dataset.get("modality", "")),
                "source": str(dataset.get("source", "")),
                "licence": str(content.get("licence", "")),
                "obtain": " ".join(str(content.get("obtain", "")).split()),
                "study": name,
            }
            for dataset in content.get("datasets", [content.get("dataset", {})])
        ]
    shown = {"study": "study", "modality": "modality", "source": "source", "licence": "licence"}
    _print(rows, as_json, shown)


def print_architectures(
    pattern: str, *, family: str | None, max_params: float | None, sort: str, descending: bool, as_json: bool
) -> None:
    """Print architectures of the shipped catalog, filtered and sorted; or any other one by its full name.

    Args:
        pattern: only those with this in their name or family.
        family: only those of this family; None for all.
        max_params: only those with no more parameters, in millions; None for any number.
        sort: the column.
        descending: largest first.
        as_json: print a JSON list instead of a table.

    Raises:
        InputError: no such column, or nothing matches.
    """
    columns = ["name", "family", "n_params", "depth", "macs"]
    if sort not in columns:
        raise InputError(f"--sort {sort}: no such column; {did_you_mean(sort, columns)}")
    families = {a.family for a in shipped()}
    if family is not None and family not in families:
        raise InputError(f"--family {family}: not in the catalog; {did_you_mean(family, families)}")
    # A name outside the table is measured: seconds, since torch must be imported.
    named = [a for a in shipped() if pattern in a.name or pattern in a.family] or [lookup(pattern)]
    most = math.inf if max_params is None else max_params * 1e6
    found = [a for a in named if family in (None, a.family) and a.n_params <= most]
    if not found:
        filters = {"the pattern": pattern, "--family": family, "--max-params": max_params}
        given = ", ".join(f"{name} {value}" for name, value in filters.items() if value not in ("", None))
        raise InputError(f"no architecture of the catalog matches {given}; leave one of these out")
    found.sort(key=lambda a: (getattr(a, sort), a.n_params), reverse=descending)
    if as_json:
        print_json([asdict(a) for a in found])
        return
    _print([_in_words(a) for a in found], False, {key: _TITLES.get(key, key) for key in _in_words(found[0])})


_TITLES = {"n_params": "params", "macs": "MACs", "native_size": "px", "pretrained_tags": "tags"}


def _in_words(facts: ArchitectureFacts) -> dict[str, str]:
    return {
        "name": facts.name,
        "family": facts.family,
        "n_params": f"{facts.n_params / 1e6:.1f}M",
        "depth": str(facts.depth),
        "macs": f"{facts.macs / 1e9:.2f}G",
        "native_size": str(facts.native_size),
        "pretrained_tags": str(len(facts.pretrained_tags)),
    }


def _print(rows: Sequence[Mapping[str, object]], as_json: bool, titles: Mapping[str, str]) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for key, title in titles.items():
        numeric = key in ("n_params", "depth", "macs", "native_size", "pretrained_tags")
        widest = max(len(str(text)) for text in (title, *(row[key] for row in rows)))
        table.add_column(
            title,
            no_wrap=numeric or key in ("name", "study", "family"),
            justify="right" if numeric else "left",
            min_width=widest if numeric or key == "name" else None,  # in a narrow window others are cut
        )
    for row in rows:
        table.add_row(*(str(row[key]) for key in titles))
    print_text(table)
