"""From a path as a table writes it to the file that it means."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from medfathom.data.images import SUFFIXES
from medfathom.data.sources.walk import Choice
from medfathom.text import printable

HINTED = (*SUFFIXES, ".dcm", ".dicom")
"""Suffixes that a missing file may have after all."""

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?/+")
"""How a path begins that starts at the top of a machine, once backslashes are slashes."""

OF_ANOTHER_MACHINE = "folders of another machine were left out of absolute paths"

BACKSLASHES = "backslashes were read as slashes"

NOT_UTF8 = "names of files that are not UTF-8 were taken for Windows-1252 or Latin-1"

ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
"""A byte that is not UTF-8, as `printable` writes it."""

NUMBER = re.compile(r"0*(\d+)(?:\.0+)?")
"""A file's number as tables write it: without leading zeros, or as a float."""

ONE_FIELD = re.compile(r"([^{}]*)\{([^{}:]+)\}([^{}]*)")
"""A template of one column."""

EVERY = Choice()
"""All files."""

SHOWN_PLACES = 2
"""Places that a problem names where a name is found in several."""


@dataclass(frozen=True)
class FoundFile:
    """What a written path means.

    Attributes:
        path: of the file; where it is missing, where it was expected.
        problem: why there is no file; "" where there is one.
        repair: what had to be changed in the written path; "" for nothing.
    """

    path: Path
    problem: str = ""
    repair: str = ""


