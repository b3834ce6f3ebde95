"""The definitions of public sets: what they say of themselves, and that the layout they describe is read."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from making import images, save
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition

MEDMNIST = ["breastmnist", "chestmnist", "octmnist", "pathmnist", "bloodmnist", "pneumoniamnist"]
DEFINITIONS = Path(__file__).parents[2] / "study_defs"
PUBLIC = [*MEDMNIST, "kermany_cxr", "oct2017", "patchcamelyon", "nct_crc_he"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_sets_say_where_they_come_from(name: str) -> None:
    config = load_definition(name)
    assert config.question.endswith("?")
    assert all((config.citation, config.licence, config.obtain))


@pytest.mark.parametrize("file", sorted(DEFINITIONS.glob("*.toml")), ids=lambda file: file.stem)
def test_what_was_checked_of_a_public_set_is_said(file: Path) -> None:
    comments = " ".join(re.findall(r"^# (.*)", file.read_text(), re.MULTILINE))
    # The demo's images are made on the spot: there is nothing to check.
    said = "Checked in" in comments or "Checked at" in comments
    assert (said and "not checked" in comments.lower()) or file.stem == "demo"


@pytest.mark.parametrize("name", MEDMNIST)
def test_medmnist_names_are_medmnist_s(name: str) -> None:
    from medfathom.data.sources.medmnist import known_sets  # noqa: PLC0415

    dataset = load_definition(name).dataset
    assert dataset.source == "medmnist"
    assert dataset.name in known_sets()


def files(folder: Path, names: list[str]) -> None:
    for name, pixels in zip(names, images(len(names), side=16), strict=True):
        save(folder / name, pixels)


def test_kermany_s_chest_x_rays(tmp_path: Path) -> None:
    names = [f"train/PNEUMONIA/person{i // 2}_bacteria_{i}.jpeg" for i in range(40)]
    names += [f"train/NORMAL/IM-{i // 2:04}-000{i % 2}.jpeg" for i in range(20)]
    names += [f"train/NORMAL/NORMAL2-IM-{i:04}-0001.jpeg" for i in range(20)]
    names += ["val/PNEUMONIA/person1946_bacteria_4874.jpeg", "val/NORMAL/NORMAL2-IM-1427-0001.jpeg"]
    names += [f"test/PNEUMONIA/person{100 + i}_virus_{i}.jpeg" for i in range(4)]
    names += [f"test/NORMAL/IM-01{i}-0001.jpeg" for i in range(10, 14)]
    files(tmp_path, names)
    data = prepare(dataset("kermany_cxr", tmp_path), tmp_path / "cache")
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.sizes["test"] == 8
    assert data.sizes["val"] == pytest.approx(8, abs=4)
    train, val = data.split("train").groups, data.split("val").groups
    assert train is not None
    assert val is not None
    assert {"person1_bacteria", "IM-0001", "NORMAL2-IM-0003"} <= {*train, *val}
    assert not set(train) & set(val)


def test_oct2017(tmp_path: Path) -> None:
    classes = ("CNV", "DME", "DRUSEN", "NORMAL")
    names = [
        f"train/{c}/{c}-{1000 * k + i // 2}-{i % 2}.jpeg" for k, c in enumerate(classes) for i in range(40)
    ]
    names += [f"test/{c}/{c}-{1000 * k + i}-9.jpeg" for k, c in enumerate(classes) for i in range(5)]
    files(tmp_path, names)
    data = prepare(dataset("oct2017", tmp_path), tmp_path / "cache")
    assert data.class_names == classes
    assert sum(data.sizes.values()) == 180
    train, val = data.split("train").groups, data.split("val").groups
    assert train is not None
    assert val is not None
    assert not set(train) & set(val)


def test_patchcamelyon(tmp_path: Path) -> None:
    for word, n in (("train", 12), ("valid", 6), ("test", 6)):
        stem = tmp_path / f"camelyonpatch_level_2_split_{word}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = images(n, side=96, channels=3)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = (np.arange(n) % 2).astype(np.uint8).reshape(n, 1, 1, 1)
    data = prepare(dataset("patchcamelyon", tmp_path), tmp_path / "cache")
    assert data.class_names == ("normal", "metastasis")
    assert np.array_equal(data.split("train").images, images(12, side=96, channels=3))


def test_nct_crc_he(tmp_path: Path) -> None:
    classes = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
    names = [f"NCT-CRC-HE-100K/{c}/{c}-{i}.tif" for c in classes for i in range(20)]
    names += [f"CRC-VAL-HE-7K/{c}/{c}-TCGA-{i}.tif" for c in classes for i in range(2)]
    files(tmp_path, names)
    data = prepare(dataset("nct_crc_he", tmp_path), tmp_path / "cache")
    assert data.class_names == classes
    assert data.sizes == {"train": 162, "val": 18, "test": 18}
    assert data.channels == 3


def dataset(name: str, path: Path):  # type: ignore[no-untyped-def]
    """The definition's data set, at a place of the test's own."""
    return load_definition(name, [f"dataset.path={path}"]).dataset
