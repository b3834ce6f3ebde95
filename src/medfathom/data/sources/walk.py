"""Which files below a folder are images of a data set, and which are left out and why.

Preparation and `predict` list folders with the same function, so that they take the same files.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cache
from pathlib import Path, PurePosixPath

from medfathom.data import dicom
from medfathom.data.images import SUFFIXES
from medfathom.data.sources.base import Ignored
from medfathom.errors import DataError
from medfathom.text import printable

JUNK = frozenset(
    {"__macosx", ".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".spotlight-v100", ".trashes"}
    | {".fseventsd", ".appledouble", "@eadir"}
)
"""What macOS, Windows and file servers leave in folders, in lower case; never an image, not worth a word."""


DICOMDIR = "an index of DICOM files, no image"

DICOM_START = 1024
"""Bytes of a DICOM file that hold its preamble and what kind of object it is."""


NOT_INCLUDED = "not in dataset.include"


@dataclass(frozen=True)
class Choice:
    """Which files are taken, by `dataset.include` and `dataset.exclude`.

    Attributes:
        include, exclude: patterns, as a definition has them.
        above: the folder that paths are below, where it too is compared with patterns; with `/`.
    """

    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    above: str = ""

    def of_rows(self, paths: Sequence[str], folders: Path | None = None) -> tuple[list[int], list[Ignored]]:
        """Which rows of a table are taken, and those that are left out. A table may name any suffix.

        Args:
            paths: of the rows' files, as the table has them, with `/`.
            folders: what paths are below, where a row may name a folder: one with a file that is taken is
                taken, unless it is excluded.
        """
        reasons = [self.why_not(path, suffixes=()) for path in paths]
        if folders is not None and self.include is not None:
            reasons = [
                "" if reason == NOT_INCLUDED and self._takes_some(folders, path) else reason
                for path, reason in zip(paths, reasons, strict=True)
            ]
        kept = [row for row, reason in enumerate(reasons) if not reason]
        left_out = {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}
        return kept, by_reason(left_out)

    def why_not(self, path: str, *, suffixes: Sequence[str] = SUFFIXES, root: Path | None = None) -> str:
        """Why a file is left out; "" where it is taken.

        Args:
            path: below the data set's folder, with `/`.
            suffixes: that are taken where `include` does not say; none: all.
            root: the data set's folder, where a file without a suffix may be looked at: DICOM often has none.
        """
        name = PurePosixPath(path).name
        if is_junk(name):
            return "written by macOS or Windows, not images"
        if name.upper() == "DICOMDIR":
            return DICOMDIR
        if pattern := self.excluded_by(path):
            return f"dataset.exclude {pattern!r}"
        if self.include is not None:
            return (
                "" if any(_matches(pattern, self._whole(path)) for pattern in self.include) else NOT_INCLUDED
            )
        known = not suffixes or path.lower().endswith(tuple(suffixes))
        return "" if known else _other_suffix(path, root)

    def excluded_by(self, path: str) -> str:
        """The first pattern of `exclude` that matches a file or a folder; "" where none does."""
        return next((pattern for pattern in self.exclude if _matches(pattern, self._whole(path))), "")

    def _takes_some(self, root: Path, path: str) -> bool:
        """Whether a path below `root` is a folder with a file that is taken."""
        is_folder = os.path.isdir(root / path)  # noqa: PTH112  False for names that are too long
        return is_folder and bool(files_below(root / path, replace(self, above=path)).files)

    def _whole(self, path: str) -> str:
        return f"{self.above}/{path}" if self.above else path


@dataclass(frozen=True)
class FilesBelow:
    """What lies below a folder; paths are below it, with `/`.

    Attributes:
        files: that are taken, sorted.
        folders: at any depth, sorted; not those that are hidden or excluded.
        ignored: files that are left out, by reason. A hidden folder is named once, with a `/`.
    """

    files: list[str]
    folders: list[str]
    ignored: list[Ignored]


def files_below(root: Path, choice: Choice) -> FilesBelow:
    """List a folder at any depth, links followed.

    Raises:
        DataError: a folder may not be read.
    """
    walk = _Walk(root, choice)
    walk.visit("", (os.path.realpath(root),))
    return FilesBelow(
        sorted(walk.files, key=in_order), sorted(walk.folders, key=in_order), by_reason(walk.left_out)
    )


def by_reason(left_out: Mapping[str, str]) -> list[Ignored]:
    """Files with their reasons -> each reason with its files, sorted."""
    names = defaultdict(list)
    for path in sorted(left_out, key=in_order):
        names[left_out[path]].append(printable(path))
    return [Ignored(reason, tuple(names[reason])) for reason in sorted(names)]


def is_junk(name: str) -> bool:
    """Whether an operating system, not a person, wrote this file or folder."""
    return name.startswith("._") or name.lower() in JUNK


def in_order(path: str) -> list[str]:
    """Sorts paths folder by folder."""
    return path.split("/")


@dataclass
class _Walk:
    """Visits folders one in another."""

    root: Path
    choice: Choice
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def visit(self, folder: str, above: tuple[str, ...]) -> None:
        """Take a folder's files, then go into its folders; `above`: the real paths of those it lies in."""
        entries = list(self._entries(folder))
        # The rest of a slide lies in a folder beside its .mrxs file.
        rests = {entry.name[:-5] for entry in entries if entry.name.lower().endswith(".mrxs")}
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_junk(entry.name) or entry.name in rests:
                continue
            if entry.is_dir():
                self._enter(path, entry, above)
            elif entry.name.startswith("."):
                self.left_out[path] = "hidden"
            elif not (entry.is_file() or entry.is_symlink()):
                self.left_out[path] = "no file, but a pipe or a device"
            elif reason := self.choice.why_not(path, root=self.root):
                self.left_out[path] = reason
            else:
                self.files.append(path)

    def _enter(self, path: str, entry: os.DirEntry[str], above: tuple[str, ...]) -> None:
        if entry.name.startswith("."):
            self.left_out[f"{path}/"] = "hidden"
            return
        real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}{os.sep}{entry.name}"
        if real in above:
            self.left_out[f"{path}/"] = "a link to a folder that it lies in"
            return
        if not self.choice.excluded_by(path):
            self.folders.append(path)
        self.visit(path, (*above, real))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                yield from entries
        except PermissionError:
            place = printable(str(self.root / folder))
            raise DataError(f"dataset.path: {place} may not be read (permissions)") from None


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path or, where it has no `/`, one of its parts."""
    regex = _regex(pattern)
    return any(regex.match(part) for part in ([path] if "/" in pattern else path.split("/")))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)


def _other_suffix(path: str, root: Path | None) -> str:
    """Why a file without an image's suffix is left out; "" where it is taken all the same."""
    suffix = PurePosixPath(path).suffix.lower()
    # The end of a UID, or the number of an image, is none: 1.2.840.10008.17
    bare = not suffix.strip(".0123456789")
    return _no_dicom(root / path) if root is not None and bare else _not_read(suffix)


def _no_dicom(file: Path) -> str:
    """Why a file without an image's suffix is left out; "" where its preamble says DICOM."""
    try:
        with file.open("rb") as opened:
            start = opened.read(DICOM_START)
    except OSError:
        return "no image's suffix, and it cannot be read"
    if not dicom.has_preamble(start):
        return _not_read(file.suffix.lower())
    return DICOMDIR if dicom.DIRECTORY in start else ""


def _not_read(suffix: str) -> str:
    return f"{suffix} is not an image's suffix" if suffix else "no suffix"
