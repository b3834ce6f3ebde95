"""Whether images can be trained on: their splits have every class, and their values are not all dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels, UnreadableImageError
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, Problem, Source
from medfathom.data.workers import Row
from medfathom.definitions.dataset import DatasetConfig
from medfathom.errors import DataError
from medfathom.metrics.classification import has_auc
from medfathom.metrics.unknown import is_absent, is_present

DARK_BITS = 12
"""An image with more than 8 bits whose values need no more is dark, or of another depth than others."""

LOOKED_AT = 32
"""Images that are looked at: of more than 8 bits by `validate`, of 8 bits by `prepare`."""

DARK_VALUE = 15
"""The largest value of 255 in nearly black images."""

DARK_SHARE = 0.05
"""More of them are not taken for dark images."""


def foresee_bits(source: Source, config: DatasetConfig) -> str:
    """`check_bits` over a few images, before all are decoded.

    Returns:
        A line where a few of many images do not reach white: the others may.

    Raises:
        DataError: as `check_bits`, where they are all that have more than 8 bits.
    """
    if "bits" in config.model_fields_set:
        return ""
    looked, used = source.deep[:LOOKED_AT], []
    for fetched in source.fetch(looked):
        with suppress(UnreadableImageError):  # preparation names it
            used.append(source.decode(fetched).bits_used)
    try:
        _check_used(used, config)
    except DataError as error:
        if len(looked) == len(source.deep):
            raise
        n = len(source.deep)
        return f"of {n} images with more than 8 bits the first {len(looked)} were looked at: {error}"
    return ""


def check_bits(rows: Sequence[Row], config: DatasetConfig) -> None:
    """Images of more than 8 bits reach white, or the definition says that they need not.

    They are looked at by themselves: beside images of 8 bits they would be the dark ones.
    """
    if "bits" not in config.model_fields_set:
        _check_used([row.bits_used for row in rows], config)


def _check_used(bits_used: Sequence[int], config: DatasetConfig) -> None:
    """Args: bits_used: of each image; 0 for one of 8 bits."""
    used = np.array([count for count in bits_used if count], dtype=np.int64)
    n_dark = int((used <= DARK_BITS).sum())
    if not len(used) or (used.max() == config.bits and n_dark <= DARK_SHARE * len(used)):
        return
    many = f"all {len(used)}" if used.max() < config.bits else f"{n_dark} of {len(used)}"
    bits = int(used.max()) if used.max() < config.bits else DARK_BITS
    raise DataError(
        f"{many} images with more than 8 bits use at most {bits} of them (values to {2**bits - 1}): they "
        f"would be dark, or flat if values are signed; give dataset.bits = {bits} if that is their depth, or "
        f"dataset.bits = {config.bits} to use them as they are"
    )


def dark_note(image: Callable[[int], Pixels], places: Sequence[int]) -> str:
    """A line where images of 8 bits are nearly black: class numbers of masks, or values from 0 to 1.

    Args:
        image: gives a prepared image.
        places: of the images; LOOKED_AT of them at most are looked at, evenly.
    """
    looked = [image(place) for place in places[:: max(1, len(places) // LOOKED_AT)]]
    largest = max((int(pixels.max()) for pixels in looked), default=255)
    if not looked or looked[0].dtype != np.uint8 or largest > DARK_VALUE:
        return ""
    return (
        f"the images have values from 0 to {largest} of 255: they are nearly black; are they masks, or "
        "scaled to 0 and 1? Save them with values to 255"
    )


def check_two_classes(listing: Listing) -> None:
    """Raise DataError where all images are of one class."""
    if listing.task != "multilabel" and len(listing.class_names) < 2:
        raise DataError(f"all images are of one class ({', '.join(listing.class_names)!r}); two are needed")


def check_classes(listing: Listing, splits: NDArray[np.str_], problems: Sequence[Problem] = ()) -> None:
    """Every split needs images, and training and validation every class."""
    because = f" once {len(problems)} are left out ({problems[0]}, ...)" if problems else ""
    for split in SPLIT_NAMES:
        labels = listing.labels[splits == split]
        if not len(labels):
            raise DataError(f"the data set has no {split} image{because}")
        if split != "test":
            _check_coverage(listing, labels, split, because, splits)
        elif not has_auc(listing.task, labels, len(listing.class_names)):
            raise DataError(
                f"all {len(labels)} test images are of one class{because}, so the test has no AUC; "
                "give a test split that has both"
            )


def _check_coverage(
    listing: Listing, labels: NDArray[np.integer], split: str, because: str, splits: NDArray[np.str_]
) -> None:
    names = listing.class_names
    counts = _class_counts(labels, len(names))
    if (counts == 0).any():
        absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
        elsewhere = _class_counts(listing.labels[splits == "test"], len(names))[counts == 0]
        hint = ", though the test split has some" if elsewhere.all() else ""
        raise DataError(
            f"no {split} image of class {', '.join(map(repr, absent))}{because}{hint}; leave the class "
            'out, or draw other splits: dataset.splits.given = "ignore"'
        )
    absent_from = is_absent(labels).sum(axis=0)
    if listing.task == "multilabel" and (absent_from == 0).any():
        always = [name for name, count in zip(names, absent_from, strict=True) if count == 0]
        raise DataError(
            f"every {split} image has label {', '.join(map(repr, always))}: "
            "no network can learn it; remove it from the labels"
        )


def _class_counts(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Images of each class."""
    if labels.ndim == 2:
        counts: NDArray[np.int64] = is_present(labels).sum(axis=0, dtype=np.int64)
        return counts
    return np.bincount(labels, minlength=n_classes).astype(np.int64)
