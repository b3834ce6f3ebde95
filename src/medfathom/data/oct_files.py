"""OCT volumes of Heidelberg (.e2e) and Topcon (.fda), read by oct-converter.

The formats are not published: oct-converter's authors found them out. So the number of B-scans and the eye
are told to the user, who knows them. oct-converter is imported when a file is read.
"""

from __future__ import annotations

import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError
from medfathom.data.pseudonyms import Subject, pseudonym

SUFFIXES = (".e2e", ".fda")

_FDA = b"FOCT"

STARTS = (b"CMDb", b"E2EMultipleVolumeFile", _FDA)

EYES = {"R": "right", "L": "left"}

Eye = Literal["right", "left"]
"""As definitions write it."""

_ENTRIES_OF = struct.Struct("<36xI12x")
"""Of a directory of an E2E file: how many entries follow."""

_ENTRY = struct.Struct("<2I28xI4x")
"""Of an entry: where it lies itself, where its chunk starts, the chunk's kind."""

_CHUNK = struct.Struct("<32x3IiH2xI4x12x2I")
"""Of a chunk with an image: patient, study, series, slice, image (0: fundus, 1: B-scan), kind, its size."""

_IMAGE, _B_SCAN = 1 << 30, 1

# What it cannot read of a file it also prints, to whoever did not ask.
warnings.filterwarnings("ignore", module=r"oct_converter(\.|$)")


@dataclass(frozen=True)
class _Volume:
    """B-scans (n, rows, columns), uint8 or uint16, of one eye."""

    scans: NDArray[Any]
    eye: str
    subject: Subject


@dataclass(frozen=True)
class OctFile:
    """Reads these files. `eye`: which volume of a file with several; None: a file has one."""

    eye: Eye | None = None

    def stack_header(self, file: BinaryIO) -> Header:
        """Size and number of B-scans; the whole file is read for them. Raises UnreadableImageError."""
        file.seek(0)
        found = _volume(file.read(), self.eye)
        n, height, width = found.scans.shape
        deep = found.scans.dtype == np.uint16
        return Header(
            width, height, colour=False, deep=deep, subject=found.subject, frames=n, laterality=found.eye
        )

    def frame(self, content: bytes, index: int) -> Opened:
        """A B-scan, from 0 on. Raises UnreadableImageError."""
        scan = _volume(content, self.eye).scans[index][:, :, None]
        header = Header(scan.shape[1], scan.shape[0], colour=False, deep=scan.dtype == np.uint16)
        return Opened(header, partial(_samples, scan))


def _samples(scan: NDArray[Any], _: int) -> Samples:
    return Samples(scan, int(np.iinfo(scan.dtype).max))


@lru_cache(maxsize=1)
def _volume(content: bytes, eye: Eye | None) -> _Volume:
    kind = "FDA" if content.startswith(_FDA) else "E2E"
    volume = _chosen(_read(kind, content), eye)
    sizes = {scan.shape for scan in volume.volume}
    if len(sizes) != 1 or len(sizes.copy().pop()) != 2:
        raise UnreadableImageError(f"B-scans of several sizes or in colour: {sorted(sizes)}")
    scans = np.stack(volume.volume)
    if scans.dtype.kind == "f":
        scans = np.rint(np.clip(np.nan_to_num(scans), 0, 1) * 255).astype(np.uint8)
    elif scans.dtype not in (np.uint8, np.uint16):
        raise UnreadableImageError(f"B-scans of type {scans.dtype}, which is not read")
    return _Volume(scans, _eye(volume), _subject(volume))


