"""Turn a source's labels into class indices, and name every label that cannot be used."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import Problem, task_of
from medfathom.definitions.dataset import CsvDataset, FolderDataset, SimilarWords
from medfathom.errors import DataError, did_you_mean
from medfathom.metrics.classification import TaskKind

MISSING = ("", "nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "null")
"""How tables write a missing value, in lower case. A class with such a name must be among `class_names`."""

PERHAPS_MISSING = re.compile(
    r"[\W_]+|none|missing|unknown|undefined|undetermined|unclear|uncertain|unlabell?ed|unsure"
    r"|not (known|given|sure|gradable)|unk|ungrade?able|indeterminate|equivocal|inconclusive|pending"
    r"|anon(ymous|ymi[sz]ed)?|tbd|todo|-(1|9+)(\.0*)?",
    re.IGNORECASE,
)
"""Class words that may be no class, but say that nobody knows it; -1, -9 and -99 are numbers for that."""

YES_OR_NO = dict.fromkeys(("1", "yes", "y", "true", "t"), "1") | dict.fromkeys(
    ("0", "no", "n", "false", "f"), "0"
)
"""Where a column has such words alone, several of them have one meaning."""

SHOWN_CLASSES = 12
"""Classes that a problem's line names, at most."""

SEPARATORS = "|;,/+& "
"""What may stand between labels in one cell."""

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_LOOKALIKES = str.maketrans("авсеніјкморѕтхуαβεηικμνορτυχ", "abcehijkmopstxyabehikmnoptux")
"""Letters of the Cyrillic and Greek alphabets, in lower case, whose capitals or small forms look Latin."""

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)(?:\.0*|,0{1,2})?", re.ASCII)
"""Also with a decimal comma; "1,000" would be a thousand."""


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
    missing = np.isin(np.char.lower(np.char.strip(groups)), MISSING)
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


