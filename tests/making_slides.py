"""Small whole slides: Aperio's SVS, Hamamatsu's NDPI, 3DHISTECH's MRXS, pyramidal TIFF, DICOM."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid
from tifffile import TiffWriter

Colours = NDArray[np.uint8]

GLASS = (244, 243, 245)
TISSUE = (200, 90, 160)
STEP = 4
"""Between the levels of a slide."""

TILE = 128


def glass(width: int, height: int) -> Colours:
    """An empty slide."""
    return np.full((height, width, 3), GLASS, dtype=np.uint8)


def made_slide(
    width: int = 1024,
    height: int = 768,
    box: tuple[int, int, int, int] = (256, 128, 768, 640),
    seed: int | None = None,
) -> Colours:
    """A slide with a box of tissue (left, top, right, bottom), with a texture of its own where seeded."""
    pixels = glass(width, height)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = TISSUE
    if seed is not None:
        coarse = np.random.default_rng(seed).integers(-30, 30, (height // 8, width // 8, 1), dtype=np.int16)
        texture = coarse.repeat(8, axis=0).repeat(8, axis=1)[top:bottom, left:right]
        pixels[top:bottom, left:right] = (pixels[top:bottom, left:right] + texture).astype(np.uint8)
    return pixels


def levels(pixels: Colours, n: int = 2) -> list[Colours]:
    """The slide, and smaller copies of it."""
    found = [pixels]
    for _ in range(n - 1):
        found.append(np.asarray(Image.fromarray(found[-1]).reduce(STEP)))
    return found


def _write_tiff(path: Path, pixels: Colours, base: dict[str, Any], thumbnail: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
    tiled = {"tile": (TILE, TILE), "compression": "jpeg", "compressionargs": {"level": 98}}
    with TiffWriter(path) as tiff:
        for number, level in enumerate(levels(pixels)):
            tiff.write(level, subfiletype=int(number > 0), **kind, **tiled, **base)
            if number == 0 and thumbnail is not None:
                small = np.asarray(Image.fromarray(pixels).reduce(8))
                tiff.write(small, rowsperstrip=16, compression="zlib", description=thumbnail, **kind)


def aperio(path: Path, pixels: Colours, mpp: float | None) -> Path:
    """An SVS file."""
    height, width = pixels.shape[:2]
    said = (
        f"Aperio Image Library v12\r\n{width}x{height} [0,0 {width}x{height}] ({TILE}x{TILE}) JPEG/RGB Q=98"
    )
    facts = "" if mpp is None else f"|AppMag = 20|MPP = {mpp}"
    _write_tiff(
        path, pixels, {"description": said + facts}, thumbnail="Aperio Image Library v12\r\nthumbnail"
    )
    return path


def pyramid(path: Path, pixels: Colours, mpp: float | None) -> Path:
    """A TIFF file with levels; its resolution says how large a pixel is."""
    per_cm = None if mpp is None else (1e4 / mpp, 1e4 / mpp)
    base = {} if per_cm is None else {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
    _write_tiff(path, pixels, base, thumbnail=None)
    return path


def hamamatsu(path: Path, pixels: Colours, mpp: float) -> Path:
    """An NDPI file: each level is one JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys: dict[str, Any] = {
        "photometric": "ycbcr",
        "compression": "jpeg",
        "metadata": None,
        "software": False,
    }
    with TiffWriter(path) as tiff:
        for number, level in enumerate(levels(pixels)):
            scale = STEP**number
            per_cm = 1e4 / (mpp * scale)
            tags = [(271, "s", 0, "Hamamatsu", True), (65420, "I", 1, 1, True)]
            tags += [
                (65421, "f", 1, 20 / scale, True),
                *((tag, "i", 1, 0, True) for tag in (65422, 65423, 65424)),
            ]
            place = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER", "extratags": tags}
            form = {"shape": level.shape, "dtype": level.dtype, "rowsperstrip": len(level)}
            tiff.write(iter([_coded(level, subsampling=0)]), **form, **place, **keys)
    return path


def mirax(path: Path, pixels: Colours, mpp: float) -> Path:
    """An MRXS file; its levels lie in the folder beside it. Sides are multiples of 128."""
    across, down = pixels.shape[1] // TILE, pixels.shape[0] // TILE
    images, pages = b"", []
    for step in MIRAX_STEPS:
        level, page = np.asarray(Image.fromarray(pixels).reduce(step)), []
        for y in range(0, down, step):
            for x in range(0, across, step):
                top, left = y // step * TILE, x // step * TILE
                image = _jpeg(level[top : top + TILE, left : left + TILE])
                page.append((y * across + x, len(images), len(image), 0))
                images += image
        pages.append(page)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(pixels[:TILE, :TILE]))
    (folder / "Data0000.dat").write_bytes(images)
    (folder / "Index.dat").write_bytes(_mirax_index(pages))
    (folder / "Slidedat.ini").write_text(_mirax_facts(across, down, mpp))
    return path


