"""Turn a source's labels into class indices, and name every label that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import Problem, task_of
from medfathom.errors import DataError
from medfathom.metrics.classification import TaskKind

MISSING = ("", "nan", "na", "n/a", "null")
"""How tables write a missing value, in lower case. A class with such a name must be among `class_names`."""

SHOWN_CLASSES = 12
"""Classes that a problem's line names, at most."""


@dataclass(frozen=True)
class Labels:
    """Labels of all n rows of a source.

    Attributes:
        values: int64 (n,) class indices, or uint8 (n, K) of 0, 1 and `UNKNOWN`; meaningless where `good` is
            False.
        good: bool (n,), rows whose label can be used.
        problems: one for each row that is not good.
    """

    values: NDArray[Any]
    task: TaskKind
    class_names: tuple[str, ...]
    good: NDArray[np.bool_]
    problems: list[Problem]


def from_numbers(columns: NDArray[Any], names: Sequence[str], class_names: Sequence[str] | None) -> Labels:
    """Read an array of labels.

    Args:
        columns: (n, 1) class numbers, or (n, K) zeros and ones, of any numeric type.
        names: how to name each row in a problem.
        class_names: known classes, in order; without them the numbers found name the classes.

    Raises:
        DataError: the number of columns is not the number of class names.
    """
    whole, good = _whole_numbers(columns)
    if columns.shape[1] == 1:
        return _single(columns[:, 0], whole[:, 0], good, names, class_names)
    found = tuple(class_names or map(str, range(columns.shape[1])))
    if len(found) != columns.shape[1]:
        raise DataError(
            f"dataset.class_names: labels have {columns.shape[1]} columns, "
            f"but there are {len(found)} class names"
        )
    good &= ((whole == 0) | (whole == 1)).all(axis=1)
    problems = [
        Problem(names[row], f"labels {columns[row].tolist()}: each must be 0 or 1")
        for row in np.flatnonzero(~good).tolist()
    ]
    return Labels(whole.astype(np.uint8), "multilabel", found, good, problems)


def need_groups(labels: Labels, groups: NDArray[np.str_] | None, names: Sequence[str]) -> Labels:
    """The labels without rows whose group is missing: those would all count as one patient.

    Args:
        labels: of all rows.
        groups: patient or slide of each row as text, or None: the source has no groups.
        names: how to name each row in a problem.
    """
    if groups is None:
        return labels
    missing = np.isin(np.char.strip(groups), ("", "nan"))
    problems = [Problem(names[row], "no group") for row in np.flatnonzero(missing & labels.good).tolist()]
    return replace(labels, good=labels.good & ~missing, problems=[*labels.problems, *problems])


def _whole_numbers(columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The values as int64, and the rows where all of them are whole numbers."""
    # Larger than any class number, and int64 holds it.
    within = (columns > -(2**31)) & (columns < 2**31)
    whole = np.where(within, columns, 0).astype(np.int64)
    return whole, (within & (whole == columns)).all(axis=1)


def _single(
    values: NDArray[Any],
    whole: NDArray[np.int64],
    good: NDArray[np.bool_],
    names: Sequence[str],
    class_names: Sequence[str] | None,
) -> Labels:
    good = good & (whole >= 0)
    if class_names is None:
        known = np.unique(whole[good])
        found = tuple(map(str, known))
        indices = np.searchsorted(known, whole).astype(np.int64)
        rule = "must be a whole number, 0 or more"
    else:
        found, indices = tuple(class_names), whole
        good &= whole < len(found)
        rule = f"must be a whole number from 0 to {len(found) - 1}"
    problems = [Problem(names[row], f"label {values[row]} {rule}") for row in np.flatnonzero(~good).tolist()]
    return Labels(indices, task_of(len(found)), found, good, problems)


def from_words(
    words: Sequence[str | None], names: Sequence[str], class_names: Sequence[str] | None
) -> Labels:
    """Read one class name for each row; None or an empty one is a problem."""
    cleaned = [_cleaned(word, class_names or ()) for word in words]
    found = tuple(class_names) if class_names is not None else sorted_names({w for w in cleaned if w})
    index = {name: i for i, name in enumerate(found)}
    values = np.array([index.get(word, -1) for word in cleaned], dtype=np.int64)
    problems = [
        Problem(names[row], _why_not(cleaned[row], words[row], found))
        for row in np.flatnonzero(values < 0).tolist()
    ]
    return Labels(values, task_of(len(found)), found, values >= 0, problems)


def from_word_lists(
    words: Sequence[str | None],
    names: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    separator: str,
    no_label: str | None,
) -> Labels:
    """Read several class names for each row ("Effusion|Mass"): a multilabel task."""
    lists = [[_cleaned(part, class_names or ()) for part in (word or "").split(separator)] for word in words]
    empty = {no_label} if no_label is not None else set()
    named = {part for parts in lists for part in parts if part} - empty
    found = tuple(class_names) if class_names is not None else sorted_names(named)
    index = {name: i for i, name in enumerate(found)}
    values = np.zeros((len(words), len(found)), dtype=np.uint8)
    problems = []
    good = np.ones(len(words), dtype=bool)
    for row, parts in enumerate(lists):
        positive = [part for part in parts if part not in empty]
        unknown = [part for part in positive if part not in index]
        if unknown:
            good[row] = False
            problems.append(Problem(names[row], _why_not(unknown[0], words[row], found)))
        else:
            values[row, [index[part] for part in positive]] = 1
    return Labels(values, "multilabel", found, good, problems)


def sorted_names(found: set[str]) -> tuple[str, ...]:
    """Sorted: by number where all are whole numbers, else alphabetically."""
    if all(name.isdecimal() for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def _cleaned(word: str | None, known: Sequence[str]) -> str:
    """The class name; "" where it is missing."""
    word = (word or "").strip()
    return "" if word.lower() in MISSING and word not in known else word


def _why_not(cleaned: str, written: str | None, known: Sequence[str]) -> str:
    if not cleaned:
        return f"no label ({written!r})"
    return f"label {cleaned!r} is none of {', '.join(map(repr, known[:SHOWN_CLASSES]))}"