class FileFinder:
    """Finds files below one folder, which is listed only where that is needed.

    A path is taken as it is written. Backslashes count as slashes, and the suffix may be written in another
    case, where there is no such file otherwise. A table in UTF-8 may also name a file whose own name is not
    (old ZIP archives from Windows). With `anywhere` the file may lie in any folder below. Of an absolute path
    that is not there the longest end counts that fits a file.
    """

    def __init__(self, root: Path, template: str, *, anywhere: bool, choice: Choice = EVERY) -> None:
        """`template`: how the written paths were made of columns, for hints; `choice`: its excluded files and
        folders are not looked through.
        """
        self._root = root
        self._template = template
        self._anywhere = anywhere
        self._choice = choice
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def find(self, written: str) -> FoundFile:
        """The file that a path means."""
        for spelling, repair in _spellings(written):
            if _is_file(self._root / spelling):
                return FoundFile(self._root / spelling, repair=repair)
        slashes = written.replace("\\", "/")
        path, repair = self._root / slashes, BACKSLASHES if "\\" in written else ""
        if _is_folder(path):
            return FoundFile(path, repair=repair)
        if others := self._other_case(path):
            return _only(path, [path.with_name(name) for name in others], "the suffix has another case")
        if self._anywhere:
            for ending in _endings(slashes):
                if places := self._below(ending):
                    return _only(path, places, repair if ending == slashes else OF_ANOTHER_MACHINE)
            for spelling in _not_utf8(written):
                if places := self._below(spelling):
                    return _only(path, places, NOT_UTF8)
        # What is there and is no file, or has a name that no file can have: reading it says what is wrong.
        return FoundFile(path) if not _is_missing(path) else FoundFile(path, self._missing(slashes, path))

    def _other_case(self, path: Path) -> Sequence[str]:
        """Files of the same name whose suffix differs in case."""
        found = self._listed(path.parent).get(path.name.lower(), [])
        return [name for name in found if Path(name).stem == path.stem]

    def _listed(self, folder: Path) -> Mapping[str, list[str]]:
        """The names in a folder, by their lower case."""
        if folder not in self._folders:
            names: dict[str, list[str]] = defaultdict(list)
            try:
                for name in sorted(os.listdir(folder)):  # noqa: PTH208  Path.iterdir takes longer
                    names[name.lower()].append(name)
            except OSError:
                pass
            self._folders[folder] = dict(names)
        return self._folders[folder]

    @cached_property
    def _places(self) -> Mapping[str, list[Path]]:
        """Every visible file below the root, by the lower case of its name."""
        places: dict[str, list[Path]] = defaultdict(list)
        for folder, folders, names in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
            for name in sorted(names):
                place = Path(folder, name)
                if not (name.startswith(".") or self._choice.excluded_by(self._below_root(place))):
                    places[name.lower()].append(place)
        return places

    def _below(self, written: str) -> list[Path]:
        """Files at any depth whose path ends as the written one does; the suffix in any case."""
        wanted = Path(written)
        parts = wanted.parts
        fitting = [
            place
            for place in self._places.get(wanted.name.lower(), [])
            if place.stem == wanted.stem and place.parts[-len(parts) : -1] == parts[:-1]
        ]
        return [place for place in fitting if place.name == wanted.name] or fitting

    def _missing(self, written: str, path: Path) -> str:
        """That there is no file, and what would find it."""
        if URL.match(written):
            return "is a URL, and nothing is downloaded" + self._hint_for_url(written)
        return "no such file" + (self._hint(written, path) if path.name else "")

    def _hint_for_url(self, written: str) -> str:
        name = unquote(written).rpartition("/")[2]
        places = self._places.get(name.lower(), [])
        here = f", but {name} lies in {self._place(places)}" if places else ""
        return f"{here}: write the files' names into the table"

    def _hint(self, written: str, path: Path) -> str:
        name = path.name
        for suffix in HINTED:
            if _is_file(self._root / (written + suffix)):
                return f", but {name}{suffix} is there: {self._with_suffix(suffix)}"
        for suffix in ("", *HINTED):
            if places := self._below(written + suffix):
                keys = "dataset.anywhere = true" + (f" and {self._with_suffix(suffix)}" if suffix else "")
                return f", but {name}{suffix} lies in {self._place(places)}: {keys}"
        if ending := next(filter(self._below, _endings(written)), None):
            place = self._place(self._below(ending))
            return f", but {ending} lies in {place}: dataset.anywhere = true takes it for the same file"
        return self._hint_for_other_place(path) or self._hint_for_other_name(path)

    def _hint_for_other_place(self, path: Path) -> str:
        """The name elsewhere than the path says, or in another case."""
        for suffix in ("", *HINTED):
            if places := self._places.get(f"{path.name}{suffix}".lower(), []):
                if not places[0].name.startswith(path.name):
                    return f", but {self._shown(places)} is there: the case of the letters differs"
                also = f", and {self._with_suffix(suffix)}" if suffix else ""
                lies = f"{places[0].name} lies in {self._place(places)}"
                return f", but {lies}: dataset.root says where paths start{also}"
        return ""

    def _hint_for_other_name(self, path: Path) -> str:
        if path.suffix and _is_file(path.with_suffix("")):
            return f", but {path.stem} is there: the suffix stands there twice"
        for suffix in HINTED:
            if places := self._places.get(f"{path.stem}{suffix}".lower(), []):
                return f", but {self._shown(places)} is there: {self._other_suffix(path.suffix, suffix)}"
        return self._hint_for_number(path)

    def _other_suffix(self, written: str, suffix: str) -> str:
        if written and self._template.endswith(written):
            return f'dataset.path_template = "{self._template.removesuffix(written)}{suffix}"'
        return f"write {suffix} in the table in place of {written or 'none'}"

    def _hint_for_number(self, path: Path) -> str:
        """A file with leading zeros, which spreadsheets take from numbers."""
        is_suffix = path.suffix.lower() in HINTED
        number = NUMBER.fullmatch(path.stem if is_suffix else path.name)
        places = self._numbered.get(number[1], []) if number else []
        template = ONE_FIELD.fullmatch(self._template)
        if not places:
            return ""
        zeros = f", but {self._shown(places)} is there, with leading zeros"
        if template is None or (is_suffix and not template[3].endswith(path.suffix)):
            return f"{zeros}: write them into the table"
        stem, suffix = places[0].stem, places[0].suffix
        before, column, after = template.groups()
        after = after.removesuffix(path.suffix) if is_suffix else after
        anywhere = "" if places[0].parent == path.parent else "dataset.anywhere = true and "
        padded = f"{before}{{{column}:0{len(stem)}d}}{after}{suffix}"
        return f'{zeros}: {anywhere}dataset.path_template = "{padded}"'

    @cached_property
    def _numbered(self) -> Mapping[str, list[Path]]:
        """Files below the root that are called by a number, by that number without leading zeros."""
        found: dict[str, list[Path]] = defaultdict(list)
        for places in self._places.values():
            for place in places:
                if place.stem.isdecimal() and place.stem.startswith("0"):
                    found[place.stem.lstrip("0") or "0"].append(place)
        return found

    def _with_suffix(self, suffix: str) -> str:
        return f'dataset.path_template = "{self._template}{suffix}"'

    def _below_root(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _place(self, places: Sequence[Path]) -> str:
        return printable(places[0].parent.relative_to(self._root).as_posix())

    def _shown(self, places: Sequence[Path]) -> str:
        return printable(places[0].relative_to(self._root).as_posix())


def _spellings(written: str) -> Iterator[tuple[str, str]]:
    """A path as written, and as it may be meant, each with what was changed."""
    yield written, ""
    slashes = written.replace("\\", "/")
    yield slashes, BACKSLASHES
    if "%" in written:
        yield unquote(slashes), "signs such as %20 were decoded, as in a URL"
    for spelling in _not_utf8(written):
        yield spelling, NOT_UTF8


def _not_utf8(written: str) -> Iterator[str]:
    """Names whose bytes are not UTF-8 and that a table writes in UTF-8, or as `printable` does."""
    slashes = written.replace("\\", "/")
    folder, slash, name = slashes.rpartition("/")
    for encoding in () if slashes.isascii() else ("cp1252", "latin-1"):
        # The whole path, or the name alone below folders that are UTF-8.
        for kept, text in (("", slashes), (f"{folder}{slash}", name)):
            with suppress(UnicodeEncodeError):
                yield kept + text.encode(encoding).decode("utf-8", "surrogateescape")
    if ESCAPED.search(written):
        as_bytes = ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), written)
        yield as_bytes.replace("\\", "/")


def _endings(written: str) -> list[str]:
    """A path, and where it starts at the top of some machine, what it ends in: from the longest on."""
    start = ABSOLUTE.match(written)
    if start is None:
        return [written]
    parts = [part for part in written[start.end() :].split("/") if part]
    return [written, *("/".join(parts[k:]) for k in range(len(parts)))]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _only(path: Path, places: Sequence[Path], repair: str) -> FoundFile:
    """The one file that was found; several are a problem."""
    if len(places) == 1:
        return FoundFile(places[0], repair=repair)
    shown = ", ".join(printable(str(place)) for place in places[:SHOWN_PLACES])
    return FoundFile(path, f"{len(places)} files could be meant: {shown}")
