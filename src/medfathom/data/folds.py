"""Cross-validation: training and validation split together, divided into folds; the test split stays outside.

All images of a patient (or case, or set of copies) are in one fold, and every class is in each fold. Folds
follow from the prepared data set and the definition alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from medfathom.data.copies import exact_copies, kept_together, read_near, together
from medfathom.data.covering import NoDivisionError, cover
from medfathom.data.manifest import read_manifest
from medfathom.data.prepared import PreparedData, Split, array_file
from medfathom.data.splits import (
    SHOWN_CLASSES,
    Groups,
    Labels,
    assign_folds,
    counts_of,
    rarest_classes,
    strata_of,
)
from medfathom.definitions.dataset import SplitsConfig
from medfathom.errors import DataError
from medfathom.files import write_atomically

Assignment = NDArray[np.int64]
"""The fold of each image, from 0, (repeats, n)."""


@dataclass(frozen=True)
class Fold:
    """One training of a cross-validated trial: rows of the pool, sorted."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """A cross-validation.

    Attributes:
        pool: training and validation images, in this order.
        unit: what no fold divides, as a number for each image of the pool, (n,).
        fold: see `Assignment`.
        n_folds: of each repeat.
    """

    pool: Split
    unit: NDArray[np.int64]
    fold: Assignment
    n_folds: int

    def __len__(self) -> int:
        """Trainings of a complete trial."""
        return len(self.fold) * self.n_folds

    def __getitem__(self, number: int) -> Fold:
        """The training with this number, from 0: the folds of the first repeat come first."""
        repeat, fold = divmod(number, self.n_folds)
        judged = self.fold[repeat] == fold
        return Fold(np.flatnonzero(~judged), np.flatnonzero(judged))


def draw_folds(
    labels: Labels, units: Groups, config: SplitsConfig, class_names: Sequence[str] | None = None
) -> Assignment:
    """Divide images into folds, once for each repeat.

    Args:
        labels: of the images; int64 (n,) or uint8 (n, K).
        units: images with the same text here are in one fold; None: each on its own.
        config: the `[dataset.splits]` table, with folds.
        class_names: for errors.

    Raises:
        DataError: a class has fewer units than there are folds, or they cannot be divided.
    """
    n_folds = config.folds or 1
    _, unit = np.unique(np.arange(len(labels)) if units is None else units, return_inverse=True)
    counts = counts_of(labels, unit)
    strata = counts_of(np.unique(strata_of(labels), return_inverse=True)[1], unit)
    drawn = []
    for repeat in range(config.repeats):
        seed = config.seed + repeat
        start = _dealt(strata, n_folds, seed) if units is None else assign_folds(strata, n_folds, seed)
        try:
            division = cover(counts, start, np.full(n_folds, 1 / n_folds))
        except NoDivisionError:
            raise DataError(
                _why_none(counts, n_folds, labels, class_names, grouped=units is not None)
            ) from None
        drawn.append(division[unit])
    return np.array(drawn)


def _dealt(strata: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Single images, shuffled, dealt to the folds one stratum after the other."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order].argmax(axis=1), kind="stable")]
    fold = np.empty(len(strata), dtype=np.int64)
    fold[order] = np.arange(len(strata)) % n_folds
    return fold


def _why_none(
    counts: NDArray[np.int64],
    n_folds: int,
    labels: Labels,
    class_names: Sequence[str] | None,
    *,
    grouped: bool,
) -> str:
    what = "patients, cases or sets of copies" if grouped else "images"
    rarest = rarest_classes(counts, labels, class_names)
    shown = ", ".join(f"{name} has {having}" for name, having in rarest[:SHOWN_CLASSES])
    least = min(rarest[0][1], n_folds - 1)
    to_do = f"give folds = {least}" if least > 1 else "leave folds out, or leave the class out"
    return (
        f"dataset.splits.folds = {n_folds}: every class must be in every fold, but outside the test split "
        f"{shown} {what}; {to_do}"
    )


def pool_units(
    data: PreparedData, config: SplitsConfig, groups: Groups, cases: Groups
) -> NDArray[np.str_] | None:
    """What no fold divides: patients, else cases, with copies of images; None: each image for itself.

    Args:
        data: the prepared data set.
        config: the `[dataset.splits]` table.
        groups: the patient of each image of the pool.
        cases: its case.
    """
    n = data.sizes["train"] + data.sizes["val"]
    manifest, near = read_manifest(data.folder), read_near(data.folder)  # rows: training, validation, test
    pairs = [[p.first, p.second] for p in near.pairs if max(p.first, p.second) < n] if near else []
    constant = manifest.constant[:n].tolist()
    same = exact_copies(manifest.sha256[:n].tolist(), manifest.pixels_sha256[:n].tolist(), constant)
    copies = together([*same, *pairs])
    clusters = groups if config.grouped and groups is not None else cases
    return kept_together(clusters, copies, n) if clusters is not None or copies else None


def open_folds(data: PreparedData, config: SplitsConfig, divided: PreparedData | None = None) -> Folds | None:
    """The cross-validation of a prepared data set; None: the definition asks for none.

    Args:
        data: whose images are used.
        config: the `[dataset.splits]` table.
        divided: the same data set at the size at which copies are looked for, where that is another.

    Raises:
        DataError: see `draw_folds`.
    """
    if config.folds is None:
        return None
    train, val = data.split("train"), data.split("val")
    pool = Split(
        images=np.load(_pool_images(data.folder, train, val), mmap_mode="r", allow_pickle=False),
        labels=np.concatenate([train.labels, val.labels]),
        groups=_joined(train.groups, val.groups),
        names=[*train.names, *val.names],
        cases=_joined(train.cases, val.cases),
    )
    units = pool_units(divided or data, config, pool.groups, pool.cases)
    fold = draw_folds(pool.labels, units, config, data.class_names)
    unit = np.arange(len(pool)) if units is None else np.unique(units, return_inverse=True)[1]
    return Folds(pool, unit, fold, config.folds)


def _joined(first: Groups, second: Groups) -> Groups:
    return None if first is None or second is None else np.concatenate([first, second])


def _pool_images(folder: Path, train: Split, val: Split) -> Path:
    """The images of both splits in one array, written once."""
    file = array_file(folder, "pool", "images")
    with FileLock(folder / ".pool.lock"):
        if not file.exists():
            write_atomically(file, lambda part: _write(part, train, val))
    return file


def _write(part: Path, train: Split, val: Split) -> None:
    shape = (len(train) + len(val), *train.images.shape[1:])
    array = np.lib.format.open_memmap(part, mode="w+", dtype=train.images.dtype, shape=shape)
    array[: len(train)], array[len(train) :] = train.images, val.images
    array.flush()
