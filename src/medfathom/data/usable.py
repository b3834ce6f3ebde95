"""Whether images can be trained on: their splits have every class, and their values are not all dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, Problem
from medfathom.data.workers import Row
from medfathom.definitions.dataset import DatasetConfig
from medfathom.errors import DataError
from medfathom.metrics.classification import has_auc
from medfathom.metrics.unknown import is_absent, is_present

DARK_BITS = 12
"""An image with more than 8 bits whose values need no more is dark, or of another depth than others."""

DARK_SHARE = 0.05
"""More of them are not taken for dark images."""


def check_bits(rows: Sequence[Row], config: DatasetConfig) -> None:
    """Images of more than 8 bits reach white, or the definition says that they need not.

    They are looked at by themselves: beside images of 8 bits they would be the dark ones.
    """
    if "bits" in config.model_fields_set:
        return
    used = np.array([row.bits_used for row in rows if row.bits_used], dtype=np.int64)
    n_dark = int((used <= DARK_BITS).sum())
    if not len(used) or (used.max() == config.bits and n_dark <= DARK_SHARE * len(used)):
        return
    many = f"all {len(used)}" if used.max() < config.bits else f"{n_dark} of {len(used)}"
    bits = int(used.max()) if used.max() < config.bits else DARK_BITS
    raise DataError(
        f"{many} images with more than 8 bits use at most {bits} of them (values to {2**bits - 1}): they "
        f"would come out dark, or flat where values are signed; give dataset.bits = {bits} if that is their "
        f"depth, {config.bits} to keep them so"
    )


def check_two_classes(listing: Listing) -> None:
    """Raise DataError where all images are of one class."""
    if listing.task != "multilabel" and len(listing.class_names) < 2:
        raise DataError(f"all images are of one class ({', '.join(listing.class_names)!r}); two are needed")


def check_classes(listing: Listing, splits: NDArray[np.str_], problems: Sequence[Problem] = ()) -> None:
    """Every split needs images, and training and validation every class."""
    because = f" once {len(problems)} bad ones are left out ({problems[0]}, ...)" if problems else ""
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
        raise DataError(f"no {split} image of class {', '.join(map(repr, absent))}{because}{hint}")
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
