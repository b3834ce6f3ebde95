"""Fingerprints of the images a model was trained on: small enough to travel with it, no image can be seen.

They tell whether an image of other data was among them. What each can see:

- *hashes* of the file and of the prepared pixels: exact copies;
- the *look*, 16 x 16 numbers between two scales: images that were saved again, made brighter or darker, given
  other contrast or another resolution. Not crops, shifts or other aspect ratios: those need the images;
- *hashes of patients*: the same name of a patient, also in another spelling (`P-007` and `p7`). Names
  that are numbers mean little: two hospitals both have a patient 17. They are salted by the data
  set, so that two models' hashes cannot be compared; who can list all possible names can find them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.neighbours import looks, orientations, thumbnail
from medfathom.data.labels import folded
from medfathom.data.manifest import read_manifest
from medfathom.data.prepared import FACTS_FILE, PreparedData, read_facts
from medfathom.data.sources.npz import DAMAGED
from medfathom.errors import DataError, ExportedModelError
from medfathom.files import write_atomically

LIKENESS = 0.97
"""Least correlation of the looks of a near copy. Of 624 test images of PneumoniaMNIST, none of them in the
training images, the nearest training image reaches 0.966 at most; copies at other contrast with noise reach
0.965 to 1, 99 % of them 0.98."""

LEARNED: tuple[Literal["train", "val"], ...] = ("train", "val")
"""Splits that a model has learnt from, in the manifest's order."""

OTHERS = 4096
"""Training images compared at once."""


@dataclass(frozen=True)
class Prints:
    """Fingerprints of n training and validation images.

    Attributes:
        salt: of the patients' hashes: the data set's fingerprint.
        files, pixels: the first 64 bits of SHA-256, (n,).
        looks: the look in steps of 1 / 127 of its largest number, int8 (n, 256).
        patients: hashes, of those that are known; a patient may have two, see `_patient_hashes`.
    """

    salt: str
    files: NDArray[np.uint64]
    pixels: NDArray[np.uint64]
    looks: NDArray[np.int8]
    patients: NDArray[np.uint64]

    def with_images_of(self, others: Sequence[Prints]) -> Prints:
        """Together with the images, not the patients, of other data sets that the same model learnt from."""
        every = [self, *others]
        return replace(
            self,
            files=np.concatenate([each.files for each in every]),
            pixels=np.concatenate([each.pixels for each in every]),
            looks=np.concatenate([each.looks for each in every]),
        )


@dataclass(frozen=True)
class Overlap:
    """Which of m images were among the training and validation images of a model.

    Attributes:
        exact: the same file or the same pixels, (m,).
        near: a near copy but no exact one, (m,).
        patients: names of patients that are also those of training images.
        of_patients: images of these patients, (m,).
        compared: with how many training and validation images.
    """

    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]
    patients: Sequence[str]
    of_patients: NDArray[np.bool_]
    compared: int

    @property
    def copies(self) -> NDArray[np.bool_]:
        """Images that are copies of either kind, (m,)."""
        return self.exact | self.near


def short_hash(digest: str) -> int:
    """The first 64 bits of a hexadecimal digest."""
    return int(digest[:16], 16)


def _patient_hashes(salt: str, name: str) -> set[int]:
    """Of the name, and of the form that it shares with other spellings, as `labels.alike` tells them."""
    forms = {name, folded(name)}
    return {short_hash(hashlib.sha256(f"{salt}\0{form}".encode()).hexdigest()) for form in forms}


def find_prepared(cache_dir: Path, fingerprint: str) -> PreparedData | None:
    """The prepared data set of this fingerprint; None where it is not on this machine any more."""
    for file in sorted((cache_dir.absolute() / "datasets").glob(f"*/{FACTS_FILE}")):
        try:
            data = read_facts(file.parent).data
        except DataError:  # a damaged folder of some other data set is not this command's matter
            continue
        if data.fingerprint == fingerprint:
            return data
    return None


def prints_of(data: PreparedData) -> Prints:
    """Fingerprints of the training and validation images of a prepared data set."""
    manifest = read_manifest(data.folder)
    learned = np.flatnonzero(manifest.split != "test")  # the manifest has train, then val, then test
    small = [thumbnail(image) for name in LEARNED for image in data.split(name).images]
    groups = sorted(set(manifest.group[learned].tolist()) - {""})
    return Prints(
        data.fingerprint,
        _hashes(manifest.sha256[learned].tolist()),
        _hashes(manifest.pixels_sha256[learned].tolist()),
        _coarse(looks(np.stack(small))),
        np.array(
            sorted({each for name in groups for each in _patient_hashes(data.fingerprint, name)}),
            dtype=np.uint64,
        ),
    )


def _hashes(digests: Iterable[str]) -> NDArray[np.uint64]:
    return np.array([short_hash(digest) for digest in digests], dtype=np.uint64)


def _coarse(found: NDArray[np.float32]) -> NDArray[np.int8]:
    largest = np.maximum(np.abs(found).max(axis=1, keepdims=True), 1e-6)
    steps: NDArray[np.int8] = np.rint(found / largest * 127).astype(np.int8)
    return steps


def write_prints(file: Path, prints: Prints) -> None:
    """Write them as an npz file."""
    content = {**vars(prints), "salt": np.array(prints.salt)}

    def save(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez_compressed(stream, **content)

    write_atomically(file, save)


def read_prints(file: Path) -> Prints | None:
    """Read them; None where there are none: an older version exported the model.

    Raises:
        ExportedModelError: the file is damaged.
    """
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as content:
            salt, *arrays = (content[name] for name in Prints.__dataclass_fields__)
    except (*DAMAGED, KeyError, MemoryError) as error:
        raise ExportedModelError(f"{file}: damaged ({error}); export the model again") from None
    return Prints(str(salt), *arrays)


def overlap(
    prints: Prints,
    sha256: Sequence[str],
    pixels_sha256: Sequence[str],
    thumbnails: NDArray[np.uint8],
    groups: NDArray[Any] | None,
) -> Overlap:
    """Look for m other images among the training images, in all eight orientations.

    Args:
        prints: of the training images.
        sha256: of the other images' files.
        pixels_sha256: of their pixels, in the model's form.
        thumbnails: of them, (m, k, k).
        groups: their patients; None: not known.
    """
    exact = np.isin(_hashes(sha256), prints.files) | np.isin(_hashes(pixels_sha256), prints.pixels)
    near = (_likest(thumbnails, prints) >= LIKENESS) & ~exact
    names = np.array([], dtype=np.str_) if groups is None else np.unique(groups.astype(np.str_))
    known = set(prints.patients.tolist())
    patients = [name for name in names.tolist() if known & _patient_hashes(prints.salt, name)]
    theirs = np.zeros(len(exact), dtype=bool) if groups is None else np.isin(groups.astype(np.str_), patients)
    return Overlap(exact, near, patients, theirs, len(prints.files))


def _likest(thumbnails: NDArray[np.uint8], prints: Prints) -> NDArray[np.float32]:
    """Correlation with the likest training image, (m,); flat images are like none."""
    other = prints.looks.astype(np.float32)
    other /= np.maximum(np.linalg.norm(other, axis=1, keepdims=True), 1e-6)
    best = np.full(len(thumbnails), -1.0, dtype=np.float32)
    for own in orientations(looks(thumbnails)):
        for start in range(0, len(other), OTHERS):
            np.maximum(best, (own @ other[start : start + OTHERS].T).max(axis=1), out=best)
    return best
