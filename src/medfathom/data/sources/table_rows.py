"""From a `[dataset]` table to rows: several tables, joined columns, filters, and a path for each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter

from medfathom.data.labels import alike
from medfathom.data.sources.files import existing
from medfathom.data.sources.table_files import Table, read_table
from medfathom.data.sources.tags import is_tag
from medfathom.definitions.dataset import CsvDataset
from medfathom.definitions.table import JoinedTable, TableFile
from medfathom.errors import DataError
from medfathom.text import number_of

SHOWN_VALUES = 8
"""Values of a column that an error names."""


@dataclass(frozen=True)
class Row:
    """One image of a table.

    Attributes:
        cells: by column, stripped text.
        place: where the row stands: "line 7", or "valid.csv, line 7".
        root: the folder that its path starts at.
        split: of its table; "" where that says nothing.
        problem: why it cannot be used; "" where it can.
        path: of the image, as the table gives it.
    """

    cells: Mapping[str, str]
    place: str
    root: Path
    split: str = ""
    problem: str = ""
    path: str = ""

    @property
    def name(self) -> str:
        """How problems and results name the row."""
        return f"{self.path} ({self.place})"


@dataclass(frozen=True)
class Rows:
    """All images, where they stand, and what a user should know of how they were read."""

    rows: Sequence[Row]
    root: Path
    """Where paths start."""
    files: Sequence[Path]
    """Every table that was read."""
    notes: Sequence[str]


def read_rows(config: CsvDataset) -> Rows:
    """Read the tables of a data set; no image is looked at.

    Raises:
        DataError: a table or a column is not there, a filter matches no row.
    """
    base = existing(config.path, folder=config.tables is not None)
    folder = base if config.tables is not None else base.parent
    root = Path(config.root).expanduser().absolute() if config.root else folder
    if not root.is_dir():
        raise DataError(f"dataset.root: no folder {root}")
    files, rows, notes = [], [], []
    for file in config.tables or [TableFile(path=base.name)]:
        table = read_table(
            _inside(folder, file.path, "tables" if config.tables else "path"),
            "path",
            encoding=config.encoding,
            comment=config.comment,
        )
        files.append(table.path)
        notes += [table.note] if table.note else []
        found = _rows_of(table, root / file.root, file.split or "", named=len(config.tables or ()) > 1)
        for join in config.join:
            joined = read_table(
                _inside(folder, join.path, "join"), "join", encoding=config.encoding, comment=config.comment
            )
            files.append(joined.path)
            table, found = _joined(table, found, joined, join)
        _check_columns(config, table)
        rows += found
    kept = [row for row in rows if _wanted(row, config.where)]
    _check_filters(rows, config.where)
    left = len(rows) - len(kept)
    notes += [f"{left} of {len(rows)} rows are left out by dataset.where"] if left else []
    notes += _nearly_wanted(rows, config.where)
    return Rows([image for row in kept for image in _images(row, config)], root, files, notes)


def _inside(folder: Path, name: str, key: str) -> Path:
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"dataset.{key}: no file {path}")
    return path


def _rows_of(table: Table, root: Path, split: str, *, named: bool) -> list[Row]:
    before = f"{table.path.name}, " if named else ""
    return [
        Row(row.cells, f"{before}{table.unit} {row.number}", root, split, row.problem) for row in table.rows
    ]


def _joined(table: Table, rows: Sequence[Row], other: Table, join: JoinedTable) -> tuple[Table, list[Row]]:
    """The table with the other one's columns; columns that both have stay as they are."""
    for column in join.on:
        table.need(column, "join.on")
        other.need(column, "join.on")
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in other.rows:
        key = tuple(row.cells[column] for column in join.on)
        if found.setdefault(key, row.cells) != row.cells:
            said = ", ".join(f"{c} = {v!r}" for c, v in zip(join.on, key, strict=True))
            raise DataError(
                f"dataset.join: {other.path}, {other.unit} {row.number}: a second row has {said}, "
                "with other values"
            )
    new = [column for column in other.columns if column not in table.columns]
    added = replace(table, columns=[*table.columns, *new])
    return added, [_with_cells(row, found, other, join.on) for row in rows]


