"""Splits that are valid, but so small that what is measured on them means little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import Listing
from medfathom.metrics.classification import positives
from medfathom.metrics.unknown import is_present

FEW_GROUPS = 10
"""With fewer patients of a class in a split, the 95 % interval of its AUC, which is over patients, means
little: Hanley and McNeil's (1982) is wider than 0.3 for an AUC of 0.8 and ten of each class."""

FEW_IMAGES = 5
"""With fewer images (or cases) of a class in a split, the AUC moves in steps of a fifth or more."""


FOLDS_BELOW_IMAGES, FOLDS_BELOW_GROUPS = 1000, 50
"""With fewer images or patients outside the test split, folds are proposed: the 95 % interval of an AUC of
0.85 on a validation split of 150 images is 0.12 wide (Hanley and McNeil 1982, half of them positive)."""


CROSS_VALIDATE = "; dataset.splits.folds = 5 cross-validates the best trials"
"""How a note on a small data set ends."""


def few_notes(listing: Listing, splits: NDArray[np.str_]) -> list[str]:
    """Notes, a line each: rare classes in validation, few patients in validation and test."""
    notes, counted = [], "images" if listing.cases is None else "cases"
    for split in ("val", "test"):
        rows = np.flatnonzero(splits == split)
        if listing.cases is not None:  # a case is judged once, and has one label
            rows = rows[np.unique(listing.cases[rows], return_index=True)[1]]
        counts = _counts(listing, rows)
        few = [f"{name} {count}" for name, count in counts.items() if count < FEW_IMAGES]
        if few:
            notes.append(
                f"the {split} split has few {counted} of a class ({', '.join(few)}): its AUC is very "
                "uncertain"
            )
        if 0 < (n := _count_groups(listing, rows)) < FEW_GROUPS:
            notes.append(
                f"the {split} split has {n} patients or slides: the interval of its AUC is not reliable"
            )
    return notes


def _count_groups(listing: Listing, rows: NDArray[np.int64]) -> int:
    """Patients of these images; one that is not known ("") is none."""
    if listing.groups is None:
        return 0
    groups = listing.groups[rows]
    return len(np.unique(groups[groups != ""]))


def _counts(listing: Listing, rows: NDArray[np.int64]) -> dict[str, int]:
    """Of these images those of each class; of two classes both."""
    task = "multiclass" if listing.task == "binary" else listing.task
    flags = positives(task, listing.labels[rows], len(listing.class_names))
    found = is_present(flags).sum(axis=0)
    return dict(zip(listing.class_names, found.tolist(), strict=True))


def propose_folds(listing: Listing, splits: NDArray[np.str_]) -> list[str]:
    """A line that proposes folds where a data set is small; nothing where it is not."""
    rows = splits != "test"
    n_images = int(rows.sum())
    n_groups = None if listing.groups is None else len(np.unique(listing.groups[rows]))
    few = f"{n_images:,} images" if n_images < FOLDS_BELOW_IMAGES else ""
    if n_groups is not None and n_groups < FOLDS_BELOW_GROUPS:
        few = f"{n_groups} patients or slides"
    if not few:
        return []
    return [
        f"there are only {few} outside the test split: one validation split is not reliable{CROSS_VALIDATE}"
    ]
