"""Every format, depth, sign, order of bytes and planes, compression, orientation: as written, or refused."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medfathom.data.formats import tiff_plain
from medfathom.data.images import Header, UnreadableImageError, decode, read_header

HEIGHT, WIDTH = 20, 37
U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,  # EXIF 2.3, table 6: where the stored row 0 and column 0 are seen
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def values(bits: int, channels: int, *, signed: bool = False, seed: int = 0) -> np.ndarray:
    """(h, w, channels) with both ends of the range, in the smallest type that holds them."""
    low = -(2 ** (bits - 1)) if signed else 0
    drawn = np.random.default_rng(seed).integers(low, low + 2**bits, (HEIGHT, WIDTH, channels))
    drawn[0, 0], drawn[0, 1] = low, low + 2**bits - 1
    return drawn.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def expected(written: np.ndarray, bits: int, *, signed: bool = False) -> np.ndarray:
    """The values on the full range of 8 or 16 bits, by the definition alone."""
    white = 255 if bits <= 8 else 65535
    shifted = written.astype(np.int64) + (2 ** (bits - 1) if signed else 0)
    return shifted * white // (2**bits - 1)


def read(content: bytes, channels: int, depth: int, **options: Any) -> np.ndarray:
    return decode(content, channels, U16 if depth > 8 else U8, **options).pixels


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, metadata=None, **options)
    return content.getvalue()


TIFF_FORMS = list(
    itertools.product(
        [(1, False), (8, False), (8, True), (16, False), (16, True)],
        [1, 3],
        ["contig", "separate"],
        ["<", ">"],
        [None, "zlib", "lzw", "packbits", "zstd", "lzma", "jpeg2000"],
        [False, True],
        ["strips", "tiles", "bigtiff"],
    )
)
"""(bits, signed), channels, planes, order of bytes, compression, predictor, layout."""


def tiff_options(form: Any) -> dict[str, Any] | None:
    """Options of tifffile for a form, or None where it cannot be written or is refused (tested below)."""
    (bits, signed), channels, planes, order, compression, predictor, layout = form
    black_and_white = bits == 1
    if (channels == 1 and planes == "separate") or (signed and channels == 3):
        return None
    if black_and_white and (channels == 3 or compression or predictor or layout == "tiles"):
        return None
    if predictor and compression in (None, "packbits", "jpeg2000"):
        return None
    if compression == "jpeg2000" and (signed or order == ">" or planes == "separate"):
        return None
    options: dict[str, Any] = {
        "photometric": "rgb" if channels == 3 else "minisblack",
        "byteorder": order,
        "compression": compression,
        "predictor": predictor or None,
        "bigtiff": layout == "bigtiff",
    }
    options |= {"planarconfig": planes} if channels == 3 else {}
    options |= {"tile": (16, 16)} if layout == "tiles" else {"rowsperstrip": 7}
    return options


WRITABLE = [(form, options) for form in TIFF_FORMS if (options := tiff_options(form)) is not None]


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiff_of_every_form_comes_back_as_written(bits: int) -> None:
    chosen = [(form, options) for form, options in WRITABLE if form[0][0] == bits]
    assert chosen
    for form, options in chosen:
        (_, signed), channels, planes, *_ = form
        written = values(bits, channels, signed=signed)
        laid = np.moveaxis(written, 2, 0) if planes == "separate" else written
        laid = (laid > 0) if bits == 1 else laid
        laid = laid[:, :, 0] if channels == 1 else laid
        for orientation, undone in ORIENTATIONS.items() if form[4] is None else [(1, ORIENTATIONS[1])]:
            content = tiff(laid, extratags=[(274, "H", 1, orientation, True)], **options)
            found = read(content, channels, bits)
            assert np.array_equal(found, undone(expected(written, bits, signed=signed))), (form, orientation)


def packed_tiff(pixels: np.ndarray, bits: int, order: str, orientation: int) -> bytes:
    """By hand, after TIFF 6.0: values without gaps, rows padded to whole bytes, one strip."""
    height, width, channels = pixels.shape
    data = b"".join(packed(row, bits, order) for row in pixels)
    n_tags = 10
    depths_at = 8 + 2 + 12 * n_tags + 4
    tags = [
        *((256, width), (257, height)),
        (258, bits if channels == 1 else depths_at),
        *((259, 1), (262, 1 if channels == 1 else 2), (273, depths_at + 2 * channels), (274, orientation)),
        *((277, channels), (278, height), (279, len(data))),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, n_tags)
    for tag, value in tags:
        if tag == 258 and channels > 1:
            head += struct.pack(order + "HHII", tag, 3, channels, value)
        elif tag in (258, 259, 262, 274, 277):
            head += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
        else:
            head += struct.pack(order + "HHII", tag, 4, 1, value)
    return head + struct.pack(f"{order}I{channels}H", 0, *[bits] * channels) + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
def test_tiff_of_packed_values_comes_back_as_written(bits: int, channels: int, order: str) -> None:
    written = values(bits, channels)
    for orientation, undone in ORIENTATIONS.items():
        content = packed_tiff(written, bits, order, orientation)
        assert np.array_equal(read(content, channels, bits), undone(expected(written, bits)))


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_tiff_whose_zero_is_white_is_turned_around(bits: int) -> None:
    written = values(bits, 1)
    content = tiff(written[:, :, 0] > 0 if bits == 1 else written[:, :, 0], photometric="miniswhite")
    white = 255 if bits <= 8 else 65535
    found = read(content, 1, bits, bits=bits if bits > 8 else 16)
    assert np.array_equal(found, white - expected(written, bits))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_of_a_tiff_is_shown_on_black(kind: Any, premultiplied: bool, channels: int) -> None:
    white = np.iinfo(kind).max
    drawn = values(8 * np.dtype(kind).itemsize, channels + 1)
    content = tiff(
        drawn,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=["assocalpha" if premultiplied else "unassalpha"],
    )
    found = read(content, channels, 8 * np.dtype(kind).itemsize).astype(np.int64)
    colours, alpha = drawn[:, :, :-1].astype(np.int64), drawn[:, :, -1:].astype(np.int64)
    assert np.abs(found - (colours if premultiplied else colours * alpha / white)).max() <= 0.5


@pytest.mark.parametrize("order", ["<", ">"])
def test_palette_tiff_shows_its_colours(order: Any) -> None:
    written, palette = values(8, 1), np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)
    content = tiff(written[:, :, 0], photometric="palette", colormap=palette, byteorder=order)
    assert np.array_equal(read(content, 3, 8), (palette >> 8).T[written[:, :, 0]])
    grey = np.repeat(palette[:1], 3, axis=0)
    content = tiff(written[:, :, 0], photometric="palette", colormap=grey)
    assert np.array_equal(read(content, 1, 8)[:, :, 0], (grey[0] >> 8)[written[:, :, 0]])


def test_jpeg_in_a_tiff_shows_its_colours() -> None:
    smooth = np.asarray(as_image(values(8, 3)[:6, :9]).resize((144, 96), Image.Resampling.BICUBIC))
    for options in (
        {"photometric": "rgb"},  # becomes YCbCr inside
        {"photometric": "rgb", "tile": (32, 32)},
        {"photometric": "rgb", "compressionargs": {"outcolorspace": "rgb"}},
    ):
        content = tiff(smooth, compression="jpeg", **options)
        assert np.abs(read(content, 3, 8).astype(int) - smooth).mean() < 4
    by_pillow = saved(Image.fromarray(smooth), "TIFF", compression="jpeg", quality=95)
    assert np.abs(read(by_pillow, 3, 8).astype(int) - smooth).mean() < 4
    fax = saved(Image.fromarray(smooth[:, :, 0] > 127), "TIFF", compression="group4")
    assert np.array_equal(read(fax, 1, 8)[:, :, 0], (smooth[:, :, 0] > 127) * 255)


def test_a_tiff_with_a_smaller_copy_behind_it_is_one_image() -> None:
    pixels, content = values(8, 1)[:, :, 0], io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        file.write(pixels)
        file.write(pixels[::2, ::2], subfiletype=1)
    assert np.array_equal(read(content.getvalue(), 1, 8)[:, :, 0], pixels)


REFUSED_TIFF = {
    "floating-point pixels": lambda: tiff(np.zeros((20, 30), np.float32)),
    "values of 32 bits": lambda: tiff(np.zeros((20, 30), np.uint32)),
    "sample format 6": lambda: tiff(np.zeros((20, 30), np.complex64)),
    "several pages": lambda: tiff(np.zeros((3, 20, 30), np.uint8), photometric="minisblack"),
    "axes ZYX": lambda: tiff(
        np.zeros((3, 32, 32), np.uint8), photometric="minisblack", volumetric=True, tile=(16, 16, 16)
    ),
    "SEPARATED colours": lambda: saved(Image.new("CMYK", (20, 30)), "TIFF"),
    "CIELAB colours": lambda: saved(Image.new("LAB", (20, 30)), "TIFF"),
    "YCbCr colours that are not JPEG": lambda: saved(Image.new("YCbCr", (20, 30)), "TIFF"),
    "extra channel of unknown meaning": lambda: tiff(
        np.zeros((20, 30, 2), np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "2 channels|5 channels": lambda: tiff(
        np.zeros((20, 30, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "signed values in colour": lambda: tiff(np.zeros((20, 30, 3), np.int8), photometric="rgb"),
    "WEBP compression": lambda: tiff(np.zeros((32, 32, 3), np.uint8), photometric="rgb", compression="webp"),
    "predictor": lambda: tiff(np.zeros((32, 32), np.float32), compression="zlib", predictor=3),
}


@pytest.mark.parametrize("reason", REFUSED_TIFF)
def test_a_tiff_that_is_not_in_the_table_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    content = REFUSED_TIFF[reason]()
    with pytest.raises(UnreadableImageError, match=reason):
        decode(content, 1, U8)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        read_header(tmp_path / "a.tif")


def png(
    rows: np.ndarray, bits: int, colour_type: int, *, interlaced: bool = False, extra: bytes = b""
) -> bytes:
    """By hand, after the PNG specification (Pillow writes few of its kinds). `extra`: chunks before IDAT."""
    height, width, _ = rows.shape
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    lines = b"".join(
        b"\0" + packed(line, bits)
        for top, left, down, right in passes
        for line in rows[top::down, left::right]
        if line.size
    )
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row, first column, rows between, columns between."""


def chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def packed(line: np.ndarray, bits: int, order: str = ">") -> bytes:
    """One row without gaps; only values of whole bytes follow the order of the file."""
    if bits in (8, 16):
        return line.astype(f"{order}u{bits // 8}").tobytes()
    spread = (line.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.astype(np.uint8)).tobytes()


PNG_KINDS = [  # bits, colour type, channels with alpha: all of the specification but palettes
    *((bits, 0, 1) for bits in (1, 2, 4, 8, 16)),
    *((bits, 2, 3) for bits in (8, 16)),
    *((bits, 4, 2) for bits in (8, 16)),
    *((bits, 6, 4) for bits in (8, 16)),
]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour_type", "channels"), PNG_KINDS)
def test_png_of_every_kind_comes_back_as_written(
    bits: int, colour_type: int, channels: int, interlaced: bool, tmp_path: Path
) -> None:
    written = values(bits, channels)
    content = png(written, bits, colour_type, interlaced=interlaced)
    shown = channels if channels in (1, 3) else channels - 1
    white = 2**bits - 1
    on_black = written if shown == channels else np.rint(written[:, :, :-1] / white * written[:, :, -1:])
    found = read(content, shown, bits)
    assert np.abs(found - expected(on_black, bits)).max() <= (0 if shown == channels else 1)
    (tmp_path / "a.png").write_bytes(content)
    assert read_header(tmp_path / "a.png") == Header(WIDTH, HEIGHT, shown == 3, bits > 8)
    for orientation, undone in ORIENTATIONS.items():
        exif = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 274, 3, 1, orientation, 0) + b"\0\0\0\0"
        turned = png(written, bits, colour_type, interlaced=interlaced, extra=chunk(b"eXIf", exif))
        assert np.array_equal(read(turned, shown, bits), undone(found))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_palettes_show_their_colours(bits: int, transparent: bool, interlaced: bool) -> None:
    written = values(bits, 1)
    palette = np.random.default_rng(2).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    alpha = np.random.default_rng(3).choice([0, 255], 2**bits).astype(np.uint8)
    extra = chunk(b"PLTE", palette.tobytes()) + (chunk(b"tRNS", alpha.tobytes()) if transparent else b"")
    content = png(written, bits, 3, interlaced=interlaced, extra=extra)
    colours = palette * (alpha[:, None] > 0) if transparent else palette
    assert np.array_equal(read(content, 3, 8), colours[written[:, :, 0]])


