"""Image files in class folders: `train|val|test/CLASS/*`, or unsplit `CLASS/*`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from medfathom.data.images import SUFFIXES
from medfathom.data.labels import from_words, sorted_names
from medfathom.data.prepared import SPLIT_NAMES, SplitName
from medfathom.data.sources.base import Listing
from medfathom.data.sources.files import FileSource, existing, file_signature
from medfathom.definitions.dataset import FolderDataset
from medfathom.errors import DataError

SPLIT_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names that the folder of each split may have, in lower case."""


class FolderSource(FileSource):
    """Class folders. Files in subfolders belong to the class too; hidden files are ignored."""

    def __init__(self, config: FolderDataset) -> None:
        super().__init__(config)
        self._folder_config = config
        self.path = self.root = existing(config.path, folder=True)
        self._splits = self._split_folders()
        self._images = [
            (split, class_folder.name, file)
            for split, folder in self._splits
            for class_folder in sorted(_visible_folders(folder))
            for file in sorted(_images_below(class_folder))
        ]
        if not self._images:
            raise DataError(
                f"dataset.path: no image in {self.path}/{self._layout()}; {self._what_is_there()}"
            )

    def signature(self) -> str:
        """Path, size and time of every file."""
        digest = hashlib.sha256()
        for _, _, file in self._images:
            digest.update(file_signature(file).encode())
        return f"{self.path} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """Every image file, sorted by split, class and name."""
        names = [file.relative_to(self.path).as_posix() for _, _, file in self._images]
        known = self._folder_config.class_names
        folders = {c.name for _, folder in self._splits for c in _visible_folders(folder)}
        if known is not None and (strange := sorted(folders - set(known))):
            raise DataError(f"{self.path}: folder {strange[0]!r} is none of dataset.class_names = {known}")
        # From all class folders, so that a class without images is reported, not forgotten.
        classes = known or sorted_names(folders)
        if len(classes) < 2:
            raise DataError(
                f"{self.path}/{self._layout()}: one class folder ({classes[0]!r}); two are needed"
            )
        labels = from_words([folder for _, folder, _ in self._images], names, classes)
        return self._list_files(
            paths=[file for _, _, file in self._images],
            names=names,
            labels=labels,
            splits=[split for split, _, _ in self._images],
            groups=self._groups_from_names(names),
            problems=(),
            folders=[self._own_folder(split, folder, file) for split, folder, file in self._images],
        )

    def _own_folder(self, split: str, class_folder: str, file: Path) -> str | None:
        """The folder of an image below its class folder; None where it lies directly in that."""
        own = file.parent
        return (
            None if own == dict(self._splits)[split] / class_folder else own.relative_to(self.path).as_posix()
        )

    def _split_folders(self) -> list[tuple[str, Path]]:
        """(split, folder) of each split folder there is; ("", path) where there is none."""
        asked = self._folder_config.folders
        if asked is not None:
            named = [(split, getattr(asked, split)) for split in SPLIT_NAMES if getattr(asked, split)]
            for split, name in named:
                if not (self.path / name).is_dir():
                    raise DataError(f"dataset.folders.{split}: no folder {name!r} in {self.path}")
            return [(split, self.path / name) for split, name in named]
        there = {folder.name.lower(): folder for folder in _visible_folders(self.path)}
        found: list[tuple[str, Path]] = []
        for split, words in SPLIT_FOLDERS.items():
            matches = [there[word] for word in words if word in there]
            if len(matches) > 1:
                raise DataError(f"{self.path}: both {matches[0].name} and {matches[1].name} could be {split}")
            found += [(split, folder) for folder in matches]
        if found and found[0][0] != "train":
            raise DataError(f"{self.path}: there is {found[0][1].name}, but no folder train")
        return found or [("", self.path)]

    def _layout(self) -> str:
        return "CLASS/*" if self._splits[0][0] == "" else "{train,val,test}/CLASS/*"

    def _what_is_there(self) -> str:
        suffixes = {f.suffix.lower() or f.name for _, folder in self._splits for f in _files_below(folder)}
        return f"expected {', '.join(SUFFIXES)}, found {', '.join(sorted(suffixes)[:8]) or 'no file'}"


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
    except PermissionError:
        raise DataError(f"dataset.path: {folder} may not be read (permissions)") from None


def _images_below(folder: Path) -> Iterator[Path]:
    return (file for file in _files_below(folder) if file.suffix.lower() in SUFFIXES)


def _files_below(folder: Path) -> Iterator[Path]:
    """Files at any depth, except hidden ones (macOS leaves a `._name.png` with each image)."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if not name.startswith("."))
