"""Stacks (files with several images) as volumes: frame by frame, with the values that were written."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from made_models import CONFIG
from making import save
from medfathom.data.images import UnreadableImageError, decode, read_header
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.pseudonyms import pseudonym
from medfathom.data.sources.base import UnusableRowsError
from medfathom.data.sources.open import open_source
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.exported.model import Model
from medfathom.exported.network import Deployed

SIDE = 32
FRAMES = 3


def stack(seed: int, n: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (n, SIDE, SIDE), dtype=np.uint16)


def scans(root: Path, per_split: tuple[int, int, int] = (4, 2, 2)) -> Path:
    """Two classes of stacks of 12 bits, a file each; the first frame's first value is the stack's number."""
    number = 0
    for split, n in zip(("train", "val", "test"), per_split, strict=True):
        for name in ("ill", "well"):
            for k in range(n):
                values = stack(number)
                values[:, 0, 0] = 1000 + 10 * number + np.arange(FRAMES)
                path = root / split / name / f"v{k}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, values, photometric="minisblack", compression="zlib")
                number += 1
    return root


def definition(root: Path, unit: str = "volume") -> FolderDataset:
    keys = {"source": "folder", "modality": "OCT", "image_size": SIDE, "bits": 12, "unit": unit}
    return FolderDataset.model_validate(keys | {"path": str(root)})


def test_each_page_is_an_image_of_the_files_volume(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    data = prepare(definition(root), tmp_path / "cache")
    assert data.cases == {"train": 8, "val": 4, "test": 4}
    split = data.split("val")
    assert split.units.names == ["val/ill/v0.tif", "val/ill/v1.tif", "val/well/v0.tif", "val/well/v1.tif"]
    rows = read_manifest(data.folder)
    names = [str(name) for name in rows.name[rows.split == "val"]]
    assert names[:4] == [*(f"val/ill/v0.tif#frame {k}" for k in (1, 2, 3)), "val/ill/v1.tif#frame 1"]
    # Of 12 bits, 4095 is white, 65535: stacks 8 to 11 are those of validation.
    written = [1000 + 10 * number + k for number in (8, 9, 10, 11) for k in range(FRAMES)]
    assert split.images[:, 0, 0, 0].tolist() == [value * 65535 // 4095 for value in written]
    assert len(set(rows.sha256.tolist())) == len(rows.name)


def test_a_stack_beside_a_folder_of_slices(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    for k, values in enumerate(stack(99)):
        save(root / "val" / "ill" / "slices" / f"{k}.png", values)
    data = prepare(definition(root), tmp_path / "cache")
    assert data.split("val").units.names[:3] == ["val/ill/slices", "val/ill/v0.tif", "val/ill/v1.tif"]


def test_rows_of_a_table_that_name_stacks(tmp_path: Path) -> None:
    scans(tmp_path / "set")
    lines = ["path,label,patient"]
    for number, path in enumerate(sorted((tmp_path / "set").rglob("*.tif"))):
        lines.append(f"{path.relative_to(tmp_path).as_posix()},{path.parent.name},P{number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    keys = {"source": "csv", "modality": "OCT", "image_size": SIDE, "bits": 12, "unit": "volume"}
    config = CsvDataset.model_validate(
        keys | {"path": str(tmp_path / "labels.csv"), "group_column": "patient"}
    )
    listing = open_source(config).listing()
    assert list(listing.names[:2]) == [f"set/test/ill/v0.tif (line 2)#frame {k}" for k in (1, 2)]
    assert listing.groups is not None
    assert listing.groups.tolist() == [f"P{number}" for number in range(16) for _ in range(FRAMES)]
    assert prepare(config, tmp_path / "cache").cases is not None


def test_a_changed_stack_is_prepared_again(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    first = prepare(definition(root), tmp_path / "cache")
    tifffile.imwrite(root / "val" / "ill" / "v0.tif", stack(50, 5), photometric="minisblack")
    second = prepare(definition(root), tmp_path / "cache")
    assert list(open_source(definition(root)).listing().notes) == [
        "16 stacks of 3 to 5 images each, 50 in all"
    ]
    assert second.folder != first.folder
    assert len(second.split("val").images) == len(first.split("val").images) + 2


def test_a_stack_that_cannot_be_used_is_named_once(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    with tifffile.TiffWriter(root / "val" / "ill" / "v0.tif") as writer:
        writer.write(stack(0)[0])
        writer.write(stack(0)[0, :16])
    with pytest.raises(UnusableRowsError, match="pages that differ in size") as failed:
        prepare(definition(root), tmp_path / "cache")
    assert [problem.name for problem in failed.value.problems] == ["val/ill/v0.tif"]


@pytest.mark.parametrize("unit", ["image", "case"])
def test_other_units_refuse_a_stack_and_name_the_key(unit: str, tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    with pytest.raises(UnusableRowsError, match=r'3\).*unit = "volume" takes all pages'):
        prepare(definition(root, unit), tmp_path / "cache")


def test_predict_takes_the_frames_that_preparation_takes(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    data = prepare(definition(root), tmp_path / "cache")
    config = CONFIG.model_copy(
        update={"unit": "volume", "dtype": "uint16", "bits": 12, "image_temperature": 2.0}
    )
    torch.manual_seed(0)
    model = Model(config, Deployed(config).network.state_dict())
    found = model.predict(root / "val" / "ill")
    assert found.n_images == [FRAMES, FRAMES]
    assert [Path(name).name for name in found.names] == ["v0.tif", "v1.tif"]
    assert found.of_images is not None
    assert [name.rpartition("/")[2] for name in found.of_images.names[:2]] == [
        "v0.tif#frame 1",
        "v0.tif#frame 2",
    ]
    prepared = data.split("val").images[: 2 * FRAMES]
    told = model.decide([""] * len(prepared), model.logits(prepared)).probabilities
    assert found.of_images.probabilities == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_values_of_a_page(tmp_path: Path, photometric: str) -> None:
    values = stack(1)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric=photometric)
    assert read_header(tmp_path / "x.tif", slice_axis=2).frames == FRAMES
    content = (tmp_path / "x.tif").read_bytes()
    for k in range(FRAMES):
        shown = decode(content, 1, np.dtype(np.uint16), bits=12, frame=k).pixels[:, :, 0].astype(np.int64)
        expected = values[k].astype(np.int64) * 65535 // 4095
        assert np.array_equal(shown, 65535 - expected if photometric == "miniswhite" else expected)


def test_an_imagej_stack_without_headers_of_its_pages_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif", imagej=True) as writer:
        writer.write(stack(1), truncate=True)
    with pytest.raises(UnreadableImageError, match="1 of 3 pages"):
        read_header(tmp_path / "x.tif", slice_axis=2)
    with pytest.raises(UnreadableImageError, match="1 of 3 pages"):
        read_header(tmp_path / "x.tif")


def test_frames_of_dicom_are_shown_by_the_window(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
    from dicom_files import dataset, saved  # noqa: PLC0415

    values = stack(2)
    made = dataset(values[0], 12, NumberOfFrames=FRAMES)
    made.PixelData = values.astype("<u2").tobytes()
    content = saved(made)
    (tmp_path / "x.dcm").write_bytes(content)
    header = read_header(tmp_path / "x.dcm", slice_axis=2)
    assert (header.frames, header.width, header.deep) == (FRAMES, SIDE, True)
    for k in range(FRAMES):
        shown = decode(content, 1, np.dtype(np.uint16), window=(2048, 1001), frame=k).pixels[:, :, 0]
        # PS3.3 C.11.2.1.2.1: from 1547.5 to 2547.5, over a width of 1000.
        light = np.clip((values[k] - 2047.5) / 1000 + 0.5, 0, 1)
        assert np.abs(shown / 65535 - light).max() < 1e-4
    with pytest.raises(UnreadableImageError, match='unit = "volume"'):
        read_header(tmp_path / "x.dcm")


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (medfathom[nifti])")
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path.read_bytes()


def slices(content: bytes, n: int, dtype: type = np.uint16, **keys: Any) -> np.ndarray:
    return np.stack([decode(content, 1, np.dtype(dtype), frame=k, **keys).pixels[:, :, 0] for k in range(n)])


def test_nifti_as_stored_and_in_hounsfield_units(tmp_path: Path) -> None:
    values = np.arange(9 * 10 * 11, dtype=np.int16).reshape(9, 10, 11)  # columns, rows, slices
    content = nifti(tmp_path / "x.nii.gz", values)
    assert [read_header(tmp_path / "x.nii.gz", slice_axis=axis).frames for axis in (0, 2)] == [9, 11]
    light = np.clip((values.astype(float) - 10) / 100, 0, 1)
    shown = slices(content, 11, window=(60, 100))
    assert np.abs(shown / 65535 - light.transpose(2, 1, 0)).max() < 1e-4
    side = slices(content, 9, window=(60, 100), slice_axis=0)
    assert np.abs(side / 65535 - light.transpose(0, 2, 1)).max() < 1e-4
    low, high = np.percentile(values, (0.5, 99.5))
    light = np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(slices(content, 11) / 65535 - light.transpose(2, 1, 0)).max() < 1e-4


def test_nifti_with_an_orientation_does_not_depend_on_how_it_is_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 10, 11), dtype=np.uint8)
    first = nifti(tmp_path / "ras.nii", values, np.diag([1.0, 2, 3, 1]))
    left_first = nifti(tmp_path / "las.nii", values[::-1], np.diag([-1.0, 2, 3, 1]))
    turned = np.array([[0.0, 0, 1, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    other_axes = nifti(tmp_path / "other.nii", values.transpose(2, 1, 0), turned)
    for name in ("ras.nii", "las.nii", "other.nii"):
        assert [read_header(tmp_path / name, slice_axis=axis).frames for axis in (0, 2)] == [9, 11]
    for axis, n in ((0, 9), (1, 10), (2, 11)):
        shown = slices(first, n, np.uint8, slice_axis=axis)
        for content in (left_first, other_axes):
            assert np.array_equal(slices(content, n, np.uint8, slice_axis=axis), shown)
    # The patient's right (last of the first axis) is left, the face (last of the second) on top.
    assert np.array_equal(slices(first, 11, np.uint8), values[::-1, ::-1].transpose(2, 1, 0))


def test_a_nifti_file_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = nifti(tmp_path / "x.nii.gz", np.zeros((200, 200, 50), dtype=np.int16))
    assert len(content) < 50_000
    monkeypatch.setattr("medfathom.data.nifti.MOST_BYTES", 2**20)
    with pytest.raises(UnreadableImageError, match="GiB when it is unpacked"):
        slices(content, 1)
    with pytest.raises(UnreadableImageError, match="truncated"):
        slices(nifti(tmp_path / "y.nii.gz", np.zeros((20, 20, 5), dtype=np.int16))[:-20], 1)


def test_nifti_files_are_volumes_of_a_set(tmp_path: Path) -> None:
    number = 0
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        for name in ("ill", "well"):
            for k in range(n):
                place = tmp_path / "set" / split / name
                place.mkdir(parents=True, exist_ok=True)
                drawn = np.random.default_rng(number).integers(-100, 900, (9, 10, 11), dtype=np.int16)
                nifti(place / f"{k}.nii.gz", drawn)
                number += 1
    config = definition(tmp_path / "set").model_copy(update={"window": (400.0, 1000.0), "slice_axis": 0})
    data = prepare(config, tmp_path / "cache")
    assert data.cases == {"train": 8, "val": 4, "test": 4}
    assert data.split("val").images.shape == (4 * 9, SIDE, SIDE, 1)
    with pytest.raises(UnusableRowsError, match=r'NIfTI file.*unit = "volume"'):
        prepare(definition(tmp_path / "set", "image"), tmp_path / "cache")


def vol(path: Path, bscans: np.ndarray) -> bytes:
    """A .vol file in Heidelberg's layout."""
    n, height, width = bscans.shape
    header = struct.pack(
        "<12sIIIdddIIddId4sQiI16s16sI24s", b"HSF-OCT-103\0", width, n, height, 0.011, 0.12, 0.0039,
        7, 5, 0.01, 0.01, 30, 0.0, b"OS\0\0", 0, 3, 512, b"1", b"", 1, b"MRN-4711\0",
    )  # fmt: skip
    parts = [header.ljust(2048, b"\0"), bytes(7 * 5)]
    for bscan in bscans:
        parts += [struct.pack("<12sI", b"HSF-BS-103", 512).ljust(512, b"\0"), bscan.astype("<f4").tobytes()]
    path.write_bytes(b"".join(parts))
    return path.read_bytes()


