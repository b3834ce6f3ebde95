"""Image files are read right: depth, colour, alpha, palette, orientation; and bad ones are named."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medfathom.data.images import UnreadableImageError, decode, fit_square, read_bytes, read_header

U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def noise(*shape: int, top: int = 256, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.int64).astype(dtype)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_and_colour_of_8_bits_come_back_exactly(kind: str) -> None:
    grey, colour = noise(12, 9), noise(12, 9, 3)
    assert np.array_equal(decode(encoded(Image.fromarray(grey), kind), 1, U8).pixels[:, :, 0], grey)
    assert np.array_equal(decode(encoded(Image.fromarray(colour), kind), 3, U8).pixels, colour)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_comes_back_exactly(kind: str) -> None:
    deep = noise(12, 9, top=65536, dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(deep), kind), 1, U16)
    assert decoded.pixels.dtype == np.uint16
    assert np.array_equal(decoded.pixels[:, :, 0], deep)


def test_16_bits_of_which_12_are_used_reach_white() -> None:
    deep = np.array([[0, 4095] * 8] * 8, dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(deep)), 1, U16, bits=12)
    assert set(np.unique(decoded.pixels)) == {0, 65535}
    with pytest.raises(UnreadableImageError, match=r"outside 0 to 1023 \(dataset.bits = 10\)"):
        decode(encoded(Image.fromarray(deep)), 1, U16, bits=10)


def test_16_bit_tiff_whose_zero_is_white_is_turned_around() -> None:
    deep = noise(12, 9, top=65536, dtype=np.uint16)
    content = encoded(Image.fromarray(deep), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(content)).tag_v2[262] == 0  # type: ignore[attr-defined]
    assert np.array_equal(decode(content, 1, U16).pixels[:, :, 0], 65535 - deep)


def test_8_bit_images_among_16_bit_ones_keep_their_brightness() -> None:
    grey = noise(12, 9)
    assert np.array_equal(
        decode(encoded(Image.fromarray(grey)), 1, U16).pixels[:, :, 0], grey.astype(int) * 257
    )


def test_colour_of_16_bits_comes_back_exactly() -> None:
    deep = noise(4 * 2, 9, 3, top=65536, dtype=np.uint16)
    decoded = decode(png_of_16_bit_colour(deep), 3, U16)
    assert np.array_equal(decoded.pixels, deep)


def png_of_16_bit_colour(pixels: np.ndarray) -> bytes:
    """Pillow cannot write these: by hand, after the PNG specification."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_transparent_pixels_are_shown_on_black() -> None:
    pixels = np.full((8, 8, 4), 200, dtype=np.uint8)
    pixels[:, :4, 3], pixels[:, 4:, 3] = 0, 255
    decoded = decode(encoded(Image.fromarray(pixels)), 3, U8).pixels
    assert (decoded[:, :4] == 0).all()
    assert (decoded[:, 4:] == 200).all()
    grey = np.stack([np.full((8, 8), 99), np.full((8, 8), 255)], axis=2).astype(np.uint8)
    assert (decode(encoded(Image.fromarray(grey)), 1, U8).pixels == 99).all()


def test_palette_images_show_their_colours_and_grey_palettes_are_grey(tmp_path: Path) -> None:
    colour = noise(16, 16, 3, top=2) * 255
    palette = Image.fromarray(colour).quantize(8)
    (tmp_path / "colour.png").write_bytes(encoded(palette))
    assert read_header(tmp_path / "colour.png").colour
    assert np.array_equal(decode(encoded(palette), 3, U8).pixels, colour)
    grey = Image.fromarray(noise(16, 16, top=4) * 60).convert("P")
    (tmp_path / "grey.png").write_bytes(encoded(grey))
    assert not read_header(tmp_path / "grey.png").colour


