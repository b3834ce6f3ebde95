"""A CSV table with a row for each image file."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfathom.data.labels import Labels, from_word_lists, from_words, normal_word, normal_words
from medfathom.data.sources.base import Listing, Problem
from medfathom.data.sources.cases import files_of
from medfathom.data.sources.files import FileSource, existing, file_signature
from medfathom.data.sources.folder import SPLIT_FOLDERS
from medfathom.data.sources.suspicions import mask_suspicions
from medfathom.data.sources.walk import Choice
from medfathom.definitions.dataset import CsvDataset
from medfathom.errors import DataError, did_you_mean

DELIMITERS = ",;\t"
"""Known delimiters; a table uses the one that is most frequent in its first line."""


class CsvSource(FileSource):
    """A row's name is its file and line: `a.png (line 7)`; the header is line 1."""

    def __init__(self, config: CsvDataset) -> None:
        super().__init__(config)
        self._table_config = config
        self.path = existing(config.path, folder=False)
        self.root = Path(config.root).expanduser().absolute() if config.root else self.path.parent
        if not self.root.is_dir():
            raise DataError(f"dataset.root: no folder {self.root}")
        self._columns, rows = _read_table(self.path)
        self._check_columns()
        paths = [row.cells[config.path_column].strip() for row in rows]
        self._choice = Choice(config.include, config.exclude)
        kept, self._ignored = self._choice.of_rows(paths)
        self._rows = [rows[row] for row in kept]
        if not kept:
            raise DataError(
                f"dataset.path: no row of {self.path} is left; {'; '.join(map(str, self._ignored))}"
            )

    def signature(self) -> str:
        """Path, size and time of the table and of every file in it."""
        digest = hashlib.sha256(file_signature(self.path).encode())
        for row in self._rows:
            for file in self._files_of(row):
                digest.update(file_signature(file).encode())
        return f"{self.path} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """The rows, in the table's order."""
        names = [f"{row.cells[self._table_config.path_column]} (line {row.line})" for row in self._rows]
        splits, problems = self._splits(names)
        problems = [*self._uneven(names), *problems]
        labels = self._labels(names)
        bad = {problem.name for problem in problems}
        # A row with a bad split and a bad label is one bad row, not two.
        labels.problems[:] = [problem for problem in labels.problems if problem.name not in bad]
        labels.good[[row for row, name in enumerate(names) if name in bad]] = False
        return self._list_files(
            paths=[self._file(row) for row in self._rows],
            names=names,
            labels=labels,
            splits=splits,
            groups=self._groups(names),
            problems=problems,
            cases=self._cases(),
            ignored=self._ignored,
            notes=mask_suspicions([row.cells[self._table_config.path_column] for row in self._rows]),
        )

    def _file(self, row: _Row) -> Path:
        return self.root / row.cells[self._table_config.path_column].strip()

    def _files_of(self, row: _Row) -> list[Path]:
        """The row's file; where it can be a folder, the images in it."""
        file = self._file(row)
        return [file] if self._table_config.unit == "image" else files_of(file, self._choice)

    def _uneven(self, names: Sequence[str]) -> list[Problem]:
        wanted = len(self._columns)
        return [
            Problem(name, f"has {row.n_cells} cells, but the header has {wanted}")
            for name, row in zip(names, self._rows, strict=True)
            if row.n_cells != wanted
        ]

    def _check_columns(self) -> None:
        config = self._table_config
        wanted = {
            "path_column": [config.path_column],
            "label_columns": config.label_columns or [],
            "label_column": [] if config.label_columns else [config.label_column or "label"],
            "split_column": [config.split_column] if config.split_column else [],
            "group_column": [config.group_column] if config.group_column else [],
            "case_column": [config.case_column] if config.case_column else [],
        }
        for key, columns in wanted.items():
            for column in columns:
                if column not in self._columns:
                    hint = did_you_mean(column, self._columns)
                    raise DataError(f"dataset.{key}: {self.path} has no column {column!r}; {hint}")

    def _labels(self, names: Sequence[str]) -> Labels:
        config = self._table_config
        if config.label_columns is not None:
            return self._label_columns(config.label_columns, names)
        words = [row.cells[config.label_column or "label"] for row in self._rows]
        if config.label_separator is None:
            return from_words(words, names, config)
        return from_word_lists(words, names, config)

    def _label_columns(self, columns: Sequence[str], names: Sequence[str]) -> Labels:
        meanings = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
        values = np.zeros((len(self._rows), len(columns)), dtype=np.uint8)
        good = np.ones(len(self._rows), dtype=bool)
        problems = []
        for index, row in enumerate(self._rows):
            cells = [row.cells[column].strip() for column in columns]
            wrong = [f"{c} = {v!r}" for c, v in zip(columns, cells, strict=True) if v not in meanings]
            if wrong:
                good[index] = False
                problems.append(Problem(names[index], f"label {', '.join(wrong)}: must be 0 or 1"))
            else:
                values[index] = [meanings[cell] for cell in cells]
        return Labels(values, "multilabel", tuple(columns), good, problems)

    def _splits(self, names: Sequence[str]) -> tuple[list[str], list[Problem]]:
        column = self._table_config.split_column
        if column is None:
            return [""] * len(self._rows), []
        meanings = {word: split for split, words in SPLIT_FOLDERS.items() for word in words}
        words = [normal_word(row.cells[column]).casefold() for row in self._rows]
        problems = [
            Problem(name, f"{column} = {row.cells[column]!r}: must be train, val or test")
            for name, word, row in zip(names, words, self._rows, strict=True)
            if word not in meanings
        ]
        return [meanings.get(word, "") for word in words], problems

    def _groups(self, names: Sequence[str]) -> list[str | None] | None:
        column = self._table_config.group_column
        if column is None:
            return self._groups_from_names(names)
        return [word or None for word in normal_words(row.cells[column] for row in self._rows)]

    def _cases(self) -> list[str | None] | None:
        column = self._table_config.case_column
        return None if column is None else [row.cells[column].strip() or None for row in self._rows]


@dataclass(frozen=True)
class _Row:
    """One row of a table; cells by column, empty where the row is too short."""

    cells: Mapping[str, str]
    n_cells: int
    line: int


def _read_table(path: Path) -> tuple[list[str], list[_Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            rows = [_as_row(columns, cells, reader.line_num) for cells in reader if cells]
    except UnicodeDecodeError:
        raise DataError(f"dataset.path: {path} is not a CSV table in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"dataset.path: {path}, line {reader.line_num}: not CSV ({error})") from None
    except OSError as error:
        raise DataError(f"dataset.path: {path} cannot be read ({error.strerror})") from None
    if len(set(columns)) < len(columns):
        raise DataError(f"dataset.path: {path} has two columns of the same name: {', '.join(columns)}")
    if not rows:
        raise DataError(f"dataset.path: {path} has no rows below its header")
    return columns, rows


def _delimiter(first_line: str) -> str:
    return max(DELIMITERS, key=first_line.count)


def _as_row(columns: Sequence[str], cells: Sequence[str], line: int) -> _Row:
    padded = [*cells, *[""] * (len(columns) - len(cells))]
    return _Row(dict(zip(columns, padded, strict=False)), len(cells), line)
