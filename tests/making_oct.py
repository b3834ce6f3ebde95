"""Small OCT files of Heidelberg (.e2e) and Topcon (.fda), in the layout that oct-converter reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_IMAGE, _PATIENT, _EYE = 1 << 30, 9, 3


def e2e(path: Path, volumes: Sequence[tuple[NDArray[np.uint16], str]], patient: str = "P7") -> Path:
    """Volumes of one patient: B-scans (n, rows, columns) of 16-bit floats without sign, and R or L."""
    chunks = [(0, -1, 0, _PATIENT, _patient(patient))]
    for series, (scans, eye) in enumerate(volumes, 1):
        chunks.append((series, -1, 0, _EYE, struct.pack("<I1s", 0, eye.encode())))
        for number, scan in enumerate(scans):
            said = struct.pack("<5I", scan.nbytes + 20, 0, 0, *scan.shape)
            chunks.append((series, 2 * number, 1, _IMAGE, said + scan.astype("<u2").tobytes()))
    entries, content, start = [], [], 36 + 52 + 52 + 44 * len(chunks)
    for series, scan, index, kind, data in chunks:
        ids = (1, 1, series, scan)
        entries.append(struct.pack("<4I3Ii2H2I", 0, start, len(data), 0, *ids, index, 0, kind, 0))
        head = struct.pack("<12s5I3Ii2H2I", b"MDbData", 0, 0, start, len(data), 0, *ids, index, 0, kind, 0)
        content.append(head + data)
        start += len(content[-1])
    directory = _directory(b"MDbDir", len(chunks), 0) + b"".join(entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    first = struct.pack("<12sI20x", b"CMDb", 100) + _directory(b"MDbMDir", 0, 36 + 52)
    path.write_bytes(first + directory + b"".join(content))
    return path


def _directory(magic: bytes, n: int, current: int) -> bytes:
    return struct.pack("<12sI20x4I", magic, 100, n, current, 0, 0)


def _patient(name: str) -> bytes:
    return struct.pack("<31s51s15sI1s25s", b"Jane", b"Doe", b"", 0, b"F", name.encode())


def fda(path: Path, scans: NDArray[np.uint8], eye: str, patient: str = "P7") -> Path:
    """B-scans (n, rows, columns), as lossless JPEG 2000."""
    n, height, width = scans.shape
    images = [_coded(scan) for scan in scans]
    jpeg = struct.pack("<B6I", 2, 0, 0, width, height, n, 0)
    jpeg += b"".join(struct.pack("<i", len(image)) + image for image in images)
    capture = struct.pack("<BBI100x6H", "RL".index(eye), 0, 0, 2024, 2, 29, 12, 0, 0)
    person = struct.pack("<32s32s32s8xB3H", patient.encode(), b"Jane", b"Doe", 2, 1970, 1, 1).ljust(
        1500, b"\0"
    )
    chunks = {b"@IMG_JPEG": jpeg, b"@CAPTURE_INFO_02": capture, b"@PATIENT_INFO_02": person}
    path.parent.mkdir(parents=True, exist_ok=True)
    body = b"".join(bytes([len(k)]) + k + struct.pack("<I", len(v)) + v for k, v in chunks.items())
    path.write_bytes(struct.pack("<4s3s2I", b"FOCT", b"FDA", 2, 12) + body + b"\0")
    return path


def _coded(scan: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(scan).save(file, "JPEG2000", irreversible=False)
    return file.getvalue()
