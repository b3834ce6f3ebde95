"""Image files in class folders: `train|val|test/CLASS/*`, or unsplit `CLASS/*`."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from medfathom.data.images import SUFFIXES, UnreadableImageError, read_header
from medfathom.data.labels import Labels, from_words, normal_word
from medfathom.data.prepared import SPLIT_NAMES, SplitName
from medfathom.data.sources.base import Listing
from medfathom.data.sources.files import FileSource, existing, file_signature
from medfathom.data.sources.suspicions import folder_suspicions
from medfathom.data.sources.walk import Choice, FilesBelow, by_reason, files_below
from medfathom.definitions.dataset import FolderDataset
from medfathom.errors import DataError
from medfathom.text import number_of, printable

SPLIT_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names that the folder of each split may have, in lower case."""


SHOWN_EMPTY = 3
"""Empty folders that a note names, at most."""

_OUTSIDE, _ABOVE = _ELSEWHERE = ("outside the split folders", "above the class folders")
"""Why an image has no class."""


def _empty_folders(below: FilesBelow) -> list[str]:
    """A note where folders have nothing in them: a volume whose slices are missing, perhaps."""
    inside = [*below.files, *below.folders, *(name for each in below.ignored for name in each.names)]
    filled = {posixpath.dirname(path) for path in inside}
    empty = [printable(folder) for folder in below.folders if not {folder, printable(folder)} & filled]
    more = ", ..." if len(empty) > SHOWN_EMPTY else ""
    shown = ", ".join(empty[:SHOWN_EMPTY])
    return [f"{number_of(len(empty), 'folder')} without a file ({shown}{more})"] if empty else []


