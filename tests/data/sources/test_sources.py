"""Every source proves itself by the same tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from source_tests import Expected, SourceTests, StoredSourceTests

from making import SIZES, arrays, class_folders, config, hdf5, images, npz, save, table
from medfathom.data.images import fit_square
from medfathom.data.prepare import prepare


def as_prepared(pixels: np.ndarray, side: int = 16) -> np.ndarray:
    return fit_square(pixels if pixels.ndim == 3 else pixels[:, :, None], side, "squash")


class TestNpz(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        path = npz(tmp_path)
        first = as_prepared(arrays()["train_images"][0])
        return Expected(config("npz", path=str(path)), "binary", ("0", "1"), SIZES, 1, False, first)


class TestNpzColourGroups(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        content = arrays(channels=3, n_classes=3, groups=True)
        path = npz(tmp_path, **content)
        first = as_prepared(content["train_images"][0])
        return Expected(config("npz", path=str(path)), "multiclass", ("0", "1", "2"), SIZES, 3, True, first)


class TestNpzDeep(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        content = {f"{split}_images": images(n, side=16, deep=True) for split, n in SIZES.items()}
        path = npz(tmp_path, **content)
        first = content["train_images"][0][:, :, None]
        return Expected(config("npz", path=str(path)), "binary", ("0", "1"), SIZES, 1, False, first)


class TestMedmnist(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        path = npz(tmp_path)
        first = as_prepared(arrays()["train_images"][0])
        found = config("medmnist", name="pneumoniamnist", path=str(path))
        return Expected(found, "binary", ("normal", "pneumonia"), SIZES, 1, False, first)


class TestMedmnistMultilabel(SourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        columns = {
            f"{split}_labels": np.eye(14, dtype=np.uint8)[np.arange(n) % 14] for split, n in SIZES.items()
        }
        content = {**arrays(), **columns}
        for split in SIZES:  # every finding in every split, never everywhere
            content[f"{split}_images"] = images(14)
            content[f"{split}_labels"] = np.eye(14, dtype=np.uint8)
        path = npz(tmp_path, **content)
        names = (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
            *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
        )
        found = config("medmnist", name="chestmnist", path=str(path))
        return Expected(found, "multilabel", names, dict.fromkeys(SIZES, 14), 1, False)


class TestFolder(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        path = class_folders(tmp_path / "set")
        found = config("folder", path=str(path), group_pattern=r"((?:train|val|test)-p\d+)-")
        first = as_prepared(images(4, seed=0)[0])
        return Expected(found, "binary", ("ill", "well"), dict.fromkeys(SIZES, 8), 1, True, first)


class TestCsv(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        path = table(tmp_path)
        found = config("csv", path=str(path), split_column="split", group_column="patient")
        sizes = {"train": 24, "val": 8, "test": 8}
        return Expected(found, "binary", ("ill", "well"), sizes, 1, True, as_prepared(images(40)[0]))


class TestHdf5(StoredSourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        path = hdf5(tmp_path / "pcam")
        first = as_prepared(images(12, channels=3, seed=0)[0])
        return Expected(config("hdf5", path=str(path)), "binary", ("0", "1"), SIZES, 3, False, first)


class TestPhantomCxr(SourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        found = config("phantom-cxr", n_train=12, n_val=6, n_test=6)
        return Expected(found, "multiclass", ("normal", "consolidation", "nodule"), SIZES, 1, False)


class TestPhantomOct(SourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        patients = {"patients_train": 6, "patients_val": 3, "patients_test": 3}
        found = config("phantom-oct", n_train=12, n_val=6, n_test=6, **patients)
        return Expected(found, "multiclass", ("none", "drusen", "fluid"), SIZES, 1, True)


class TestPhantomWsi(SourceTests):
    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        found = config("phantom-wsi", n_train=12, n_val=6, n_test=6, task="multilabel")
        return Expected(found, "multilabel", ("crowded", "enlarged"), SIZES, 3, False)


def test_12_bits_reach_white_whatever_they_are_read_from(tmp_path: Path) -> None:
    deep = {split: images(n, deep=True, seed=seed) >> 4 for seed, (split, n) in enumerate(SIZES.items())}
    pcam = hdf5(tmp_path / "pcam", channels=1)
    lines = ["path,label,split"]
    for split, content in deep.items():
        word = "valid" if split == "val" else split
        with h5py.File(pcam / f"camelyonpatch_level_2_split_{word}_x.h5", "w") as file:
            file["x"] = content
        for row, pixels in enumerate(content):
            save(tmp_path / f"{split}{row}.png", pixels)
            lines.append(f"{split}{row}.png,{row % 2},{split}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    path = npz(tmp_path, **{f"{split}_images": content for split, content in deep.items()})
    files = prepare(
        config("csv", path=str(tmp_path / "table.csv"), split_column="split", bits=12), tmp_path / "cache"
    )
    assert files.split("train").images.max() > 60_000
    for source, place in (("npz", path), ("hdf5", pcam)):
        rows = prepare(config(source, path=str(place), bits=12), tmp_path / "cache")
        for split in ("train", "val"):
            assert np.array_equal(rows.split(split).images, files.split(split).images)
    medmnist = config("medmnist", name="pneumoniamnist", path=str(path), bits=12)
    assert np.array_equal(
        prepare(medmnist, tmp_path / "cache").split("val").images, files.split("val").images
    )
