"""Who is on an image, as hashes: patients stay apart in splits, and no clear text of a file is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medfathom.errors import DataError

DIGITS = 16
"""Hexadecimal digits kept of a SHA-256: 64 bits: of a million, two meet by 3 chances in 10^8."""

_CLEAR = (
    *("PatientID", "PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"),
    *("OtherPatientIDs", "AccessionNumber", "StudyInstanceUID"),
)
"""What is replaced in names, beside the parts of PatientName."""

SHORT = 4
"""Shorter text is taken out of a name only where it stands alone: `7`, not the 7 of `slice17`."""


def pseudonym(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the text in UTF-8; "" stays "".

    The same text gives the same digits in every study. There is no secret in it: who can list all possible
    texts (numbers of five digits) can find the text again.
    """
    text = text.strip(" \0")
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if text else ""


@dataclass(frozen=True)
class Subject:
    """Who is on an image, and in which study.

    Attributes:
        patient: pseudonym of the PatientID; "" where the file has none.
        study: pseudonym of the StudyInstanceUID; "" where the file has none.
        clear: the file's own words for patient and dates. They stay in memory.
    """

    patient: str
    study: str
    clear: Sequence[str] = field(default=(), repr=False)

    def hidden(self, name: str) -> str:
        """A file's name with the file's own words for patient and dates replaced by their pseudonyms."""
        for text in sorted({text for text in self.clear if text.strip()}, key=len, reverse=True):
            exact = re.escape(text)
            alone = rf"(?<![0-9A-Za-z]){exact}(?![0-9A-Za-z])" if len(text) < SHORT else exact
            name = re.sub(alone, pseudonym(text), name, flags=re.IGNORECASE)
        return name


def subject_of(words: Callable[[str], Any]) -> Subject:
    """Who is on a DICOM image; `words` gives the value of an attribute, None where it has none."""

    def text(attribute: str) -> str:
        return str(words(attribute) or "").strip(" \0")

    parts = text("PatientName").replace("=", "^").split("^")
    return Subject(
        pseudonym(text("PatientID")),
        pseudonym(text("StudyInstanceUID")),
        (*(text(attribute) for attribute in _CLEAR), *parts),
    )


def groups_by_patient(
    given: Sequence[str | None] | None, subjects: Sequence[Subject | None]
) -> Sequence[str | None] | None:
    """The group of each image: as given, else by PatientID; as pseudonyms where any file is DICOM.

    Args:
        given: by the definition's pattern or column; None: it gives none.
        subjects: of each image; None for files that are not DICOM.

    Returns:
        None where no group is known; an item of None where that image's is not.

    Raises:
        DataError: all files have one PatientID, as if it had been taken out.
    """
    if not any(subjects):
        return given
    if given is not None:
        return [None if group is None else pseudonym(group) for group in given]
    patients = [subject.patient if subject else "" for subject in subjects]
    if not any(patients):
        return None
    if len(patients) > 1 and len(set(patients)) == 1:
        raise DataError(
            f"dataset.path: all {len(patients)} DICOM files have the same PatientID, as if it had been "
            "replaced; give group_pattern or group_column (group_pattern = '(.+)' where each file is a "
            "patient of its own)"
        )
    return [patient or None for patient in patients]


def hidden_cases(cases: Sequence[str | None], subjects: Sequence[Subject | None]) -> list[str | None]:
    """The case of each image without clear text: in one spelling, though a file of it may lack a word."""
    words: dict[str, set[str]] = {}
    for case, who in zip(cases, subjects, strict=True):
        if case is not None and who is not None:
            words.setdefault(case, set()).update(who.clear)
    known = {case: Subject("", "", tuple(clear)).hidden(case) for case, clear in words.items()}
    return [case if case is None else known.get(case, case) for case in cases]
