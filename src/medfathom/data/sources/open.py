"""From a `[dataset]` table to the source it names."""

from medfathom.data.config import DatasetConfig, MedmnistDataset, NpzDataset, PhantomDataset
from medfathom.data.sources.base import Source


def open_source(config: DatasetConfig) -> Source:
    """The source of a data set. Raises DataError where it is not there."""
    # Each import here, so that a study pays for its own source only.
    match config:
        case MedmnistDataset():
            from medfathom.data.sources.medmnist import MedmnistSource  # noqa: PLC0415

            return MedmnistSource(config)
        case NpzDataset():
            from medfathom.data.sources.npz import NpzSource  # noqa: PLC0415

            return NpzSource(config)
        case PhantomDataset():
            from medfathom.data.sources.phantom import PhantomSource  # noqa: PLC0415

            return PhantomSource(config)
