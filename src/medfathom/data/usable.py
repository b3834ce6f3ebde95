"""Whether images can be trained on: their splits have every class, and their values are not all dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels, UnreadableImageError
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, Problem, Source, UnusableRowsError, first_of
from medfathom.data.workers import Row
from medfathom.definitions.dataset import DatasetConfig
from medfathom.errors import DataError
from medfathom.metrics.classification import has_auc
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.text import number_of

DARK_BITS = 12
"""An image with more than 8 bits whose values need no more is dark, or of another depth than others."""

DARKER_BY = 2
"""Images that need so many bits fewer than others use at most a quarter of the others' values."""

LOOKED_AT = 32
"""Images that are looked at: of more than 8 bits by `validate`, of 8 bits by `prepare`."""

DARK_VALUE = 15
"""The largest value of 255 in nearly black images."""

DARK_SHARE = 0.05
"""More of them are not taken for dark images."""


def foresee_bits(source: Source, listing: Listing, config: DatasetConfig) -> list[str]:
    """`check_bits` over a few images, evenly, before all are decoded: classes may be of different depth.

    Returns:
        A line where a few of many images do not reach white (the others may), or cannot be used.

    Raises:
        DataError: as `check_bits`, where they are all that have more than 8 bits.
        UnusableRowsError: some of them cannot be used, and `on_bad_image` is "error".
    """
    n = len(source.deep)
    looked = [source.deep[place] for place in np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int)]
    names, used, problems = [], [], []
    for row, fetched in zip(looked, source.fetch(looked), strict=True):
        try:
            used.append(source.decode(fetched).bits_used)
            names.append(listing.names[row])
        except UnreadableImageError as error:
            problems.append(Problem(listing.names[row], str(error)))
    if problems and config.on_bad_image == "error":
        raise UnusableRowsError(problems, len(looked) if len(looked) < n else len(listing))
    part = "" if len(looked) == n else f"of {n} images with more than 8 bits {len(looked)} were looked at: "
    number = number_of(len(problems), "image")
    found = [f"{number} cannot be used and will be left out ({problems[0]})"] if problems else []
    try:
        found += filter(None, [check_used(names, used, config)])
    except DataError as error:
        if not part:
            raise
        found.append(str(error))
    return [f"{part}{line}" for line in found]


def check_bits(rows: Sequence[Row], names: Sequence[str], config: DatasetConfig) -> str:
    """Images of more than 8 bits reach white, or the definition says that they need not.

    They are looked at by themselves: beside images of 8 bits they would be the dark ones.

    Args:
        rows: of the images that can be used.
        names: of these images.
        config: the `[dataset]` table.

    Returns:
        A line where `bits` is given and some use a small part of it; else empty.

    Raises:
        DataError: `bits` is not given, and they do not reach white.
    """
    return check_used(names, [row.bits_used for row in rows], config)


def check_used(names: Sequence[str], bits_used: Sequence[int], config: DatasetConfig) -> str:
    """As `check_bits`. `bits_used`: of each image; 0 for one of 8 bits."""
    deep = [(name, count) for name, count in zip(names, bits_used, strict=True) if count]
    if not deep:
        return ""
    most, white = max(count for _, count in deep), 2**config.bits - 1
    if "bits" in config.model_fields_set:
        # Where no image needs all bits, the set is as dark as it was meant to be.
        darker = _darker(deep, config.bits - DARKER_BY, config.bits) if most == config.bits else ""
        way_on = f"are they of another depth? Then save all files with values to {white}"
        return f"{darker}: {way_on}" if darker else ""
    if most < config.bits:
        darker = _darker(deep, most - DARKER_BY, most) if most > 8 else ""
        # Fewer than 9 are not deep, and the key takes none.
        own = f"give dataset.bits = {most} if that is their depth" if most > 8 else "save them with 8 bits"
        raise DataError(
            f"all {len(deep)} images with more than 8 bits use at most {most} of them (values to "
            f"{2**most - 1}): they would be dark, or flat if values are signed; {own}, "
            f"or give dataset.bits = {config.bits} to use them as they are"
            + (f"; with {most}, {darker}, and stay dark beside the others" if darker else "")
        )
    if darker := _darker(deep, DARK_BITS, config.bits):
        raise DataError(
            f"{darker}: they would be dark beside the others; save all files with values to {white}, "
            f"or give dataset.bits = {config.bits} to use them as they are"
        )
    return ""


def _darker(deep: Sequence[tuple[str, int]], most: int, of: int) -> str:
    """Which images use at most so many bits, of how many; "" where they are few.

    Args:
        deep: name and bits used of each image of more than 8 bits.
        most: see above.
        of: the bits that white needs.
    """
    found = [(name, count) for name, count in deep if count <= most]
    if len(found) <= DARK_SHARE * len(deep):
        return ""
    shown = first_of([name for name, _ in found])
    bits = max(count for _, count in found)
    return (
        f"{len(found)} of {len(deep)} images with more than 8 bits ({shown}) use at most {bits} "
        f"of {of} bits (values to {2**bits - 1} of {2**of - 1})"
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


def constant_note(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """A line on images of one value; empty where there are none."""
    found = [name for name, row in zip(names, rows, strict=True) if row.constant]
    if not found:
        return []
    images = "1 image has" if len(found) == 1 else f"{len(found)} images have"
    return [f"{images} the same value in every pixel; these are not counted as copies: {first_of(found)}"]


def check_two_classes(listing: Listing) -> None:
    """Raise DataError where all images are of one class."""
    if listing.task != "multilabel" and len(listing.class_names) < 2:
        raise DataError(f"all images are of one class ({', '.join(listing.class_names)!r}); two are needed")


NONE_LEFT = "no image is left; repair these images or rows, or take others"
"""What follows where no image can be used: leaving them out is no way on."""


def once_left_out(problems: Sequence[Problem]) -> str:
    """Why there may be too few images, as the end of a clause; "" where none was left out."""
    more = ", ..." if len(problems) > 1 else ""
    are = "is" if len(problems) == 1 else "are"
    return f" once {len(problems)} {are} left out ({problems[0]}{more})" if problems else ""


def check_classes(listing: Listing, splits: NDArray[np.str_], problems: Sequence[Problem] = ()) -> None:
    """Every split needs images, and training and validation every class."""
    because = once_left_out(problems)
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
    of_all = _class_counts(listing.labels, len(names))
    if (of_all == 0).any():
        nowhere = " or ".join(repr(name) for name, n in zip(names, of_all, strict=True) if n == 0)
        # Whatever the splits: drawing others is no way on.
        if listing.task == "multilabel":
            raise DataError(
                f"no image has label {nowhere}{because}: its values are all 0 or not known; leave it out of "
                "dataset.label_columns or dataset.class_names"
            )
        raise DataError(f"no image is of class {nowhere}{because}; leave it out of dataset.class_names")
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
