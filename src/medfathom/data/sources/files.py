"""What sources of image files have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfathom.data import nifti
from medfathom.data.images import Fit, Header, UnreadableImageError, decode, read_header
from medfathom.data.labels import Labels, one_spelling
from medfathom.data.oct_files import EYES, Eye
from medfathom.data.pixels import with_channels, with_type
from medfathom.data.pseudonyms import Subject, groups_by_patient, hidden_cases, pseudonym
from medfathom.data.slides import Tile, Tiling, read_tile
from medfathom.data.sources.base import Ignored, Listing, Problem, RawImage, Source
from medfathom.data.sources.cases import (
    FileRows,
    below,
    images_of_cases,
    in_files,
    in_parts,
    of_cases,
    one_label_and_patient,
    spoilt,
)
from medfathom.data.sources.slide_rows import rows_of_tiles
from medfathom.data.sources.tags import read_tags
from medfathom.data.sources.walk import Choice
from medfathom.data.stacks import ImageFile, part_name
from medfathom.data.workers import Processes
from medfathom.definitions.dataset import CsvDataset, FolderDataset, SimilarWords
from medfathom.errors import DataError
from medfathom.machine import cpus
from medfathom.text import printable

SIDES = {**EYES, "": "not said"}
"""What a header says."""

SHOWN_STACKS = 10
"""A note names so many, with images and side."""

HEADERS_AT_ONCE = 64
"""Files that a thread looks at in one task: handing over a task costs more than reading a header."""


PROCESS_HEADERS = 20_000
"""From so many files on processes are worth their start, only to look at them."""


@dataclass(frozen=True)
class FileDecoder:
    """Reads, hashes and decodes images of files into one form; the fields as in `images.decode`."""

    channels: int
    dtype: np.dtype[np.uint8 | np.uint16]
    bits: int
    size: int
    fit: Fit
    window: tuple[float, float] | None = None
    slice_axis: int = 2
    eye: Eye | None = None

    def __call__(self, fetched: ImageFile) -> RawImage:
        """Decode a file or a part of it. Raises UnreadableImageError."""
        if isinstance(fetched.part, Tile):
            return self._tile(fetched.path, fetched.part)
        content, digest = fetched.content()
        image = decode(
            content,
            self.channels,
            self.dtype,
            bits=self.bits,
            size=self.size,
            fit=self.fit,
            window=self.window,
            frame=fetched.part,
            slice_axis=self.slice_axis,
            eye=self.eye,
        )
        return RawImage(
            image.pixels,
            image.width,
            image.height,
            digest,
            len(content),
            image.bits_used,
        )

    def _tile(self, path: Path, tile: Tile) -> RawImage:
        colours, digest = read_tile(path, tile, self.size)
        pixels = with_type(with_channels(colours, self.channels), self.dtype)
        return RawImage(pixels, round(tile.width), round(tile.height), digest)


_NO_GROUP = "no group: dataset.group_pattern or group_column finds none"
_NO_PATIENT = "no PatientID, though other files have one; give dataset.group_pattern or group_column"


class FileSource(Source):
    """Image files: all headers are read for the listing, then the pixels file by file."""

    root: Path
    """Where the paths of its images start."""

    def __init__(self, config: FolderDataset | CsvDataset) -> None:
        self._config = config
        self._files: list[ImageFile] = []
        self._chosen = True
        self._decode = FileDecoder(
            1,
            np.dtype(np.uint8),
            config.bits,
            config.image_size,
            config.fit,
            config.window,
            config.slice_axis,
            config.eye,
        )

    def outline(self) -> Listing:
        """Headers alone are read."""
        self._chosen = False
        return self.listing()

    def fetch(self, rows: Sequence[int]) -> list[ImageFile]:
        """The file, and which image of it."""
        return [self._files[row] for row in rows]

    def decode(self, fetched: ImageFile) -> RawImage:
        """Read, hash and decode one file."""
        return self._decode(fetched)

    def portable_decode(self) -> FileDecoder:
        """Files can be read by any process."""
        return self._decode

    def pixels_in_memory(self, fetched: ImageFile) -> int:
        """Of the whole image; of a tile what is read for it, where levels differ by a factor of 4."""
        return fetched.n_pixels * (16 if isinstance(fetched.part, Tile) else 1)

    def _list_files(
        self,
        paths: Sequence[Path],
        names: Sequence[str],
        labels: Labels,
        splits: Sequence[str],
        groups: Sequence[str | None] | None,
        problems: Sequence[Problem],
        cases: Sequence[str | None] | None = None,
        folders: Sequence[str | None] | None = None,
        ignored: Sequence[Ignored] = (),
        notes: Sequence[str] = (),
        mpps: Sequence[float | None] | None = None,
        kept: Mapping[str, Sequence[str]] | None = None,
    ) -> Listing:
        """Read every file's header; a file that cannot be used becomes a problem.

        `cases`, `folders` and `mpps` as in `FileRows`, of use where the unit is not the image. What
        `dataset.keep` names and `kept` has not is read from DICOM files.
        """
        rows = FileRows(
            paths,
            names,
            labels,
            splits,
            groups,
            folders or [None] * len(paths),
            cases,
            mpps=mpps,
            kept=kept or {},
        )
        unit = self._config.unit
        if unit != "image":
            rows = in_files(rows, self.root, Choice(self._config.include, self._config.exclude))
        rows = replace(rows, kept=self._with_tags(rows))
        tiling = Tiling.of(self._config)
        if tiling is None:
            rows, headers = self._images_of(rows)
        else:
            looked = self.looked if self._chosen else None
            rows, headers = rows_of_tiles(rows, self._config, self.root, tiling, looked)
        return replace(self._list_rows(rows, headers, problems), ignored=ignored, notes=[*notes, *rows.notes])

    def _with_tags(self, rows: FileRows) -> dict[str, Sequence[str]]:
        """The columns for subgroups in the definition's order, those of DICOM files too."""
        tags = [name for name in self._config.keep if name not in rows.kept]
        cells = {**rows.kept, **read_tags(rows.paths, tags)}
        return {name: cells[name] for name in self._config.keep}

    def _images_of(self, rows: FileRows) -> tuple[FileRows, list[Header | str]]:
        """A row for each image, and each one's header."""
        unit = self._config.unit
        axis = self._config.slice_axis if unit == "volume" else None
        headers = _all_headers(rows.paths, axis, self._config.eye)
        rows = spoilt(rows, {i: header for i, header in enumerate(headers) if isinstance(header, str)})
        if unit == "volume":
            counts = [header.frames if isinstance(header, Header) else None for header in headers]
            told = _told_stacks(rows.names, headers)
            rows, index = in_parts(rows, [None if n is None else range(n) for n in counts], self.root)
            rows = replace(rows, notes=told)
            headers = [headers[i] for i in index]
        if unit != "image":
            hidden = any(isinstance(header, Header) and header.subject for header in headers)
            rows = images_of_cases(rows, self._config, self.root, hidden=hidden)
        return rows, headers

    def _list_rows(
        self, rows: FileRows, headers: Sequence[Header | str], problems: Sequence[Problem]
    ) -> Listing:
        subjects = [header.subject if isinstance(header, Header) else None for header in headers]
        if self._config.window is not None and not any(subjects) and not any(map(_is_nifti, rows.paths)):
            raise DataError("dataset.window: no file is DICOM or NIfTI; leave window out")
        by_patient = rows.groups is None and any(subjects)
        if any(subjects):
            given, subjects = _one_spelling_each(rows.groups, subjects, self._config.similar_words)
            rows = replace(rows, groups=given)
        rows = replace(rows, groups=groups_by_patient(rows.groups, subjects))
        if by_patient and self._config.unit != "image":
            rows = one_label_and_patient(rows, self._config.unit)
        rows, problems = _without_clear_text(rows, subjects, [*problems, *rows.labels.problems])
        paths, names, labels, groups = rows.paths, rows.names, rows.labels, rows.groups
        good = labels.good.copy()
        unknown = [row for row in np.flatnonzero(good).tolist() if groups is not None and groups[row] is None]
        problems += [Problem(names[row], _NO_PATIENT if by_patient else _NO_GROUP) for row in unknown]
        good[unknown] = False
        parts = rows.parts or [None] * len(names)
        kept = np.flatnonzero(good).tolist()
        found = [header for row in kept if isinstance(header := headers[row], Header)]
        channels, dtype = self._form(found)
        self._decode = replace(self._decode, channels=channels, dtype=dtype)
        self.deep = [row for row, header in enumerate(found) if header.deep and header.subject is None]
        self._files = [
            ImageFile(paths[row], header.width * header.height, parts[row])
            for row, header in zip(kept, found, strict=True)
        ]
        cases = None if self._config.unit == "image" or rows.cases is None else _texts(rows.cases, kept)
        columns = {column: _texts(cells, kept) for column, cells in rows.kept.items()}
        return Listing(
            names=[part_name(names[row], parts[row]) for row in kept],
            labels=labels.values[kept],
            splits=_texts(rows.splits, kept),
            groups=None if groups is None else _texts(groups, kept),
            cases=cases,
            studies=_studies(found),
            task=labels.task,
            class_names=labels.class_names,
            channels=channels,
            dtype=dtype,
            problems=list(dict.fromkeys(problems)),
            kept=columns if cases is None else of_cases(columns, cases, self._config.unit),
            paths=self._found_places([paths[row] for row in kept], [subjects[row] for row in kept]),
        )

    def _found_places(self, paths: Sequence[Path], subjects: Sequence[Subject | None]) -> list[str]:
        """Where files were found that may lie anywhere; empty where names tell it."""
        if not getattr(self._config, "anywhere", False):
            return []
        pairs = zip((below(path, self.root) for path in paths), subjects, strict=True)
        return [who.hidden(place) if who else place for place, who in pairs]

    def _form(self, headers: Sequence[Header]) -> tuple[int, np.dtype[np.uint8 | np.uint16]]:
        """The channels and the type that can hold every file."""
        wanted = self._config.channels
        channels = (3 if any(h.colour for h in headers) else 1) if wanted == "auto" else wanted
        return channels, np.dtype(np.uint16 if any(h.deep for h in headers) else np.uint8)

    def _groups_from_names(self, names: Sequence[str]) -> list[str | None] | None:
        if self._config.group_pattern is None:
            return None
        pattern = re.compile(self._config.group_pattern)
        matches = [pattern.search(name) for name in names]
        return [match.group(1) or None if match else None for match in matches]