def test_black_and_white_images_use_the_whole_range() -> None:
    bits = noise(16, 16, top=2).astype(bool)
    decoded = decode(encoded(Image.fromarray(bits)), 1, U8).pixels
    assert np.array_equal(decoded[:, :, 0], bits * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "undone"),
    [  # EXIF 2.3, table 6: where the stored row 0 and column 0 are seen
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_orientation_is_applied(kind: str, orientation: int, undone: Any) -> None:
    stored = np.zeros((16, 24, 3), dtype=np.uint8)
    stored[:8, :8] = 250  # one bright block, in a corner
    stored[8:, :8, 0] = 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    decoded = decode(encoded(Image.fromarray(stored), kind, exif=exif, **options), 3, U8).pixels
    expected = undone(stored)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < (4 if kind == "JPEG" else 0.001)


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    smooth = np.asarray(Image.fromarray(noise(8, 8)).resize((640, 480), Image.Resampling.BICUBIC))
    content = encoded(Image.fromarray(smooth), "JPEG", quality=95)
    whole, drafted = decode(content, 1, U8), decode(content, 1, U8, size=64)
    assert (drafted.width, drafted.height) == (640, 480)
    assert drafted.pixels.shape == (64, 64, 1)
    expected = fit_square(whole.pixels, 64, "squash").astype(int)
    assert 0 < np.abs(expected - drafted.pixels).mean() < 1.0


BAD = {
    "empty file": b"",
    "^not a PNG, JPEG, TIFF, .* PGM or PPM image": b"this is text, whatever its name says\n" * 10,
    "1x1: a side below 8 pixels": encoded(Image.fromarray(noise(1, 1))),
    "several pages": encoded(
        Image.fromarray(noise(9, 9)), "TIFF", save_all=True, append_images=[Image.fromarray(noise(9, 9))]
    ),
    "floating-point pixels": encoded(Image.fromarray(noise(9, 9).astype(np.float32)), "TIFF"),
    "damaged or truncated": encoded(Image.fromarray(noise(64, 64)))[:900],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_file_is_named_with_its_reason(reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode(BAD[reason], 1, U8)


@pytest.mark.parametrize("size", [20_000, 12_000])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path: Path, size: int) -> None:
    (tmp_path / "bomb.png").write_bytes(encoded(Image.new("1", (size, size))))
    with pytest.raises(UnreadableImageError, match="more than 89,478,485 pixels"):
        read_header(tmp_path / "bomb.png")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "BMP", "PNG"])
def test_truncated_files_of_every_kind_are_refused(kind: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(UnreadableImageError):
        decode(content[: len(content) // 2], 1, U8)


def test_pixels_that_lost_their_place_are_refused_and_padding_is_not() -> None:
    """What the decoder calls extraneous bytes before the end."""
    whole = encoded(Image.fromarray(noise(64, 64)), "JPEG", quality=90)
    expected = decode(whole, 1, U8).pixels
    for padding in (b"\0" * 20, b"\xff" * 7):
        assert np.array_equal(decode(whole[:-2] + padding + whole[-2:], 1, U8).pixels, expected)
    # The picture of an 8 pixels smaller image: the last eighth of the values is left over.
    lines = whole.index(b"\xff\xc0") + 5
    fewer = whole[:lines] + (56).to_bytes(2, "big") + whole[lines + 2 :]
    with pytest.raises(UnreadableImageError, match="extraneous bytes before marker 0xd9"):
        decode(fewer, 1, U8)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)  # the superuser may read everything: chmod would not do
    for read in (read_bytes, read_header):
        with pytest.raises(UnreadableImageError, match="permissions"):
            read(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for read in (read_bytes, read_header):
        with pytest.raises(UnreadableImageError, match="no such file"):
            read(tmp_path / "a.png")
        with pytest.raises(UnreadableImageError):
            read(tmp_path)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_and_never_crash(content: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        decode(content, 1, U8)


PNG = encoded(Image.fromarray(noise(24, 24, 3)))


@given(st.integers(0, len(PNG) - 1), st.integers(0, 255))
def test_a_flipped_byte_gives_pixels_or_a_reason(position: int, value: int) -> None:
    content = PNG[:position] + bytes([value]) + PNG[position + 1 :]
    try:
        channels = decode(content, 3, U8).pixels.shape[2]
    except UnreadableImageError:
        channels = 3
    assert channels == 3


@given(
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(8, 32),
    st.sampled_from(["squash", "pad", "crop"]),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_fitted_images_are_square_of_the_same_type_and_range(
    height: int, width: int, size: int, fit: Any, channels: int, dtype: Any
) -> None:
    top = np.iinfo(dtype).max
    pixels = noise(height, width, channels, top=top + 1, dtype=dtype)
    fitted = fit_square(pixels, size, fit)
    assert fitted.shape == (size, size, channels)
    assert fitted.dtype == dtype
    flat = np.full((height, width, channels), 77, dtype=dtype)
    assert set(np.unique(fit_square(flat, size, fit))) <= ({0, 77} if fit == "pad" else {77})


def test_pad_keeps_the_aspect_and_crop_the_centre() -> None:
    wide = np.zeros((20, 40, 1), dtype=np.uint8)
    wide[:, 10:30] = 200
    padded, cropped = fit_square(wide, 20, "pad"), fit_square(wide, 20, "crop")
    assert (padded[:5] == 0).all()
    assert (padded[15:] == 0).all()
    assert padded[10, 10, 0] == 200
    assert (cropped == 200).all()


def test_16_bit_images_are_resized_at_16_bits() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64, 1).astype(np.uint16)
    halved = fit_square(ramp, 32, "squash").astype(int)
    means = ramp.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(halved[4:-4, 4:-4, 0] - means[4:-4, 4:-4]).max() < 40  # of 65,535
