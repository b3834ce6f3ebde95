"""From a table's cells to labels: words, lists of words, or columns of zeros and ones."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np

from medfathom.data.labels import MISSING, Labels, from_word_lists, from_words, normal_word
from medfathom.data.sources.base import Problem, task_of
from medfathom.data.sources.table_rows import Row
from medfathom.definitions.dataset import CsvDataset
from medfathom.definitions.table import CellMeanings
from medfathom.metrics.unknown import UNKNOWN, is_present

PRESENT, ABSENT, UNCERTAIN, EMPTY, STRANGE = 1, 0, -1, -2, -3
"""What a cell of a label's column says."""

WORDS = {"true": PRESENT, "yes": PRESENT, "false": ABSENT, "no": ABSENT, **dict.fromkeys(MISSING, EMPTY)}
"""Words with one meaning, in lower case. -1 means uncertain since CheXpert (Irvin et al., AAAI 2019)."""

MEANINGS = {"zero": 0, "one": 1, "ignore": UNKNOWN}


def read_labels(rows: Sequence[Row], config: CsvDataset) -> Labels:
    """The label of every row, as the definition says."""
    names = [row.name for row in rows]
    if config.label_columns is not None:
        return _from_columns(rows, names, config.label_columns, config)
    words = [row.cells[config.label_column or "label"] for row in rows]
    if config.label_separator is None:
        return from_words(words, names, config)
    return from_word_lists([_listed(word, config) for word in words], names, config)


def _listed(word: str, config: CsvDataset) -> str:
    """A cell of several labels, with the separator between them."""
    separator = config.label_separator or ""
    if word.startswith("[") and word.endswith("]"):
        with suppress(ValueError, SyntaxError):  # a list as Python writes it, else a word like any other
            word = separator.join(map(str, literal_eval(word)))
    if config.unlisted == "error":
        return word
    parts = [part.strip() for part in word.split(separator)]
    # As `from_word_lists` compares words: in another case or spacing, a listed label is not dropped.
    known = {normal_word(name).casefold() for name in config.class_names or ()}
    kept = [part for part in parts if normal_word(part).casefold() in known]
    # A row with other labels only has none of these; an empty cell stays one.
    return separator.join(kept) if kept or not any(parts) else config.no_label or ""


def _from_columns(
    rows: Sequence[Row], names: Sequence[str], columns: Sequence[str], config: CsvDataset
) -> Labels:
    cells = np.array([[_meaning(row.cells[column]) for column in columns] for row in rows], dtype=np.int64)
    for what, given in ((UNCERTAIN, config.uncertain), (EMPTY, config.missing)):
        for k, value in _values(given, columns).items():
            cells[cells[:, k] == what, k] = value
    good = np.all(cells >= 0, axis=1)
    problems = [
        Problem(names[row], _why_not(rows[row], columns, cells[row].tolist()))
        for row in np.flatnonzero(~good).tolist()
    ]
    labels = Labels(cells.astype(np.uint8), "multilabel", tuple(columns), good, problems)
    return _one_hot(labels, names) if config.one_hot else labels


@lru_cache(maxsize=1024)
def _meaning(cell: str) -> int:
    if cell.lower() in WORDS:
        return WORDS[cell.lower()]
    try:
        number = float(cell)
    except ValueError:
        return STRANGE
    return int(number) if number in (PRESENT, ABSENT, UNCERTAIN) else STRANGE


def _values(given: CellMeanings | None, columns: Sequence[str]) -> Mapping[int, int]:
    """Column -> what its cells of one kind become; not of columns that the definition says nothing about."""
    if given is None:
        return {}
    words = given if isinstance(given, dict) else dict.fromkeys(columns, given)
    return {columns.index(label): MEANINGS[word] for label, word in words.items()}


def _why_not(row: Row, columns: Sequence[str], cells: Sequence[int]) -> str:
    wrong = ", ".join(f"{c} = {row.cells[c]!r}" for c, cell in zip(columns, cells, strict=True) if cell < 0)
    keys = [key for key, what in (("missing", EMPTY), ("uncertain", UNCERTAIN)) if what in cells]
    hint = f"; dataset.{' and dataset.'.join(keys)} can say what that means" if keys else ""
    return f"label {wrong}: must be 0 or 1{hint}"


def _one_hot(labels: Labels, names: Sequence[str]) -> Labels:
    """Columns of which exactly one is 1, as classes."""
    counts = labels.values.sum(axis=1, dtype=np.int64)
    wrong = labels.good & (counts != 1)
    problems = [
        Problem(names[row], f"{counts[row]} of the label_columns are 1: with one_hot exactly one must be")
        for row in np.flatnonzero(wrong).tolist()
    ]
    return Labels(
        labels.values.argmax(axis=1).astype(np.int64),
        task_of(len(labels.class_names)),
        labels.class_names,
        labels.good & ~wrong,
        [*labels.problems, *problems],
    )


def label_notes(labels: Labels, rows: Sequence[Row], config: CsvDataset) -> list[str]:
    """What the labels themselves suggest about how they should be read."""
    if labels.task != "multilabel" or not labels.good.any():
        return []
    values = labels.values[labels.good]
    notes = []
    if config.label_columns is not None and (is_present(values).sum(axis=1) == 1).all():
        notes.append(
            f"every row has exactly one of the {len(labels.class_names)} labels: "
            "with dataset.one_hot = true they are classes, and there is a confusion matrix"
        )
    if both := _both(labels, rows, config):
        notes.append(
            f"{len(both)} rows have {config.no_label!r} and a label ({both[0]}, ...): the label counts"
        )
    return notes


def _both(labels: Labels, rows: Sequence[Row], config: CsvDataset) -> list[str]:
    """The names of rows that have a label and say that they have none."""
    if config.no_label is None or config.label_separator is None:
        return []
    none, column = normal_word(config.no_label).casefold(), config.label_column or "label"
    labelled = labels.good & is_present(labels.values).any(axis=1)
    return [
        rows[row].name
        for row in np.flatnonzero(labelled).tolist()
        if none in map(str.casefold, map(normal_word, rows[row].cells[column].split(config.label_separator)))
    ]
