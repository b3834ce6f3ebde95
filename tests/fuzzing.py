"""Readers of strangers' files, each with a small valid file; files damaged at random.

A reader takes the file or refuses it by an error that its caller expects. `tests/test_fuzzing.py` is the
short form, `benchmarks/fuzzing.py` the long one.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_tensors

import dicom_files
import made_models
from making import arrays, images
from medfathom.data.images import decode, read_header
from medfathom.data.pixels import UnreadableImageError
from medfathom.data.prints import Prints, read_prints
from medfathom.data.sources.open import open_source
from medfathom.data.sources.table_files import read_table
from medfathom.definitions.load import load_definition, names
from medfathom.errors import InputError
from medfathom.evaluation.models import read_metrics
from medfathom.models.folder import CONFIG_FILE, MANIFEST_FILE, read_config, read_model_folder
from medfathom.models.weights.read import read_tensors


@dataclass(frozen=True)
class Reader:
    """What reads one kind of file.

    Attributes:
        name: of the file; its suffix may matter.
        made: the bytes of a valid one.
        read: takes the path; what a broken file raises is in `refuses`.
    """

    name: str
    made: Callable[[], bytes]
    read: Callable[[Path], object]
    refuses: tuple[type[Exception], ...] = (InputError,)


def _pillow(kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(images(1, side=24, channels=3)[0]).save(content, kind, **options)
    return content.getvalue()


def _tiff(**options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, images(3, side=24), photometric="minisblack", **options)
    return content.getvalue()


def _dicom() -> bytes:
    return dicom_files.saved(dicom_files.dataset(dicom_files.ramp(12), 12))


def _nifti() -> bytes:
    return nibabel.Nifti1Image(np.arange(4000, dtype=np.int16).reshape(20, 20, 10), np.eye(4)).to_bytes()


def _image(path: Path, frame: int | None = None) -> None:
    read_header(path, slice_axis=None if frame is None else 2)
    decode(path.read_bytes(), channels=3, dtype=np.dtype(np.uint16), size=16, frame=frame)


def _npz() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays(groups=True))
    return content.getvalue()


def _hdf5() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["x"], file["y"] = images(8), np.arange(8, dtype=np.uint8) % 2
    return content.getvalue()


def _rows(path: Path) -> None:
    """Every row of a source of arrays."""
    from making import config  # noqa: PLC0415

    source = open_source(config("npz", path=str(path)))
    try:
        rows = range(len(source.listing().names))
        for pixels in source.fetch(rows):
            source.decode(pixels)
    finally:
        source.close()


def _xlsx() -> bytes:
    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in (("path", "label"), ("a.png", "ill"), ("b.png", "well")):
        book.active.append(row)
    book.save(content)
    return content.getvalue()


def _parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "label": ["ill", "well"]}), content)
    return content.getvalue()


CSV = "path,label,patient,note\n" + "".join(
    f'i/{k}.png,{"ill" if k % 2 else "well"},{k},"a, b"\n' for k in range(9)
)


def _tensors() -> bytes:
    return save_tensors({"a.weight": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)})


def _checkpoint() -> bytes:
    content = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(3, 4)}}, content)
    return content.getvalue()


def _metrics() -> bytes:
    return json.dumps({"model": {"test": {"auc": 0.8, "auc_ci_low": 0.7, "per_class": None}}}).encode()


def _config() -> bytes:
    return made_models.CONFIG.model_dump_json().encode()


def _in_folder(read: Callable[[Path], object], name: str, path: Path) -> None:
    """A model folder of which one file is damaged."""
    folder = path.parent / "model"
    folder.mkdir(exist_ok=True)
    for other in folder.iterdir():
        other.unlink()
    (folder / CONFIG_FILE).write_bytes(_config())
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / name).write_bytes(path.read_bytes())
    read(folder)


def _manifest() -> bytes:
    return b"".join(b"%s  %s\n" % (b"0" * 64, name) for name in (b"model.safetensors", b"medfathom.json"))


def _prints() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **{name: np.arange(4) for name in Prints.__dataclass_fields__})
    return content.getvalue()


_IMAGE = (UnreadableImageError, MemoryError)
READERS = {
    "png": Reader("a.png", partial(_pillow, "PNG"), _image, _IMAGE),
    "jpeg": Reader("a.jpg", partial(_pillow, "JPEG"), _image, _IMAGE),
    "jpeg2000": Reader("a.jp2", partial(_pillow, "JPEG2000"), _image, _IMAGE),
    "bmp": Reader("a.bmp", partial(_pillow, "BMP"), _image, _IMAGE),
    "gif": Reader("a.gif", partial(_pillow, "GIF"), _image, _IMAGE),
    "webp": Reader("a.webp", partial(_pillow, "WEBP"), _image, _IMAGE),
    "pnm": Reader("a.ppm", partial(_pillow, "PPM"), _image, _IMAGE),
    "tiff": Reader("a.tif", partial(_pillow, "TIFF"), _image, _IMAGE),
    "tiff-lzw": Reader("a.tif", partial(_pillow, "TIFF", compression="tiff_lzw"), _image, _IMAGE),
    "tiff-stack": Reader("a.tif", partial(_tiff, compression="zlib"), partial(_image, frame=1), _IMAGE),
    "dicom": Reader("a.dcm", _dicom, _image, _IMAGE),
    "nifti": Reader("a.nii", _nifti, partial(_image, frame=3), _IMAGE),
    "npz": Reader("a.npz", _npz, _rows),
    "csv": Reader("a.csv", CSV.encode, partial(read_table, key="path")),
    "xlsx": Reader("a.xlsx", _xlsx, partial(read_table, key="path")),
    "parquet": Reader("a.parquet", _parquet, partial(read_table, key="path")),
    "toml": Reader("a.toml", names("study_defs")["demo"].read_bytes, lambda path: load_definition(str(path))),
    "safetensors": Reader("a.safetensors", _tensors, read_tensors),
    "checkpoint": Reader("a.pt", _checkpoint, read_tensors),
    "prints": Reader("a.npz", _prints, read_prints),
    "model-metrics": Reader("a.json", _metrics, read_metrics),
    "model-config": Reader("a.json", _config, partial(_in_folder, read_config, CONFIG_FILE)),
    "model-manifest": Reader("a.sha256", _manifest, partial(_in_folder, read_model_folder, MANIFEST_FILE)),
}
"""Kind of file -> its reader."""

CHANGES = ("flip", "cut", "insert", "delete", "repeat", "largest", "nested")


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file changed in one to six places."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(changed) + 1)
        # Most formats have what matters at the beginning.
        at = min(at, draw.choice((16, 128, 1024, len(changed))))
        length = draw.choice((1, 2, 4, 8, 64))
        change = draw.choice(CHANGES)
        if change == "flip" and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif change == "cut" and draw.random() < 0.3:
            del changed[at:]
        elif change == "insert":
            changed[at:at] = draw.randbytes(length)
        elif change == "delete":
            del changed[at : at + length]
        elif change == "repeat":
            changed[at:at] = changed[at : at + length] * draw.choice((1, 3, 100))
        elif change == "largest":
            changed[at : at + length] = draw.choice((b"\xff", b"\x7f", b"\0", b"9")) * length
        elif change == "nested" and draw.random() < 0.2:
            changed[at:at] = draw.choice((b"[", b'{"a":', b"{a=", b"(")) * 3000
    return bytes(changed)


@cache
def valid(kind: str) -> bytes:
    """The valid file of a kind."""
    return READERS[kind].made()


damages = st.integers(0, 2**48).map(random.Random)
"""A seed: what is done to a file."""


def survives(reader: Reader, folder: Path, content: bytes) -> bool:
    """Whether the reader took the content; False: it refused it in one line. Anything else is raised."""
    path = folder / reader.name
    path.write_bytes(content)
    try:
        reader.read(path)
    except reader.refuses as error:
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error!s}") from error
        return False
    return True
