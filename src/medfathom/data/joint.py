"""Several data sets for one network: each prepared by itself, their images in one array.

    storage/cache/joint/KEY/{train,val}_images.npy

There is no array of test images: `heldout` opens the test split of one data set at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from medfathom.data.arrays import ArrayFile, check_space
from medfathom.data.heldout import open_test
from medfathom.data.listing import list_images
from medfathom.data.prepare import foresee, prepare
from medfathom.data.prepared import SPLIT_NAMES, JointData, PreparedData, Split, array_file
from medfathom.data.sources.open import open_source
from medfathom.data.too_few import CROSS_VALIDATE
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import JointDataset
from medfathom.errors import DataError

LEARNED: tuple[Literal["train", "val"], ...] = ("train", "val")


def prepare_study(config: DatasetConfig | JointDataset, cache_dir: Path) -> PreparedData:
    """Prepare the data of a study, one data set or several (then it is `JointData`); see `prepare`.

    Raises:
        DataError: as `prepare`; the data sets differ in their number of channels.
    """
    if not isinstance(config, JointDataset):
        return prepare(config, cache_dir)
    parts = tuple(prepare(one, cache_dir) for one in config.datasets)
    channels = _channels(config, [part.channels for part in parts])
    fingerprint = _fingerprint(config.names, parts, channels)
    folder = cache_dir.absolute() / "joint" / fingerprint[:20]
    _build(parts, channels, folder)
    return JointData(
        folder=folder,
        fingerprint=fingerprint,
        modality=config.modality,
        task="multilabel",
        class_names=_class_names(config.names, parts),
        image_size=config.image_size,
        channels=channels,
        sizes=_sizes(parts),
        names=tuple(config.names),
        parts=parts,
    )


def with_parts(data: JointData, parts: Sequence[PreparedData], folder: Path) -> JointData:
    """The same data sets with other images, such as some of them; their arrays go into this folder."""
    _build(parts, data.channels, folder)
    fingerprint = _fingerprint(data.names, parts, data.channels)
    return replace(data, folder=folder, fingerprint=fingerprint, sizes=_sizes(parts), parts=tuple(parts))


def _class_names(names: Sequence[str], parts: Sequence[PreparedData]) -> tuple[str, ...]:
    pairs = zip(names, parts, strict=True)
    return tuple(f"{name}: {each}" for name, part in pairs for each in part.class_names)


def _sizes(parts: Sequence[PreparedData]) -> dict[str, int]:
    """Images of each split that all data sets have."""
    known = [split for split in SPLIT_NAMES if all(split in part.sizes for part in parts)]
    return {split: sum(part.sizes[split] for part in parts) for split in known}


def foresee_study(config: DatasetConfig | JointDataset, cache_dir: Path) -> list[str]:
    """`foresee` for the data of a study; of several data sets each line begins with a name."""
    if not isinstance(config, JointDataset):
        return foresee(config, cache_dir)
    named = zip(config.names, config.datasets, strict=True)
    found = [(name, note) for name, one in named for note in foresee(one, cache_dir)]
    # Several data sets are not cross-validated together.
    notes = [f"{name}: {note.removesuffix(CROSS_VALIDATE)}" for name, note in found]
    _channels(config, [_listed_channels(one) for one in config.datasets])
    return notes


def _listed_channels(config: DatasetConfig) -> int:
    source = open_source(config)
    try:
        return list_images(source, config, outline=True).channels
    finally:
        source.close()


def _channels(config: JointDataset, own: Sequence[int]) -> int:
    """Channels of all images together."""
    if len(set(own)) > 1 and config.channels is None:
        told = ", ".join(f"{name} {count}" for name, count in zip(config.names, own, strict=True))
        raise DataError(
            f"[[datasets]]: one network needs the same number of channels everywhere, but got {told}; "
            "joint.channels = 3 makes three equal channels of grey images"
        )
    return config.channels or own[0]


def _fingerprint(names: Sequence[str], parts: Sequence[PreparedData], channels: int) -> str:
    """SHA-256 over what the data sets are called, and what they are."""
    form = [channels, *([name, part.fingerprint] for name, part in zip(names, parts, strict=True))]
    return hashlib.sha256(json.dumps(form).encode()).hexdigest()


def _build(parts: Sequence[PreparedData], channels: int, folder: Path) -> None:
    """Write the arrays beside their place, then rename; one process at a time, the others find them done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if folder.exists():
            return
        splits = {name: [part.split(name) for part in parts] for name in LEARNED}
        beside = folder.with_suffix(".partial")
        shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
        dtype = np.result_type(*(split.images.dtype for split in splits["train"]))
        n_pixels = sum(split.images[..., :1].size for own in splits.values() for split in own)
        check_space(beside, n_pixels * channels * dtype.itemsize)
        beside.mkdir()
        for name, own in splits.items():
            _write(array_file(beside, name, "images"), own, channels, dtype)
        beside.rename(folder)


def _write(path: Path, splits: Sequence[Split], channels: int, dtype: np.dtype[Any]) -> None:
    side = splits[0].images.shape[1]
    rows = ArrayFile(path, (sum(map(len, splits)), side, side, channels), dtype)
    images = (image for split in splits for image in split.images)
    for row, image in enumerate(images):
        rows.write(row, in_form(image, channels, dtype))
    rows.flush()
    rows.close()


def in_form(images: NDArray[Any], channels: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Images (..., s, s, c) with so many channels, in so many bits: black and white stay what they are.

    Of one channel the others are equal copies, which take no memory.
    """
    if images.dtype != dtype:
        images = images.astype(np.uint16) * np.uint16(257)
    return np.broadcast_to(images, (*images.shape[:-1], channels))


def open_test_of(data: PreparedData, place: int) -> Split:
    """The test split of one data set of a study, its images as the network takes them."""
    if not isinstance(data, JointData):
        return open_test(data)
    return as_joint(open_test(data.parts[place]), data)


def as_joint(split: Split, data: JointData) -> Split:
    """The split of one data set, its images as the network of all takes them."""
    dtype = data.split("val").images.dtype
    return replace(split, images=in_form(split.images, data.channels, dtype))