MIRAX_STEPS = (1, 2, 4)

_IDENTITY = "0123456789ABCDEF" * 2


def _mirax_index(pages: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Of each level a list of its images: number, place, length, file."""
    start = f"01.02{_IDENTITY}".encode()
    root = len(start) + 8
    place, places, lists = root + 4 * len(pages), [], b""
    for page in pages:
        places.append(place + len(lists))
        head = struct.pack("<4i", 0, places[-1] + 8, len(page), 0)
        lists += head + b"".join(struct.pack("<4i", *entry) for entry in page)
    end = place + len(lists)
    return start + struct.pack("<2i", root, end) + struct.pack(f"<{len(pages)}i", *places) + lists


def _mirax_facts(across: int, down: int, mpp: float) -> str:
    numbers = range(len(MIRAX_STEPS))
    facts = {
        "GENERAL": {
            **{"SLIDE_VERSION": "01.02", "SLIDE_ID": _IDENTITY, "OBJECTIVE_MAGNIFICATION": 20},
            **{"IMAGENUMBER_X": across, "IMAGENUMBER_Y": down, "CameraImageDivisionsPerSide": 1},
        },
        "HIERARCHICAL": {
            **{"INDEXFILE": "Index.dat", "HIER_COUNT": 1, "NONHIER_COUNT": 0},
            **{"HIER_0_NAME": "Slide zoom level", "HIER_0_COUNT": len(MIRAX_STEPS)},
            **{f"HIER_0_VAL_{k}": f"ZoomLevel_{k}" for k in numbers},
            **{f"HIER_0_VAL_{k}_SECTION": f"LEVEL_{k}" for k in numbers},
        },
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
    }
    for number, step in enumerate(MIRAX_STEPS):
        facts[f"LEVEL_{number}"] = {
            **{f"{key}_{axis}": 0 for key in ("OVERLAP",) for axis in "XY"},
            **{f"MICROMETER_PER_PIXEL_{axis}": mpp * step for axis in "XY"},
            **{"IMAGE_FORMAT": "JPEG", "IMAGE_FILL_COLOR_BGR": 16777215},
            **{"DIGITIZER_WIDTH": TILE, "DIGITIZER_HEIGHT": TILE, "IMAGE_CONCAT_FACTOR": int(number > 0)},
        }
    sections = (
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in facts.items()
    )
    return "".join(sections)


def dicom_slide(folder: Path, pixels: Colours, mpp: float, patient: str = "P7") -> list[Path]:
    """A file for each level (VL Whole Slide Microscopy Image, PS3.3 A.32.8), as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        name: generate_uid() for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    }
    files = []
    for number, level in enumerate(levels(pixels)):
        dataset = _dicom_level(level, mpp * STEP**number, number + 1)
        dataset.PatientID = patient
        for name, uid in shared.items():
            setattr(dataset, name, uid)
        dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = (
            side * mpp / 1000 for side in pixels.shape[1::-1]
        )
        files.append(folder / f"level{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def _dicom_level(pixels: Colours, mpp: float, number: int) -> Dataset:
    height, width = pixels.shape[:2]
    dataset, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta = meta
    derived = ("DERIVED", "RESAMPLED") if number > 1 else ("ORIGINAL", "NONE")
    dataset.ImageType = [derived[0], "PRIMARY", "VOLUME", derived[1]]
    dataset.Modality, dataset.InstanceNumber = "SM", number
    dataset.PatientName, dataset.StudyDate = "Doe^Jane", "20200102"
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.Rows = dataset.Columns = TILE
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = width, height
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.ImagedVolumeDepth = 1
    measures, path, groups = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 1
    groups.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [groups]
    path.OpticalPathIdentifier = "1"
    dataset.OpticalPathSequence = [path]
    frames = [
        _jpeg(pixels[y : y + TILE, x : x + TILE])
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    return dataset


def _jpeg(part: Colours) -> bytes:
    whole = glass(TILE, TILE)
    whole[: part.shape[0], : part.shape[1]] = part
    return _coded(whole, subsampling=1)


def _coded(pixels: Colours, *, subsampling: int) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=subsampling)
    return file.getvalue()