def _chosen(found: Sequence[Any], eye: Eye | None) -> Any:
    """The volume of an eye, or the only one where no eye is given. Raises UnreadableImageError with all."""
    wanted = [volume for volume in found if eye in (None, EYES.get(_eye(volume)))]
    if len(wanted) == 1:
        return wanted[0]
    said = "; ".join(f"{_eye(v) or 'an'} eye, {len(v.volume)} B-scans" for v in found) or "none"
    if eye is not None:
        n = f"{len(wanted)} OCT volumes are" if wanted else "no OCT volume is"
        raise UnreadableImageError(f"{n} of the {eye} eye (dataset.eye), but one is needed: {said}")
    count = Counter(map(_eye, found))
    ways = [f'dataset.eye = "{word}"' for key, word in EYES.items() if count[key] == 1]
    choose = f"{' or '.join(ways)} takes one of them; or " if ways else ""
    raise UnreadableImageError(
        f"{len(found)} OCT volumes ({said}); {choose}export each volume to its own file"
    )


def _read(kind: str, content: bytes) -> list[Any]:
    """oct-converter's volumes. It reads files alone, by their names.

    Of an E2E file it leaves out B-scans that are cut off, or beyond the end: half a volume would count as a
    whole one.
    """
    with NamedTemporaryFile(suffix=f".{kind.lower()}") as file:
        file.write(content)
        file.flush()
        reader = _reader(kind)(file.name)
        found = reader.read_oct_volume()
    volumes = found if isinstance(found, list) else [found]
    if kind == "E2E":
        read = {volume.volume_id: len(volume.volume) for volume in volumes}
        for volume, n in _b_scans(content, reader.directory_stack, reader.byte_skip).items():
            if read.get(volume, 0) < n:
                raise UnreadableImageError(
                    f"damaged or truncated ({read.get(volume, 0)} of {n} B-scans of a volume can be read)"
                )
    return [volume for volume in volumes if volume.volume is not None]


def _b_scans(content: bytes, directories: Sequence[int], skipped: int) -> dict[str, int]:
    """How many B-scans an E2E file's directories list, by oct-converter's name of the volume.

    Raises UnreadableImageError where an image is beyond the end of the file.
    """
    slices = defaultdict[str, set[int]](set)
    for directory in directories:
        start = directory + skipped
        (n,) = _ENTRIES_OF.unpack_from(content, start)
        entries = content[start + _ENTRIES_OF.size :][: n * _ENTRY.size]
        for own, chunk, kind in _ENTRY.iter_unpack(entries):
            if kind != _IMAGE or chunk <= own:
                continue
            if chunk + skipped + _CHUNK.size > len(content):
                raise UnreadableImageError("damaged or truncated (an image is beyond the end of the file)")
            *ids, number, image, own_kind, height, width = _CHUNK.unpack_from(content, chunk + skipped)
            if (image, own_kind) == (_B_SCAN, _IMAGE) and height * width:
                slices["_".join(map(str, ids))].add(int(number / 2))
    return {volume: len(numbers) for volume, numbers in slices.items()}


def _reader(kind: str) -> Any:
    """oct-converter's class for a kind of file. Raises UnreadableImageError where it does not load."""
    try:
        readers = import_module("oct_converter.readers")
    except ImportError as error:
        missing = "" if error.name == "oct_converter" else f" ({error})"
        raise UnreadableImageError(
            f"an OCT file (.{kind.lower()}); install medfathom[oct] to read it{missing}"
        ) from None
    if kind == "FDA":
        fda: Any = import_module("oct_converter.readers.fda")
        # oct-converter 0.7 calls what NumPy 2.3 took away (of bytes `frombuffer` gives the same), and prints.
        fda.np = SimpleNamespace(**{**vars(np), "fromstring": np.frombuffer})
        fda.print = lambda *_, **__: None
    return getattr(readers, kind)


def _eye(volume: Any) -> str:
    """R, L, or "" where the file does not say."""
    word = str(volume.laterality or "").strip().upper()
    return word if word in EYES else ""


def _subject(volume: Any) -> Subject:
    patient = str(volume.patient_id or "").strip(" \0")
    clear = (patient, volume.first_name, volume.surname, volume.DOB)
    return Subject(pseudonym(patient), "", tuple(str(word).strip(" \0") for word in clear if word))
