"""Table files of every kind that data sets come with: csv, tsv, xlsx, parquet; all cells as text."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import IO

from medfathom.errors import DataError, did_you_mean

DELIMITERS = ",;\t|"
"""Known delimiters."""

EXCEL_DELIMITER = re.compile(r"sep=(.)", re.IGNORECASE)
"""The first line of tables for Excel, which is no header."""

MOST_BYTES = 2 * 2**30
"""Of a table's text; a small file that is unpacked to more is no table."""

LINES_TO_GUESS = 20
"""The first lines of a text say what its delimiter is."""

BINARY = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; where it is a workbook, name it .xlsx",
    b"\xd0\xcf\x11\xe0": "in Excel's old format; save it as .xlsx or .csv",
    b"\x1f\x8b": "packed by gzip; name it .csv.gz",
    b"PAR1": "a parquet file; name it .parquet",
}
"""What a file is that is no text, by its first bytes."""

BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""How UTF-16 files begin."""

EXCEL_TEXT = re.compile(r'="(.*)"')
"""How a cell is written so that Excel takes it for text and keeps its zeros: the formula `="007"`."""

HIDDEN_ROW = rb'<row [^>]*hidden="(?:1|true)"'

START_BYTES = 512
"""Of a text, to guess its encoding from."""

JSON_START = re.compile(r"\s*[\[{]\s*([\[{\"]|$)")
"""How the first line of JSON begins."""


@dataclass(frozen=True)
class TableRow:
    """One row. Cells are stripped text, empty where the row is too short; `number` is its line or row.

    `beyond` are filled cells that stand right of the header's last.
    """

    cells: Mapping[str, str]
    number: int
    problem: str = ""
    beyond: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """One table file.

    Attributes:
        path: where it lies.
        columns: in order, as the header has them.
        rows: below the header.
        unit: what numbers count: "line" (the header is line 1, or stands below comments) or "row".
        note: what its reader should know; "" for nothing.
    """

    path: Path
    columns: Sequence[str]
    rows: Sequence[TableRow]
    unit: str = "line"
    note: str = ""

    def need(self, column: str, key: str) -> None:
        """Raise a DataError that names the key where the column is not there, or there twice."""
        count = self.columns.count(column)
        if count == 0:
            hint = did_you_mean(column, [name for name in self.columns if name])
            hint = self._header_below(column) or hint
            more = f"; {self.note}" if self.note else ""
            raise DataError(f"dataset.{key}: {self.path} has no column {column!r}; {hint}{more}")
        if count > 1:
            raise DataError(f"dataset.{key}: {self.path} has two columns of the same name: {column!r}")

    def _header_below(self, column: str) -> str:
        """That a column's name stands below the first row, as under a title; "" where it does not."""
        for row in self.rows[:LINES_TO_GUESS]:
            if column in (*row.cells.values(), *row.beyond):
                return f"{self.unit} {row.number} names it: remove what stands above"
        return ""


