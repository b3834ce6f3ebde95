"""Stacks (files with several images) as volumes: frame by frame, with the values that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from made_models import CONFIG
from making import save
from medfathom.data.images import UnreadableImageError, decode, read_header
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.sources.base import UnusableRowsError
from medfathom.definitions.dataset import FolderDataset
from medfathom.exported.model import Deployed, Model

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


def test_a_changed_stack_is_prepared_again(tmp_path: Path) -> None:
    root = scans(tmp_path / "set")
    first = prepare(definition(root), tmp_path / "cache")
    tifffile.imwrite(root / "val" / "ill" / "v0.tif", stack(50, 5), photometric="minisblack")
    second = prepare(definition(root), tmp_path / "cache")
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
    assert read_header(tmp_path / "x.tif", stacks=True).frames == FRAMES
    content = (tmp_path / "x.tif").read_bytes()
    for k in range(FRAMES):
        shown = decode(content, 1, np.dtype(np.uint16), bits=12, frame=k).pixels[:, :, 0].astype(np.int64)
        expected = values[k].astype(np.int64) * 65535 // 4095
        assert np.array_equal(shown, 65535 - expected if photometric == "miniswhite" else expected)


def test_an_imagej_stack_without_headers_of_its_pages_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif", imagej=True) as writer:
        writer.write(stack(1), truncate=True)
    with pytest.raises(UnreadableImageError, match="1 of 3 pages"):
        read_header(tmp_path / "x.tif", stacks=True)
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
    header = read_header(tmp_path / "x.dcm", stacks=True)
    assert (header.frames, header.width, header.deep) == (FRAMES, SIDE, True)
    for k in range(FRAMES):
        shown = decode(content, 1, np.dtype(np.uint16), window=(2048, 1001), frame=k).pixels[:, :, 0]
        # PS3.3 C.11.2.1.2.1: from 1547.5 to 2547.5, over a width of 1000.
        light = np.clip((values[k] - 2047.5) / 1000 + 0.5, 0, 1)
        assert np.abs(shown / 65535 - light).max() < 1e-4
    with pytest.raises(UnreadableImageError, match='unit = "volume"'):
        read_header(tmp_path / "x.dcm")