def _texts(values: Sequence[str | None], kept: Sequence[int]) -> NDArray[np.str_]:
    return np.array([values[row] for row in kept], dtype=np.str_)


def _told_stacks(names: Sequence[str], headers: Sequence[Header | str]) -> list[str]:
    """To compare with what the user knows of the files: readers of OCT volumes got it wrong before."""
    known = [(name, h) for name, h in zip(names, headers, strict=True) if isinstance(h, Header) and h.frames]
    counts = [h.frames or 0 for _, h in known]
    if not counts:
        return []
    sizes = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    notes = [f"{len(counts)} stacks of {sizes} images each, {sum(counts)} in all"]
    sides = Counter(SIDES[h.laterality] for _, h in known)
    if set(sides) == {SIDES[""]}:
        return notes
    said = ", ".join(f"{count} {side}" for side, count in sides.most_common())
    first = [
        f"{h.subject.hidden(name) if h.subject else name}: {h.frames}, {SIDES[h.laterality]}"
        for name, h in known[:SHOWN_STACKS]
    ]
    more = ", ..." if len(known) > SHOWN_STACKS else ""
    return [*notes, f"sides of these stacks: {said}; compare: {'; '.join(first)}{more}"]


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(nifti.SUFFIXES)


def _all_headers(paths: Sequence[Path], slice_axis: int | None, eye: Eye | None) -> list[Header | str]:
    """Each file's header, or the reason why it cannot be read; in threads, or in processes where many."""
    slices = [paths[start : start + HEADERS_AT_ONCE] for start in range(0, len(paths), HEADERS_AT_ONCE)]
    look = partial(_headers, slice_axis=slice_axis, eye=eye)
    processes = Processes(look, look)
    try:
        with ThreadPoolExecutor(cpus()) as pool:
            read = processes.call if len(paths) >= PROCESS_HEADERS else look
            return [header for part in pool.map(read, slices) for header in part]
    finally:
        processes.close()


