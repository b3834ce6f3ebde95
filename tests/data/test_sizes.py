"""A data set at several sizes: the same images in the same splits, or none of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medfathom.data.folds import open_folds
from medfathom.data.prepare import prepare
from medfathom.data.sizes import at_size, prepare_sizes
from medfathom.definitions.dataset import NpzDataset, PhantomDataset, SplitsConfig
from medfathom.errors import DataError


def test_each_size_is_prepared_once_and_folds_are_the_same(tmp_path: Path) -> None:
    splits = SplitsConfig(folds=3)
    config = PhantomDataset(
        source="phantom-oct", modality="OCT", image_size=16, n_train=30, n_val=15, n_test=9, splits=splits
    )
    data = prepare_sizes(config, [16, 32, 24], tmp_path)
    assert data.image_size == 16
    assert len(list((tmp_path / "datasets").glob("*/prepared.json"))) == 3
    larger = prepare(at_size(config, 32), tmp_path)
    assert (larger.image_size, larger.split("train").names) == (32, data.split("train").names)
    assert at_size(config, 0) == config
    at_own, at_other = open_folds(data, splits), open_folds(larger, splits, divided=data)
    assert at_own is not None and at_other is not None
    assert np.array_equal(at_own.fold, at_other.fold)
    assert at_other.pool.images.shape[1:3] == (32, 32)


def test_other_splits_at_another_size_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 64, 64), dtype=np.uint8)
    # Alike at 8 pixels, and so dropped there, but not at 64.
    coarse = np.kron(random.integers(60, 190, (8, 8)), np.ones((8, 8)))
    for row, seed in ((3, 1), (30, 2)):
        fine = np.random.default_rng(seed).normal(0, 60, (64, 64))
        fine -= np.kron(fine.reshape(8, 8, 8, 8).mean(axis=(1, 3)), np.ones((8, 8)))
        images[row] = np.clip(coarse + fine, 0, 255)
    arrays = {
        f"{s}_labels": (np.arange(n) % 2)[:, None] for s, n in (("train", 40), ("val", 10), ("test", 10))
    }
    file = tmp_path / "x.npz"
    np.savez(file, train_images=images[:40], val_images=images[40:50], test_images=images[50:], **arrays)
    config = NpzDataset(source="npz", modality="CXR", image_size=8, path=str(file), drop_copies=True)
    with pytest.raises(
        DataError, match=r"space.image_size: the train split at 64 pixels has other images than at 8"
    ):
        prepare_sizes(config, [8, 64], tmp_path / "cache")
