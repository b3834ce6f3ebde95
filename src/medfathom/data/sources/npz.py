"""An npz file in MedMNIST's layout, read as a stream: the file may be larger than memory."""

from __future__ import annotations

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medfathom.data.labels import from_numbers, need_groups
from medfathom.data.pixels import MIN_SIDE, Fit, Pixels, bits_in_use, fit_square, full_range
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, RawImage, Source
from medfathom.data.sources.files import existing, file_signature
from medfathom.data.sources.folder import SPLIT_FOLDERS
from medfathom.definitions.dataset import NpzDataset
from medfathom.errors import DataError

DAMAGED = (
    *(ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
    *(tokenize.TokenError, SyntaxError),  # of an array's header, which is Python's text of a dict
)
"""Errors that reading a damaged or encrypted archive raises."""


class NpzSource(Source):
    """Rows of `{train,val,test}_images`, in that order; val and test may be absent."""

    def __init__(self, config: NpzDataset) -> None:
        self.path = existing(config.path, folder=False)
        self.class_names = config.class_names
        self._keep = config.keep
        self._size, self._fit, self._bits = config.image_size, config.fit, config.bits
        self._archive = Archive(self.path)
        self._heads: dict[str, Head] = {}
        self._rows: list[tuple[str, int]] = []
        self._stream: _Rows | None = None

    def signature(self) -> str:
        """Path, size and time of the file."""
        return file_signature(self.path)

    def listing(self) -> Listing:
        """Check that the arrays fit together and read the labels. No pixel is read."""
        there = [split for split in SPLIT_NAMES if f"{split}_images" in self._archive.names]
        self._heads = {split: self._archive.head(f"{split}_images") for split in there}
        if "train" not in self._heads:
            raise DataError(
                f"{self.path}: no array train_images; expected {{train,val,test}}_{{images,labels}}, "
                f"found {', '.join(self._archive.names[:12]) or 'nothing'}"
            )
        self._refuse_other_names()
        channels, dtype = self._common_form()
        rows = [(split, row) for split, head in self._heads.items() for row in range(head.shape[0])]
        names = [f"{split}_images[{row}]" for split, row in rows]
        labels = from_numbers(self._labels(), names, self.class_names)
        groups = self._groups()
        labels = need_groups(labels, groups, names)
        kept = np.flatnonzero(labels.good).tolist()
        self._rows = [rows[i] for i in kept]
        self.row_bytes = max(head.row_bytes for head in self._heads.values())
        return Listing(
            names=[names[i] for i in kept],
            labels=labels.values[kept],
            splits=np.array([split for split, _ in self._rows], dtype=np.str_),
            groups=None if groups is None else groups[kept],
            task=labels.task,
            class_names=labels.class_names,
            channels=channels,
            dtype=dtype,
            problems=labels.problems,
            kept={name: self._texts(name)[kept] for name in self._keep},
        )

    def fetch(self, rows: Sequence[int]) -> list[Pixels]:
        """Pixels of ascending rows; a lower row than before means reading the array from its beginning."""
        return [self._pixels(*self._rows[row]) for row in rows]

    def decode(self, fetched: Pixels) -> RawImage:
        """The rows are pixels already: only make them square."""
        return as_raw(fetched, self._size, self._fit, self._bits)

    def close(self) -> None:
        """Close the archive."""
        if self._stream is not None:
            self._stream.close()
        self._archive.close()

    def _refuse_other_names(self) -> None:
        """Raise DataError for a split's array under another name: its images would be left out unsaid."""
        for name in self._archive.names:
            word, _, what = name.casefold().rpartition("_")
            split = next((split for split in SPLIT_NAMES if word in SPLIT_FOLDERS[split]), None)
            if split is None or what not in ("images", "labels", "groups"):
                continue
            if name != f"{split}_{what}":
                raise DataError(f"{self.path}: array {name} is not read; call it {split}_{what}")
            if split not in self._heads:
                raise DataError(f"{self.path}: there is {name}, but no array {split}_images")

    def _common_form(self) -> tuple[int, np.dtype[Any]]:
        """Channels and type, which must be the same in all splits."""
        forms = {
            split: array_form(f"{self.path}: {split}_images", h.shape, h.dtype)
            for split, h in self._heads.items()
        }
        return common(self.path, forms)

    def _labels(self) -> NDArray[Any]:
        parts = {}
        for split, head in self._heads.items():
            if head.shape[0] == 0:
                raise DataError(
                    f"{self.path}: array {split}_images has no image; leave the split out of the file"
                )
            values = self._beside_images(split, "labels")
            if values.dtype.kind not in "biuf":
                raise DataError(f"{self.path}: {split}_labels is {values.dtype}; expected class numbers")
            parts[split] = values.reshape(len(values), -1)
        widths = {split: part.shape[1] for split, part in parts.items()}
        if len(set(widths.values())) > 1:
            raise DataError(f"{self.path}: the splits' labels differ in width: {widths}")
        return np.concatenate(list(parts.values()))

    def _groups(self) -> NDArray[np.str_] | None:
        with_groups = [split for split in self._heads if f"{split}_groups" in self._archive.names]
        if not with_groups:
            return None
        return self._texts("groups")

    def _texts(self, what: str) -> NDArray[np.str_]:
        """One value for each image, of all splits."""
        parts = [self._beside_images(split, what) for split in self._heads]
        if any(part.size != len(part) for part in parts):
            raise DataError(f"{self.path}: {what} have several columns; expected one value for each image")
        return np.concatenate([part.reshape(-1).astype(np.str_) for part in parts])

    def _beside_images(self, split: str, what: str) -> NDArray[Any]:
        """`{split}_labels`, `{split}_groups` or what `keep` names: one row for each image."""
        name, n_images = f"{split}_{what}", self._heads[split].shape[0]
        if name not in self._archive.names:
            raise DataError(f"{self.path}: no array {name}; found {', '.join(self._archive.names[:12])}")
        values = self._archive.array(name)
        if values.ndim not in (1, 2) or len(values) != n_images:
            raise DataError(f"{self.path}: {name} has shape {values.shape}, but there are {n_images} images")
        return values

    def _pixels(self, split: str, row: int) -> Pixels:
        if self._stream is None or self._stream.split != split or self._stream.position > row:
            if self._stream is not None:
                self._stream.close()
            self._stream = _Rows(split, self._archive.rows(f"{split}_images"))
        return self._stream.at(row)


class _Rows:
    """One array's rows, read in order."""

    def __init__(self, split: str, rows: Iterator[Pixels]) -> None:
        self.split, self.position, self._rows = split, 0, rows

    def at(self, row: int) -> Pixels:
        """A row; those before it are read and dropped."""
        while True:
            pixels = next(self._rows)
            self.position += 1
            if self.position > row:
                return pixels

    def close(self) -> None:
        """Close the stream."""
        del self._rows


@dataclass(frozen=True)
class Head:
    """The header of an npy file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


class Archive:
    """An npz file. Every method raises DataError where the file is damaged or no npz file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except PermissionError:
            raise DataError(f"dataset.path: {path} may not be read (permissions)") from None
        except DAMAGED as error:
            raise DataError(
                f"dataset.path: {path} is not an npz file ({error or type(error).__name__})"
            ) from None
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def head(self, name: str) -> Head:
        """Shape and type of an array."""
        with self._open(name) as stream:
            return self._head(name, stream)

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        with self._open(name) as stream:
            head = self._head(name, stream)
            content = self._read(name, stream, head.row_bytes * (head.shape or (1,))[0])
        return np.frombuffer(content, head.dtype).reshape(head.shape, order="F" if head.fortran else "C")

    def rows(self, name: str) -> Iterator[NDArray[Any]]:
        """An array's rows, one after the other."""
        with self._open(name) as stream:
            head = self._head(name, stream)
            native = head.dtype.newbyteorder("=")
            for _ in range(head.shape[0]):
                content = self._read(name, stream, head.row_bytes)
                yield np.frombuffer(content, head.dtype).reshape(head.shape[1:]).astype(native, copy=False)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _open(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(f"{name}.npy")
        except (*DAMAGED, KeyError) as error:
            raise DataError(f"{self._path}: array {name} cannot be read ({error})") from None

    def _head(self, name: str, stream: IO[bytes]) -> Head:
        try:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        except DAMAGED as error:
            raise DataError(f"{self._path}: array {name} is damaged ({error})") from None
        if dtype.hasobject:
            raise DataError(
                f"{self._path}: array {name} holds pickled Python objects, which are not loaded; save numbers"
            )
        if fortran and len(shape) > 2:
            raise DataError(f"{self._path}: array {name} is in Fortran order; save it in C order")
        return Head(tuple(shape), fortran, dtype)

    def _read(self, name: str, stream: IO[bytes], n_bytes: int) -> bytes:
        try:
            content = stream.read(n_bytes)
        except DAMAGED as error:
            raise DataError(f"{self._path}: array {name} is damaged ({error})") from None
        if len(content) != n_bytes:
            raise DataError(f"{self._path}: array {name} ends too early")
        return content


def array_form(where: str, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[int, np.dtype[Any]]:
    """Channels and native type of an array of images. Raises DataError where it holds no images."""
    if dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise DataError(f"{where} is {dtype}; expected uint8 or uint16")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(f"{where} has shape {tuple(shape)}; expected (n, h, w) or (n, h, w, 3)")
    if min(shape[1:3]) < MIN_SIDE:
        raise DataError(f"{where} has shape {tuple(shape)}: a side below {MIN_SIDE} pixels")
    return 1 if len(shape) == 3 else shape[3], dtype.newbyteorder("=")


def common(path: Path, forms: Mapping[str, tuple[int, np.dtype[Any]]]) -> tuple[int, np.dtype[Any]]:
    """The form of all splits. Raises DataError where they differ."""
    if len(set(forms.values())) > 1:
        said = ", ".join(f"{split} has {c} of {dtype}" for split, (c, dtype) in forms.items())
        raise DataError(f"{path}: the splits' images differ in channels or type: {said}")
    return next(iter(forms.values()))


def as_raw(pixels: Pixels, size: int, fit: Fit, bits: int) -> RawImage:
    """An array's row as an image; of uint16 values, `bits` bits reach white, as in files.

    Raises UnreadableImageError for larger values.
    """
    whole = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])
    digest = hashlib.sha256(whole.data).hexdigest()
    deep = whole.dtype == np.uint16
    scaled = full_range(whole, bits) if deep else whole
    height, width, _ = whole.shape
    used = bits_in_use(whole) if deep else 0
    return RawImage(fit_square(scaled, size, fit), width, height, digest, bits_used=used)