def _without_clear_text(
    rows: FileRows, subjects: Sequence[Subject | None], problems: Sequence[Problem]
) -> tuple[FileRows, list[Problem]]:
    """Names, cases and reasons with pseudonyms; nothing changes without DICOM."""
    if not any(subjects):
        return rows, list(problems)
    names = [who.hidden(name) if who else name for name, who in zip(rows.names, subjects, strict=True)]
    whose = {old: (new, who) for old, new, who in zip(rows.names, names, subjects, strict=True)}
    cases = None if rows.cases is None else hidden_cases(rows.cases, subjects)
    shown = []
    for problem in problems:
        name, who = whose.get(problem.name, (problem.name, None))
        shown.append(Problem(name, who.hidden(problem.reason) if who else problem.reason))
    return replace(rows, names=names, cases=cases), shown


def _one_spelling_each(
    given: Sequence[str | None] | None, subjects: Sequence[Subject | None], rule: SimilarWords
) -> tuple[Sequence[str | None] | None, list[Subject | None]]:
    """Patients as given, and as DICOM files name them, before hashes hide that `P7` and `p7` are alike."""
    if given is not None:
        settled = _hidden_spelling([group or "" for group in given], rule)
        return [group or None for group in settled], list(subjects)
    words = [who.clear[0] if who and who.patient and who.clear else "" for who in subjects]
    words = [w if who and pseudonym(w) == who.patient else "" for w, who in zip(words, subjects, strict=True)]
    pairs = zip(_hidden_spelling(words, rule), subjects, strict=True)
    return None, [replace(who, patient=pseudonym(word)) if who and word else who for word, who in pairs]