class FolderSource(FileSource):
    """Class folders. Files in subfolders belong to the class too; what is left out is named."""

    def __init__(self, config: FolderDataset) -> None:
        super().__init__(config)
        self._folder_config = config
        self.path = self.root = existing(config.path, folder=True)
        below = files_below(self.path, Choice(config.include, config.exclude))
        self._splits = self._split_folders(below)
        self._images, outside = self._placed(below)
        self._class_folders = self._all_class_folders(below)
        self._ignored = [*below.ignored, *by_reason(outside)]
        self._empty = _empty_folders(below)
        if not self._images:
            raise DataError(f"dataset.path: no image in {self._layout()}; {self._what_is_there()}")

    def signature(self) -> str:
        """Path, size and time of every file."""
        digest = hashlib.sha256()
        for image in self._images:
            digest.update(file_signature(self.path / image.file).encode())
        return f"{printable(str(self.path))} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """Every image file, sorted by split, class and name."""
        names = [printable(image.file) for image in self._images]
        words = [image.word for image in self._images]
        # All class folders, so that a class without images is reported, not forgotten.
        labels = from_words(words, names, self._folder_config, empty=self._class_folders)
        self._check_classes(labels)
        return self._list_files(
            paths=[self.path / image.file for image in self._images],
            names=names,
            labels=labels,
            splits=[image.split for image in self._images],
            groups=self._groups_from_names(names),
            problems=(),
            folders=[image.folder for image in self._images],
            ignored=self._ignored,
            notes=[*self._empty, *folder_suspicions(names, words, [image.below for image in self._images])],
        )

    def _split_folders(self, below: FilesBelow) -> list[_SplitFolder]:
        """Each split folder there is; the whole folder, without a split, where there is none."""
        asked = self._folder_config.folders
        if asked is not None:
            named = [(split, getattr(asked, split)) for split in SPLIT_NAMES if getattr(asked, split)]
            for split, name in named:
                if not (self.path / name).is_dir():
                    raise DataError(f"dataset.folders.{split}: no folder {name!r} in {self.path}")
            return [_SplitFolder(split, PurePosixPath(name).parts) for split, name in named]
        found = [folder for split in SPLIT_NAMES for folder in self._named_like(split, below.folders)]
        if found and found[0].split != "train":
            raise DataError(f"{printable(str(self.path))}: there is {found[0].parts[0]}, but no folder train")
        return found or [_SplitFolder("", ())]

    def _named_like(self, split: SplitName, folders: Sequence[str]) -> list[_SplitFolder]:
        """The folder of a split, at the top."""
        found = [
            folder
            for folder in folders
            if "/" not in folder and normal_word(folder).casefold() in SPLIT_FOLDERS[split]
        ]
        if len(found) > 1:
            raise DataError(f"{printable(str(self.path))}: both {found[0]} and {found[1]} could be {split}")
        return [_SplitFolder(split, (folder,)) for folder in found]

    def _placed(self, below: FilesBelow) -> tuple[list[_ImageFile], dict[str, str]]:
        """The images with their classes, split by split; files elsewhere, with the reason."""
        found = {file: self._place(file) for file in below.files}
        images = [placed for placed in found.values() if not isinstance(placed, str)]
        order = [split.split for split in self._splits]
        images.sort(key=lambda image: order.index(image.split))
        return images, {file: reason for file, reason in found.items() if isinstance(reason, str)}

    def _all_class_folders(self, below: FilesBelow) -> list[str]:
        """The names of class folders with and without images, sorted."""
        level = self._folder_config.class_level
        if self._folder_config.class_pattern is not None or level < 0:
            return []  # files alone say where a class is
        paths = [tuple(folder.split("/")) for folder in below.folders]
        places = [(split, path) for split in self._splits for path in paths if split.holds(path)]
        found = {path[-1] for split, path in places if len(path) == len(split.parts) + level}
        return sorted(map(printable, found))

    def _place(self, file: str) -> _ImageFile | str:
        """A file's split and class, or why it has none."""
        parts = tuple(file.split("/"))
        split = next((split for split in self._splits if split.holds(parts)), None)
        if split is None:
            return _OUTSIDE
        folders = tuple(map(printable, parts[len(split.parts) : -1]))
        config = self._folder_config
        if config.class_pattern is not None:
            match = re.search(config.class_pattern, printable(file))
            return _ImageFile(file, split.split, match.group(1) if match else None, ())
        level = config.class_level
        if len(folders) < abs(level):
            return _ABOVE
        place = level - 1 if level > 0 else len(folders) + level
        return _ImageFile(file, split.split, folders[place], folders[place + 1 :])

    def _check_classes(self, labels: Labels) -> None:
        """Raise DataError for a class folder that is none of the known ones or empty, and for one class."""
        names, known = labels.class_names, self._folder_config.class_names
        pairs = zip(self._images, labels.good, strict=True)
        strange = sorted({image.word for image, good in pairs if image.word and not good})
        if known is not None and strange:
            raise DataError(
                f"{printable(str(self.path))}: folder {strange[0]!r} is none of dataset.class_names = {known}"
            )
        if len(names) < 2 and labels.good.any():  # else each file's reason says more
            found = ", ".join(names) or "none"
            raise DataError(f"{self._layout()}: one class ({found!r}); two are needed{self._deeper()}")
        counts = np.bincount(labels.values[labels.good], minlength=len(names))
        if known is None and not counts.all():
            empty = names[int(counts.argmin())]
            raise DataError(
                f"{printable(str(self.path))}: no image of class {empty!r}; where its folder is no class, "
                f'dataset.exclude = ["{empty}"] leaves it out'
            )

    def _deeper(self) -> str:
        """Where else the classes may be."""
        inner = sorted({image.below[0] for image in self._images if image.below})
        return (
            f"; below are {', '.join(inner[:6])}: see dataset.path and dataset.class_level" if inner else ""
        )

    def _layout(self) -> str:
        place = "CLASS/*" if self._splits[0].split == "" else "{train,val,test}/CLASS/*"
        return f"{printable(str(self.path))}/{place}"

    def _what_is_there(self) -> str:
        left_out = "; ".join(map(str, self._ignored))
        elsewhere = sum(len(ignored.names) for ignored in self._ignored if ignored.reason in _ELSEWHERE)
        if elsewhere:
            return (
                f"{elsewhere} images are there, but not in a folder of their class; {left_out}; put each "
                'class into a folder of its own, or name the classes in a table (source = "csv")'
            )
        return f"expected {', '.join(SUFFIXES)}; {left_out or 'no file is there'}{self._readable()}"

    def _readable(self) -> str:
        """The key that takes files whose suffix alone keeps them out; "" where they are no images."""
        patterns = []
        for ignored in self._ignored:
            if not ignored.reason.endswith(" suffix"):  # as `walk` ends the reason
                continue
            first = ignored.names[0]
            with suppress(UnreadableImageError, OSError):
                read_header(self.path / first)
                suffix = PurePosixPath(first).suffix
                # The end of a UID is no suffix: each file has another.
                patterns.append(f"*{suffix}" if suffix.strip(".0123456789") else "*")
        if not patterns:
            return ""
        taken = ["*"] if "*" in patterns else patterns
        return f"; such files can be read as images: dataset.include = {json.dumps(taken)} takes them"


@dataclass(frozen=True)
class _SplitFolder:
    """A split, "" for none, and where its folder lies below the data set's."""

    split: str
    parts: tuple[str, ...]

    def holds(self, parts: tuple[str, ...]) -> bool:
        """Whether a path, in parts, lies in it."""
        return parts[: len(self.parts)] == self.parts


@dataclass(frozen=True)
class _ImageFile:
    """A file below the data set's folder, its split and its class word, and the folders below its class."""

    file: str
    split: str
    word: str | None
    below: tuple[str, ...]

    @property
    def folder(self) -> str | None:
        """The folder of the file where that lies below its class; None where the file lies in its class."""
        return posixpath.dirname(self.file) if self.below else None
