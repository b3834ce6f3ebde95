"""From a folder, a table or an array to a `[dataset]` table: what it is, read once with the real source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from medfathom.data.doubts import is_negation
from medfathom.data.guess import HDF5, TABLES
from medfathom.data.guess.columns import guess_columns
from medfathom.data.guess.groups import guess_groups
from medfathom.data.guess.modality import guess_modality
from medfathom.data.images import UnreadableImageError, read_header
from medfathom.data.listing import list_images
from medfathom.data.sources.base import Listing, Source
from medfathom.data.sources.folder import SPLIT_FOLDERS
from medfathom.data.sources.open import open_source
from medfathom.data.sources.suspicions import NUMBERED, class_masks, mask_patterns
from medfathom.data.stacks import ImageFile
from medfathom.definitions.dataset import DatasetConfig
from medfathom.errors import DataError, InputError

HEADERS = 64
"""Images whose size is looked at."""

MOST_UNUSABLE = 0.1
"""Where more images cannot be used than this part of them, nobody but the user may leave them out."""

CLASS_AND_PATIENT = {
    "class_pattern": r"([^/]*?)[ _(-]*\d+\)?/",
    "group_pattern": r"([^/]*\d\)?)/",
}
"""Where class and patient are in `AMD1/...`."""

Keys = dict[str, Any]
"""Of `[dataset]`, as in a definition."""

PLACEHOLDER: Keys = {"modality": "unknown", "image_size": 64}
"""Until the images were looked at."""

_DATASET: TypeAdapter[DatasetConfig] = TypeAdapter(DatasetConfig)


@dataclass
class Guessed:
    """A data set as it was found.

    Attributes:
        keys: of `[dataset]`.
        why: key -> the evidence for it, where it was guessed.
        listing: all images.
        side: median of the images' shorter sides, pixels.
    """

    keys: Keys
    listing: Listing
    side: int
    why: dict[str, str] = field(default_factory=dict)

    @property
    def dataset(self) -> DatasetConfig:
        """The `[dataset]` table."""
        return _DATASET.validate_python(self.keys)


def guess_dataset(place: Path, *, modality: str | None = None, label: str | None = None) -> Guessed:
    """Look at a place and say how to read it.

    Args:
        place: a folder of class folders, of HDF5 files or with one table; a table; an npz file; a DICOMDIR.
        modality: as the user says; None: it is guessed.
        label: the column of a table with the label; None: it is guessed.

    Raises:
        InputError: it holds no data set that could be read; or something can only be said by the user: the
            message says which option does so.
    """
    place = place.expanduser().absolute()
    if not place.exists():
        raise DataError(f"{place}: is not there")
    keys, why = _source(place.parent if place.name.upper() == "DICOMDIR" else place, label)
    found = _read(keys, why)
    _repair(found)
    _modality(found, place, modality)
    _groups(found)
    _positive(found)
    return found


def _source(place: Path, label: str | None) -> tuple[Keys, dict[str, str]]:
    """Keys that read the place, and why."""
    if place.is_dir():
        return _hdf5(place) if _with_ends(place, HDF5) else _folder(place, label)
    lower = place.name.lower()
    if lower.endswith(HDF5):
        return _hdf5(place.parent)
    if lower.endswith(TABLES):
        columns = guess_columns(place, label)
        return {"source": "csv", "path": str(place), **columns.keys}, columns.why
    if not lower.endswith(".npz"):
        known = ", ".join((*TABLES, ".npz", *HDF5))
        raise DataError(f"{place}: neither a folder nor a file that ends in {known}")
    return {"source": "npz", "path": str(place)}, {}


def _folder(place: Path, label: str | None) -> tuple[Keys, dict[str, str]]:
    """Class folders; the only folder in this one; or the table that lies in it."""
    keys: Keys = {"source": "folder", "path": str(place)}
    tables = _with_ends(place, TABLES)
    try:
        listing, source = _list({**keys, **PLACEHOLDER})
        source.close()
    except DataError as error:
        if _SIMILAR in str(error):
            return keys, {}
        inner = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")]
        if len(inner) == 1 and not tables:
            return _source(inner[0], label)
        return _only_table(place, tables, label, str(error))
    if len(tables) == 1 and all(NUMBERED.fullmatch(name) for name in listing.class_names):
        return _only_table(place, tables, label, "its folders are numbered, as patients are")
    return keys, {}


_SIMILAR = "dataset.similar_words"
"""Where an error names this key, words differ in their spelling alone."""


def _with_ends(place: Path, ends: tuple[str, ...]) -> list[Path]:
    """Files of a folder whose names end so."""
    files = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in files if path.name.lower().endswith(ends))


def _only_table(
    place: Path, tables: list[Path], label: str | None, reason: str
) -> tuple[Keys, dict[str, str]]:
    """The table in a folder without class folders."""
    if len(tables) == 1:
        keys, why = _source(tables[0], label)
        return keys, {"path": f"the only table in {place}; {reason}", **why}
    names = ", ".join(p.name for p in tables) or "no table either"
    raise DataError(
        f"{place}: no class folders ({reason}); {names}. Name the table with the labels instead of the folder"
    )


def _hdf5(folder: Path) -> tuple[Keys, dict[str, str]]:
    """PatchCamelyon's layout, with the names that the files have."""
    words = "|".join(word for words in SPLIT_FOLDERS.values() for word in words)
    names = sorted(p.name for p in folder.iterdir() if p.name.lower().endswith(HDF5))
    patterns = [re.sub(rf"(?i)(?<![a-z])(?:{words})(?![a-z])", "{split}", name) for name in names]
    kinds = {kind: next((p for p in patterns if re.search(f"(?i){end}", p)), None) for kind, end in _KINDS}
    keys = {"source": "hdf5", "path": str(folder)} | {k: p for k, p in kinds.items() if p and "{split}" in p}
    return keys, dict.fromkeys(kinds.keys() & keys.keys(), "by the names of the files")


