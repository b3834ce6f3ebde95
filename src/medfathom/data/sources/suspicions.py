"""What names of files and folders say about a definition that may read them wrongly: lines, no change."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from glob import escape
from pathlib import PurePosixPath
from posixpath import splitext

MASK = re.compile(
    r"(?:^|[\W_])(?:masks?|segmentations?|ground[\W_]?truths?|annotations?|(?:seg|gt)(?=[\W_]*\d*$))"
    r"(?:[\W_]|\d|$)",
    re.IGNORECASE,
)
"""A word in the name of a mask, or of its folder: `benign (1)_mask_1`, `lung masks`."""

_WORD = r"(?:masks?|seg(?:m|mentations?)?|labels?|rois?|gt|ground[\W_]?truths?|annot(?:ations?)?|contours?)"
_AFTER = re.compile(rf"(.+?)([\s_.(\[-]*{_WORD}[)\]]?)", re.IGNORECASE)
_BEFORE = re.compile(rf"({_WORD}[\s_.-]*)(.+)", re.IGNORECASE)
"""A name and a mask's word: a mask only where the rest is another's name, as `roi_0` may be an image."""

NUMBERED = re.compile(r"(.*?)[\s_(-]*\d+\)?")
"""A name that ends in a number."""

PATIENT = re.compile(
    r"(?:^|[\W_])(?:patients?|p|pat|pt|subjects?|sub|person|case|slide|volume|scan|study|series)(?:[\W_]|$)",
    re.IGNORECASE,
)
"""A word for one patient, or for one examination, before its number."""

SIDE = re.compile(r"(?:[\W_]+(?:left|right|od|os|l|r)|(?<=\d)[lr])$", re.IGNORECASE)
"""An eye or a side of a patient, at the end of a name: `AMD3_OD`, `S3L`."""

GRADE = re.compile(
    r"(?:^|[\W_])(?:grades?|stages?|types?|levels?|scores?|class|\w*rads|days?|weeks?|months?|years?)[\W_]*$",
    re.IGNORECASE,
)
"""A word before a number that counts no patients: `BI-RADS 4 malignant`."""

SPLIT = re.compile(
    r"(?:.*[\W_])?(?:train|training|val|valid|validation|test|testing)(?:[\W_].*)?", re.IGNORECASE
)
"""A folder of a split: `train`, `test_set`."""

SPLIT_WORD = re.compile(
    r"(train(?:ing)?)|val(?:id|idate|idation)?|dev(?:el|elopment)?|test(?:ing)?|hold[\W_]?out", re.IGNORECASE
)
"""A word for a split in a table; the first group: for training."""

MOST_SPLITS = 6
"""A column with more different words is none of splits."""

CONTAINER = re.compile(r"images|imgs?|masks|labels|annotations|segmentations", re.IGNORECASE)
"""A folder that is named after the kind of files in it."""

FIND_IN_PATH = r"dataset.class_pattern = '([^/]*?)[ _(-]*\d+\)?/' and dataset.group_pattern = '([^/]*\d\)?)/'"
"""Where class and patient are in `AMD1/...`."""

FIND_BEFORE = (
    r"dataset.class_pattern = '(?:^|/)([^/\d]+?)[ _(-]*\d[^/]*/' and "
    r"dataset.group_pattern = '(?:^|/)([^/\d]*\d+)[^/]*/'"
)
"""The same in `AMD3_OD/...`."""

FIND_AFTER = (
    r"dataset.class_pattern = '(?:^|/)[^/\d]*\d+[ _-]*([^/]+)/' and "
    r"dataset.group_pattern = '(?:^|/)([^/\d]*\d+)[^/]*/'"
)
"""The same in `000_NORMAL/...`, and in `case-3_AMD/...`."""

PATIENT_COLUMN = re.compile(
    r"(patient|subject|person|participant|lesion|case|slide|mrn|pid)s?[\W_]*(id|no|nr|num|number|name|key|code)?",
    re.IGNORECASE,
)
"""A column that says whose image it is."""

PERSON_COLUMN = re.compile(
    r"(patient|subject|person|participant|mrn|pid)s?[\W_]*(id|no|nr|num|number|name|key|code)?"
    r"|case[\W_]*(id|no|nr|num|number)",
    re.IGNORECASE,
)
"""One that says of what patient a lesion, slide, scan or study is."""

FEW_IN_A_SERIES = 10
"""More classes than these that differ in a number alone are no grades or stages."""

MOST_CLASSES = 50
"""More folders than these are patients or slides, not classes."""

FEWEST_PAIRS = 2
"""Fewer files that are named after others are chance."""


def folder_suspicions(
    names: Sequence[str], words: Sequence[str | None], below: Sequence[tuple[str, ...]]
) -> list[str]:
    """What is suspicious in a data set of class folders.

    Args:
        names: of the n files, with their folders.
        words: each file's class.
        below: folders between each file's class folder and the file.
    """
    inner = [
        "/".join((*folders, PurePosixPath(name).name)) for name, folders in zip(names, below, strict=True)
    ]
    classes = {word for word in words if word}
    masks = class_masks(names, words)
    without_masks = {word for name, word in zip(names, words, strict=True) if word and name not in masks}
    found = [
        _patients(without_masks),
        _no_classes(classes),
        _split_below(below),
        _deeper_classes(classes, words, below),
    ]
    return [*mask_suspicions(names, inner, masks), *filter(None, found)]


def unused_patients(columns: Mapping[str, Sequence[str]], units: Sequence[str], what: str) -> list[str]:
    """A line where a table has a column of patients of whom each may have several units.

    Args:
        columns: the cells of each column.
        units: what no split divides, of each row: an image, a case or a group; "" where it is not known.
        what: units are called; "groups": the definition names them.
    """
    pattern = PERSON_COLUMN if what == "groups" else PATIENT_COLUMN
    for column, cells in columns.items():
        if not pattern.fullmatch(_spaced(column)):
            continue
        pairs = {
            (unit, cell)
            for unit, cell in zip(units, cells, strict=True)
            if unit and (cell or what == "images")
        }
        n_units, n_patients = len({unit for unit, _ in pairs}), len({cell for _, cell in pairs})
        inside_one = what == "images" or len(pairs) == n_units
        if inside_one and 1 < n_patients < n_units:
            return [
                f"column {column!r} names {n_patients} patients (or similar) of {n_units} {what}, but the "
                f'{what} of one may be in several splits: dataset.group_column = "{column}" keeps them '
                "together"
            ]
    return []


def unused_splits(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """A line where a table, whose splits the definition does not name, has a column of them."""
    for column, cells in columns.items():
        words = sorted(set(cells) - {""})
        found = [match for match in map(SPLIT_WORD.fullmatch, words) if match]
        if len(words) <= MOST_SPLITS and len(found) > 1 and any(match[1] for match in found):
            return [
                f"column {column!r} has splits ({', '.join(words)}), which are not used: "
                f'dataset.split_column = "{column}" takes them where each is train, val or test'
            ]
    return []


def mask_suspicions(
    names: Sequence[str], inner: Sequence[str] | None = None, known: Mapping[str, str] | None = None
) -> list[str]:
    """Lines where files look like masks of others.

    Args:
        names: of the files, with their folders.
        inner: the part of each that may tell a mask, which is not the class's folder; None: all.
        known: files that look like masks for another reason -> the pattern that leaves each out.
    """
    masks = {**mask_patterns(names, inner), **(known or {})}
    after = {name: pattern for name, pattern in _named_after_others(names).items() if name not in masks}
    found = [_line(masks, "look like masks")] if masks else []
    if len(after) >= FEWEST_PAIRS:
        found.append(_line(after, "are named after another image: masks or copies?"))
    return found


def mask_patterns(names: Sequence[str], inner: Sequence[str] | None = None) -> dict[str, str]:
    """Files that look like masks -> the pattern for `dataset.exclude`; arguments as in `mask_suspicions`."""
    beside: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folder, stem, _ = _parts(name)
        beside[folder].add(_key(stem))
    patterns = {
        name: _mask_pattern(part) or _beside_pattern(name, beside)
        for name, part in zip(names, inner or names, strict=True)
    }
    return {name: pattern for name, pattern in patterns.items() if pattern}


def _line(found: Mapping[str, str], what: str) -> str:
    """Args: found: file -> the pattern that leaves it out, "" where there is none."""
    names = list(found)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    patterns = [f'"{pattern}"' for pattern, _ in Counter(found.values()).most_common(3) if pattern]
    key = f"dataset.exclude = [{', '.join(patterns)}]" if patterns else "dataset.include or dataset.exclude"
    return f"{len(names)} images {what} ({shown}); {key} leaves them out"


def _mask_pattern(path: str) -> str:
    """The pattern that would leave a mask out; "" where the name is no mask's."""
    *folders, file = path.split("/")
    for folder in folders:
        if MASK.search(_spaced(folder)):
            return escape(folder)
    match = MASK.search(splitext(file)[0])
    return f"*{match.group().rstrip('0123456789_- ')}*" if match else ""


