"""The `[dataset]` table of a study definition: one schema for each source."""

from __future__ import annotations

import re
from math import inf, isfinite
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medfathom.definitions.schema import Schema
from medfathom.definitions.table import TableKeys
from medfathom.units import Unit

Channels = Literal[1, 3, "auto"]
SimilarWords = Literal["error", "merge", "keep"]


class SplitsConfig(Schema):
    """`[dataset.splits]`: how splits are drawn if the source does not give them.

    A missing split is drawn from the training images (from all images if the source gives no split). A group
    is never divided, and splits are stratified by label. Fractions are of the images that are divided.
    """

    given: Literal["keep", "redraw-val", "ignore"] = "keep"
    """`keep`: the source's own splits are used. `redraw-val`: its validation images join training, and
    validation is drawn again. `ignore`: all images are pooled, and all splits are drawn."""
    val_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Share of the images that are divided."""
    test_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Share of the images that are divided."""
    seed: int = Field(default=0, ge=0)
    """The seed of the random draw."""
    grouped: bool = True
    """Keep each group (patient, slide) in one split. Use false only if groups mean something else."""
    folds: int | None = Field(default=None, ge=2, le=20)
    """Number of folds for cross-validation on training and validation images together. Default: one
    validation split."""
    repeats: int = Field(default=1, ge=1, le=20)
    """Number of times that the images are divided into folds, each time at random."""

    @model_validator(mode="after")
    def _repeats_go_with_folds(self) -> SplitsConfig:
        if self.repeats > 1 and self.folds is None:
            raise ValueError(f"repeats = {self.repeats} needs folds; give folds = 5, too")
        return self

    @property
    def trainings(self) -> int:
        """Of a complete trial."""
        return (self.folds or 1) * self.repeats

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitsConfig:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "`val_fraction + test_fraction < 1` must hold, "
                f"but got ({self.val_fraction} + {self.test_fraction})"
            )
        return self


class _Dataset(Schema):
    """Keys of every source. Leave out `image_size` if `space.image_size` has sizes; copies are then searched
    at the smallest size."""

    name: str | None = Field(default=None, min_length=1)
    """The data set's name in reports. Studies with the same name here are analysed as one data set. Default:
    the study's name."""
    modality: str = Field(min_length=1)
    """`CXR`, `OCT`, `WSI`, or any other word. Studies of one modality are analysed together."""
    image_size: int = Field(ge=8, le=1024)
    """Side in pixels of the square image that the network sees."""
    fit: Literal["squash", "pad", "crop"] = "squash"
    """For images that are not square. `squash`: change their aspect ratio. `pad`: add black borders. `crop`:
    keep the centre."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What happens with an image or row that cannot be used. `error`: the study stops. `skip`: it is left out
    and recorded."""
    bits: int = Field(default=16, ge=9, le=16)
    """The number of bits in use, for images with more than 8 bits: with 12, the value 4095 is white. It must
    be given if no image reaches white. It does not matter for 8-bit images."""
    similar_words: SimilarWords = "error"
    """What happens to class words, patients and named cases that differ only in case, separators or leading
    zeros (`Normal` and `normal`, `P7` and `P07`). `merge`: they are one. `keep`: they are different."""
    positive: str | int | None = None
    """The positive class of two. Default: the second class."""
    splits: SplitsConfig = SplitsConfig()
    """See `[dataset.splits]`."""
    drop_copies: bool = False
    """Of images that are exact or near copies of one another, use only one. A test image is preferred to a
    validation image, and a validation image to a training image."""
    leakage: Literal["stop", "accept"] = "stop"
    """What happens if exact copies or patients are in several splits. `stop`: `run` stops. `accept`: it
    continues, and `run`, `confirm` and the model card say so."""


class _OnDisk(_Dataset):
    path: str = Field(min_length=1)
    """Where the data are. A relative path starts in the working folder; `~` is your home folder."""
    class_names: list[str] | None = Field(default=None, min_length=2)
    """The classes in the order of their indices; of two, the second is positive. Default: the classes that
    the source names, or else those found, sorted."""

    @field_validator("class_names")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a class is named twice")
        return names


