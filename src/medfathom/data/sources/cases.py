"""From a source's rows to the images of its cases: a folder becomes its images, each image has its case."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medfathom.data.labels import Labels, normal_words, one_spelling
from medfathom.data.sources.base import Problem
from medfathom.data.sources.walk import Choice, FilesBelow, files_below
from medfathom.data.stacks import Part
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError
from medfathom.metrics.cases import cases_of
from medfathom.metrics.unknown import UNKNOWN
from medfathom.text import natural
from medfathom.units import Unit

T = TypeVar("T")

FILLED = "is taken from others of their"
"""How a note says that labels of a case's images were filled in."""


@dataclass(frozen=True)
class FileRows:
    """Image files, or folders of them, as a source lists them: n rows.

    Attributes:
        paths, names, labels, splits, groups: as a source lists them.
        folders: the folder, or the stack, that is each row's case, as text; None where the row lies in no
            folder of its own and is no stack.
        cases: each row's case as a column names it, equal only within a patient; None: there is no column.
        parts: which image of its file each is; None: each file is one image.
        mpps: microns per pixel of each slide as a column says; None: there is no column.
        kept: column -> each row's cell, of those that are carried along for subgroups.
        notes: what the data set's reader should know, a line each.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    labels: Labels
    splits: Sequence[str]
    groups: Sequence[str | None] | None
    folders: Sequence[str | None]
    cases: Sequence[str | None] | None = None
    parts: Sequence[Part] | None = None
    mpps: Sequence[float | None] | None = None
    notes: Sequence[str] = ()
    kept: Mapping[str, Sequence[str]] = field(default_factory=dict)


def in_parts(
    rows: FileRows, parts: Sequence[Sequence[Part] | None], root: Path
) -> tuple[FileRows, list[int]]:
    """A row for each part of a file, in the file's place and with its name; each such file is a case.

    Args:
        rows: files.
        parts: of each file; None: it is one image.
        root: of the paths that cases are named by.

    Returns:
        The new rows, and for each of them the row that it was.
    """
    index = [i for i, of_file in enumerate(parts) for _ in ([None] if of_file is None else of_file)]
    wide = taken(rows, index)
    folders = [
        folder if parts[i] is None else below(path, root)
        for i, path, folder in zip(index, wide.paths, wide.folders, strict=True)
    ]
    found = [part for of_file in parts for part in ([None] if of_file is None else of_file)]
    return replace(wide, folders=folders, parts=found), index


def images_of_cases(
    rows: FileRows, config: FolderDataset | CsvDataset, root: Path, *, hidden: bool = True
) -> FileRows:
    """The case of each image.

    Args:
        rows: images.
        config: says what a case is (not `image`), and by `case_pattern` which case an image is of; without a
            pattern a column or the folders say it.
        root: of the paths that cases are named by.
        hidden: whether errors name no case, as its name may be a patient's.

    Returns:
        Rows whose `cases` are known. A row whose case is not known, or disagrees with others of its case, is
        not good any more, and a problem of the labels says why. Of several labels, one that is not known of
        an image is that of the case's other images, where it is known of any.

    Raises:
        DataError: named cases differ only in their spelling.
    """
    unit, pattern, wide = config.unit, config.case_pattern, rows
    if pattern is not None:
        found = [re.search(pattern, os.path.relpath(path, root)) for path in wide.paths]
        wide = replace(wide, cases=[match.group(1) if match else None for match in found])
    named = wide.cases is not None
    cases = wide.folders if wide.cases is None else wide.cases
    without = [i for i, case in enumerate(cases) if not case]
    wide = spoilt(wide, dict.fromkeys(without, _without(unit, named=named)))
    if named:
        wide, cases = _in_one_spelling(wide, cases, config, hidden=hidden)
    return one_label_and_patient(_with_known_labels(replace(wide, cases=cases), cases, unit), unit)


def _in_one_spelling(
    rows: FileRows, cases: Sequence[str | None], config: FolderDataset | CsvDataset, *, hidden: bool
) -> tuple[FileRows, list[str | None]]:
    """Named cases, within patients where these are known: `Vol7` and `vol7` are not two volumes.

    Patients that differ only in their spelling are refused later, or are merged already here.
    """
    words, rule = normal_words(case or "" for case in cases), config.similar_words
    if rows.groups is not None:
        groups = [group or "" for group in rows.groups]
        if rule == "merge":
            groups = one_spelling(normal_words(groups), rule, "patients")
            rows = replace(rows, groups=[group or None for group in groups])
        words = [f"{g}/{c}" if g and c else c for g, c in zip(groups, words, strict=True)]
    try:
        return rows, [word or None for word in one_spelling(words, rule, f"{config.unit}s")]
    except DataError:
        if not hidden:
            raise
    raise DataError(
        f"{config.unit}s differ only in their spelling (case, separators, leading zeros), as v7 and V7 do; "
        'dataset.similar_words = "merge" makes them one, "keep" takes them for different ones'
    )


def one_label_and_patient(rows: FileRows, unit: Unit) -> FileRows:
    """The rows; those whose case has several labels or patients are not good any more."""
    return rows if rows.cases is None else spoilt(rows, _disagreeing(rows, rows.cases, unit))


def of_cases(
    columns: Mapping[str, NDArray[np.str_]], cases: NDArray[np.str_], unit: Unit
) -> dict[str, NDArray[np.str_]]:
    """Each image's cells with the one value of its case: an empty cell has what others of the case say.

    Args:
        columns: column -> each image's cell, (n,).
        cases: the case of each image, (n,).
        unit: what a case is called.

    Raises:
        DataError: a case has several values.
    """
    found, filled = cases_of(cases), {}
    for name, cells in columns.items():
        known, values = cells != "", np.full(len(found), "", dtype=cells.dtype)
        values[found.member[known]] = cells[known]
        filled[name] = values[found.member]
        wrong = np.unique(found.member[known & (filled[name] != cells)])
        if len(wrong):
            raise DataError(
                f"dataset.keep: {name} differs between images of one {unit}, in {len(wrong)} of "
                f"{len(found)}, such as {str(found.names[wrong[0]])!r}; "
                f"a {unit} needs one value; leave {name!r} out"
            )
    return filled


def _with_known_labels(rows: FileRows, cases: Sequence[str | None], unit: Unit) -> FileRows:
    """A case's label is known once it is known of any of its images. Those that disagree stay as they are."""
    labels = rows.labels
    good = np.array([row for row in np.flatnonzero(labels.good).tolist() if cases[row]], dtype=np.int64)
    if labels.values.ndim == 1 or not (labels.values[good] == UNKNOWN).any():
        return rows
    values, member = labels.values[good], cases_of([str(cases[row]) for row in good]).member
    said = np.zeros((2, member.max() + 1, values.shape[1]), dtype=np.bool_)
    for value in (0, 1):
        np.logical_or.at(said[value], member, values == value)
    fills = (values == UNKNOWN) & (said[0] ^ said[1])[member]
    filled = labels.values.copy()
    filled[good] = np.where(fills, said[1][member], values)
    counts = zip(labels.class_names, fills.sum(axis=0).tolist(), strict=True)
    notes = [
        f"{name!r} is not known of {count} images, and {FILLED} {unit}" for name, count in counts if count
    ]
    return replace(rows, labels=replace(labels, values=filled), notes=[*rows.notes, *notes])