def _beside_pattern(path: str, beside: Mapping[str, Container[str]]) -> str:
    """The pattern that leaves out `0Mask.png` or `roi_0.png` beside `0.png`; "" for other names.

    Args:
        path: of the file.
        beside: folder -> the keys of its files' stems.
    """
    folder, stem, suffix = _parts(path)
    pattern = _other_and_word(stem, beside[folder])
    return f"{pattern}.*" if suffix and pattern.startswith("*") else pattern


def class_masks(names: Sequence[str], words: Sequence[str | None]) -> dict[str, str]:
    """Files of classes that are named after another and a mask's word (`benign_masks`).

    Args:
        names: of the n files, with their folders.
        words: each file's class.

    Returns:
        Each with the pattern of its class's folder; "" where its class is no folder.
    """
    classes = {word for word in words if word}
    keys = set(map(_key, classes))
    patterns = {word: pattern for word in classes if (pattern := _other_and_word(word, keys))}
    return {
        name: patterns[word] if word in PurePosixPath(name).parent.parts else ""
        for name, word in zip(names, words, strict=True)
        if word in patterns
    }


def _other_and_word(name: str, others: Container[str]) -> str:
    """A pattern for names that are another's name with a mask's word after or before it; "" for other names.

    Args:
        name: without a suffix.
        others: keys of the names there are.
    """
    if (after := _AFTER.fullmatch(name)) and _key(after[1]) in others:
        return "*" + escape(after[2])
    if (before := _BEFORE.fullmatch(name)) and _key(before[2]) in others:
        return escape(before[1]) + "*"
    return ""