def test_heidelberg_vol(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 9, 11)).astype(np.float32)
    values[1, 2, 3] = np.finfo(np.float32).max  # not measured
    content = vol(tmp_path / "x.vol", values)
    header = read_header(tmp_path / "x.vol", slice_axis=2)
    assert (header.frames, header.height, header.width) == (3, 9, 11)
    assert header.subject is not None
    assert header.subject.patient == pseudonym("MRN-4711")
    shown = slices(content, 3, np.uint8)
    assert shown[1, 2, 3] == 0
    assert shown[0, 4, 5] == round(255 * float(values[0, 4, 5]) ** 0.25)
    (tmp_path / "x.vol").write_bytes(content[:-1])
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_header(tmp_path / "x.vol", slice_axis=2)


def test_heidelberg_vol_as_eyepy_reads_it(tmp_path: Path) -> None:
    reader = pytest.importorskip("eyepy.io.he.vol_reader", reason="eyepy is not installed")
    values = np.random.default_rng(0).random((3, 9, 11)).astype(np.float32)
    shown = slices(vol(tmp_path / "x.vol", values), 3, np.uint8)
    parsed = reader.HeVolReader(tmp_path / "x.vol").parsed_file
    for k, bscan in enumerate(parsed.bscans):
        assert np.abs(shown[k] - 255 * np.array(bscan.data) ** 0.25).max() <= 0.51


