"""DICOM files are shown as PS3.3 says: by its formulas, and beside dcmtk where that is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medfathom.data import dicom
from medfathom.data.images import UnreadableImageError, decode, read_header

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_files import H, W, dataset, lut, ramp, saved  # noqa: E402

U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)
DCMTK = {"dcmcjpeg", "dcmcjpls", "dcmdjpls", "dcmj2pnm"}


def grey(content: bytes, **options: Any) -> np.ndarray:
    """Grey of 16 bits, (h, w)."""
    return decode(content, 1, U16, **options).pixels[:, :, 0].astype(np.int64)


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
    """LINEAR with c = 100 and w = 51 gives 0.01 at 75; with c = 2048 and w = 4096 it gives 1/3 at 1365."""
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


@pytest.mark.parametrize("planes", [0, 1])
def test_ybr_full_by_the_formulas_of_the_standard(planes: int) -> None:
    """The inverse of the matrix in PS3.3 C.7.6.3.1.2."""
    forward = np.array([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ybr = ramp(8, colour=True)
    expected = np.clip((ybr - [0, 128, 128]) @ np.linalg.inv(forward).T, 0, 255)
    made = Case(8, photometric="YBR_FULL", tags={"PlanarConfiguration": planes}).written()
    assert np.abs(decode(saved(made), 3, U8).pixels - expected).max() <= 0.6


# Beside dcmtk.


@dataclass(frozen=True)
class Case:
    """A generated file, what of it dcmtk is told to apply, and the command that compresses it."""

    bits: int
    signed: bool = False
    photometric: str = "MONOCHROME2"
    syntax: Any = ExplicitVRLittleEndian
    tags: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] = ("+Wm",)
    compress: tuple[str, ...] = ()
    tolerance: float = 1.0

    def written(self) -> Dataset:
        """Uncompressed, or as pydicom compresses it."""
        if self.photometric == "PALETTE COLOR":
            made = with_palette(dataset(ramp(8), 8, **self.tags))
            if self.syntax == RLELossless:
                made.compress(self.syntax)
            return made
        colour = self.photometric not in ("MONOCHROME1", "MONOCHROME2")
        made = dataset(ramp(self.bits, signed=self.signed, colour=colour), self.bits, signed=self.signed)
        for name, value in self.tags.items():
            setattr(made, name, value)
        if colour and made.PlanarConfiguration:
            planes = np.frombuffer(made.PixelData, np.uint8)[: H * W * 3].reshape(H, W, 3)
            made.PixelData = planes.transpose(2, 0, 1).tobytes()
        if self.photometric == "YBR_FULL_422":
            made = subsampled(made)
        made.PhotometricInterpretation = self.photometric
        if self.syntax in (RLELossless, JPEG2000Lossless):
            made.compress(self.syntax)
        return made


def with_palette(made: Dataset) -> Dataset:
    """Red rises, green falls, blue is a triangle; 16 bits."""
    up = np.arange(256) * 257
    made.PhotometricInterpretation = "PALETTE COLOR"
    for name, entries in (("Red", up), ("Green", up[::-1]), ("Blue", np.minimum(up, up[::-1]) * 2)):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", entries.astype("<u2").tobytes())
    return made


def subsampled(made: Dataset) -> Dataset:
    """Two neighbours share their colour: Y Y Cb Cr (PS3.3 C.7.6.3.1.2); of even width."""
    values = np.frombuffer(made.PixelData, np.uint8)[: H * W * 3].reshape(H, W, 3)[:, : W - 1]
    pairs = values.reshape(H, (W - 1) // 2, 2, 3)
    packed = np.stack([pairs[:, :, 0, 0], pairs[:, :, 1, 0], pairs[:, :, 0, 1], pairs[:, :, 0, 2]], axis=2)
    made.Columns, made.PixelData = W - 1, packed.tobytes()
    return made


def windowed(centre: float, width: float, **tags: Any) -> dict[str, Any]:
    return {"WindowCenter": centre, "WindowWidth": width, **tags}


HU = {"RescaleSlope": 1, "RescaleIntercept": -1024}
FILE, VOI_LUT = ("+Wi", "1"), ("+Wl", "1")
SQUARES = {"VOILUTSequence": Sequence([lut(0, np.arange(4096) ** 2 // 4096, 12)])}
COLOUR = ("-W",)
LOSSLESS, BASELINE, EXTENDED = ("dcmcjpeg", "+e1"), ("dcmcjpeg", "+eb"), ("dcmcjpeg", "+ee")
JPEG_LS, NEAR = ("dcmcjpls",), ("dcmcjpls", "+en")
ONE, TWO = "MONOCHROME1", "MONOCHROME2"

CASES: list[Case] = [
    *(Case(bits, photometric=kind) for bits in (8, 10, 12, 16) for kind in (ONE, TWO)),
    *(Case(bits, signed=True, photometric=kind) for bits in (8, 12, 16) for kind in (ONE, TWO)),
    *(Case(12, photometric=kind, tags=windowed(40, 400, **HU), shown=FILE) for kind in (ONE, TWO)),
    *(
        Case(12, photometric=k, tags=windowed(0, 900, VOILUTFunction="SIGMOID", **HU), shown=FILE)
        for k in (ONE, TWO)
    ),
    Case(16, signed=True, tags=windowed(-600, 1500), shown=FILE),
    Case(8, tags=windowed(100, 1), shown=FILE),
    *(Case(12, photometric=kind, tags=SQUARES, shown=VOI_LUT) for kind in (ONE, TWO)),
    *(
        Case(12, photometric=ONE, tags=windowed(2000, 3000), shown=FILE, syntax=syntax)
        for syntax in (
            ImplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            RLELossless,
            JPEG2000Lossless,
        )
    ),
    Case(12, signed=True, syntax=RLELossless),
    *(Case(bits, photometric=ONE, compress=LOSSLESS) for bits in (8, 12, 16)),
    *(Case(bits, photometric=ONE, compress=JPEG_LS) for bits in (8, 12, 16)),
    Case(12, signed=True, compress=LOSSLESS),
    Case(12, signed=True, compress=JPEG_LS),
    Case(8, photometric=ONE, compress=BASELINE),
    Case(12, photometric=ONE, compress=EXTENDED),
    Case(12, photometric=ONE, compress=NEAR),
    Case(8, photometric="RGB", shown=COLOUR),
    Case(8, photometric="RGB", shown=COLOUR, tags={"PlanarConfiguration": 1}),
    Case(8, photometric="RGB", shown=COLOUR, syntax=RLELossless),
    Case(8, photometric="RGB", shown=COLOUR, compress=LOSSLESS),
    Case(8, photometric="RGB", shown=COLOUR, compress=JPEG_LS),
    Case(8, photometric="RGB", shown=COLOUR, compress=BASELINE),
    # dcmtk is up to 1.9 away from the formulas of YBR_FULL; the test below is not
    Case(8, photometric="YBR_FULL", shown=COLOUR, tolerance=2),
    Case(8, photometric="YBR_FULL", shown=COLOUR, tags={"PlanarConfiguration": 1}, tolerance=2),
    Case(8, photometric="YBR_FULL_422", shown=COLOUR, tolerance=2),
    Case(8, photometric="PALETTE COLOR", shown=COLOUR),
    Case(8, photometric="PALETTE COLOR", shown=COLOUR, syntax=RLELossless),
]


def named(case: Case) -> str:
    kind = " ".join(case.compress) or getattr(case.syntax, "name", "")
    sign = "signed" if case.signed else "unsigned"
    return f"{case.photometric}-{case.bits}-{sign}-{'-'.join(case.shown)}-{kind}".replace(" ", "_")


@pytest.mark.skipif(any(not shutil.which(tool) for tool in DCMTK), reason="dcmtk is not installed")
@pytest.mark.parametrize("case", CASES, ids=named)
def test_files_look_as_dcmtk_shows_them(case: Case, tmp_path: Path) -> None:
    plain, path, picture = tmp_path / "plain.dcm", tmp_path / "a.dcm", tmp_path / "a.png"
    plain.write_bytes(saved(case.written(), case.syntax))
    if case.compress:
        subprocess.run([*case.compress, plain, path], check=True)
    else:
        plain.rename(path)
    shown = path
    if case.syntax == JPEG2000Lossless:  # which dcmtk does not read
        shown = tmp_path / "shown.dcm"
        shown.write_bytes(saved(replace(case, syntax=ExplicitVRLittleEndian).written()))
    elif case.compress[:1] == JPEG_LS:  # which dcmj2pnm does not read
        shown = tmp_path / "shown.dcm"
        subprocess.run(["dcmdjpls", path, shown], check=True)
    deep = read_header(path).deep
    form = "+on2" if deep else "+on"
    subprocess.run(["dcmj2pnm", "-O", *case.shown, form, shown, picture], check=True)
    theirs = np.asarray(Image.open(picture)).astype(np.float64) / (257 if deep else 1)
    channels = 3 if theirs.ndim == 3 else 1
    ours = decode(path.read_bytes(), channels, U16 if deep else U8).pixels
    ours = (ours[:, :, 0] if channels == 1 else ours) / (257 if deep else 1)
    assert theirs.std() > 20  # it can show a difference
    assert np.abs(ours - theirs).max() <= case.tolerance
