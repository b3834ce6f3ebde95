"""DICOM files are shown as PS3.3 says: by values from its formulas, and beside dcmtk where that is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medfathom.data import dicom
from medfathom.data.images import UnreadableImageError, decode, read_header
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.pseudonyms import pseudonym
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MPEG2MPML,
    RLELossless,
    SecondaryCaptureImageStorage,
)

H, W = 24, 33
U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)
DCMTK = {"dcmcjpeg", "dcmcjpls", "dcmj2pnm", "dcmodify"}


def ramp(bits: int, *, signed: bool = False, colour: bool = False) -> np.ndarray:
    """Smooth values from end to end of the range, so that lossy coding changes little."""
    low = -(2 ** (bits - 1)) if signed else 0
    across = np.linspace(0, 2**bits - 1, H * W).round().astype(np.int64).reshape(H, W) + low
    if not colour:
        return across
    return np.stack([across, across[::-1], np.full((H, W), 2 ** (bits - 1))], axis=2)


def dataset(values: np.ndarray, bits: int, *, signed: bool = False, **tags: Any) -> Dataset:
    """A file of these values, uncompressed, without a window."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made.StudyInstanceUID, made.PatientID, made.PatientName = "1.2.3", "PAT0017", "Doe^Jane"
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    if values.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsStored, made.HighBit = bits, bits - 1
    made.BitsAllocated = 8 if bits <= 8 else 16
    made.PixelRepresentation = int(signed)
    for name, value in tags.items():
        setattr(made, name, value)
    made.add_new(0x7FE00010, "OB" if made.BitsAllocated == 8 else "OW", b"")
    made.PixelData = values.astype(f"<{'i' if signed else 'u'}{made.BitsAllocated // 8}").tobytes()
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    return made


def saved(made: Dataset, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    content = io.BytesIO()
    if syntax == ExplicitVRBigEndian and made.BitsAllocated == 16:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(content, made, enforce_file_format=True)
    return content.getvalue()


def grey(content: bytes, **options: Any) -> np.ndarray:
    """Grey of 16 bits, (h, w)."""
    return decode(content, 1, U16, **options).pixels[:, :, 0].astype(np.int64)


def lut(first: int, entries: np.ndarray, bits: int) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table


# Values by hand.

WINDOWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    # PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1 for c = 40, w = 400, y from 0 to 1
    "LINEAR": lambda x: np.where(
        x <= 40 - 0.5 - 399 / 2, 0, np.where(x > 40 - 0.5 + 399 / 2, 1, (x - 39.5) / 399 + 0.5)
    ),
    "LINEAR_EXACT": lambda x: np.where(x <= 40 - 200, 0, np.where(x > 40 + 200, 1, (x - 40) / 400 + 0.5)),
    "SIGMOID": lambda x: 1 / (1 + np.exp(-4 * (x - 40) / 400)),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("monochrome1", [False, True])
def test_windows_by_the_formulas_of_the_standard(name: str, monochrome1: bool) -> None:
    stored = ramp(12)
    made = dataset(stored, 12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 999])
    made.WindowWidth, made.VOILUTFunction = [400, 1], name
    if monochrome1:
        made.PhotometricInterpretation = "MONOCHROME1"
    y = WINDOWS[name](stored * 2.0 - 1024)
    expected = np.rint((1 - y if monochrome1 else y) * 65535)
    assert np.abs(grey(saved(made)) - expected).max() <= 1


def test_window_values_computed_with_pencil() -> None:
    """c = 2048, w = 4096, LINEAR of 12 bits: 0 -> 0, 2047.5 -> 1/2, 4095 -> 1; c = 100, w = 51: 75 -> 0.01."""
    made = dataset(np.full((8, 8), 75), 12, WindowCenter=100, WindowWidth=51)
    assert grey(saved(made))[0, 0] == round(0.01 * 65535)  # (75 - 99.5)/50 + 0.5
    made = dataset(np.full((8, 8), 1365), 12, WindowCenter=2048, WindowWidth=4096)
    assert grey(saved(made))[0, 0] == 21845  # 1365/4095 of 65535


def test_the_definitions_window_is_in_hounsfield_units_and_replaces_the_files_own() -> None:
    stored = ramp(12)
    made = dataset(stored, 12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=1, WindowWidth=2)
    made.VOILUTSequence = Sequence([lut(0, np.zeros(16), 16)])
    made.VOILUTFunction = "SIGMOID"
    expected = np.rint(WINDOWS["LINEAR"](stored - 1024.0) * 65535)
    assert np.abs(grey(saved(made), window=(40.0, 400.0)) - expected).max() <= 1


def test_shape_inverse_and_monochrome1_turn_around_once() -> None:
    stored = ramp(12)
    up = np.rint(stored / 4095 * 65535)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        for shape in (None, "IDENTITY", "INVERSE"):
            made = dataset(stored, 12)
            made.PhotometricInterpretation = photometric
            if shape:
                made.PresentationLUTShape = shape
            turned = photometric == "MONOCHROME1" or shape == "INVERSE"
            assert np.abs(grey(saved(made)) - (65535 - up if turned else up)).max() <= 1