def _without(unit: Unit, *, named: bool) -> str:
    if named:
        return f"no {unit}: dataset.case_pattern or case_column finds none"
    return f"no {unit}: it is one image in no folder of its own; give dataset.case_pattern or case_column"


def files_of(path: Path, choice: Choice, root: Path) -> list[Path]:
    """The file itself; of a folder its images at any depth, in natural order (2 before 10).

    Args:
        path: of the file or folder.
        choice: which files of a folder count, by their paths below `root`.
        root: the data set's folder.
    """
    inside = inside_of(path, choice, root)
    return [path] if inside is None else in_natural_order(path, inside)


def inside_of(path: Path, choice: Choice, root: Path) -> FilesBelow | None:
    """What lies below a folder that a row names, and what is left out there; None where it is no folder.

    Args: as of `files_of`.

    Raises:
        DataError: a folder may not be read.
    """
    try:
        is_folder = path.is_dir()
    except OSError:  # a name that is too long: reading it says so
        is_folder = False
    return files_below(path, replace(choice, above=below(path, root))) if is_folder else None


def in_natural_order(folder: Path, inside: FilesBelow) -> list[Path]:
    """The files that are taken of a folder: 2 before 10."""
    return sorted((folder / file for file in inside.files), key=natural)


def in_files(rows: FileRows, root: Path, choice: Choice) -> FileRows:
    """A row for each file of a folder, in the folder's place; `choice`: which files of a folder count."""
    files = [files_of(path, choice, root) for path in rows.paths]
    empty = {i: "no image in this folder" for i, found in enumerate(files) if not found}
    rows = spoilt(rows, empty)
    files = [found or [path] for path, found in zip(rows.paths, files, strict=True)]
    index = [i for i, found in enumerate(files) for _ in found]
    paths = [file for found in files for file in found]
    whole = [paths[k] == rows.paths[i] for k, i in enumerate(index)]
    names = [
        rows.names[i] if same else f"{rows.names[i]}: {path.relative_to(rows.paths[i]).as_posix()}"
        for i, path, same in zip(index, paths, whole, strict=True)
    ]
    folders = [
        rows.folders[i] if same else below(rows.paths[i], root) for i, same in zip(index, whole, strict=True)
    ]
    return replace(taken(rows, index), paths=paths, names=names, folders=folders)


