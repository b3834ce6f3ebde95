"""What MkDocs is told besides the pages: every key of a definition, and pages that lie outside `docs/`."""

from __future__ import annotations

import inspect
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import griffe
from mkdocs.structure.files import File
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medfathom.definitions import config, dataset, joint, space, table

REPOSITORY = Path(__file__).resolve().parents[1]
OUTSIDE = ("study_defs/README.md", "search/README.md", *sorted(
    path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "benchmarks/results").glob("*.md")
))  # fmt: skip
DATASET, FILES = dataset.MedmnistDataset.__mro__[1], dataset.FolderDataset.__mro__[1]
SHARED = {DATASET, FILES}
SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}
LINK = re.compile(r"\]\(([^)#:\s]+)")

TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The study", config.StudyConfig),
    ("`[dataset]`, every source", DATASET),
    ('`[dataset]`, `source = "medmnist"`', dataset.MedmnistDataset),
    ('`[dataset]`, `source = "npz"`', dataset.NpzDataset),
    ("`[dataset]`, files: `folder` and `csv`", FILES),
    ('`[dataset]`, `source = "folder"`', dataset.FolderDataset),
    ('`[dataset]`, `source = "csv"`', dataset.CsvDataset),
    ('`[dataset]`, `source = "hdf5"`', dataset.Hdf5Dataset),
    ('`[dataset]`, `source = "phantom-…"`', dataset.PhantomDataset),
    ("`[dataset.splits]`", dataset.SplitsConfig),
    ("Several data sets: `[[datasets]]` and `[joint]`", joint.JointDataset),
    ("`tables`", table.TableFile),
    ("`join`", table.JoinedTable),
    ("`[space.NAME]`", space.Dimension),
    ("Hyperparameters in `[space]`", space.TrialParams),
    ("`[sampler]`", config.SamplerConfig),
    ("`[scheduler]`", config.SchedulerConfig),
    ("`[budget]`", config.BudgetConfig),
    ("`[choice]`", config.ChoiceConfig),
    ("`[decision]`", config.DecisionConfig),
    ("`threshold`", config.ThresholdConfig),
    ("`[objectives]`", config.ObjectivesConfig),
    ("`[training]`", config.TrainingConfig),
    ("`[resources]`", config.ResourcesConfig),
)
"""A heading and its keys, in the order of the page."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside `docs/`, under their paths in the repository."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as in the repository become links of the site; the marker becomes the tables of keys."""
    path = page.file.src_uri if page.file.src_uri in OUTSIDE else f"docs/{page.file.src_uri}"
    relinked = LINK.sub(lambda found: f"]({_on_site(found[1], path)}", markdown)
    return relinked.replace("{{ definition_keys }}", "\n".join(definition_keys()))


def definition_keys() -> Iterator[str]:
    """Every key of every table of a definition: its values, its default, what it means."""
    for heading, model in TABLES:
        yield f"## {heading}\n\n| key | values | default | meaning |\n| --- | --- | --- | --- |"
        meanings = meanings_of(model)
        for name, field in own_fields(model).items():
            cells = (f"`{name}`", values_of(field), default_of(field), meanings.get(name, ""))
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield ""


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A table's keys without those that the page tells above it; the heading tells `source`."""
    above = [base.model_fields for base in model.__mro__[1:] if base in SHARED]
    told = {name for keys in above for name in keys} | {"source", "description"}
    return {name: field for name, field in model.model_fields.items() if name not in told}


def meanings_of(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's fields, by name, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("medfathom."):
            file = Path(inspect.getfile(base))
            members = griffe.visit(base.__module__, file, file.read_text(encoding="utf-8"))[
                base.__name__
            ].members
            texts = {name: member.docstring for name, member in members.items() if member.docstring}
            found |= {name: " ".join(text.value.split()) for name, text in texts.items()}
    return found


def values_of(field: FieldInfo) -> str:
    """Which values a key takes: its type, and its range."""
    bounds = [_as_bound(str(rule)) for rule in field.metadata]
    return " ".join([_type_in_words(field.annotation), *filter(None, bounds)])


def _type_in_words(kind: Any) -> str:
    """`str | None` is "text", `Literal["a", "b"]` is "`"a"`, `"b"`"."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in parts)
    if origin is Annotated:
        return _type_in_words(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type_in_words(part) for part in parts if part is not NoneType))
    if origin in (list, tuple):
        return f"list of {_type_in_words(parts[0])}"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "table"
    return {str: "text", bool: "true, false", int: "whole number", float: "number"}.get(kind, "table")


def _as_bound(rule: str) -> str:
    found = re.fullmatch(r"(Ge|Gt|Le|Lt)\(\w+=(.*)\)", rule)
    return f"{SIGNS[found[1]]} {found[2]}" if found else ""


def default_of(field: FieldInfo) -> str:
    """A key's default as TOML writes it; empty where it must be given or stands for a table."""
    value = field.get_default(call_default_factory=True) if not field.is_required() else None
    if value is None or isinstance(value, BaseModel) or value in ({}, [], "") or field.is_required():
        return "required" if field.is_required() else ""
    return f"`{json.dumps(value)}`"


def _on_site(link: str, path: str) -> str:
    """A relative link of the page at `path` in the repository, as the site has it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    here = posixpath.dirname(path.removeprefix("docs/"))
    if target.startswith("docs/") or target in OUTSIDE:
        return posixpath.relpath(target.removeprefix("docs/"), here or ".")
    return link