def test_without_a_window_the_files_own_range_is_shown_without_its_padding() -> None:
    stored = np.tile(np.arange(-500, 500, 25, dtype=np.int64), (10, 1))
    stored[:, 0] = -2000
    made = dataset(stored, 16, signed=True, PixelPaddingValue=-2000)
    expected = np.rint(np.clip((stored + 475) / 950, 0, 1) * 65535)
    assert np.abs(grey(saved(made)) - expected).max() <= 1
    made.PhotometricInterpretation = "MONOCHROME1"
    shown = grey(saved(made))
    assert (shown[:, 0] == 0).all()
    assert shown[0, 1] == 65535


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 15])
def test_junk_beside_the_bits_stored_is_ignored(signed: bool, high: int) -> None:
    stored = ramp(12, signed=signed)
    expected = np.rint((stored + (2048 if signed else 0)) / 4095 * 65535)
    words = (stored & 0xFFF) << (high - 11)
    junk = np.random.default_rng(0).integers(0, 16, stored.shape) << (12 if high == 11 else 0)
    made = dataset(words | junk, 12, HighBit=high)
    made.PixelRepresentation = int(signed)
    assert np.abs(grey(saved(made)) - expected).max() <= 1


def test_modality_and_voi_luts() -> None:
    stored = ramp(8)
    up = np.arange(256) * 16
    made = dataset(stored, 8, ModalityLUTSequence=Sequence([lut(0, up, 16)]))
    curve = np.rint(4095 * (np.arange(4096) / 4095) ** 0.5).astype(np.int64)
    made.VOILUTSequence = Sequence([lut(0, curve, 12)])
    made.WindowCenter, made.WindowWidth = 5, 10
    expected = np.rint(curve[up[stored]] / 4095 * 255) * 257
    assert np.abs(grey(saved(made)) - expected).max() <= 257


def test_a_voi_lut_of_signed_values() -> None:
    stored = ramp(8, signed=True)
    entries = np.arange(256)[::-1]
    made = dataset(stored, 8, signed=True, VOILUTSequence=Sequence([lut(-128, entries, 8)]))
    assert np.array_equal(grey(saved(made)), (127 - stored) * 257)


def test_enhanced_files_keep_their_values_in_functional_groups() -> None:
    stored = ramp(12)
    rescale, window, shared = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1024
    window.WindowCenter, window.WindowWidth = 40, 400
    shared.PixelValueTransformationSequence = Sequence([rescale])
    shared.FrameVOILUTSequence = Sequence([window])
    made = dataset(stored, 12, SharedFunctionalGroupsSequence=Sequence([shared]), NumberOfFrames=1)
    expected = np.rint(WINDOWS["LINEAR"](stored * 2.0 - 1024) * 65535)
    assert np.abs(grey(saved(made)) - expected).max() <= 1


@pytest.mark.parametrize("start", [0, 132])
def test_a_file_is_known_by_its_content_with_and_without_its_preamble(tmp_path: Path, start: int) -> None:
    content = saved(dataset(ramp(8), 8))[start:]
    (tmp_path / "x").write_bytes(content)
    header = read_header(tmp_path / "x")
    assert (header.width, header.height, header.colour, header.deep) == (W, H, False, False)
    assert np.array_equal(grey(content), ramp(8) * 257)


def test_a_file_without_meta_information() -> None:
    made = dataset(ramp(8), 8)
    content = io.BytesIO()
    del made.file_meta
    pydicom.dcmwrite(content, made, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert np.array_equal(grey(content.getvalue()), ramp(8) * 257)


def refused(made: Dataset, syntax: Any = ExplicitVRLittleEndian) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        grey(saved(made, syntax))
    return str(caught.value)


def test_what_is_not_read_is_named() -> None:
    several = dataset(np.concatenate([ramp(8)] * 3), 8, NumberOfFrames=3, Rows=H)
    assert "DICOM with 3 frames" in refused(several)
    assert dicom.n_frames(dicom.read_dataset(saved(several))) == 3
    assert "VOI LUT function CUBIC" in refused(
        dataset(ramp(8), 8, VOILUTFunction="CUBIC", WindowCenter=1, WindowWidth=2)
    )
    assert "colours ARGB" in refused(dataset(ramp(8), 8, PhotometricInterpretation="ARGB"))
    assert "1 bits stored in 8" in refused(dataset(ramp(8), 8, BitsStored=1))
    empty = dataset(ramp(8), 8)
    del empty.PixelData
    assert "DICOM without an image of integer values (Secondary Capture" in refused(empty)
    film = dataset(ramp(8), 8)
    film.PixelData = encapsulate([b"\0\0"])
    assert "MPEG2" in refused(film, MPEG2MPML)


def test_a_decoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder  # noqa: PLC0415

    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    made = dataset(ramp(8), 8)
    made.PixelData = encapsulate([b"\0\0"])
    reason = refused(made, JPEGLSLossless)
    assert "JPEG-LS Lossless" in reason
    assert "install medfathom[dicom]" in reason


def test_pydicom_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(dataset(ramp(8), 8))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UnreadableImageError, match=r"install medfathom\[dicom\]"):
        grey(content)


def test_truncated_files_are_refused() -> None:
    content = saved(dataset(ramp(12), 12))
    for end in range(140, len(content), 97):
        with pytest.raises(UnreadableImageError):
            grey(content[:end])
