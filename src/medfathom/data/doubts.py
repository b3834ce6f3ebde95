"""What classes and patients of a listing say about a definition that may be wrong: lines, no change."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from medfathom.data.labels import PERHAPS_MISSING, joined
from medfathom.data.pseudonyms import pseudonym
from medfathom.data.sources.base import Listing
from medfathom.data.sources.suspicions import FEWEST_PAIRS, SIDE
from medfathom.definitions.dataset import CsvDataset, DatasetConfig, FolderDataset, PhantomDataset
from medfathom.metrics.classification import positive_class, positives
from medfathom.metrics.unknown import UNKNOWN, is_present

NEGATION = re.compile(
    r"0|absen[ct]e?|benign|clean|clear|cn|controls?|false|free|hc|healthy|neg(ative)?|no|norm(al)?|not"
    r"|no(dr|findings?|tumou?r|disease)|non\w*|un(affected|infected|remarkable)|without"
)
"""A word that says that something is not there."""

MINUS = re.compile(r"[-\N{MINUS SIGN}\N{EN DASH}]\s*[)\]]?\s*$")
"""The end of a name that says the same: IDC(-), HER2-."""

ONE = frozenset({"1", "1.0", "+1", "+1.0"})
"""The positive class where the other is -1."""

BELOW_ZERO = re.compile(r"-\d+(?:\.0*)?")
"""A whole number."""

PATIENTS = tuple(
    re.compile(rf"(?<![^\W\d_])({words})([ _-]?)(\d+)", re.IGNORECASE)
    for words in ("patient|person|subject|pat|pid", "slide|volume")
)
"""What names a patient in a path; where none does, a slide or a volume."""

WHOLES = {
    r"([^/]+)[ _-](?i:left|right|od|os|l|r)\.": "pairs of eyes or sides",
    r"([^/]+?)[ _-]*(?i:slice|frame|b-?scan|tile|patch)[ _-]*\d+\.": "volumes or slides",
}
"""What names an image as a part of something, whose name is the group; and what that is."""

FRACTION = re.compile(r"-?\d*[.,]\d+")
"""A number that is not whole; `7.0` is 7 by now."""

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
DATE = re.compile(rf"\d{{4}}-\d\d-\d\d 00:00:00|\d{{1,2}}-{_MONTH}(?:-\d+)?|{_MONTH}-\d+", re.IGNORECASE)
"""How a date of a workbook is read, and how Excel writes one into a csv file: 2-Jan, Jan-02."""

ROUNDED = re.compile(r"\d(?:[.,]\d+)?e\+\d+", re.IGNORECASE)
"""How Excel and pandas write a long number into a csv file: 1.23457E+11. The other digits are lost."""

NOBODY = {
    pseudonym(form): word
    for word in ("anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "unk")
    for form in (word, word.upper(), word.capitalize())
}
"""Pseudonyms of what DICOM files have in place of a patient -> that word."""

FEW_FOLDERS = 10
"""More folders than these whose names are numbered are patients or slides, not stains or magnifications."""


def doubts(listing: Listing, config: DatasetConfig) -> list[str]:
    """Lines about the positive class, about classes that may be none, and about patients."""
    named = isinstance(config, PhantomDataset) or any(
        getattr(config, key, None) is not None for key in ("class_names", "label_columns")
    )
    found = [
        "" if config.positive is not None else negation_note(listing),
        "" if named else _perhaps_missing(listing),
        "" if named else _fractions(listing),
        _combined(listing) if isinstance(config, CsvDataset) and not named else "",
        _not_known(listing),
        _perhaps_unknown(listing),
        _dates(listing),
        _rounded(listing),
        _sides(listing),
        "" if isinstance(config, CsvDataset) else _exclusive(listing),
        _mixed_patients(listing, config),
        _unused_patients(listing, config) if listing.groups is None else "",
    ]
    return list(filter(None, found))


def is_negation(name: str) -> bool:
    """Whether a class's name says that something is not there: normal, non-COVID, No_DR, IDC(-)."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W_]+", spaced.casefold())
    return MINUS.search(name) is not None or any(map(NEGATION.fullmatch, words))