def _hidden_spelling(patients: Sequence[str], rule: SimilarWords) -> list[str]:
    try:
        return one_spelling([word.strip() for word in patients], rule, "patients")
    except DataError:  # its line names patients
        raise DataError(
            "patients of DICOM files differ only in their spelling (case, separators, leading zeros), as P7 "
            'and p7 do; dataset.similar_words = "merge" makes them one, "keep" takes them for different ones'
        ) from None


def _studies(headers: Sequence[Header]) -> NDArray[np.str_] | None:
    """Pseudonym of each image's study; None where no file is DICOM."""
    if not any(header.subject for header in headers):
        return None
    return np.array([header.subject.study if header.subject else "" for header in headers], dtype=np.str_)


def _headers(paths: Sequence[Path], slice_axis: int | None, eye: Eye | None) -> list[Header | str]:
    """Each file's header, or the reason why it cannot be read."""
    found: list[Header | str] = []
    for path in paths:
        try:
            found.append(read_header(path, slice_axis=slice_axis, eye=eye))
        except UnreadableImageError as error:
            found.append(str(error))
    return found


def file_signature(path: Path) -> str:
    """Path, size and time of a file, or that it is absent."""
    place = printable(str(path))
    try:
        facts = path.stat()
    except OSError:
        return f"{place} absent"
    return f"{place} {facts.st_size} {facts.st_mtime_ns}"


def existing(path: str, *, folder: bool) -> Path:
    """`dataset.path` as a Path. Raises DataError where it is not there, or no folder (or no file)."""
    found = Path(path).expanduser().absolute()
    shown = printable(str(found))
    if not found.exists():
        raise DataError(f"dataset.path: {shown} is not there")
    if found.is_dir() != folder:
        kinds = ("a folder", "a file") if folder else ("a file", "a folder")
        raise DataError(f"dataset.path: {shown} is {kinds[1]}; {kinds[0]} is expected")
    return found
