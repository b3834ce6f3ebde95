"""From a `[dataset]` table to the source it names."""

# Each import inside, so that a study pays for its own source only.
# ruff: noqa: PLC0415

from medfathom.data.sources.base import Source
from medfathom.definitions.dataset import (
    CsvDataset,
    DatasetConfig,
    FolderDataset,
    Hdf5Dataset,
    MedmnistDataset,
    NpzDataset,
    PhantomDataset,
)


def open_source(config: DatasetConfig) -> Source:
    """The source of a data set. Raises DataError where it is not there."""
    match config:
        case MedmnistDataset():
            from medfathom.data.sources.medmnist import MedmnistSource

            return MedmnistSource(config)
        case NpzDataset():
            from medfathom.data.sources.npz import NpzSource

            return NpzSource(config)
        case FolderDataset():
            from medfathom.data.sources.folder import FolderSource

            return FolderSource(config)
        case CsvDataset():
            from medfathom.data.sources.table import CsvSource

            return CsvSource(config)
        case Hdf5Dataset():
            from medfathom.data.sources.hdf5 import Hdf5Source

            return Hdf5Source(config)
        case PhantomDataset():
            from medfathom.data.phantoms.phantom import PhantomSource

            return PhantomSource(config)