def test_a_transparent_colour_of_a_png_is_black() -> None:
    written = values(8, 1)
    content = png(written, 8, 0, extra=chunk(b"tRNS", struct.pack(">H", 200)))
    assert np.array_equal(read(content, 1, 8), np.where(written == 200, 0, written))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("opaque", [4095, 65535])
def test_12_bits_reach_white_in_colour_and_beside_alpha_too(
    colour_type: int, channels: int, opaque: int
) -> None:
    written = values(12, channels)
    if channels in (2, 4):
        written[:, :, -1] = opaque
    content = png(written, 16, colour_type)
    shown = channels if channels in (1, 3) else channels - 1
    assert np.array_equal(read(content, shown, 16, bits=12), expected(written[:, :, :shown], 12))
    assert decode(content, shown, U16).bits_used == 12
    with pytest.raises(UnreadableImageError, match=r"outside 0 to 1023 \(dataset.bits = 10\)"):
        decode(content, shown, U16, bits=10)


def bmp(pixels: np.ndarray, *, top_down: bool) -> bytes:
    """24 bits, rows from the bottom or from the top."""
    height, width, _ = pixels.shape
    rows = pixels[:, :, ::-1] if top_down else pixels[::-1, :, ::-1]
    body = b"".join(row.tobytes().ljust((3 * width + 3) // 4 * 4, b"\0") for row in rows)
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, -height if top_down else height, 1, 24, 0, len(body), 0, 0, 0, 0
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body


def rle_bmp(pixels: np.ndarray, grey: bool = True) -> bytes:
    """8 bits, run-length encoded, one run a pixel; grey palette."""
    height, width, _ = pixels.shape
    body = b"".join(
        b"".join(b"\1" + bytes([v]) for v in row[:, 0].tolist()) + b"\0\0" for row in pixels[::-1]
    )
    body += b"\0\1"
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
    start = 54 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


def pnm(kind: bytes, pixels: np.ndarray, white: int) -> bytes:
    head = kind + b"\n# made by hand\n%d %d\n%d\n" % (pixels.shape[1], pixels.shape[0], white)
    if kind in (b"P2", b"P3"):
        return head + " ".join(map(str, pixels.ravel().tolist())).encode()
    return head + pixels.astype(">u2" if white > 255 else "u1").tobytes()


def exact_files() -> Iterator[tuple[str, bytes, np.ndarray, int]]:
    """Name, content, values written, bits; of formats that lose nothing."""
    grey, colour, alpha = values(8, 1), values(8, 3), values(8, 4)
    black_white, deep, deep_colour = values(1, 1), values(16, 1), values(16, 3)
    yield "BMP grey", saved(as_image(grey), "BMP"), grey, 8
    yield "BMP colour", saved(as_image(colour), "BMP"), colour, 8
    yield "BMP 1 bit", saved(Image.fromarray(black_white[:, :, 0] > 0), "BMP"), black_white, 1
    yield "BMP bottom up", bmp(colour, top_down=False), colour, 8
    yield "BMP top down", bmp(colour, top_down=True), colour, 8
    yield "BMP run lengths", rle_bmp(grey), grey, 8
    yield "lossless JPEG", imagecodecs.jpeg8_encode(grey[:, :, 0], lossless=True), grey, 8
    yield "GIF", saved(as_image(grey), "GIF"), grey, 8
    yield "WebP", saved(as_image(colour), "WEBP", lossless=True), colour, 8
    opaque = np.where([False, False, False, True], 255, alpha).astype(np.uint8)
    yield "WebP with alpha", saved(as_image(opaque), "WEBP", lossless=True, exact=True), opaque[:, :, :3], 8
    for name, pixels, bits in (
        ("grey", grey, 8),
        ("colour", colour, 8),
        ("deep", deep, 16),
        ("deep colour", deep_colour, 16),
        ("12 bits", values(12, 1), 12),
    ):
        for codec in ("jp2", "j2k"):
            options = {"level": 0, "reversible": True, "codecformat": codec, "bitspersample": bits}
            content = imagecodecs.jpeg2k_encode(
                pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, **options
            )
            yield f"JPEG 2000 {codec} {name}", content, pixels, bits
    for kind, channels in ((b"P5", 1), (b"P6", 3), (b"P2", 1), (b"P3", 3)):
        for bits in (4, 8, 12, 16):
            pixels = values(bits, channels)
            yield f"{kind.decode()} {bits}", pnm(kind, pixels, 2**bits - 1), pixels, bits


EXACT = {name: rest for name, *rest in exact_files()}


@pytest.mark.parametrize("name", EXACT)
def test_formats_that_lose_nothing_come_back_as_written(name: str, tmp_path: Path) -> None:
    content, written, bits = EXACT[name]
    channels = written.shape[2]
    assert np.array_equal(read(content, channels, bits), expected(written, bits))
    (tmp_path / "lying.tif").write_bytes(content)  # the content counts, not the suffix
    assert read_header(tmp_path / "lying.tif") == Header(WIDTH, HEIGHT, channels == 3, bits > 8)
    for end in (len(content) // 2, len(content) * 9 // 10):
        with pytest.raises(UnreadableImageError):
            read(content[:end], channels, bits)


def mpo(*pictures: Image.Image, **options: Any) -> bytes:
    return saved(pictures[0], "MPO", save_all=True, append_images=list(pictures[1:]), **options)


def test_of_a_phone_picture_with_a_second_one_the_first_is_read(tmp_path: Path) -> None:
    first = Image.fromarray(np.asarray(as_image(values(8, 3)).resize((96, 64), Image.Resampling.BICUBIC)))
    exif = Image.Exif()
    exif[274] = 6
    content = mpo(first, Image.new("RGB", (48, 32)), quality=95, exif=exif)
    alone = saved(first, "JPEG", quality=95, exif=exif)
    assert np.array_equal(decode(content, 3, U8).pixels, decode(alone, 3, U8).pixels)
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_header(tmp_path / "a.jpg") == Header(96, 64, colour=True, deep=False)


def animated(kind: str) -> bytes:
    frames = [as_image(values(8, 3, seed=seed)) for seed in range(2)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


REFUSED = {
    "an animated GIF": lambda: animated("GIF"),
    "an animated WEBP": lambda: animated("WEBP"),
    "an animated PNG": lambda: animated("PNG"),
    "JPEG with CMYK colours": lambda: saved(Image.new("CMYK", (20, 30)), "JPEG"),
    "JPEG of 12 bits": lambda: imagecodecs.jpeg8_encode(values(12, 1)[:, :, 0], bitspersample=12),
    "JPEG-LS": lambda: imagecodecs.jpegls_encode(values(8, 1)[:, :, 0]),
    "JPEG 2000 with 4 channels": lambda: imagecodecs.jpeg2k_encode(values(8, 4), level=0),
    "JPEG 2000 with signed values": lambda: imagecodecs.jpeg2k_encode(
        values(8, 1, signed=True)[:, :, 0], level=0
    ),
    "JPEG XL": lambda: b"\xff\x0a" + bytes(100),
    "HEIC, AVIF or a video": lambda: saved(as_image(values(8, 3)), "AVIF"),
    "a PDF document": lambda: b"%PDF-1.4" + bytes(100),
    "Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
    "HTML or XML": lambda: b"<!DOCTYPE html>" + bytes(100),
    "PBM": lambda: b"P4\n16 16\n" + bytes(32),
    "whose white is 70000": lambda: b"P5 16 16 70000\n" + bytes(512),
    "empty file": lambda: b"",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_read_is_refused_by_its_true_name(reason: str, tmp_path: Path) -> None:
    content = REFUSED[reason]()
    with pytest.raises(UnreadableImageError, match=reason):
        decode(content, 1, U8)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        read_header(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [None, "zlib", "lzw", "packbits", "jpeg", "zstd", "jpeg2000"])
def test_a_tiff_that_was_cut_off_is_refused(kind: str | None) -> None:
    pixels = np.asarray(as_image(values(8, 1)).resize((160, 120), Image.Resampling.BICUBIC))
    content = tiff(pixels, compression=kind, rowsperstrip=40)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        last = file.pages.first.dataoffsets[-1] + file.pages.first.databytecounts[-1]
    for missing in (1, 40, 400):
        with pytest.raises(UnreadableImageError):
            decode(content[: last - missing], 1, U8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_simplest_tiff_files_are_read_as_tifffile_reads_them(order: Any, kind: Any, dtype: Any) -> None:
    shape = (23, 31, 3) if kind == "rgb" else (23, 31)
    written = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    file = io.BytesIO()
    tifffile.imwrite(file, written, byteorder=order, rowsperstrip=7, photometric=kind, metadata=None)
    content = file.getvalue()
    plain = tiff_plain.read(without_tag(content, 305, order))
    assert plain is not None
    assert np.array_equal(plain.values(content).reshape(shape), tifffile.imread(io.BytesIO(content)))
    assert plain.zero_is_white == (kind == "miniswhite")
    assert tiff_plain.read(content) is None  # a tag more


def without_tag(content: bytes, tag: int, order: str) -> bytes:
    """The file with one tag, which nothing depends on, written over by its neighbour."""
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [content[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] != tag]
    kept += [kept[-1]] * (count - len(kept))
    return content[: start + 2] + b"".join(kept) + content[start + 2 + 12 * count :]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_tags_of_a_simple_tiff_are_no_other_error(at: int, changed: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file, "TIFF")
    content = file.getvalue()
    with suppress(UnreadableImageError):
        decode(content[:at] + changed + content[at + len(changed) :], 1, np.dtype(np.uint8))
