"""One decode of a data set into memory-mapped arrays at the study's size.

    storage/cache/datasets/KEY/
        {train,val,test}_images.npy  (n, s, s, c) uint8 or uint16
        {train,val,test}_labels.npy, _groups.npy, _names.json
        manifest.csv                 split, row, name, label, group, sha256, n_bytes, pixels_sha256
        prepared.json                facts, fingerprint, what was left out

KEY comes from the definition and the source's signature, so a second run finds the folder without reading a
pixel.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy

from medfathom.data.config import DatasetConfig
from medfathom.data.images import fit_square
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, array_file, read_facts, write_facts
from medfathom.data.sources.base import Listing, Source
from medfathom.data.sources.open import open_source
from medfathom.errors import DataError

VERSION = 1
"""Raised when the same definition would give other bytes: old folders are then not found any more."""

CHUNK = 256
"""Images decoded between two looks at the progress."""

Progress = Callable[[int, int], None]


def prepare(config: DatasetConfig, cache_dir: Path, *, progress: Progress | None = None) -> PreparedData:
    """Decode a data set once; a second call with the same content returns at once.

    Args:
        config: the `[dataset]` table.
        cache_dir: where prepared data sets lie; several processes may share it.
        progress: called with the images done and their number.

    Raises:
        DataError: the source is absent, damaged, or cannot be used as the definition says. Nothing is left
        behind.
    """
    source = open_source(config)
    try:
        folder = cache_dir.absolute() / "datasets" / _key(config, source.signature())
        if not (folder / "prepared.json").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not (folder / "prepared.json").exists():
                    _prepare(source, config, folder, progress or (lambda done, total: None))
    finally:
        source.close()
    return read_facts(folder)[0]


def _key(config: DatasetConfig, signature: str) -> str:
    content = config.model_dump(mode="json", exclude={"path", "on_bad_image"})
    text = json.dumps([VERSION, content, signature], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _prepare(source: Source, config: DatasetConfig, folder: Path, progress: Progress) -> None:
    listing = source.listing()
    _check_listing(listing, config)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        rows = _write_images(source, listing, config, partial, progress)
        _write_tables(listing, rows, partial)
        sizes = {split: int((listing.splits == split).sum()) for split in SPLIT_NAMES}
        data = PreparedData(
            folder=partial,
            fingerprint=_fingerprint(listing, rows, config),
            modality=config.modality,
            task=listing.task,
            class_names=listing.class_names,
            image_size=config.image_size,
            channels=listing.channels,
            sizes=sizes,
        )
        write_facts(data)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_listing(listing: Listing, config: DatasetConfig) -> None:
    if listing.problems and config.on_bad_image == "error":
        shown = "; ".join(map(str, listing.problems[:20]))
        more = f"; and {len(listing.problems) - 20} more" if len(listing.problems) > 20 else ""
        raise DataError(f"{len(listing.problems)} rows cannot be used: {shown}{more}")
    for split in SPLIT_NAMES:
        rows = listing.splits == split
        if not rows.any():
            raise DataError(f"the data set has no {split} images")
        labels = listing.labels[rows]
        counts = (
            labels.sum(axis=0)
            if labels.ndim == 2
            else np.bincount(labels, minlength=len(listing.class_names))
        )
        if split != "test" and (counts == 0).any():
            absent = [name for name, count in zip(listing.class_names, counts, strict=True) if count == 0]
            raise DataError(f"no {split} image of class {', '.join(map(repr, absent))}")


@dataclass(frozen=True)
class _Row:
    """What the manifest says of one image."""

    sha256: str
    n_bytes: int
    pixels_sha256: str


def _write_images(
    source: Source, listing: Listing, config: DatasetConfig, folder: Path, progress: Progress
) -> list[_Row]:
    shape = (config.image_size, config.image_size, listing.channels)
    n_bytes = int(np.prod(shape)) * listing.dtype.itemsize
    files: dict[str, tuple[int, int]] = {}
    position = np.zeros(len(listing.names), dtype=np.int64)
    for split in SPLIT_NAMES:
        rows = np.flatnonzero(listing.splits == split)
        position[rows] = np.arange(len(rows))
        files[split] = _open_array(array_file(folder, split, "images"), (len(rows), *shape), listing.dtype)

    def one(row: int, fetched: object) -> _Row:
        raw = source.decode(fetched)
        pixels = np.ascontiguousarray(fit_square(raw.pixels, config.image_size, config.fit))
        fd, start = files[str(listing.splits[row])]
        os.pwrite(fd, pixels.data, start + int(position[row]) * n_bytes)
        return _Row(raw.sha256, raw.n_bytes, hashlib.sha256(pixels).hexdigest())

    done: list[_Row] = []
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows in _chunks(len(listing.names)):
                done += pool.map(one, rows, source.fetch(rows))
                progress(len(done), len(listing.names))
    finally:
        for fd, _ in files.values():
            os.close(fd)
    return done


def _chunks(n: int) -> Iterator[Sequence[int]]:
    for start in range(0, n, CHUNK):
        yield range(start, min(start + CHUNK, n))


def _open_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Create an npy file of its full size; its descriptor and where the first element lies."""
    with path.open("wb") as file:
        npy.write_array_header_2_0(
            file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        )
        start = file.tell()
        file.truncate(start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return os.open(path, os.O_WRONLY), start


def _write_tables(listing: Listing, rows: Sequence[_Row], folder: Path) -> None:
    for split in SPLIT_NAMES:
        chosen = np.flatnonzero(listing.splits == split)
        np.save(array_file(folder, split, "labels"), listing.labels[chosen])
        if listing.groups is not None:
            np.save(array_file(folder, split, "groups"), listing.groups[chosen])
        names = [listing.names[row] for row in chosen]
        (folder / f"{split}_names.json").write_text(json.dumps(names), encoding="utf-8")
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "split", "label", "group", "sha256", "n_bytes", "pixels_sha256"])
        for index, row in enumerate(rows):
            label = listing.labels[index]
            text = str(label) if label.ndim == 0 else " ".join(map(str, label))
            group = "" if listing.groups is None else listing.groups[index]
            table.writerow(
                [
                    listing.names[index],
                    listing.splits[index],
                    text,
                    group,
                    row.sha256,
                    row.n_bytes,
                    row.pixels_sha256,
                ]
            )


def _fingerprint(listing: Listing, rows: Sequence[_Row], config: DatasetConfig) -> str:
    """SHA-256 over images (through their own hashes), labels, groups and splits, in order."""
    digest = hashlib.sha256()
    form = [config.image_size, listing.channels, listing.dtype.name, listing.task, listing.class_names]
    digest.update(json.dumps(form).encode())
    for index, row in enumerate(rows):
        group = None if listing.groups is None else str(listing.groups[index])
        facts = [row.pixels_sha256, listing.labels[index].tolist(), group, str(listing.splits[index])]
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
