from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from making import config
from medfathom.data.phantoms.exact import BELL_SPREAD, Dice, blur
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.errors import DataError

SOURCES = ["phantom-cxr", "phantom-oct", "phantom-wsi"]

# SHA-256 over the training images of the definition below, seen on x86-64. Another machine, numpy or platform
# must give the same; a change of a phantom is a change of VERSION in data/prepare.py.
GOLDEN = {
    "phantom-cxr": "c606c1bec4ecaa06c3beefce0bafa9bc0659dfaccfc099e6d052022bad294f77",
    "phantom-oct": "0d8ba1203cae9a542745a289f05606ae07a207c55a0509737dac5b1ccc794147",
    "phantom-wsi": "acd5fe6aa62af5367943165c31d06c3164b27022b4d46cbc125af51403274ced",
}


def made(source: str, folder: Path, **keys: object) -> PreparedData:
    small = {"n_train": 12, "n_val": 6, "n_test": 6, "image_size": 32, **keys}
    return prepare(config(source, **small), folder)


@pytest.mark.parametrize("source", SOURCES)
def test_the_bytes_are_the_same_on_any_machine(source: str, tmp_path: Path) -> None:
    images = made(source, tmp_path, seed=3).split("train").images
    assert hashlib.sha256(np.ascontiguousarray(images).data).hexdigest() == GOLDEN[source]


@pytest.mark.parametrize("source", SOURCES)
def test_another_seed_gives_other_images(source: str, tmp_path: Path) -> None:
    first, second = (made(source, tmp_path, seed=seed).split("train").images for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("source", SOURCES)
def test_images_have_contrast_and_differ(source: str, tmp_path: Path) -> None:
    images = made(source, tmp_path).split("train").images
    assert len({image.tobytes() for image in images}) == 12
    assert images.std(axis=(1, 2, 3)).min() > 10


@pytest.mark.parametrize("source", SOURCES)
def test_classes_take_turns_and_may_be_chosen(source: str, tmp_path: Path) -> None:
    data = made(source, tmp_path)
    assert np.bincount(data.split("train").labels).tolist() == [4, 4, 4]
    chosen = list(data.class_names[2:0:-1])
    two = made(source, tmp_path, classes=chosen)
    assert (two.task, list(two.class_names)) == ("binary", chosen)
    said = rf"dataset.classes: 'nothing' is no class of {source}; .*{chosen[0]}"
    with pytest.raises(DataError, match=said):
        made(source, tmp_path, classes=["nothing", chosen[0]])


def test_patients_share_their_anatomy_and_no_split(tmp_path: Path) -> None:
    patients = {"patients_train": 4, "patients_val": 3, "patients_test": 3}
    data = made("phantom-cxr", tmp_path, n_train=16, **patients, image_size=64)
    split = data.split("train")
    assert len(set(split.groups)) == 4
    assert not set(split.groups) & set(data.split("val").groups)
    for patient in set(split.groups):
        assert len(set(split.labels[split.groups == patient])) == 1
    images = split.images.reshape(16, -1).astype(float)
    likeness = np.corrcoef(images - images.mean(axis=0))
    same = split.groups[:, None] == split.groups
    off = ~np.eye(16, dtype=bool)
    assert likeness[same & off].mean() > likeness[~same].mean() + 0.3


def test_more_difficult_lesions_are_weaker(tmp_path: Path) -> None:
    """Consolidation brightens an image less."""
    contrast = []
    for difficulty in (0.0, 1.0):
        keys = {"difficulty": difficulty, "task": "multilabel", "n_train": 60}
        split = made("phantom-cxr", tmp_path, **keys).split("train")
        ill = split.labels[:, 0] == 1
        images = split.images.astype(float).mean(axis=(1, 2, 3))
        contrast.append(images[ill].mean() - images[~ill].mean())
    assert contrast[0] > contrast[1]


def test_the_demo_set_is_made_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    data = prepare(config("phantom-oct", image_size=64), tmp_path)
    assert data.sizes == {"train": 480, "val": 240, "test": 240}
    assert (
        time.process_time() - started < 20
    )  # of processor time; on an idle machine of two cores 1.3 s, on a busy one up to 12 s


def test_the_dice_are_what_they_say() -> None:
    dice = Dice(1, 2)
    assert np.array_equal(Dice(1, 2).bytes(3, 4), Dice(1, 2).bytes(3, 4))
    values = dice.bytes(100_000)
    assert abs(values.mean() - 127.5) < 1
    bell = dice.bell(100_000)
    assert abs(bell.mean()) < 2
    assert abs(bell.std() - BELL_SPREAD) < 2
    assert {dice.between(3, 5) for _ in range(200)} == {3, 4, 5}
    assert (blur(np.full((5, 6), 42), 2) == 42).all()


def test_impossible_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="patients_train <= n_train"):
        config("phantom-oct", n_train=4, patients_train=5, patients_val=3, patients_test=3)
    with pytest.raises(ValueError, match="give all of patients_train"):
        config("phantom-oct", patients_train=5)