def negation_note(listing: Listing) -> str:
    """A line where the positive class of two says that something is not there; else ""."""
    positive = positive_class(listing.task, listing.class_names)
    if positive is None or not is_negation(positive):
        return ""
    other = listing.class_names[0]
    return (
        f"the positive class {positive!r} says by its name that something is not there: sensitivity, "
        f"precision and probabilities are about it; dataset.positive = {_quoted(other)} makes them about "
        f"{other!r}, and dataset.positive = {_quoted(positive)} ends this note"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _perhaps_missing(listing: Listing) -> str:
    """A line where a class's name may say that its images have no label."""
    names = listing.class_names
    task = "multiclass" if listing.task == "binary" else listing.task
    counts = is_present(positives(task, listing.labels, len(names))).sum(axis=0).tolist()
    found = [
        f"{name!r} ({count} images)"
        for name, count in zip(names, counts, strict=True)
        if (PERHAPS_MISSING.fullmatch(name) and not _on_a_scale(name, names)) or _beside_numbers(name, names)
    ]
    if not found:
        return ""
    return (
        f"class {', '.join(found)}: does it say that the label is not known? dataset.where (of tables) and "
        "dataset.exclude leave such images out; dataset.class_names, with all classes, ends this note"
    )


def _beside_numbers(name: str, names: Sequence[str]) -> bool:
    """Whether it is a single u among numbers (0, 1, u), as for uncertain."""
    return name.lower() == "u" and all(other.isdecimal() for other in names if other != name)


def _on_a_scale(name: str, names: Sequence[str]) -> bool:
    """Whether a number below zero is one of a scale's (-2, -1, 0, 1, 2), or is the one that -1 and 1 tell."""
    below = [other for other in names if BELOW_ZERO.fullmatch(other)]
    scale = any(not PERHAPS_MISSING.fullmatch(other) for other in below)
    return name in below and (scale or set(names) - {name} <= ONE)


def _fractions(listing: Listing) -> str:
    """A line where classes are numbers between whole ones: means of readers, or probabilities."""
    found = [name for name in listing.class_names if FRACTION.fullmatch(name)]
    if not found:
        return ""
    return (
        f"classes such as {found[0]} are no whole numbers: are the labels probabilities, or means of "
        "readers? dataset.classes merges words; dataset.class_names, with all classes, ends this note"
    )


def _combined(listing: Listing) -> str:
    """A line where a class's name is several of the others: a list of labels that was taken for one word."""
    found = joined(listing.class_names) if listing.task == "multiclass" else None
    if found is None:
        return ""
    separator, name = found
    return (
        f"class {name!r} is several of the other classes with {separator!r} between them: "
        f"dataset.label_separator = {_quoted(separator)} gives an image each of these labels; "
        "dataset.class_names, with all classes, ends this note"
    )


def _not_known(listing: Listing) -> str:
    """A line on labels that are not known, once those of other images of a case were taken."""
    if listing.task != "multilabel" or not (unknown := (listing.labels == UNKNOWN).sum(axis=0)).any():
        return ""
    pairs = zip(listing.class_names, unknown.tolist(), strict=True)
    counts = ", ".join(f"{name} {n}" for name, n in pairs if n)
    return f"labels that are not known, left out of loss and metrics: {counts} of {len(listing)} images"


def _perhaps_unknown(listing: Listing) -> str:
    """A line where a patient's name may say that the patient is not known, and has several images."""
    groups = [] if listing.groups is None else listing.groups.tolist()
    counts = Counter(NOBODY.get(who, who) for who in groups)
    found = [f"{who!r} ({n} images)" for who, n in counts.items() if n > 1 and PERHAPS_MISSING.fullmatch(who)]
    if not found:
        return ""
    return (
        f"patient {', '.join(found)}: does it say that the patient is not known? These images count as those "
        "of one patient, in one split"
    )


def _dates(listing: Listing) -> str:
    """A line where patients are dates, as Excel makes of ids such as 1-2."""
    found = [] if listing.groups is None else [who for who in listing.groups.tolist() if DATE.fullmatch(who)]
    if not found:
        return ""
    return (
        f"patients such as {found[0]!r} are dates: Excel turns ids such as 1-2 or 3.4 into dates; are they "
        "ids?"
    )


def _rounded(listing: Listing) -> str:
    """A line where patients are rounded numbers: several patients may have become one."""
    groups = [] if listing.groups is None else listing.groups.tolist()
    found = [who for who in groups if ROUNDED.fullmatch(who)]
    if not found:
        return ""
    return (
        f"patients such as {found[0]!r} ({found.count(found[0])} images) are rounded numbers: Excel or "
        "pandas has cut long ids, so that several patients may be one; write the ids in full, as text"
    )


def _sides(listing: Listing) -> str:
    """A line where patients (or cases, if no patient is known) differ in an eye or a side alone."""
    names = listing.cases if listing.groups is None else listing.groups
    stems: dict[str, list[str]] = defaultdict(list)
    for name in [] if names is None else sorted(set(names.tolist())):
        if side := SIDE.search(name):
            stems[name[: side.start()]].append(name)
    pairs = [both for both in stems.values() if len(both) > 1]
    if len(pairs) < FEWEST_PAIRS:
        return ""
    what = "cases" if listing.groups is None else "patients"
    return (
        f"{what} such as {pairs[0][0]!r} and {pairs[0][1]!r} look like two eyes or sides of one patient "
        f"({len(pairs)} such pairs), but may be in different splits: name the patient alone in "
        "dataset.group_column or group_pattern"
    )


def _exclusive(listing: Listing) -> str:
    """A line where every image has exactly one of several labels; of tables `label_notes` tells it."""
    if listing.task != "multilabel" or not (is_present(listing.labels).sum(axis=1) == 1).all():
        return ""
    return (
        f"every image has exactly one of the {len(listing.class_names)} labels: as class numbers, one for "
        "each image, they are classes, and there is a confusion matrix"
    )


def _mixed_patients(listing: Listing, config: DatasetConfig) -> str:
    """A line where a patient's number stands below the class's folder, and most have several classes."""
    if not isinstance(config, FolderDataset) or config.group_pattern is None or listing.groups is None:
        return ""
    classes: dict[str, set[int]] = defaultdict(set)
    labels = listing.labels.tolist()
    for name, group, label in zip(listing.names, listing.groups.tolist(), labels, strict=True):
        match = re.search(config.group_pattern, name)
        folder = name.find(f"{listing.class_names[label]}/")
        if match and 0 <= folder < match.start(1):
            classes[group].add(label)
    mixed = [group for group, found in classes.items() if len(found) > 1]
    if len(mixed) < 2 or 2 * len(mixed) < len(classes):
        return ""
    shown = ", ".join(listing.class_names[label] for label in sorted(classes[mixed[0]])[:3])
    return (
        f"{len(mixed)} of {len(classes)} patients have images of several classes ({mixed[0]}: {shown}): "
        "where numbers start again in each class, dataset.group_pattern needs the class's folder in its "
        "parentheses"
    )


def _unused_patients(listing: Listing, config: DatasetConfig) -> str:
    """A line where paths name patients, but nothing keeps a patient's images (or cases) in one split."""
    unit = config.unit if isinstance(config, CsvDataset | FolderDataset) else "image"
    for shown, pattern, patients, what in _patients_in_paths(listing):
        if _may_be_divided(patients, listing):
            n_units = len(listing) if listing.cases is None else len(set(listing.cases.tolist()))
            return (
                f"paths name {len(set(patients))} {what} ({shown}, ...) of {n_units} {unit}s, but the "
                f"{unit}s of one may be in several splits: dataset.group_pattern = '{pattern}' keeps them "
                "together"
            )
    return ""


def _may_be_divided(patients: Sequence[str], listing: Listing) -> bool:
    """Whether a patient has several images; of cases, whether one has several that lie in one folder.

    Cases of several folders may be of different patients: their numbers may start again in each class.
    """
    if listing.cases is None:
        return 1 < len(set(patients)) < len(listing)
    pairs = set(zip(listing.cases.tolist(), patients, strict=True))
    if len(pairs) > len(set(listing.cases.tolist())) or len(set(patients)) < 2:
        return False
    beside = Counter((patient, posixpath.dirname(case)) for case, patient in pairs)
    return max(beside.values()) > 1


def _patients_in_paths(listing: Listing) -> Iterator[tuple[str, str, list[str], str]]:
    """Ways to find the patient in every path: an example, the pattern, whom it finds, what they are."""
    for words in PATIENTS:
        matches = [words.search(name) for name in listing.places]
        if matches and all(matches):
            found = [match for match in matches if match]
            pattern, _ = Counter(f"{m[1]}{m[2]}(\\d+)" for m in found).most_common(1)[0]
            yield found[0][0], pattern, [m[0] for m in found], "patients or slides"
    for pattern, what in WHOLES.items():
        wholes = [re.search(pattern, name) for name in listing.places]
        if wholes and all(wholes):
            named = [match[1] for match in wholes if match]
            yield named[0], pattern, named, what
    folders = [name.split("/")[:-1] for name in listing.places]
    for level in range(min(map(len, folders), default=0)):
        names = {parts[level] for parts in folders}
        numbered = len(names) > FEW_FOLDERS and all(re.search(r"\d", name) for name in names)
        if numbered and not names <= set(listing.class_names):
            before = f"(?:[^/]+/){{{level}}}" if level else ""
            yield (
                min(names),
                f"^{before}([^/]+)/",
                [parts[level] for parts in folders],
                "patients or slides",
            )