class _Files(_OnDisk):
    """Sources of image files."""

    channels: Channels = "auto"
    """`auto`: 3 if any file has colour, otherwise 1."""
    group_pattern: str | None = None
    """Regular expression whose group in parentheses finds the patient or slide in a file's path:
    `person(\\d+)_`."""
    unit: Unit = "image"
    """What has one label and gets one prediction. `volume`: a folder of slices, or a file with several.
    `slide`: a slide that is cut into tiles (`mpp`), or a folder of tiles. `case`: any images that belong
    together."""
    case_pattern: str | None = None
    """Regular expression whose group in parentheses finds the case of an image in its path, for cases that
    are not separate folders. The same case name of two patients means two cases."""
    include: list[str] | None = Field(default=None, min_length=1)
    """Use only these files: patterns such as `*.png`. A pattern without `/` is compared with the name of a
    file and of each folder above it, a pattern with `/` with the complete path. Upper and lower case are the
    same. Default: every image file of a folder (by its suffix), every file of a table."""
    exclude: list[str] = Field(default_factory=list)
    """Do not use these files, even if `include` names them: `*_mask*`, `lung masks`."""
    classes: dict[str, list[str | int]] | None = Field(default=None, min_length=1)
    """Classes that combine several words: `{referable = [2, 3, 4]}`. Each other word stays a class."""

    window: Annotated[tuple[float, float] | None, Field(strict=False)] = None
    """Centre and width of the grey-value window: `[40, 400]`. For DICOM files it is in units after the
    modality LUT (HU for CT); default: each file's VOI LUT or first window. For NIfTI files it is in the
    file's units; default: percentiles 0.5 and 99.5 of each volume."""
    slice_axis: Literal[0, 1, 2] = 2
    """For NIfTI files, the axis that counts slices: 0 is left-right, 1 back-front, 2 foot-head if the file
    states its orientation. Otherwise the axes are counted as stored."""
    eye: Literal["right", "left"] | None = None
    """With unit = "volume": use only volumes of this eye, if a file says the eye. Files of the other eye are
    then bad images. Default: a file has one volume, of any eye."""

    mpp: float | None = Field(default=None, gt=0)
    """With unit = "slide": microns per pixel. Files are whole slides and are cut into tiles of image_size x
    image_size pixels of this size."""
    tiles: int = Field(default=100, ge=1)
    """The largest number of tiles of a slide. They are chosen at random among tiles with tissue."""
    tiles_seed: int = Field(default=0, ge=0)
    """The seed of that choice."""
    tissue: float = Field(default=0.5, ge=0, le=1)
    """The smallest share of a tile that must show tissue."""

    @field_validator("window")
    @classmethod
    def _wide_enough(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not (isfinite(window[0]) and 1 <= window[1] < inf):
            raise ValueError(f"centre and width are expected, the width from 1 on, but got {list(window)}")
        return window

    @field_validator("classes")
    @classmethod
    def _one_class_each(cls, classes: dict[str, list[str | int]] | None) -> dict[str, list[str | int]] | None:
        words = [str(word) for listed in (classes or {}).values() for word in listed]
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(f"{twice[0]!r} is named twice")
        return classes

    @model_validator(mode="after")
    def _unit_of_cases(self) -> _Files:
        given = [key for key in ("case_pattern", "case_column") if getattr(self, key, None) is not None]
        if given and self.unit == "image":
            raise ValueError(f'{given[0]} needs unit = "case", "volume" or "slide", but unit is "image"')
        if len(given) > 1:
            raise ValueError("give case_column or case_pattern, not both")
        if self.eye is not None and self.unit != "volume":
            raise ValueError(f'eye needs unit = "volume", but unit is "{self.unit}"')
        return self

    @model_validator(mode="after")
    def _keys_of_slides(self) -> _Files:
        if self.mpp is not None and self.unit != "slide":
            raise ValueError(f'mpp needs unit = "slide", but unit is "{self.unit}"')
        fields = type(self).model_fields
        keys = {"tiles", "tiles_seed", "tissue", "mpp_column"} & fields.keys()
        # A study's own record of its definition has every default.
        keys = {key for key in keys if getattr(self, key) != fields[key].default}
        if keys and self.mpp is None:
            raise ValueError(f"{min(keys)} needs mpp, the microns per pixel of tiles")
        return self

    @field_validator("group_pattern", "case_pattern")
    @classmethod
    def _finds_a_group(cls, pattern: str | None) -> str | None:
        return _with_one_group(pattern)


def _with_one_group(pattern: str | None) -> str | None:
    """The pattern. Raises ValueError where it is no regular expression with one group in parentheses."""
    if pattern is None:
        return pattern
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    if n_groups != 1:
        raise ValueError(f"needs exactly one group in parentheses, but has {n_groups}")
    return pattern


class MedmnistDataset(_Dataset):
    """A MedMNIST set: `path` is its npz file; without it the medmnist package finds or downloads it."""

    source: Literal["medmnist"]
    name: str
    """Any 2-D set of MedMNIST, such as `pneumoniamnist`."""
    path: str | None = None
    """Its npz file. Default: the medmnist package finds it or downloads it."""
    size: Literal[28, 64, 128, 224] | None = None
    """Which of MedMNIST's sizes to read. Default: the smallest that is at least `image_size`."""


class NpzDataset(_OnDisk):
    """An npz file in MedMNIST's layout: `{train,val,test}_{images,labels}`, optionally `_groups`."""

    source: Literal["npz"]
    keep: list[str] = Field(default=[])
    """Arrays to keep for subgroups, one value for each image: `sex` means `train_sex`, `val_sex`, ..."""


class SplitFolders(Schema):
    """Names of the folders that hold each split."""

    train: str | None = None
    val: str | None = None
    test: str | None = None


class FolderDataset(_Files):
    """Image files in `train|val|test/CLASS/*`, or unsplit in `CLASS/*`."""

    source: Literal["folder"]
    folders: SplitFolders | None = None
    """Needed if the folders are not called train, val (valid, validation) and test."""
    class_level: int = 1
    """Which folder is the class: 1 is the first one (below the split's), 2 the next one in it; -1 is the one
    that holds the file, -2 the one above it."""
    class_pattern: str | None = None
    """Regular expression whose group in parentheses finds the class in a file's path, instead of a level:
    `([A-Z]+)\\d+/`."""
    keep: list[str] = Field(default=[])
    """Attributes of DICOM files to keep for subgroups (`PatientSex`, `PatientAge`): see `evaluate --by` and
    `confirm --by`."""

    @field_validator("class_pattern")
    @classmethod
    def _finds_a_class(cls, pattern: str | None) -> str | None:
        return _with_one_group(pattern)

    @model_validator(mode="after")
    def _one_place(self) -> FolderDataset:
        if self.class_level == 0:
            raise ValueError("class_level must be 1 or more, or -1 or less")
        if self.class_pattern is not None and self.class_level != 1:
            raise ValueError("give class_level or class_pattern, not both")
        return self


class CsvDataset(_Files, TableKeys):
    """A table (csv, tsv, xlsx, parquet) with a row for each image file."""

    source: Literal["csv"]

    @model_validator(mode="after")
    def _one_form(self) -> CsvDataset:
        if self.label_columns is not None and self.class_names is not None:
            raise ValueError("label_columns name the classes already; leave class_names out")
        if self.label_columns is not None and self.classes is not None:
            raise ValueError("classes merges words of label_column; leave it out with label_columns")
        if self.group_column is not None and self.group_pattern is not None:
            raise ValueError("give group_column or group_pattern, not both")
        if self.unlisted == "drop" and None in (self.class_names, self.no_label):
            raise ValueError('unlisted = "drop" needs class_names and no_label')
        return self


class Hdf5Dataset(_OnDisk):
    """A folder of HDF5 files in PatchCamelyon's layout; `{split}` stands for train, valid (val) and test."""

    source: Literal["hdf5"]
    images: str = "camelyonpatch_level_2_split_{split}_x.h5"
    """File of a split's images."""
    labels: str = "camelyonpatch_level_2_split_{split}_y.h5"
    """File of a split's labels."""
    image_key: str = "x"
    """Name of the array in the file of images."""
    label_key: str = "y"
    """Name of the array in the file of labels."""
    groups: str | None = None
    """A CSV file for each split, one row for each image in order: `..._split_{split}_meta.csv`."""
    group_column: str = "wsi"
    """Column of `groups` that names each image's slide or patient."""
    keep: list[str] = Field(default=[])
    """Columns of `groups` to keep for subgroups: see `evaluate --by` and `confirm --by`."""

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> Hdf5Dataset:
        if self.keep and self.groups is None:
            raise ValueError("keep names columns of the tables that groups names; give groups")
        return self


class PhantomDataset(_Dataset):
    """Drawn images; the same bytes for the same seed on any machine."""

    source: Literal["phantom-cxr", "phantom-oct", "phantom-wsi"]
    task: Literal["multiclass", "multilabel"] = "multiclass"
    """`multilabel`: each lesion is present or not, independently of the others."""
    classes: list[str] | None = Field(default=None, min_length=2)
    """Some of the phantom's classes, in this order. Default: all."""
    n_train: int = Field(default=480, ge=3)
    """Training images."""
    n_val: int = Field(default=240, ge=3)
    """Validation images."""
    n_test: int = Field(default=240, ge=3)
    """Test images."""
    patients_train: int | None = Field(default=None, ge=2)
    """Patients whose anatomy the training images share. Default: as many as images, and no groups."""
    patients_val: int | None = Field(default=None, ge=2)
    """Likewise of the validation images."""
    patients_test: int | None = Field(default=None, ge=2)
    """Likewise of the test images."""
    difficulty: float = Field(default=0.5, ge=0.0, le=1.0)
    """From 0 (easy) to 1 (hard); a perfect AUC is impossible at either."""
    seed: int = Field(default=0, ge=0)
    """The seed of the random draw."""

    @model_validator(mode="after")
    def _patients(self) -> PhantomDataset:
        counts = [self.patients_train, self.patients_val, self.patients_test]
        if len({count is None for count in counts}) > 1:
            raise ValueError("give all of patients_train, patients_val and patients_test, or none")
        for split, patients, images in zip(
            ("train", "val", "test"), counts, (self.n_train, self.n_val, self.n_test), strict=True
        ):
            if patients is not None and patients > images:
                raise ValueError(f"`patients_{split} <= n_{split}` must hold, but got ({patients}, {images})")
        return self


DatasetConfig = Annotated[
    MedmnistDataset | NpzDataset | FolderDataset | CsvDataset | Hdf5Dataset | PhantomDataset,
    Field(discriminator="source"),
]
