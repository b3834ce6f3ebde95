"""What `data check` says first: whether the data can be used as they are, in one sentence, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medfathom.data.check.findings import Finding, ImageSet
from medfathom.text import number_of

SPLITS = {"train": "training", "val": "validation", "test": "test"}

TO_DO = {
    "exact copies across splits": "dataset.drop_copies = true leaves the copies out",
    "near copies across splits": "dataset.drop_copies = true leaves the copies out",
    "groups across splits": 'dataset.splits.given = "ignore" draws splits by patient or slide',
    "unusable": 'repair these images, or leave them out with dataset.on_bad_image = "skip"',
}
"""Check -> what to do about an error that it found."""

CHECKED = "copies, patients in several splits, labels, blank images, balance, brightness, sizes and shortcuts"


@dataclass(frozen=True)
class Verdict:
    """A sentence, and what to do, a line each."""

    sentence: str
    to_do: tuple[str, ...] = ()


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Whether data with these findings can be used as they are."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        said = "; ".join(_in_short(finding) for finding in errors)
        ways = dict.fromkeys(TO_DO[finding.check] for finding in errors if finding.check in TO_DO)
        return Verdict(f"Do not use it as it is: {said}.", tuple(ways))
    warnings = [finding.check for finding in findings if finding.severity == "warning"]
    if warnings:
        checks = ", ".join(dict.fromkeys(warnings))
        return Verdict(f"Nothing invalidates a study. Read the warnings first: {checks}.")
    return Verdict(f"No problems found (checked for {CHECKED}).")


def _in_short(finding: Finding) -> str:
    sets = [item for item in finding.items if isinstance(item, ImageSet)]
    n = len(finding.items)
    if sets:
        exact = finding.check.startswith("exact")
        noun = "image" if exact else "pair of near copies"
        places = Counter(" and ".join(_places(each)) for each in sets)
        parts = (f"{_are(count, noun)} in {where}" for where, count in places.most_common())
        return ", ".join(parts)
    if finding.check == "groups across splits":
        return f"{_are(n, 'patient or slide')} in several splits"
    if finding.check == "unusable":
        return f"{number_of(n, 'image or row')} cannot be used"
    return finding.message


def _places(images: ImageSet) -> list[str]:
    there = {image.split for image in images.images}
    return [word for name, word in SPLITS.items() if name in there]


def _are(n: int, noun: str) -> str:
    return f"{number_of(n, noun)} {'is' if n == 1 else 'are'}"
