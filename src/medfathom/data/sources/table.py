"""A table with a row for each image file, or several rows, or several files a row."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from medfathom.data.labels import MISSING, Labels, normal_word, normal_words
from medfathom.data.sources.base import Ignored, Listing, Problem
from medfathom.data.sources.cases import below, in_natural_order, inside_of
from medfathom.data.sources.cells import label_notes, read_labels
from medfathom.data.sources.files import FileSource, file_signature
from medfathom.data.sources.find_files import FileFinder, FoundFile
from medfathom.data.sources.folder import SPLIT_FOLDERS
from medfathom.data.sources.repeated import Merged, RowFacts, merge_rows
from medfathom.data.sources.split_lists import SplitNames, read_split_lists
from medfathom.data.sources.suspicions import mask_patterns, mask_suspicions, unused_patients, unused_splits
from medfathom.data.sources.table_rows import Row, read_rows
from medfathom.data.sources.walk import Choice, FilesBelow, by_reason
from medfathom.definitions.dataset import CsvDataset
from medfathom.errors import DataError
from medfathom.text import printable

SPLIT_WORDS = {"validate": "val"} | {word: split for split, words in SPLIT_FOLDERS.items() for word in words}
"""What a column of splits may say, in lower case."""


class CsvSource(FileSource):
    """A row's name is its path and its place: `a.png (line 7)`; the header is line 1."""

    def __init__(self, config: CsvDataset) -> None:
        super().__init__(config)
        self._table_config = config
        self._table = read_rows(config)
        self.root = self._table.root
        self._choice = Choice(config.include, config.exclude)
        kept, self._ignored = self._choice.of_rows(
            [row.path for row in self._table.rows], None if config.unit == "image" else self.root
        )
        if not kept:
            left = "; ".join(map(str, self._ignored))
            raise DataError(f"dataset.path: no row of {self._table.files[0]} is left; {left}")
        self._rows = [self._table.rows[row] for row in kept]
        self._lists = read_split_lists(config)

    def signature(self) -> str:
        """Path, size and time of the tables, the lists and every image file."""
        digest = hashlib.sha256()
        lists = self._lists.files if self._lists else []
        for path in (*self._table.files, *lists, *self._image_files()):
            digest.update(file_signature(path).encode())
        return f"{self._table.files[0]} {digest.hexdigest()}"

    def _image_files(self) -> Iterator[Path]:
        for found in self._found:
            inside = self._folders.get(found.path)
            yield from [found.path] if inside is None else in_natural_order(found.path, inside)

    def listing(self) -> Listing:
        """An image for each file, in the order of the rows."""
        names = [row.name for row in self._rows]
        splits, problems = self._splits(names)
        mpps, no_numbers = self._mpps(names)
        # A row with a bad path and a bad split is one bad row, not two: the first reason is told.
        every = [*self._row_problems(names), *problems, *no_numbers, *self._without_name(names)]
        problems = list({p.name: p for p in reversed(every)}.values())[::-1]
        labels = _without(read_labels(self._rows, self._table_config), problems, names)
        notes = [*self._table.notes, *self._repairs(), *label_notes(labels, self._rows, self._table_config)]
        notes += self._masks()
        notes += [*self._unused_patients(), *self._unused_splits(), *self._unmatched()]
        cases = self._cases()
        groups = self._groups()
        merged = self._merged(names, labels, splits, groups)
        kept = merged.kept
        return self._list_files(
            paths=[self._found[row].path for row in kept],
            names=[names[row] for row in kept],
            labels=_rows_of(merged.labels, kept),
            splits=[splits[row] for row in kept],
            groups=None if groups is None else [groups[row] for row in kept],
            problems=problems,
            cases=None if cases is None else [cases[row] for row in kept],
            ignored=self._all_ignored(),
            notes=[*notes, *merged.notes],
            mpps=None if mpps is None else [mpps[row] for row in kept],
            kept=self._kept(kept),
        )

    def _kept(self, rows: Sequence[int]) -> dict[str, list[str]]:
        """The table's columns for subgroups, of these rows."""
        return {
            column: [normal_word(self._rows[row].cells[column]) for row in rows]
            for column in self._table_config.keep
            if all(column in row.cells for row in self._rows)
        }

    @cached_property
    def _found(self) -> list[FoundFile]:
        """The file of each row."""
        config = self._table_config
        given = config.path_template or "{" + config.path_column + "}"
        template = given if isinstance(given, str) else given[0]
        finders = {
            root: FileFinder(root, template, anywhere=config.anywhere, choice=self._choice)
            for root in {row.root for row in self._rows}
        }
        return [finders[row.root].find(row.path) for row in self._rows]

    @cached_property
    def _folders(self) -> dict[Path, FilesBelow]:
        """The folders that rows name, and what lies in them."""
        if self._table_config.unit == "image":  # only a case can be a folder
            return {}
        paths = dict.fromkeys(found.path for found in self._found)
        inside = {path: inside_of(path, self._choice, self.root) for path in paths}
        return {path: found for path, found in inside.items() if found is not None}

    def _masks(self) -> list[str]:
        """Lines where rows, or files in the folders that rows name, look like masks."""
        config = self._table_config
        rows = [self._below_root(k) if config.anywhere else row.path for k, row in enumerate(self._rows)]
        lines = mask_suspicions(rows)
        if not self._folders:
            return lines
        # A row that looks like a mask is told once, not again for each of its files.
        masks = mask_patterns(rows)
        told = {found.path for row, found in zip(rows, self._found, strict=True) if row in masks}
        inner = [
            (printable(below(path, self.root)), printable(file))
            for path, inside in self._folders.items()
            if path not in told
            for file in inside.files
        ]
        names = [f"{place}/{file}" for place, file in inner]
        return [*lines, *mask_suspicions(names, [file for _, file in inner])]

    def _all_ignored(self) -> list[Ignored]:
        """Rows, and files in the folders that rows name, which are left out, by reason."""
        reasons = {name: one.reason for one in self._ignored for name in one.names}
        for path, inside in self._folders.items():
            place = below(path, self.root)
            reasons |= {f"{place}/{name}": one.reason for one in inside.ignored for name in one.names}
        return by_reason(reasons)

    def _row_problems(self, names: Sequence[str]) -> list[Problem]:
        reasons = [row.problem or found.problem for row, found in zip(self._rows, self._found, strict=True)]
        return [Problem(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]

    def _repairs(self) -> list[str]:
        counts = Counter(found.repair for found in self._found if found.repair)
        return [f"paths of {count} rows were repaired: {repair}" for repair, count in counts.items()]

    def _merged(
        self, names: Sequence[str], labels: Labels, splits: Sequence[str], groups: Sequence[str | None] | None
    ) -> Merged:
        config = self._table_config
        further: dict[str, Sequence[str | None]] = dict(self._kept(range(len(names))))
        if (cases := self._cases()) is not None:
            further[config.unit] = normal_words(case or "" for case in cases)
        facts = RowFacts(names, [found.path for found in self._found], splits, groups, further)
        numbers = all(name.isdecimal() for name in labels.class_names)
        ordered = numbers or config.class_names is not None
        if config.positive is not None and labels.task == "binary":
            ordered = True
            if normal_word(labels.class_names[0]) == normal_word(str(config.positive)):
                labels = replace(labels, values=1 - labels.values, class_names=labels.class_names[::-1])
        return merge_rows(facts, labels, config.repeated, ordered=ordered)

    def _splits(self, names: Sequence[str]) -> tuple[list[str], list[Problem]]:
        """The split of every row, and rows whose split cannot be used."""
        if self._lists is not None:
            return _listed_splits(self._lists, self._rows, names)
        column = self._table_config.split_column
        if column is None:
            return [row.split for row in self._rows], []
        words = [normal_word(row.cells[column]).casefold() for row in self._rows]
        problems = [
            Problem(name, f"{column} = {row.cells[column]!r}: must be train, val or test")
            for name, word, row in zip(names, words, self._rows, strict=True)
            if word not in SPLIT_WORDS
        ]
        return [SPLIT_WORDS.get(word, "") for word in words], problems

    def _groups(self) -> list[str | None] | None:
        column = self._table_config.group_column
        if column is None:
            # The file that was found: with `anywhere` its folders may name the patient.
            return self._groups_from_names([self._below_root(row) for row in range(len(self._rows))])
        return [_known(word) for word in normal_words(row.cells[column] for row in self._rows)]

    def _cases(self) -> list[str | None] | None:
        column = self._table_config.case_column
        return None if column is None else [_known(row.cells[column]) for row in self._rows]

    def _without_name(self, names: Sequence[str]) -> list[Problem]:
        """Rows whose patient or case is a word for a missing value: they would all count as one."""
        config = self._table_config
        columns = {config.group_column: "no group", config.case_column: f"no {config.unit}"}
        return [
            Problem(name, f"{column} = {cell!r}: {what}")
            for column, what in columns.items()
            if column is not None
            for name, row in zip(names, self._rows, strict=True)
            if (cell := row.cells[column]) and _known(cell) is None
        ]

    def _mpps(self, names: Sequence[str]) -> tuple[list[float | None] | None, list[Problem]]:
        """Microns per pixel of each slide, None where its cell is empty, and rows whose cell is no number."""
        column = self._table_config.mpp_column
        if column is None:
            return None, []
        cells = [row.cells[column].strip() for row in self._rows]
        found = [None if not cell else _positive(cell) for cell in cells]
        problems = [
            Problem(name, f"{column} = {cell!r}: microns per pixel are a number above 0")
            for name, cell, mpp in zip(names, cells, found, strict=True)
            if cell and mpp is None
        ]
        return found, problems

    def _unused_patients(self) -> list[str]:
        return unused_patients(self._columns, *self._units())

    @cached_property
    def _columns(self) -> dict[str, list[str]]:
        return {name: [row.cells.get(name, "") for row in self._rows] for name in self._rows[0].cells}

    def _unused_splits(self) -> list[str]:
        config = self._table_config
        if config.split_column or self._lists or any(row.split for row in self._rows):
            return []
        return unused_splits(self._columns) if config.splits.given != "ignore" else []

    def _units(self) -> tuple[list[str], str]:
        """What no split divides, of each row, and how that is called."""
        config = self._table_config
        paths = [str(found.path) for found in self._found]
        if (groups := self._groups()) is not None:
            return [group or "" for group in groups], "groups"
        if config.unit == "image":
            return paths, "images"
        if config.case_pattern is not None:
            found = [re.search(config.case_pattern, self._below_root(row)) for row in range(len(paths))]
            return [match.group(1) or "" if match else "" for match in found], f"{config.unit}s"
        return [case or "" for case in self._cases() or paths], f"{config.unit}s"

    def _unmatched(self) -> list[str]:
        paths = [_posix(row.path) for row in self._table.rows]
        lists = self._lists
        return [] if lists is None else list(filter(None, [lists.unmatched(paths), lists.ambiguous(paths)]))

    def _below_root(self, row: int) -> str:
        path, root = self._found[row].path, self._rows[row].root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _known(word: str) -> str | None:
    """None for a cell that names nobody."""
    return None if word.lower() in MISSING else word


def _posix(path: str) -> PurePosixPath:
    return PurePosixPath(path.replace("\\", "/"))


def _listed_splits(
    lists: SplitNames, rows: Sequence[Row], names: Sequence[str]
) -> tuple[list[str], list[Problem]]:
    found = [lists.split_of(_posix(row.path)) for row in rows]
    problems = [
        Problem(name, "is in none of dataset.split_lists")
        for name, split in zip(names, found, strict=True)
        if split is None
    ]
    return [split or "" for split in found], problems


def _without(labels: Labels, problems: Sequence[Problem], names: Sequence[str]) -> Labels:
    """The labels without rows that have a problem: a row with a bad path and a bad label is one, not two."""
    bad = {problem.name for problem in problems}
    kept = [problem for problem in labels.problems if problem.name not in bad]
    good = labels.good & np.array([name not in bad for name in names])
    return replace(labels, good=good, problems=kept)


def _positive(cell: str) -> float | None:
    """The number; None where there is none above 0."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _rows_of(labels: Labels, kept: Sequence[int]) -> Labels:
    """Labels of some rows, and the problems of all."""
    rows = list(kept)
    return replace(labels, values=labels.values[rows], good=labels.good[rows])