def _with_cells(
    row: Row, found: Mapping[tuple[str, ...], Mapping[str, str]], other: Table, on: Sequence[str]
) -> Row:
    key = tuple(row.cells[column] for column in on)
    if key in found:
        return replace(row, cells={**found[key], **row.cells})
    said = ", ".join(f"{column} = {value!r}" for column, value in zip(on, key, strict=True))
    empty = dict.fromkeys(other.columns, "")
    problem = row.problem or f"{other.path.name} has no row with {said}"
    return replace(row, cells={**empty, **row.cells}, problem=problem)


def _check_columns(config: CsvDataset, table: Table) -> None:
    """Every column that the definition names must be in the table."""
    templates = _templates(config)
    wanted = {
        "path_template": [column for template in templates for column in _fields(template)],
        "path_column": [] if templates else [config.path_column],
        "where": config.where,
        "label_columns": config.label_columns or [],
        "label_column": [] if config.label_columns else [config.label_column or "label"],
        "split_column": [config.split_column] if config.split_column else [],
        "group_column": [config.group_column] if config.group_column else [],
        "case_column": [config.case_column] if config.case_column else [],
        "keep": [name for name in config.keep if name in table.columns or not is_tag(name)],
        "mpp_column": [config.mpp_column] if config.mpp_column else [],
    }
    for key, columns in wanted.items():
        for column in columns:
            table.need(column, key)


def _wanted(row: Row, where: Mapping[str, object]) -> bool:
    return all(
        any(_same(row.cells[column], value) for value in _listed(given)) for column, given in where.items()
    )


def _listed(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def _same(cell: str, value: object) -> bool:
    """Whether a cell has this value; numbers are compared as numbers."""
    if cell == str(value):
        return True
    try:
        return float(cell) == float(str(value))
    except ValueError:
        return False


def _check_filters(rows: Sequence[Row], where: Mapping[str, object]) -> None:
    """Every value of a filter must be there: a misspelt one would silently leave rows out."""
    for column, given in where.items():
        there = dict.fromkeys(row.cells[column] for row in rows)
        for value in _listed(given):
            if not any(_same(cell, value) for cell in there):
                shown = ", ".join(map(repr, list(there)[:SHOWN_VALUES]))
                raise DataError(f"dataset.where: no row has {column} = {value!r}; there are {shown}")


def _nearly_wanted(rows: Sequence[Row], where: Mapping[str, object]) -> list[str]:
    """A line for each filter that leaves out another spelling of what it takes."""
    lines = []
    for column, given in where.items():
        counts = Counter(row.cells[column] for row in rows)
        taken = {cell for cell in counts if any(_same(cell, value) for value in _listed(given))}
        near = {cell for members in alike(counts) if taken & set(members) for cell in members} - taken
        if near:
            shown = ", ".join(f"{cell!r} ({number_of(counts[cell], 'row')})" for cell in sorted(near))
            lines.append(
                f"dataset.where leaves out {shown} of {column}, which differ in spelling from what it takes"
            )
    return lines


def _templates(config: CsvDataset) -> list[str]:
    """The templates of an image's path, one for each image of a row."""
    given = config.path_template or []
    return [given] if isinstance(given, str) else given


def _fields(template: str) -> list[str]:
    """The columns that a template names."""
    return [column for _, column, _, _ in Formatter().parse(template) if column]


def _images(row: Row, config: CsvDataset) -> Iterator[Row]:
    """The row once for each of its images; of several, those without a path are no images."""
    known = _templates(config)
    filled = [t for t in known if any(row.cells[column] for column in _fields(t))]
    if not filled:
        path = "" if known else row.cells[config.path_column]
        yield replace(row, path=path, problem=row.problem or ("" if path else "no path"))
    for template in filled:
        try:
            yield replace(row, path=_filled_in(template, row.cells))
        except ValueError as error:
            yield replace(row, path=template, problem=row.problem or str(error))


def _filled_in(template: str, cells: Mapping[str, str]) -> str:
    parts = []
    for text, column, spec, _ in Formatter().parse(template):
        parts.append(text)
        if column is not None:
            parts.append(_formatted(cells[column], column, spec or ""))
    return "".join(parts).strip()


def _formatted(cell: str, column: str, spec: str) -> str:
    try:
        number = float(cell) if spec.endswith(("d", "x", "X")) else None
        if number is None:
            return format(cell, spec)
        if not number.is_integer():
            raise ValueError
        return format(int(number), spec)
    except (ValueError, OverflowError):
        raise ValueError(f"{column} = {cell!r} does not fit {{{column}:{spec}}} of path_template") from None