def taken(rows: FileRows, index: Sequence[int]) -> FileRows:
    """Some rows, and the problems of all."""
    return replace(
        rows,
        paths=_picked(rows.paths, index),
        names=_picked(rows.names, index),
        labels=replace(rows.labels, values=rows.labels.values[index], good=rows.labels.good[index]),
        splits=_picked(rows.splits, index),
        groups=None if rows.groups is None else _picked(rows.groups, index),
        cases=None if rows.cases is None else _picked(rows.cases, index),
        folders=_picked(rows.folders, index),
        parts=None if rows.parts is None else _picked(rows.parts, index),
        mpps=None if rows.mpps is None else _picked(rows.mpps, index),
        kept={column: _picked(cells, index) for column, cells in rows.kept.items()},
    )


def below(path: Path, root: Path) -> str:
    """A path as cases are named."""
    return Path(os.path.relpath(path, root)).as_posix()


def _picked(values: Sequence[T], index: Sequence[int]) -> list[T]:
    return [values[i] for i in index]


def spoilt(rows: FileRows, reasons: Mapping[int, str]) -> FileRows:
    """These rows are not good; of those that were, a problem says why, once for the frames of a stack."""
    labels, good = rows.labels, rows.labels.good.copy()
    new = dict.fromkeys(Problem(rows.names[i], reason) for i, reason in reasons.items() if good[i])
    good[list(reasons)] = False
    return replace(rows, labels=replace(labels, good=good, problems=[*labels.problems, *new]))


def _disagreeing(rows: FileRows, cases: Sequence[str | None], unit: Unit) -> dict[int, str]:
    """Rows whose case has two labels, or two patients: row -> why."""
    good = [i for i in np.flatnonzero(rows.labels.good).tolist() if cases[i]]
    found = cases_of([str(cases[i]) for i in good])
    reasons: dict[int, str] = {}
    for what, values in (("label", _label_words(rows.labels)), ("patient", rows.groups)):
        if values is None:
            continue
        own = np.array([str(values[i]) for i in good], dtype=np.str_)
        first = own[found.first][found.member]
        wrong = {int(m): k for k, m in enumerate(found.member) if own[k] != first[k]}
        for k in np.flatnonzero(np.isin(found.member, list(wrong))):
            other = wrong[int(found.member[k])]
            case, one, two = (str(v) for v in (found.names[found.member[k]], first[other], own[other]))
            reasons[good[k]] = (
                f"its {unit} {case!r} has images of {what} {one!r} and of {what} {two!r}; "
                f"a {unit} needs one {what}"
            )
    return reasons


def _label_words(labels: Labels) -> list[str]:
    """Each row's label as text."""
    if labels.values.ndim == 1:
        words = dict(enumerate(labels.class_names))
        return [words.get(value, "?") for value in labels.values.tolist()]
    return [
        "+".join(n if v == 1 else f"{n} not known" for n, v in zip(labels.class_names, row, strict=True) if v)
        or "none"
        for row in labels.values.tolist()
    ]
