"""Which images are of one patient, as the names of files tell it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

PATIENT = "patients?|patid|pat|pt|persons?|subjects?|subj|sub|participant|pid"
"""Words that stand before the number of a patient."""

PART = "case|slide"
"""Words before the number of what a patient may have several of: of use where no name says the patient."""

SITE = re.compile(
    r"(?i)(site|cent(er|re)|hospital|clinic|scanner|device|batch|fold|part|shard|set|split)s?[\W_]*\d"
    r"|\d+ ?x$|(19|20)\d\d$"
)
"""A folder of many patients; magnifications (`40X`) and years too."""

FEW_FOLDERS = 10
"""Folders without numbers are patients only where there are more: few are subtypes, sites or sides."""

PATTERNS = (
    (rf"(?i)((?<![a-z])(?:{PATIENT})[ _-]?[a-z]?\d+)", "a word for a patient and a number"),
    (rf"(?i)((?<![a-z])(?:{PART})[ _-]?[a-z]?\d+)", "a word for a case or slide and a number"),
    (r"(TCGA-\w{2}-\w{4})", "the patient in a TCGA barcode"),
    (r"([A-Za-z]*\d{3,})[_-]\d+\.\w+$", "a number before the image's own number"),
)
"""Regular expressions whose group is the patient, and what they look for; the first that fits is taken."""

FOLDER = r"([^/]+)/[^/]+$"
"""The folder that the file lies in."""


@dataclass(frozen=True)
class Groups:
    """A guess which part of each name is the patient.

    Attributes:
        pattern: `dataset.group_pattern`.
        evidence: why, in words.
    """

    pattern: str
    evidence: str


def guess_groups(names: Sequence[str], words: Sequence[str]) -> Groups | None:
    """The patients of files, where their names tell them; None where they do not.

    A pattern is taken only where it finds a patient in every name, at least two patients, and several images
    of one of them: a number of its own for each image is no patient.

    Args:
        names: paths of the n files, with their folders.
        words: the class of each.
    """
    for pattern, what in PATTERNS:
        if groups := _fitting(pattern, what, names, words):
            return groups
    return _by_folder([PurePosixPath(name).parts[:-1] for name in names], names, words)


def _by_folder(
    folders: Sequence[tuple[str, ...]], names: Sequence[str], words: Sequence[str]
) -> Groups | None:
    """The uppermost numbered folder, which may hold visits or scans; else the folder of each image."""
    depth, n_classes = min(map(len, folders)), len(set(words))
    for level in range(depth):
        own = {parts[level] for parts in folders}
        numbered = all(re.search(r"\d", name) and not SITE.match(name) for name in own)
        few = level == 0 and len(own) <= 2 * n_classes  # classes, in several spellings
        if numbered and not few and not _is_shard(folders, level):
            found = None
            if level == 0 or not _in_several(folders, slice(level - 1, level + 1), n_classes):
                before = f"(?:[^/]+/){{{level}}}" if level else ""
                found = _fitting(f"^{before}([^/]+)/", "its numbered folder", names, words)
            if found:
                return found
    few = len({parts[-1] for parts in folders if parts}) <= FEW_FOLDERS
    if depth < 2 or few or _in_several(folders, slice(-2, None), n_classes):
        return None
    return _fitting(FOLDER, "the folder of each image, below its class", names, words)


def _is_shard(folders: Sequence[tuple[str, ...]], level: int) -> bool:
    """Whether the folders in it go on with its number, as in p10/p10001217: it only keeps folders small."""
    inner = [parts[level : level + 2] for parts in folders]
    return all(len(pair) == 2 and re.match(rf"{re.escape(pair[0])}\d", pair[1]) for pair in inner)


def _in_several(folders: Sequence[tuple[str, ...]], place: slice, n_classes: int) -> bool:
    """Whether a folder's name comes back in more folders than there are classes: a visit or an eye does."""
    pairs = {parts[place] for parts in folders}
    return max(Counter(inner for _, inner in pairs).values()) > n_classes


def _fitting(pattern: str, what: str, names: Sequence[str], words: Sequence[str]) -> Groups | None:
    matches = [re.search(pattern, name) for name in names]
    found = [match.group(1) for match in matches if match]
    if len(found) < len(names):
        return None
    counts = Counter(found)
    most, number = counts.most_common(1)[0]
    if not 2 <= len(counts) < len(names) or len(counts) <= len(set(words)):
        return None
    shown = ", ".join([name for name, patient in zip(names, found, strict=True) if patient == most][:2])
    evidence = f"{len(counts)} patients (or slides) in {len(names)} names, found by {what}"
    return Groups(pattern, f"{evidence}; {most!r} has {number} images: {shown}")