def test_nifti_of_four_axes_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (medfathom[nifti])")
    for times in (2, 1):
        values = np.random.default_rng(0).random((16, 16, 5, times), dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "x.nii.gz")
        if times == 1:
            assert read_header(tmp_path / "x.nii.gz", slice_axis=2).frames == 5
        else:
            with pytest.raises(
                UnreadableImageError, match=r"shape \(16, 16, 5, 2\) .* three axes of numbers"
            ):
                read_header(tmp_path / "x.nii.gz", slice_axis=2)


def test_a_gzip_file_that_is_no_volume_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UnreadableImageError, match="a gzip archive"):
        read_header(tmp_path / "x.nii.gz", slice_axis=2)


def test_predict_says_why_a_damaged_stack_is_no_volume(tmp_path: Path) -> None:
    """Not that it is a stack: the model takes volumes."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (medfathom[nifti])")
    values = np.random.default_rng(0).integers(0, 900, (32, 32, 5), dtype=np.int16)
    for suffix in ("nii", "nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"whole.{suffix}")
    tifffile.imwrite(tmp_path / "whole.tif", values.transpose(2, 0, 1).astype(np.uint16))
    vol(tmp_path / "whole.vol", np.random.default_rng(0).random((3, 32, 32)).astype(np.float32))
    for whole in list(tmp_path.iterdir()):
        content = whole.read_bytes()
        (tmp_path / f"cut{whole.name[5:]}").write_bytes(content[: len(content) * 2 // 3])
    config = CONFIG.model_copy(update={"unit": "volume"})
    found = Model(config, Deployed(config).network.state_dict()).predict(tmp_path)
    assert [Path(name).name for name in found.names] == [
        "whole.nii",
        "whole.nii.gz",
        "whole.tif",
        "whole.vol",
    ]
    reasons = {Path(name).name: reason for name, reason in found.unreadable.items()}
    assert set(reasons) == {"cut.nii", "cut.nii.gz", "cut.tif", "cut.vol"}
    assert all("truncated" in reason or "cut off" in reason for reason in reasons.values())
