"""Who is on an image, as hashes: patients stay apart in splits, and no clear text of a file is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

DIGITS = 16
"""Hexadecimal digits kept of a SHA-256: 64 bits, so that two of a million patients meet once in 10^7 sets."""

SHORT = 4
"""Text with fewer characters is taken out of a name only where it stands alone: `7`, not the 7 of `slice17`."""


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
