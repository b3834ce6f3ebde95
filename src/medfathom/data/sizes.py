"""A data set at several image sizes: prepared once for each, the same images in the same splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medfathom.data.joint import prepare_study
from medfathom.data.prepared import SPLIT_NAMES, JointData, PreparedData, read_names
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import JointDataset
from medfathom.errors import DataError


def at_size(config: DatasetConfig | JointDataset, image_size: int) -> DatasetConfig | JointDataset:
    """The same data set at another size; 0: at its own. Tiles of slides show the same tissue."""
    if isinstance(config, JointDataset):  # several data sets have one size
        return config
    return one_at_size(config, image_size)


def one_at_size(config: DatasetConfig, image_size: int) -> DatasetConfig:
    """`at_size` of one data set."""
    size = image_size or config.image_size
    changes: dict[str, float] = {"image_size": size}
    if (mpp := getattr(config, "mpp", None)) is not None:
        changes["mpp"] = mpp * config.image_size / size
    return config.model_copy(update=changes)


def prepare_sizes(
    config: DatasetConfig | JointDataset, sizes: Sequence[int], cache_dir: Path
) -> PreparedData:
    """Prepare a study's data at every size.

    Args:
        config: the data, whose own size is the smallest.
        sizes: of the study's trials.
        cache_dir: see `prepare`.

    Returns:
        The data set at its own size.

    Raises:
        DataError: see `prepare`; or a split differs between sizes, so that trials could not be compared.
    """
    data = prepare_study(config, cache_dir)
    for size in () if isinstance(data, JointData) else sizes:
        other = prepare_study(at_size(config, size), cache_dir)
        for split in SPLIT_NAMES:
            if read_names(data.folder, split) != read_names(other.folder, split):
                raise DataError(
                    f"space.image_size: the {split} split at {size} pixels has other images than at "
                    f"{config.image_size}: other images are near copies there, or tiles are cut anew; give "
                    "the splits yourself, or study one size at a time"
                )
    return data
