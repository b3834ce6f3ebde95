"""Which images are of one patient, as the names of files tell it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

WORDS = "patients?|patid|pat|pt|persons?|subjects?|subj|sub|participant|case|slide|pid"
"""Words that stand before the number of a patient or slide."""

PATTERNS = (
    (rf"(?i)((?<![a-z])(?:{WORDS})[ _-]?[a-z]?\d+)", "a word for a patient and a number"),
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
    if all(len(PurePosixPath(name).parts) > 2 for name in names):
        return _fitting(FOLDER, "the folder of each image, below its class", names, words)
    return None


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
