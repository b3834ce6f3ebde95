"""The `[dataset]` table of a study definition: one schema for each source."""

from typing import Annotated, Literal

from pydantic import Field

from medfathom.schema import Schema


class _Dataset(Schema):
    """What every source has. `image_size` is the side in pixels of the square image the network sees."""

    modality: str = Field(min_length=1)
    image_size: int = Field(ge=8, le=1024)


class MedmnistDataset(_Dataset):
    """A MedMNIST set: `path` is its npz file; without it the medmnist package finds or downloads it."""

    source: Literal["medmnist"]
    name: str
    path: str | None = None


class NpzDataset(_Dataset):
    """An npz file in MedMNIST's layout: `{train,val,test}_{images,labels}`, optionally `_groups`."""

    source: Literal["npz"]
    path: str


class PhantomDataset(_Dataset):
    """Images made on the spot; the same bytes for the same seed on any machine."""

    source: Literal["phantom-oct"]
    n_train: int = Field(default=480, ge=3)
    n_val: int = Field(default=240, ge=3)
    n_test: int = Field(default=240, ge=3)
    difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
    seed: int = 0


DatasetConfig = Annotated[MedmnistDataset | NpzDataset | PhantomDataset, Field(discriminator="source")]
