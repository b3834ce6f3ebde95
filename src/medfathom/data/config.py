"""The `[dataset]` table of a study definition: one schema for each source."""

from typing import Annotated, Literal

from pydantic import Field

from medfathom.schema import Schema


class _Dataset(Schema):
    """What every source has. `image_size` is the side in pixels of the square image the network sees."""

    modality: str = Field(min_length=1)
    image_size: int = Field(ge=8, le=1024)
    fit: Literal["squash", "pad", "crop"] = "squash"
    """Not square: change the aspect, fill up with black, or cut to the centre."""
    on_bad_image: Literal["error", "skip"] = "error"


class MedmnistDataset(_Dataset):
    """A MedMNIST set: `path` is its npz file; without it the medmnist package finds or downloads it."""

    source: Literal["medmnist"]
    name: str
    path: str | None = None
    size: Literal[28, 64, 128, 224] | None = None
    """Which of MedMNIST's sizes to read; none given: the smallest that is not below `image_size`."""


class NpzDataset(_Dataset):
    """An npz file in MedMNIST's layout: `{train,val,test}_{images,labels}`, optionally `_groups`."""

    source: Literal["npz"]
    path: str
    class_names: list[str] | None = Field(default=None, min_length=2)


class PhantomDataset(_Dataset):
    """Images made on the spot; the same bytes for the same seed on any machine."""

    source: Literal["phantom-oct"]
    n_train: int = Field(default=480, ge=3)
    n_val: int = Field(default=240, ge=3)
    n_test: int = Field(default=240, ge=3)
    difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0)


DatasetConfig = Annotated[MedmnistDataset | NpzDataset | PhantomDataset, Field(discriminator="source")]