def normal_word(text: str) -> str:
    """One spelling for words that read the same: Unicode form NFC, single spaces, no invisible characters.

    >>> normal_word(" No\\u00a0 finding ")
    'No finding'
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def normal_words(words: Iterable[str]) -> list[str]:
    """`normal_word` of each; where all are whole numbers (or missing), "7.0" becomes "7".

    Spreadsheets and pandas write whole numbers so, once a column has an empty cell.
    """
    plain = [normal_word(word) for word in words]
    numbers = {word: _WHOLE_NUMBER.fullmatch(word) for word in set(plain) if word.lower() not in MISSING}
    if not all(numbers.values()):
        return plain
    short = {word: found.group(1) for word, found in numbers.items() if found}
    return [short.get(word, word) for word in plain]


def one_spelling(words: Sequence[str], rule: SimilarWords, what: str, known: Sequence[str] = ()) -> list[str]:
    """Settle words that differ only in case, separators, leading zeros or the form of a number.

    Args:
        words: in normal form, "" where there is none.
        rule: `error` refuses them, `merge` takes the known or else the most frequent spelling, `keep` takes
            them for different words.
        what: they are, for the error.
        known: words of the definition; two of these are different whatever they look like.

    Raises:
        DataError: there are such words, and the rule is `error`.
    """
    counts = Counter(word for word in words if word)
    sets = alike((counts.keys() | set(known)) - {""}, known)
    if rule == "keep" or not sets:
        return list(words)
    if rule == "error":
        shown = ", ".join(f"{word!r} ({counts[word]} times)" for word in sets[0])
        more = f", and {len(sets) - 1} more such sets" if len(sets) > 1 else ""
        raise DataError(
            f"{what} differ only in their spelling: {shown}{more}; "
            'dataset.similar_words = "merge" makes them one, "keep" takes them for different ones'
        )
    best = {
        word: max(members, key=lambda member: (member in known, counts[member]))
        for members in sets
        for word in members
    }
    return [best.get(word, word) for word in words]


def alike(words: Iterable[str], known: Sequence[str] = ()) -> list[list[str]]:
    """Sets of two or more words with one folded form, sorted; not those that `known` tells apart."""
    sets: dict[str, list[str]] = defaultdict(list)
    forms = {word: folded(word) for word in sorted(words)}
    if set(forms.values()) <= YES_OR_NO.keys():
        forms = {word: YES_OR_NO[form] for word, form in forms.items()}
    for word, form in forms.items():
        sets[form].append(word)
    return [members for members in sets.values() if len(members) > 1 and not set(members) <= set(known)]


def folded(word: str) -> str:
    """What words that may mean the same have in common."""
    word = unicodedata.normalize("NFKC", word).casefold().translate(_LOOKALIKES)
    if number := _WHOLE_NUMBER.fullmatch(word):
        return str(int(number.group(1)))
    word = re.sub(r"(?<=\d)[\s_-]+(?=\d)", " ", word.rstrip(".,;:"))
    word = re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\d)", "", word)
    return re.sub(r"(?<![\d.])0+(?=\d)", "", word)


def from_words(
    words: Sequence[str | None],
    names: Sequence[str],
    config: FolderDataset | CsvDataset,
    *,
    empty: Iterable[str] = (),
) -> Labels:
    """Read one class word for each row; None or an empty one is a problem.

    Args:
        words: as the source has them.
        names: how to name each row in a problem.
        config: its `class_names`, `classes` and `similar_words`.
        empty: words of classes without a row.

    Raises:
        DataError: words differ only in their spelling; a word of `classes` is not there.
    """
    several = [*words, *sorted(set(empty) - set(words))]
    settled = class_words(several, config)
    found = _found(settled, config)
    index = _index(found)
    values = np.array([index.get(word, -1) for word in settled[: len(words)]], dtype=np.int64)
    problems = [
        Problem(names[row], _why_not(settled[row], words[row], found))
        for row in np.flatnonzero(values < 0).tolist()
    ]
    return Labels(values, task_of(len(found)), found, values >= 0, problems)


def from_word_lists(
    words: Sequence[str | None],
    names: Sequence[str],
    config: CsvDataset,
) -> Labels:
    """Read several class words for each row ("Effusion|Mass"): a multilabel task. See `from_words`."""
    lists = [(word or "").split(config.label_separator) for word in words]
    settled = iter(class_words([part for parts in lists for part in parts], config))
    none = {normal_word(config.no_label)} if config.no_label is not None else set()
    rows = [[word for word in (next(settled) for _ in parts) if word not in none] for parts in lists]
    found = _found([word for parts in rows for word in parts], config)
    index = _index(found)
    values = np.zeros((len(words), len(found)), dtype=np.uint8)
    problems = []
    good = np.ones(len(words), dtype=bool)
    for row, parts in enumerate(rows):
        unknown = [part for part in parts if part not in index]
        if unknown:
            good[row] = False
            problems.append(Problem(names[row], _why_not(unknown[0], words[row], found)))
        else:
            values[row, [index[part] for part in parts]] = 1
    return Labels(values, "multilabel", found, good, problems)


def class_words(words: Sequence[str | None], config: FolderDataset | CsvDataset) -> list[str]:
    """The class that each word names, in one spelling; "" where it is missing.

    Raises:
        DataError: see `from_words`.
    """
    no_label = (config.no_label if isinstance(config, CsvDataset) else None) or ""
    merged = _merged_words(config.classes or {})
    known = [*normal_words(config.class_names or ()), normal_word(no_label)]
    plain = [
        "" if word.lower() in MISSING and word not in merged and word not in known else word
        for word in normal_words(word or "" for word in words)
    ]
    if strange := sorted(merged.keys() - set(plain) - set(config.classes or ())):
        hint = did_you_mean(strange[0], filter(None, plain))
        raise DataError(f"dataset.classes: no image has the class word {strange[0]!r}; {hint}")
    plain = [merged.get(word, word) for word in plain]
    return one_spelling(plain, config.similar_words, "class words", [*known, *merged.values()])


def _merged_words(classes: Mapping[str, Sequence[str | int]]) -> dict[str, str]:
    """Word -> the class that it is merged into."""
    return {
        word: normal_word(name)
        for name, words in classes.items()
        for word in normal_words([str(word) for word in words])
    }


def _found(words: Iterable[str], config: FolderDataset | CsvDataset) -> tuple[str, ...]:
    if config.class_names is not None:
        return tuple(config.class_names)
    return sorted_names({word for word in words if word})


def _index(class_names: Sequence[str]) -> dict[str, int]:
    """Normal form of each class's name -> its index."""
    return {word: index for index, word in enumerate(normal_words(class_names))}


def joined(words: Iterable[str]) -> tuple[str, str] | None:
    """The separator in words that are several of the other words, and such a word; None: there is none.

    >>> joined(["mass", "nodule", "mass; nodule", "no finding"])
    (';', 'mass; nodule')
    """
    known = sorted({normal_word(word) for word in words})
    for separator in SEPARATORS:
        for word in known:
            parts = [normal_word(part) for part in word.split(separator)]
            if len(set(parts)) > 1 and set(parts) <= set(known) - {""}:
                return separator, word
    return None


def sorted_names(found: set[str]) -> tuple[str, ...]:
    """Sorted: by number where all are whole numbers, else alphabetically."""
    if all(name.isdecimal() for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def _why_not(cleaned: str, written: str | None, known: Sequence[str]) -> str:
    if written is None:
        return "dataset.class_pattern finds no class in its path"
    if not cleaned:
        return f"no label ({written!r})"
    return f"label {cleaned!r} is none of {', '.join(map(repr, known[:SHOWN_CLASSES]))}"