_KINDS = (
    ("images", r"(?<![a-z])(x|images?)\.(h5|hdf5)$"),
    ("labels", r"(?<![a-z])(y|labels?)\.(h5|hdf5)$"),
)


def _list(keys: Mapping[str, object]) -> tuple[Listing, Source]:
    config = _DATASET.validate_python(dict(keys))
    source = open_source(config)
    return list_images(source, config), source


def _read(keys: Keys, why: dict[str, str]) -> Guessed:
    keys = {**PLACEHOLDER, **keys}
    try:
        listing, source = _list(keys)
    except DataError as error:
        if _SIMILAR not in str(error) or "similar_words" in keys:
            raise
        why["similar_words"] = str(error).partition(";")[0]
        return _read({**keys, "similar_words": "merge"}, why)
    try:
        side = _side(source, len(listing))
    finally:
        source.close()
    return Guessed(keys, listing, side, why)


def _side(source: Source, n: int) -> int:
    """The median of the shorter sides of some images."""
    step = max(1, n // HEADERS)
    sides = []
    for fetched in source.fetch(range(0, n, step)) if n else []:
        if isinstance(fetched, ImageFile):
            try:
                header = read_header(fetched.path)
            except UnreadableImageError:
                continue
            sides.append(min(header.width, header.height))
        else:
            sides.append(min(fetched.shape[:2]))
    return int(median(sides)) if sides else 0


def _repair(found: Guessed) -> None:
    """Follow what the source itself suspects: masks, patients taken for classes, unusable files."""
    if found.keys["source"] == "folder":
        numbered = [NUMBERED.fullmatch(name) for name in found.listing.class_names]
        words = {match.group(1) for match in numbered if match}
        if all(numbered) and 1 < len(words) < len(numbered):
            why = "folders are named after a class and a number; the number is taken as the patient's"
            _try(found, CLASS_AND_PATIENT, why)
    if found.keys["source"] in ("folder", "csv"):
        masks = _masks(found)
        if masks:
            why = f"{len(masks)} images look like masks: {', '.join(list(masks)[:2])}"
            _try(found, {"exclude": sorted(set(masks.values()))}, why)
    listing = found.listing
    if listing.problems:
        n = len(listing.problems)
        shown = "; ".join(map(str, listing.problems[:3]))
        if n > MOST_UNUSABLE * (n + len(listing)):
            raise DataError(
                f"{n} of {n + len(listing)} images or rows cannot be used: {shown}; repair or remove them"
            )
        found.keys["on_bad_image"] = "skip"
        found.why["on_bad_image"] = f"{n} images or rows cannot be used: {shown}"


def _masks(found: Guessed) -> dict[str, str]:
    """Images that look like masks, by their names or by their class's -> the pattern that leaves each out."""
    listing = found.listing
    masks = mask_patterns(listing.names, [PurePosixPath(name).name for name in listing.names])
    if found.keys["source"] == "folder":
        words = [listing.class_names[int(label)] for label in listing.labels]
        of_classes = class_masks(listing.names, words)
        masks |= {name: pattern for name, pattern in of_classes.items() if pattern}
    return masks


def _try(found: Guessed, keys: Mapping[str, object], why: str) -> None:
    """Take these keys where the data set can be read with them."""
    try:
        again = _read({**found.keys, **keys}, {})
    except InputError:
        return
    found.keys, found.listing = again.keys, again.listing
    found.why |= dict.fromkeys(keys, why)


def _modality(found: Guessed, place: Path, modality: str | None) -> None:
    if modality is None:
        columns = [str(v) for k, v in found.keys.items() if k.endswith("_column")]
        names = [place.name, place.parent.name, *found.listing.class_names, *columns]
        first = (
            Path(found.keys["path"]) / found.listing.names[0] if found.keys["source"] == "folder" else None
        )
        guess = guess_modality(names, first)
        if guess is None:
            raise InputError(
                f"{place}: the modality cannot be guessed; add --modality with CXR, OCT, WSI or another word"
            )
        modality, found.why["modality"] = guess
    found.keys["modality"] = modality


def _groups(found: Guessed) -> None:
    listing = found.listing
    if listing.groups is not None or found.keys["source"] not in ("folder", "csv"):
        return
    names = [re.sub(r" \(line \d+\)$| \(row \d+\)$", "", name) for name in listing.places]
    words = [str(label) for label in listing.labels.tolist()]
    if groups := guess_groups(names, words):
        _try(found, {"group_pattern": groups.pattern}, groups.evidence)


def _positive(found: Guessed) -> None:
    """Of two classes the one whose name does not say that something is not there."""
    listing = found.listing
    if listing.task != "binary":
        return
    first, second = listing.class_names
    if is_negation(second) and not is_negation(first):
        found.keys["positive"] = first
        found.why["positive"] = f"{second!r} says that something is not there"
    elif is_negation(first):
        found.keys["positive"] = second
        found.why["positive"] = f"{first!r} says that something is not there"
    else:
        found.keys["positive"] = second
        found.why["positive"] = (
            f"the second of {first!r} and {second!r}; nothing tells which is meant: check it"
        )
