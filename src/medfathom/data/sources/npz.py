"""An npz file in MedMNIST's layout, read as a stream: the file may be larger than memory."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from medfathom.data.config import NpzDataset
from medfathom.data.labels import from_numbers
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, RawImage, Source
from medfathom.errors import DataError


class NpzSource(Source):
    """Rows of `{train,val,test}_images`, in that order; a split may be absent."""

    def __init__(self, config: NpzDataset) -> None:
        self.path = Path(config.path)
        self.class_names = config.class_names
        self._archive = open_archive(self.path)
        self._rows: list[tuple[str, int]] = []
        self._stream: tuple[str, Iterator[np.ndarray]] | None = None

    def signature(self) -> str:
        """Place, size and time of the file."""
        return file_signature(self.path)

    def listing(self) -> Listing:
        """Check the arrays against one another and read the labels. No pixel is read."""
        heads = {
            split: self._head(f"{split}_images") for split in SPLIT_NAMES if self._has(f"{split}_images")
        }
        if "train" not in heads:
            raise DataError(
                f"{self.path}: no array train_images; expected {{train,val,test}}_{{images,labels}}, "
                f"found {', '.join(member_names(self._archive)) or 'nothing'}"
            )
        channels, dtype = self._common_form(heads)
        rows = [(split, row) for split, head in heads.items() for row in range(head.shape[0])]
        names = [f"{split}_images[{row}]" for split, row in rows]
        values = _stacked(self.path, [self._labels(split, head.shape[0]) for split, head in heads.items()])
        labels, task, class_names, good, problems = from_numbers(values, names, self.class_names)
        groups = self._groups(heads)
        kept = np.flatnonzero(good)
        self._rows = [rows[i] for i in kept]
        return Listing(
            names=[names[i] for i in kept],
            labels=labels[kept],
            splits=np.array([split for split, _ in self._rows]),
            groups=None if groups is None else groups[kept],
            task=task,
            class_names=class_names,
            channels=channels,
            dtype=dtype,
            problems=problems,
        )

    def fetch(self, rows: Sequence[int]) -> list[np.ndarray]:
        """Pixels of ascending rows; going back means reading the archive from its beginning."""
        return [self._pixels(*self._rows[row]) for row in rows]

    def decode(self, fetched: np.ndarray) -> RawImage:
        """Pixels are pixels already."""
        pixels = fetched if fetched.ndim == 3 else fetched[:, :, None]
        return RawImage(pixels, hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest(), 0)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()

    def _has(self, name: str) -> bool:
        return name in member_names(self._archive)

    def _head(self, name: str) -> Head:
        with open_member(self.path, self._archive, name) as stream:
            return read_head(self.path, name, stream)

    def _array(self, name: str) -> np.ndarray:
        with open_member(self.path, self._archive, name) as stream:
            head = read_head(self.path, name, stream)
            content = _read_exactly(self.path, name, stream, head.n_bytes)
        return np.frombuffer(content, head.dtype).reshape(head.shape, order="F" if head.fortran else "C")

    def _common_form(self, heads: dict[str, Head]) -> tuple[int, np.dtype[Any]]:
        """Channels and type, the same in all splits."""
        forms = set()
        for split, head in heads.items():
            grey = len(head.shape) == 3 or (len(head.shape) == 4 and head.shape[3] == 1)
            if head.dtype.kind != "u" or head.dtype.itemsize > 2 or head.fortran:
                kind = f"{head.dtype}{', Fortran order' if head.fortran else ''}"
                raise DataError(f"{self.path}: {split}_images is {kind}; expected uint8 or uint16, C order")
            if not grey and not (len(head.shape) == 4 and head.shape[3] == 3):
                raise DataError(
                    f"{self.path}: {split}_images has shape {head.shape}; expected (n, h, w) or (n, h, w, 3)"
                )
            forms.add((1 if grey else 3, head.dtype))
        if len(forms) > 1:
            raise DataError(
                f"{self.path}: the splits' images differ in channels or type: {sorted(map(str, forms))}"
            )
        return forms.pop()

    def _labels(self, split: str, n_images: int) -> np.ndarray:
        name = f"{split}_labels"
        if not self._has(name):
            raise DataError(f"{self.path}: no array {name}; found {', '.join(member_names(self._archive))}")
        return self._beside_images(name, n_images, numeric=True)

    def _groups(self, heads: dict[str, Head]) -> np.ndarray | None:
        if not self._has("train_groups"):
            return None
        missing = [split for split in heads if not self._has(f"{split}_groups")]
        if missing:
            raise DataError(f"{self.path}: train_groups is there but {missing[0]}_groups is not")
        parts = [self._beside_images(f"{s}_groups", h.shape[0], numeric=False) for s, h in heads.items()]
        return np.concatenate([part.reshape(-1).astype(np.str_) for part in parts])

    def _beside_images(self, name: str, n_images: int, *, numeric: bool) -> np.ndarray:
        values = self._array(name)
        if len(values) != n_images or values.ndim not in (1, 2):
            raise DataError(f"{self.path}: {name} has shape {values.shape}, but there are {n_images} images")
        if numeric and values.dtype.kind not in "biuf":
            raise DataError(f"{self.path}: {name} is {values.dtype}; expected class numbers")
        if not numeric and values.size != n_images:
            raise DataError(
                f"{self.path}: {name} has shape {values.shape}; expected one value for each image"
            )
        return values

    def _pixels(self, split: str, row: int) -> np.ndarray:
        if self._stream is None or self._stream[0] != split or self._position > row:
            self._stream = (split, self._images(split))
            self._position = 0
        for pixels in self._stream[1]:
            self._position += 1
            if self._position > row:
                return pixels
        raise DataError(f"{self.path}: {split}_images ends before row {row}")

    def _images(self, split: str) -> Iterator[np.ndarray]:
        name = f"{split}_images"
        with open_member(self.path, self._archive, name) as stream:
            head = read_head(self.path, name, stream)
            n_bytes = head.n_bytes // max(head.shape[0], 1)
            for _ in range(head.shape[0]):
                content = _read_exactly(self.path, name, stream, n_bytes)
                yield (
                    np.frombuffer(content, head.dtype)
                    .reshape(head.shape[1:])
                    .astype(head.dtype.newbyteorder("="))
                )


@dataclass(frozen=True)
class Head:
    """What an npy file says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open an npz file. Raises DataError where there is none, or it is something else."""
    if not path.is_file():
        raise DataError(f"dataset.path: no file {path}")
    try:
        return zipfile.ZipFile(path)
    except PermissionError:
        raise DataError(f"dataset.path: {path} may not be read (permissions)") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"dataset.path: {path} is not an npz file ({str(error) or type(error).__name__})"
        ) from None


def member_names(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays."""
    return [name.removesuffix(".npy") for name in archive.namelist()]


def open_member(path: Path, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open one array's bytes."""
    try:
        return archive.open(f"{name}.npy")
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: array {name} cannot be read ({error})") from None


def read_head(path: Path, name: str, stream: IO[bytes]) -> Head:
    """Read an npy header. Raises DataError for pickled objects, which are never loaded."""
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: array {name} is damaged ({error})") from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: array {name} holds pickled Python objects, which are not loaded; save it as numbers"
        )
    return Head(tuple(shape), fortran, dtype)


def file_signature(path: Path) -> str:
    """Place, size and time of a file."""
    facts = path.stat()
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _read_exactly(path: Path, name: str, stream: IO[bytes], n_bytes: int) -> bytes:
    try:
        content = stream.read(n_bytes)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: array {name} is damaged ({error})") from None
    if len(content) != n_bytes:
        raise DataError(f"{path}: array {name} ends too early")
    return content


def _stacked(path: Path, parts: list[np.ndarray]) -> np.ndarray:
    """The labels of all splits, as columns."""
    columns = [part.reshape(len(part), -1) for part in parts]
    widths = {part.shape[1] for part in columns}
    if len(widths) > 1:
        raise DataError(f"{path}: the splits' labels differ in width: {sorted(widths)}")
    return np.concatenate(columns)
