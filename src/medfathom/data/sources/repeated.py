"""Several rows of one file: merged where they agree, resolved by a stated rule where they do not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.data.labels import Labels
from medfathom.data.sources.base import Problem
from medfathom.errors import DataError
from medfathom.metrics.unknown import UNKNOWN, is_absent, is_present

Rule = Literal["error", "any", "majority", "max"]

SHOWN = 3
"""Files, and rows of a file, that an error names."""


@dataclass(frozen=True)
class Merged:
    """What is left of rows once each file has one.

    Attributes:
        kept: the first row of each file, ascending.
        labels: of all rows; those of kept rows are their file's.
        notes: what was done, for the reader.
    """

    kept: Sequence[int]
    labels: Labels
    notes: Sequence[str]


@dataclass(frozen=True)
class RowFacts:
    """What rows say of their files, row by row."""

    names: Sequence[str]
    paths: Sequence[Path]
    splits: Sequence[str]
    groups: Sequence[str | None] | None
    further: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """What else a file has one of, by its name: its case, and columns for subgroups."""


def merge_rows(facts: RowFacts, labels: Labels, rule: Rule, *, ordered: bool) -> Merged:
    """One row for each file; two spellings, or links, of a path are one file.

    A file with a row that cannot be used cannot be used.

    Args:
        facts: of all rows.
        labels: of all rows.
        rule: the `repeated` key.
        ordered: whether the classes are in an order that the user gave, or are numbers.

    Raises:
        DataError: rows of one file have different splits, groups, cases or subgroups, or the rule does not
            fit the labels.
    """
    by_file: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(facts.paths):
        by_file[os.path.realpath(path)].append(row)
    several = [rows for rows in by_file.values() if len(rows) > 1]
    if not several:
        return Merged(range(len(facts.paths)), labels, [])
    usable = [rows for rows in several if labels.good[rows].all()]
    _same_for_a_file(facts.splits, usable, facts.names, "split")
    if facts.groups is not None:
        _same_for_a_file(facts.groups, usable, facts.names, "group")
    for what, said in facts.further.items():
        _same_for_a_file(said, usable, facts.names, what)
    differing = [rows for rows in usable if (labels.values[rows] != labels.values[rows[0]]).any()]
    if differing and rule != "error":
        _check_rule(rule, labels, ordered)
    values, good, problems = labels.values.copy(), labels.good.copy(), list(labels.problems)
    for rows in several:
        problem = _merge(rows, values, good, rule, facts.names, labels)
        if problem is not None:
            good[rows[0]] = False
            problems.append(problem)
    kept = sorted(rows[0] for rows in by_file.values())
    merged = replace(labels, values=values, good=good, problems=problems)
    return Merged(kept, merged, _notes(several, differing, rule))


def _same_for_a_file(
    values: Sequence[str | None], several: Sequence[Sequence[int]], names: Sequence[str], what: str
) -> None:
    wrong = [rows for rows in several if len({values[row] for row in rows}) > 1]
    if wrong:
        shown = "; ".join(
            " but ".join(f"{names[row]}: {values[row] or 'none'}" for row in _distinct(rows, values))
            for rows in wrong[:SHOWN]
        )
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise DataError(
            f"dataset.path: {len(wrong)} files have rows that disagree on their {what} ({shown}{more}); "
            f"a file has one {what}"
        )


def _distinct(rows: Sequence[int], values: Sequence[str | None]) -> list[int]:
    """The first row with each value."""
    first: dict[str | None, int] = {}
    for row in rows:
        first.setdefault(values[row], row)
    return list(first.values())


def _check_rule(rule: Rule, labels: Labels, ordered: bool) -> None:
    if labels.task == "multiclass" and rule == "any":
        raise DataError(
            f'dataset.repeated = "any" needs labels that are present or not, but there are '
            f'{len(labels.class_names)} classes; use "majority" or "max"'
        )
    if rule != "majority" and labels.task != "multilabel" and not ordered:
        raise DataError(
            f"dataset.repeated = {rule!r} takes the higher class: give dataset.positive (of two), or "
            "dataset.class_names from the lowest to the highest (found "
            f"{', '.join(map(repr, labels.class_names))})"
        )


def _merge(
    rows: Sequence[int],
    values: NDArray[Any],
    good: NDArray[np.bool_],
    rule: Rule,
    names: Sequence[str],
    labels: Labels,
) -> Problem | None:
    """Write a file's label into its first row; a problem where it has none."""
    first = rows[0]
    unusable = [row for row in rows if not good[row]]
    if unusable:
        if not good[first]:
            return None  # it is a problem already
        return Problem(names[first], f"another row of this file cannot be used: {names[unusable[0]]}")
    votes = values[list(rows)]
    if (votes == votes[0]).all():
        return None
    said = _said(rows, values, names, labels)
    if rule == "error":
        hint = 'dataset.repeated = "any", "majority" or "max" says what holds'
        return Problem(names[first], f"rows of this file disagree: {said}; {hint}")
    found = _resolved(votes, rule)
    if found is None:
        return Problem(names[first], f"rows of this file have no majority: {said}")
    values[first] = found
    return None


def _said(rows: Sequence[int], values: NDArray[Any], names: Sequence[str], labels: Labels) -> str:
    """What the first few rows that differ say."""
    words = {row: _label_text(values[row], labels) for row in rows}
    shown = _distinct(rows, [words.get(row) for row in range(max(rows) + 1)])[:SHOWN]
    return ", ".join(f"{names[row]} says {words[row]}" for row in shown)


def _label_text(value: Any, labels: Labels) -> str:
    if labels.task != "multilabel":
        return repr(labels.class_names[int(value)])
    words = {1: "{}", UNKNOWN: "{} not known"}
    flags = zip(labels.class_names, value.tolist(), strict=True)
    return " and ".join(words[flag].format(name) for name, flag in flags if flag in words) or "none"


def _resolved(votes: NDArray[Any], rule: Rule) -> Any:
    """The label of a file from its rows' (n,) or (n, K); None where no value has most votes."""
    if votes.ndim == 2:
        columns = [_resolved_flag(column, rule) for column in votes.T]
        return None if None in columns else np.array(columns, dtype=votes.dtype)
    if rule != "majority":
        return votes.max()
    counts = np.bincount(votes)
    best = np.flatnonzero(counts == counts.max())
    return int(best[0]) if len(best) == 1 else None


def _resolved_flag(votes: NDArray[Any], rule: Rule) -> int | None:
    """One label of several; rows that do not know it have no vote, but keep "any" from being sure."""
    present, absent = int(is_present(votes).sum()), int(is_absent(votes).sum())
    if present + absent == 0:
        return UNKNOWN
    if rule == "majority":
        return None if present == absent else int(present > absent)
    if present:
        return 1
    return 0 if absent == len(votes) else UNKNOWN


def _notes(several: Sequence[Sequence[int]], differing: Sequence[Sequence[int]], rule: Rule) -> list[str]:
    n_rows = sum(map(len, several))
    note = f"{n_rows} rows name {len(several)} files several times: each file is one image"
    if differing and rule != "error":
        note += f'; labels of {len(differing)} of them differ, and repeated = "{rule}" resolved them'
    return [note]
