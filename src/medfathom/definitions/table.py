"""Keys of `[dataset]` that say how a table of images is read."""

from __future__ import annotations

import codecs
from string import Formatter
from typing import Literal

from pydantic import Field, field_validator, model_validator

from medfathom.definitions.schema import Schema


class TableFile(Schema):
    """One of several tables. Its paths start at `root`, and `root` starts at `dataset.root`."""

    path: str = Field(min_length=1)
    """The table, in the folder `dataset.path`."""
    split: Literal["train", "val", "test"] | None = None
    """The split of all its rows."""
    root: str = "."
    """Where its paths start."""


class JoinedTable(Schema):
    """A table that adds its columns to rows with the same value in each column of `on`."""

    path: str = Field(min_length=1)
    """The table whose columns are added."""
    on: list[str] = Field(min_length=1)
    """Columns that both tables have."""


class SplitLists(Schema):
    """Text files with one file name in each line: the images of each split."""

    train: str | None = None
    val: str | None = None
    test: str | None = None


Cell = str | int | float
CellMeaning = Literal["zero", "one", "ignore"]
CellMeanings = CellMeaning | dict[str, CellMeaning]
"""For all labels, or for each label by its name."""


class TableKeys(Schema):
    """How rows, files and labels are read from tables."""

    tables: list[TableFile] | None = Field(default=None, min_length=1)
    """Several tables of the same form; `path` is then the folder that they lie in."""
    join: list[JoinedTable] = Field(default=[])
    """Tables that add columns."""
    encoding: str = "utf-8"
    """The encoding of text tables. Excel in Western Europe writes `cp1252`; its "Unicode text" is
    `utf-16`."""
    comment: str | None = Field(default=None, min_length=1)
    """Lines that begin with this text are ignored."""
    where: dict[str, Cell | list[Cell]] = Field(default={})
    """Use only rows with this value, or one of these values, in each of these columns."""
    root: str | None = None
    """Where the paths in the table start. Default: the table's folder."""
    path_column: str = "path"
    """Column of the files' paths."""
    path_template: str | list[str] | None = None
    """A file's path, built from the row's cells: `{id_code}.png`, `{image_id:03d}.bmp`. A list means several
    images. `path_column` is then ignored."""
    anywhere: bool = False
    """Files may be in any folder below `root`."""
    repeated: Literal["error", "any", "majority", "max"] = "error"
    """What happens if rows of the same file have different labels. `any`: the file has each label that a row
    has. `majority`: the label of most rows. `max`: the highest class."""
    label_column: str | None = None
    """Column of the labels. Default: `label`."""
    label_columns: list[str] | None = Field(default=None, min_length=1)
    """Columns of zeros and ones, one for each label: a multilabel task."""
    one_hot: bool = False
    """In every row exactly one of the `label_columns` is 1, so they are classes."""
    uncertain: CellMeanings | None = None
    """What -1 in `label_columns` means. `ignore`: it is not known, so the image is left out of this label's
    loss and metrics."""
    missing: CellMeanings | None = None
    """What an empty cell in `label_columns` means."""
    label_separator: str | None = Field(default=None, min_length=1)
    """Splits `label_column` into several labels ("a|b"): a multilabel task."""
    no_label: str | None = None
    """With `label_separator`: the word for none of the labels, such as "No Finding"."""
    unlisted: Literal["error", "drop"] = "error"
    """With `label_separator`: what happens to a label that is not in `class_names`."""
    split_column: str | None = None
    """Column with train, val and test."""
    split_lists: SplitLists | None = None
    """Text files that name the images of each split."""
    group_column: str | None = None
    """Column that names the patient or slide of each image. `NA`, `null` and the like name none."""
    case_column: str | None = None
    """Column that names the case of each row's image, with `unit`. Not needed if a row is a folder or a
    stack."""

    keep: list[str] = Field(default=[])
    """Columns to keep for subgroups (`Sex`, `Age`): see `evaluate --by` and `confirm --by`. A name that is
    not a column is an attribute of DICOM files (`PatientSex`). A case must have one value in all its rows."""

    mpp_column: str | None = None
    """Column with the microns per pixel of each slide's largest level, instead of the value in its header.
    For an empty cell, the header's value is used."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError:
            raise ValueError(f"no encoding is called {name!r}; known are utf-8, cp1252, utf-16") from None
        return name

    @field_validator("path_template")
    @classmethod
    def _readable_template(cls, given: str | list[str] | None) -> str | list[str] | None:
        for template in [given] if isinstance(given, str) else given or []:
            try:
                columns = [column for _, column, _, _ in Formatter().parse(template) if column is not None]
            except ValueError as error:
                raise ValueError(f"{template!r} is no template ({error})") from None
            if not columns or "" in columns:
                raise ValueError(f"{template!r} needs the name of a column in braces")
        return given

    @model_validator(mode="after")
    def _keys_fit(self) -> TableKeys:
        separated = self.label_separator is not None
        for wrong, reason in (
            (self._both("label_column", "label_columns"), "give label_column or label_columns, not both"),
            (
                self._both("label_separator", "label_columns"),
                "label_separator splits label_column; it does not go with label_columns",
            ),
            (self._both("split_column", "split_lists"), "give split_column or split_lists, not both"),
            (
                self.label_columns is not None and len(self.label_columns) == 1,
                f'label_columns has one column; give label_column = "{(self.label_columns or [""])[0]}"',
            ),
            (self.no_label is not None and not separated, "no_label needs label_separator"),
            (self.unlisted == "drop" and not separated, 'unlisted = "drop" needs label_separator'),
        ):
            if wrong:
                raise ValueError(reason)
        return self

    def _both(self, first: str, second: str) -> bool:
        return getattr(self, first) is not None and getattr(self, second) is not None

    @model_validator(mode="after")
    def _meanings_fit(self) -> TableKeys:
        columns = self.label_columns or []
        if self.one_hot and not columns:
            raise ValueError("one_hot needs label_columns")
        for key, given in (("uncertain", self.uncertain), ("missing", self.missing)):
            if given is not None and not columns:
                raise ValueError(f"{key} needs label_columns")
            meanings = given if isinstance(given, dict) else {}
            if strange := [label for label in meanings if label not in columns]:
                raise ValueError(f"{key}: {strange[0]!r} is none of label_columns")
            if self.one_hot and "ignore" in (given, *meanings.values()):
                raise ValueError(f'{key}: with one_hot a cell cannot be ignored; use "zero" or "one"')
        return self