def _key(name: str) -> str:
    """What names that differ in case, or in a separator at an end, have in common."""
    return name.casefold().strip(" _.-")


def _parts(path: str) -> tuple[str, str, str]:
    """Folder, stem and suffix; the last number of a UID is no suffix: 1.2.840.10008.17."""
    folder, _, file = path.rpartition("/")
    stem, suffix = splitext(file)
    return (folder, file, "") if suffix[1:].isdecimal() else (folder, stem, suffix)


def _spaced(name: str) -> str:
    """`lungMasks` -> `lung Masks`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _named_after_others(names: Iterable[str]) -> dict[str, str]:
    """Files whose name is another's in the same folder and a word: `7_x.png` beside `7.png`.

    Returns:
        Each with the pattern that leaves it out; "" where only the suffix differs (`7.jpg`, `7.png`).
    """
    stems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        folder, stem, _ = _parts(name)
        stems[folder, stem].append(name)
    found: dict[str, str] = {}
    for (folder, stem), files in stems.items():
        found.update(dict.fromkeys(sorted(set(files))[1:], ""))
        ends = (stem[cut.start() :] for cut in re.finditer(r"(?<=[\w)])[\s_.-]", stem))
        end = next((end for end in ends if (folder, stem.removesuffix(end)) in stems), "")
        if re.search(r"[^\W\d_]", end):
            found.update(dict.fromkeys(files, "*" + re.sub(r"\d+$", "", end) + "*"))
    return found


def _patients(classes: set[str]) -> str:
    """A line where classes look like patients or slides: AMD1, AMD2, ..., NORMAL8, or patient 1, 2, 3."""
    long = _series(classes) or _series_inside(classes)
    if len(classes) <= MOST_CLASSES and not long:
        return ""
    shown = "; ".join(list(dict.fromkeys(", ".join(names[:3]) for names in [*long, sorted(classes)]))[:3])
    return (
        f"there are {len(classes)} classes ({shown}, ...): are they patients or slides? {_find(long)} "
        "find class and patient in the path"
    )


def _series(classes: set[str]) -> list[list[str]]:
    """Classes that differ in a number at the end, before a side if there is one: AMD1, AMD2; none: []."""
    series: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(classes):
        whole = SIDE.sub("", name)
        if match := NUMBERED.fullmatch(whole):
            series[match[1]].setdefault(whole, name)
    long = {stem: list(names.values()) for stem, names in series.items() if len(names) > 1}
    certain = any(PATIENT.search(stem) or len(names) > FEW_IN_A_SERIES for stem, names in long.items())
    return list(long.values()) if len(long) > 1 or certain else []


def _series_inside(classes: set[str]) -> list[list[str]]:
    """Classes that differ in a number which is not the last: 000_NORMAL, 001_AMD, 002_NORMAL; none: []."""
    patients: dict[str, dict[str, str]] = defaultdict(dict)
    series: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in sorted(classes):
        match = re.fullmatch(r"(\D*)(\d+)(.*\D)", name)
        if match is None or GRADE.search(match[1]):
            continue
        if PATIENT.search(match[1]):
            patients[match[1]].setdefault(match[2], name)
        series[match[1], match[3]][match[2]] = name
    named = [list(names.values()) for names in patients.values() if len(names) > 1]
    long = [names for names in series.values() if len(names) > 1]
    # A number that comes with several words is no patient's, but a magnification, or a day: benign_40X.
    apart = len(set().union(*long)) == sum(map(len, long))
    certain = any(len(names) > FEW_IN_A_SERIES for names in long)
    return named or ([list(names.values()) for names in long] if certain or (apart and len(long) > 1) else [])


def _find(series: Sequence[Sequence[str]]) -> str:
    """The patterns that find class and patient in the paths of these folders."""
    names = [name for names in series for name in names]
    if all(map(NUMBERED.fullmatch, names)):
        return FIND_IN_PATH
    words = [re.sub(r"\d.*", "", name) for name in names]
    nameless = all(not word.strip(" _-") or PATIENT.search(word) for word in words)
    return FIND_AFTER if nameless else FIND_BEFORE


def _no_classes(classes: set[str]) -> str:
    """A line where class folders are named after splits, or after what lies in them."""
    found = sorted(name for name in classes if CONTAINER.fullmatch(name) or SPLIT.fullmatch(_spaced(name)))
    if not found:
        return ""
    return (
        f"class folders {', '.join(found)} are named like splits or like kinds of files, not like classes: "
        "dataset.folders names the splits' folders, dataset.class_level takes another level for the class"
    )


def _split_below(below: Sequence[tuple[str, ...]]) -> str:
    found = sorted({folder for folders in below for folder in folders if SPLIT.fullmatch(folder)})
    if not found:
        return ""
    return (
        f"folders {', '.join(found)} lie below the class folders, and are not taken for splits: "
        "{train,val,test}/CLASS/* is the layout"
    )


def _deeper_classes(classes: set[str], words: Sequence[str | None], below: Sequence[tuple[str, ...]]) -> str:
    """A line where the folders just below the class folders look like classes themselves."""
    inner: dict[str, set[str]] = defaultdict(set)
    for word, folders in zip(words, below, strict=True):
        if word and folders and not MASK.search(_spaced(folders[0])):
            inner[word].add(folders[0])
    names = set().union(*inner.values())
    if inner.keys() != classes or not 2 <= len(names) <= MOST_CLASSES:
        return ""
    if any(PATIENT.search(_spaced(name)) for name in names):
        return ""
    numbered = any(re.search(r"\d", name) for name in names)
    shared = all(sum(name in found for found in inner.values()) > 1 for name in names)
    # Numbers are classes where they come again below many patients; else they are patients themselves.
    if (shared and len(names) >= len(classes) and numbered) or (
        not shared and (numbered or len(names) <= len(classes))
    ):
        return ""
    shown = ", ".join(sorted(names)[:6]) + (", ..." if len(names) > 6 else "")
    above = ", ".join(sorted(classes)[:3])
    return (
        f"the class folders ({above}) hold folders that may be the classes ({shown}): "
        "dataset.class_level = 2 takes these"
    )