def read_table(path: Path, key: str, *, encoding: str = "utf-8", comment: str | None = None) -> Table:
    """Read a table; its suffix says which kind it is.

    Args:
        path: csv, tsv, txt (each also with .gz), xlsx or parquet.
        key: of the definition, for errors: `path`.
        encoding: of text tables.
        comment: lines of text tables that begin with it are not read.

    Raises:
        DataError: the file is no such table, or has no rows.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".xlsx":
            table = _read_xlsx(path)
        elif suffix == ".parquet":
            table = _read_parquet(path)
        elif suffix == ".xls":
            raise DataError(f"dataset.{key}: {path} is in Excel's old format; save it as .xlsx or .csv")
        else:
            table = _read_text(path, key, encoding, comment)
    except OSError as error:
        raise DataError(f"dataset.{key}: {path} cannot be read ({error.strerror or _first(error)})") from None
    if not table.rows:
        more = f"; {table.note}" if table.note else ""
        raise DataError(f"dataset.{key}: {path} has no rows below its header{more}")
    return table


def _read_text(path: Path, key: str, encoding: str, comment: str | None) -> Table:
    lines = read_lines(path, encoding)
    kept = [
        (number, line)
        for number, line in enumerate(lines, start=1)
        if not (comment is not None and line.startswith(comment))
    ]
    while kept and not kept[0][1].strip():
        kept.pop(0)
    if kept and JSON_START.match(kept[0][1]):
        raise DataError(f"dataset.{key}: {path} is JSON, not a table; save it as .csv")
    told = EXCEL_DELIMITER.fullmatch(kept[0][1].strip()) if kept else None
    if told:
        kept.pop(0)
    delimiter = told[1] if told else _delimiter(path, [line for _, line in kept[:LINES_TO_GUESS]])
    reader = csv.reader((line for _, line in kept), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        rows = [_as_row(columns, cells, kept[reader.line_num - 1][0]) for cells in reader if _filled(cells)]
    except csv.Error as error:
        number = kept[min(reader.line_num, len(kept)) - 1][0]
        raise DataError(f"dataset.{key}: {path}, line {number}: not CSV ({error})") from None
    return Table(path, columns, rows)


def read_lines(path: Path, encoding: str) -> list[str]:
    """The lines of a text file, with their ends. Raises a DataError that names the key `encoding`."""
    plain = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        with _opened(path) as raw:
            content = raw.read(MOST_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or was cut short ({error}); copy it again") from None
    if len(content) == MOST_BYTES:
        raise DataError(f"dataset.path: {path} has more than {MOST_BYTES // 2**20} MiB of text; give less")
    start = content[:START_BYTES]
    try:
        text = content.decode(plain)
    except UnicodeError:
        raise DataError(f"dataset.encoding: {path} is not in {encoding}; {_guess(start)}") from None
    lines = list(io.StringIO(text, newline=""))
    if "\0" in text:
        number = next(n for n, line in enumerate(lines, start=1) if "\0" in line)
        if number > 1 and not _wide(start):
            raise DataError(
                f"{path}, line {number}: has a zero byte, so the file is damaged; repair the line"
            )
        raise DataError(f"dataset.encoding: {path} is no text in {encoding}; {_guess(start)}")
    return lines


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _guess(start: bytes) -> str:
    for known, what in BINARY.items():
        if start.startswith(known):
            return f"it is {what}"
    if start.startswith(BYTE_ORDER_MARKS):
        return 'it begins as UTF-16 does: encoding = "utf-16"'
    if wide := _wide(start):
        return f'every other byte is zero, as in UTF-16: encoding = "{wide}"'
    return 'set it: tables from Excel are often in "cp1252"'


def _wide(start: bytes) -> str:
    """The name of UTF-16 without a mark where most letters have a zero byte beside them; else ""."""
    half = len(start) // 4  # most of one byte's half of the start
    if start[1::2].count(0) > half:
        return "utf-16-le"
    return "utf-16-be" if start[::2].count(0) > half else ""


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    """The one that is as often in most lines as in the header; of several the most frequent there."""
    if ".tsv" in [suffix.lower() for suffix in path.suffixes]:
        return "\t"
    header, *rows = [re.sub(r'"[^"]*"', "", line) for line in lines] or [""]
    counts = {known: header.count(known) for known in DELIMITERS}

    def fit(known: str) -> tuple[int, int]:
        return sum(row.count(known) == counts[known] > 0 for row in rows), counts[known]

    return max(DELIMITERS, key=fit)


def _filled(cells: Sequence[str]) -> bool:
    return any(cell.strip() for cell in cells)


def _as_row(columns: Sequence[str], cells: Sequence[str], number: int) -> TableRow:
    beyond = [cell for cell in cells[len(columns) :] if cell.strip()]
    uneven = len(cells) < len(columns) or beyond
    problem = f"has {len(cells)} cells, but the header has {len(columns)}" if uneven else ""
    padded = [*cells, *[""] * (len(columns) - len(cells))]
    named = {c: _plain(v) for c, v in zip(columns, padded, strict=False)}
    return TableRow(named, number, problem, [cell.strip() for cell in beyond])


def _plain(cell: str) -> str:
    stripped = cell.strip()
    told = EXCEL_TEXT.fullmatch(stripped)
    return told[1].replace('""', '"').strip() if told else stripped


def _read_xlsx(path: Path) -> Table:
    """The first sheet of a workbook."""
    try:
        import openpyxl  # noqa: PLC0415  an extra
    except ImportError:
        raise DataError(
            f"dataset.path: {path}: reading .xlsx needs openpyxl: install medfathom[xlsx], or save it as .csv"
        ) from None
    try:
        merged, formulas, hidden = (_has(path, tag) for tag in (rb"<mergeCell ", rb"<f\b", HIDDEN_ROW))
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=not merged, data_only=True)
            sheet, others = book.worksheets[0], book.sheetnames[1:]
            lines = [[_as_text(value) for value in line] for line in sheet.iter_rows(values_only=True)]
            if merged:
                _fill_merged(lines, [area.bounds for area in sheet.merged_cells.ranges])
        if formulas and (cell := _unsaved_formula(path, lines)):
            raise DataError(
                f"dataset.path: {path}: cell {cell} is a formula without a value; open the workbook in Excel "
                "or LibreOffice, and save it"
            )
    except (DataError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  on a damaged workbook: of zipfile, zlib, XML and openpyxl
        raise DataError(f"dataset.path: {path} is no Excel workbook ({_first(error)})") from None
    notes = [f"of {path.name} only the first sheet is read, not {', '.join(others)}"] if others else []
    notes += [f"{path.name} has hidden rows, which are read too"] if hidden else []
    note = "; ".join(notes)
    if not lines:
        return Table(path, [], [], "row", note)
    width = max((i + 1 for i, cell in enumerate(lines[0]) if cell), default=0)
    columns = [name.strip() for name in lines[0][:width]]
    numbered = enumerate(lines[1:], start=2)
    rows = [_as_row(columns, cells, number) for number, cells in numbered if _filled(cells)]
    return Table(path, columns, rows, "row", note)


def _has(path: Path, tag: bytes) -> bool:
    """Whether any sheet of a workbook has a tag of XML, a regular expression."""
    with zipfile.ZipFile(path) as book:
        sheets = [name for name in book.namelist() if name.startswith("xl/worksheets/")]
        return any(re.search(tag, book.read(name)) for name in sheets)


def _fill_merged(lines: list[list[str]], areas: Iterable[tuple[int, int, int, int]]) -> None:
    """Every cell of a merged area (left, top, right, bottom, from 1 on) has the value of its first."""
    for left, top, right, bottom in areas:
        for line in lines[top - 1 : bottom]:
            line[left - 1 : right] = [lines[top - 1][left - 1]] * (right - left + 1)


def _unsaved_formula(path: Path, lines: Sequence[Sequence[str]]) -> str:
    """The first formula of the first sheet whose value no program has saved; "" where there is none."""
    import openpyxl  # noqa: PLC0415  an extra

    with path.open("rb") as file:
        sheet = openpyxl.load_workbook(file, read_only=True).worksheets[0]
        for row, cells in zip(lines, sheet.iter_rows(), strict=False):
            for value, cell in zip(row, cells, strict=False):
                if not value and cell.data_type == "f":
                    return str(cell.coordinate)
    return ""


def _read_parquet(path: Path) -> Table:
    import pyarrow  # noqa: PLC0415  takes a moment
    from pyarrow import parquet  # noqa: PLC0415

    try:
        content = parquet.read_table(path)
        values = [map(_as_text, column.to_pylist()) for column in content.columns]
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:  # a text may be none
        raise DataError(f"dataset.path: {path} is no parquet file ({_first(error)})") from None
    columns = [str(name).strip() for name in content.column_names]
    rows = [_as_row(columns, cells, n) for n, cells in enumerate(zip(*values, strict=True), start=1)]
    return Table(path, columns, rows, "row")


def _first(error: Exception) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _as_text(value: object) -> str:
    """A typed cell as a text table would have it."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, bytes):  # how some programs write text into parquet
        return value.decode("utf-8", errors="backslashreplace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
