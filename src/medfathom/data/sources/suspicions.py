"""What names of files and folders say about a definition that may read them wrongly: lines, no change."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from pathlib import PurePosixPath

MASK = re.compile(
    r"(?:^|[\W_])(?:masks?|segmentations?|ground[\W_]?truths?|annotations?|(?:seg|gt)(?=[\W_]*\d*$))"
    r"(?:[\W_]|\d|$)",
    re.IGNORECASE,
)
"""A word in the name of a mask, or of its folder: `benign (1)_mask_1`, `lung masks`."""

NUMBERED = re.compile(r"(.*?)[\s_(-]*\d+\)?")
"""A name that ends in a number."""

SPLIT_WORDS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})

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
    found = [
        _numbered_classes({word for word in words if word}),
        _split_below(below),
        _deeper_classes(words, below),
    ]
    return [*mask_suspicions(names, inner), *filter(None, found)]


def mask_suspicions(names: Sequence[str], inner: Sequence[str] | None = None) -> list[str]:
    """A line where files look like masks of others.

    Args:
        names: of the files, with their folders.
        inner: the part of each that may tell a mask, which is not the class's folder; None: all.
    """
    patterns = {name: _mask_pattern(part) for name, part in zip(names, inner or names, strict=True)}
    masks = {name: pattern for name, pattern in patterns.items() if pattern}
    if masks:
        return [_line(masks, "look like masks")]
    after = _named_after_others(names)
    return (
        [_line(after, "are named after another image: masks or copies?")]
        if len(after) >= FEWEST_PAIRS
        else []
    )


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
    match = MASK.search(PurePosixPath(file).stem)
    return f"*{match.group().rstrip('0123456789_- ')}*" if match else ""


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
        path = PurePosixPath(name)
        stems[str(path.parent), path.stem].append(name)
    found: dict[str, str] = {}
    for (folder, stem), files in stems.items():
        found.update(dict.fromkeys(sorted(files)[1:], ""))
        ends = (stem[cut.start() :] for cut in re.finditer(r"(?<=[\w)])[\s_.-]", stem))
        end = next((end for end in ends if (folder, stem.removesuffix(end)) in stems), "")
        if re.search(r"[^\W\d_]", end):
            found.update(dict.fromkeys(files, "*" + re.sub(r"\d+$", "", end) + "*"))
    return found


def _numbered_classes(classes: set[str]) -> str:
    """A line where classes are numbered copies: AMD1, AMD2, ..., NORMAL8."""
    series: dict[str, list[str]] = defaultdict(list)
    for name in sorted(classes):
        if match := NUMBERED.fullmatch(name):
            series[match.group(1)].append(name)
    long = [names for names in series.values() if len(names) > 1]
    if len(long) < 2 and not any(len(names) > FEW_IN_A_SERIES for names in long):
        return ""
    shown = "; ".join(", ".join(names[:3]) for names in long[:3])
    return (
        f"class names are numbered copies ({shown}): are they patients? Then dataset.class_pattern "
        r"and dataset.group_pattern find class and patient in the path: '([^/]*?)[ _(-]*\d+\)?/' and '([^/]*\d\)?)/'"
    )


def _split_below(below: Sequence[tuple[str, ...]]) -> str:
    found = sorted({folder for folders in below for folder in folders if folder.casefold() in SPLIT_WORDS})
    if not found:
        return ""
    return (
        f"folders {', '.join(found)} lie below the class folders, and are not taken for splits: "
        "{train,val,test}/CLASS/* is the layout"
    )


def _deeper_classes(words: Sequence[str | None], below: Sequence[tuple[str, ...]]) -> str:
    """A line where the folders just below the class folders look like classes themselves."""
    inner: dict[str, set[str]] = defaultdict(set)
    for word, folders in zip(words, below, strict=True):
        if word and folders and not MASK.search(_spaced(folders[0])):
            inner[word].add(folders[0])
    names = set().union(*inner.values())
    classes = {word for word in words if word}
    if inner.keys() != classes or not 2 <= len(names) <= MOST_CLASSES:
        return ""
    shared = all(len(found) > 1 for found in inner.values()) and all(
        sum(name in found for found in inner.values()) > 1 for name in names
    )
    named = len(names) > len(classes) and not any(re.search(r"\d", name) for name in names)
    if not shared and not named:
        return ""
    shown = ", ".join(sorted(names)[:6]) + (", ..." if len(names) > 6 else "")
    above = ", ".join(sorted(classes)[:3])
    return (
        f"the class folders ({above}) hold folders that may be the classes ({shown}): "
        "dataset.class_level = 2 takes these"
    )
