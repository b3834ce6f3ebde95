"""What MkDocs is told besides the pages: every key of a definition, and pages that lie outside `docs/`."""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medfathom.definitions import config, dataset, space, table

REPOSITORY = Path(__file__).resolve().parents[1]
OUTSIDE = ("study_defs/README.md", "search/README.md", *sorted(
    path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "benchmarks/results").glob("*.md")
))  # fmt: skip
LINK = re.compile(r"\]\(([^)#:\s]+)")

TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The study", config.StudyConfig),
    ("`[dataset]`, `source = \"medmnist\"`", dataset.MedmnistDataset),
    ("`[dataset]`, `source = \"npz\"`", dataset.NpzDataset),
    ("`[dataset]`, `source = \"folder\"`", dataset.FolderDataset),
    ("`[dataset]`, `source = \"csv\"`", dataset.CsvDataset),
    ("`[dataset]`, `source = \"hdf5\"`", dataset.Hdf5Dataset),
    ("`[dataset]`, `source = \"phantom-…\"`", dataset.PhantomDataset),
    ("`[dataset.splits]`", dataset.SplitsConfig),
    ("`tables`", table.TableFile),
    ("`join`", table.JoinedTable),
    ("`[space.NAME]`", space.Dimension),
    ("Hyperparameters in `[space]`", space.TrialParams),
    ("`[sampler]`", config.SamplerConfig),
    ("`[scheduler]`", config.SchedulerConfig),
    ("`[budget]`", config.BudgetConfig),
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
        for name, field in model.model_fields.items():
            cells = (f"`{name}`", values_of(field), default_of(field), meanings.get(name, ""))
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield ""


def meanings_of(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's fields, by name, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("medfathom."):
            file = Path(inspect.getfile(base))
            members = griffe.visit(base.__module__, file, file.read_text(encoding="utf-8"))[base.__name__].members
            texts = {name: member.docstring for name, member in members.items() if member.docstring}
            found |= {name: " ".join(text.value.split()) for name, text in texts.items()}
    return found


def values_of(field: FieldInfo) -> str:
    """Which values a key takes: its type, and its range."""
    kind = str(field.annotation) if "[" in str(field.annotation) else getattr(field.annotation, "__name__", "")
    kind = re.sub(r"(typing|collections\.abc|medfathom(\.\w+)+)\.", "", kind).replace("| None", "").strip()
    kind = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace("'", '"').replace(", ", " or "), kind)
    bounds = [str(rule) for rule in field.metadata if not str(rule).startswith(("Strict", "MinLen"))]
    return f"`{kind}`" + "".join(f" {bound}" for bound in map(_as_bound, bounds) if bound)


def _as_bound(rule: str) -> str:
    found = re.fullmatch(r"(Ge|Gt|Le|Lt)\(\w+=(.*)\)", rule)
    return f"{dict(Ge='≥', Gt='>', Le='≤', Lt='<')[found[1]]} {found[2]}" if found else ""


def default_of(field: FieldInfo) -> str:
    """A key's default as TOML writes it; empty where it must be given or stands for a table."""
    value = field.get_default(call_default_factory=True) if not field.is_required() else None
    if value is None or isinstance(value, BaseModel) or value in ({}, [], "") or field.is_required():
        return "required" if field.is_required() else ""
    return f"`{str(value).lower() if isinstance(value, bool) else value!r}`".replace("'", '"')


def _on_site(link: str, path: str) -> str:
    """A relative link of the page at `path` in the repository, as the site has it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    here = posixpath.dirname(path.removeprefix("docs/"))
    if target.startswith("docs/") or target in OUTSIDE:
        return posixpath.relpath(target.removeprefix("docs/"), here or ".")
    return link
