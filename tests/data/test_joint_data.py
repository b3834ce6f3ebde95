"""Several data sets as one: the images of each, in one form; every test split stays closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joint_sets import chest, joined, prepared, retina, tissue
from medfathom.data.heldout import open_test
from medfathom.data.joint import as_joint, foresee_study, in_form, open_test_of
from medfathom.data.leakage import leakage_note
from medfathom.data.prepare import prepare
from medfathom.data.prepared import JointData
from medfathom.errors import DataError, HeldOutError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> JointData:
    return prepared(joined(chest(), retina(), tissue()), tmp_path_factory.mktemp("joint"))


def test_images_follow_one_another_grey_ones_in_three_equal_channels(data: JointData) -> None:
    assert data.sizes == {"train": 60, "val": 48, "test": 48}
    images, start = data.split("train").images, 0
    for part in data.parts:
        own = part.split("train").images
        assert np.array_equal(images[start : start + len(own)], np.broadcast_to(own, (*own.shape[:3], 3)))
        start += len(own)
    assert len(images) == start


def test_labels_name_the_data_set_and_have_its_own(data: JointData) -> None:
    labels = data.split("val").labels
    assert labels[:, 0].tolist() == [0] * 16 + [1] * 16 + [2] * 16
    one, two, three = (part.split("val").labels for part in data.parts)
    assert np.array_equal(labels[:16, 1], one)
    assert np.array_equal(labels[16:32, 1:3], two)
    assert np.array_equal(labels[32:, 1], three)


def test_every_test_split_stays_closed(data: JointData) -> None:
    with pytest.raises(HeldOutError, match="only train and val can be read"):
        data.split("test")  # type: ignore[arg-type]
    assert sorted(file.name for file in data.folder.iterdir()) == ["train_images.npy", "val_images.npy"]


def test_a_test_split_is_opened_in_the_network_s_form(data: JointData) -> None:
    opened, own = open_test_of(data, 0), open_test(data.parts[0])
    assert opened.images.shape == (16, 32, 32, 3)
    assert np.array_equal(opened.images[..., 2], own.images[..., 0])
    assert np.array_equal(opened.labels, own.labels)


def test_white_stays_white_in_more_bits() -> None:
    grey = np.array([0, 1, 255], dtype=np.uint8).reshape(1, 1, 3, 1)
    deep = in_form(grey, 3, np.dtype(np.uint16))
    assert deep[..., 0].ravel().tolist() == [0, 257, 65535]
    assert np.array_equal(deep / 65535, np.broadcast_to(grey, deep.shape) / 255)


def test_the_same_data_sets_are_the_same_wherever_they_are_prepared(data: JointData, tmp_path: Path) -> None:
    again = prepared(joined(chest(), retina(), tissue()), tmp_path)
    assert again.fingerprint == data.fingerprint
    other = prepared(joined(chest(), retina(), tissue(seed=1)), tmp_path)
    assert other.fingerprint != data.fingerprint
    assert again.folder != other.folder


def test_a_killed_preparation_is_done_again(tmp_path: Path) -> None:
    first = prepared(joined(chest(), retina(), channels=None), tmp_path)
    whole = first.split("train").images[:]
    first.folder.rename(first.folder.with_suffix(".partial"))
    (first.folder.with_suffix(".partial") / "val_images.npy").unlink()
    again = prepared(joined(chest(), retina(), channels=None), tmp_path)
    assert np.array_equal(again.split("train").images, whole)
    assert len(again.split("val")) == 32


def test_different_channels_are_refused_before_an_image_is_joined(tmp_path: Path) -> None:
    dataset = joined(chest(), tissue(), channels=None)
    with pytest.raises(DataError, match=r"got chest 1, tissue 3; joint\.channels = 3 makes three"):
        foresee_study(dataset, tmp_path)
    with pytest.raises(DataError, match=r"got chest 1, tissue 3"):
        prepared(dataset, tmp_path)
    assert not (tmp_path / "joint").exists()
    assert prepared(joined(chest(), retina(), channels=None), tmp_path).channels == 1


def test_notes_name_their_data_set(tmp_path: Path) -> None:
    notes = foresee_study(joined(chest(), tissue()), tmp_path)
    assert any(note.startswith("tissue: ") and "crowded" in note for note in notes)
    small = [note for note in notes if "one validation split is not reliable" in note]
    assert len(small) == 2
    assert not any("folds" in note for note in small)  # several data sets are not cross-validated


def test_images_of_one_in_the_test_split_of_another_are_told(tmp_path: Path) -> None:
    """A data set whose test images are the other's training images."""
    own = np.random.default_rng(0).integers(0, 256, (48, 32, 32), dtype=np.uint8)
    labels = np.arange(48) % 2

    def table(name: str, rows: dict[str, slice]) -> dict[str, object]:
        arrays = {f"{split}_{what}": values[place] for split, place in rows.items()
                  for what, values in (("images", own), ("labels", labels))}  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return {
            "source": "npz",
            "name": name,
            "modality": "CXR",
            "image_size": 32,
            "path": str(tmp_path / f"{name}.npz"),
        }

    one = table("one", {"train": slice(0, 8), "val": slice(8, 16), "test": slice(16, 24)})
    other = table("other", {"train": slice(24, 32), "val": slice(32, 40), "test": slice(0, 8)})
    dataset = joined(one, other, channels=None)
    told = leakage_note(prepared(dataset, tmp_path / "cache"), dataset, "study")
    assert told == (
        "Leakage: one has exact copies of images of other (8 in test): AUCs of other look better than they "
        "are"
    )


def test_a_split_of_one_in_the_form_of_all(data: JointData) -> None:
    own = data.parts[0].split("val")
    assert as_joint(own, data).images.shape[-1] == 3
    alone = prepare(joined(chest()).datasets[0], data.folder.parents[1])
    assert alone.fingerprint == data.parts[0].fingerprint
