"""Folds: whole patients, every class in each fold, copies together, the test split outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_strategies import Labelled, labelled
from medfathom.data.folds import draw_folds, open_folds
from medfathom.data.prepare import foresee, prepare
from medfathom.data.splits import counts_of
from medfathom.definitions.dataset import CsvDataset, NpzDataset, PhantomDataset, SplitsConfig
from medfathom.errors import DataError
from medfathom.metrics.unknown import UNKNOWN


@settings(max_examples=40, deadline=None)
@given(labelled(), st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_no_unit_is_divided_and_no_fold_lacks_a_class(
    data: Labelled, folds: int, repeats: int, seed: int
) -> None:
    config = SplitsConfig(folds=folds, repeats=repeats, seed=seed)
    _, unit = np.unique(
        np.arange(len(data.labels)) if data.groups is None else data.groups, return_inverse=True
    )
    having = (counts_of(data.labels, unit) > 0).sum(axis=0)
    try:
        drawn = draw_folds(data.labels, data.groups, config)
    except DataError:
        # Each of too few units, or a division of whole units that does not exist.
        assume(having[having > 0].min() < folds or data.groups is not None)
        return
    assert drawn.shape == (repeats, len(data.labels))
    assert np.array_equal(drawn, draw_folds(data.labels, data.groups, config))
    for fold in drawn:
        one_each = np.unique(np.stack([unit, fold]), axis=1)
        assert len(one_each.T) == unit.max() + 1
        for number in range(folds):
            own = counts_of(data.labels, np.where(fold == number, 1, 0))[1]
            assert (own[having > 0] > 0).all()


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_folds_are_stratified(kind: str) -> None:
    random = np.random.default_rng(0)
    if kind == "classes":
        labels = random.choice(3, size=400, p=[0.7, 0.2, 0.1]).astype(np.int64)
        shares = labels[:, None] == np.arange(3)
    else:
        labels = (random.random((400, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.uint8)
        labels[:20, 0] = UNKNOWN
        shares = labels == 1
    patients = random.integers(0, 120, 400).astype(str)
    for groups, tolerance in ((None, 0.02), (patients, 0.05)):
        fold = draw_folds(labels, groups, SplitsConfig(folds=5, repeats=2))
        assert not np.array_equal(fold[0], fold[1])  # each repeat is drawn anew
        for repeat in fold:
            of_folds = np.array([shares[repeat == number].sum(axis=0) for number in range(5)])
            assert np.abs(of_folds / shares.sum(axis=0) - 0.2).max() < max(
                tolerance, 1.01 / shares.sum(axis=0).min()
            )


def table(folder: Path, rows: list[str]) -> CsvDataset:
    from PIL import Image  # noqa: PLC0415

    random = np.random.default_rng(0)
    for name in {row.split(",")[0] for row in rows}:
        Image.fromarray(random.integers(0, 255, (16, 16), dtype=np.uint8)).save(folder / name)
    (folder / "t.csv").write_text("path,label,group_id,split\n" + "\n".join(rows) + "\n")
    return CsvDataset(
        source="csv",
        modality="OCT",
        image_size=16,
        path=str(folder / "t.csv"),
        group_column="group_id",
        split_column="split",
        splits=SplitsConfig(folds=3),
    )


def test_folds_without_a_class_are_refused_with_the_counts_before_anything_is_decoded(tmp_path: Path) -> None:
    rows = [f"{i}.png,healthy,p{i},{'val' if i > 8 else 'train'}" for i in range(12)]
    rows += [f"s{i}.png,sick,q{i // 2},{'train' if i < 2 else 'val'}" for i in range(4)]
    rows += ["t.png,healthy,t,test", "u.png,sick,u,test"]
    config = table(tmp_path, rows)
    words = r"folds = 3: every class must be in every fold.*'sick' has 2, .*'healthy' has 12.*give folds = 2"
    with pytest.raises(DataError, match=words):
        foresee(config, tmp_path / "cache")
    two = config.model_copy(update={"splits": SplitsConfig(folds=2)})
    assert foresee(two, tmp_path / "cache") is not None
    data = prepare(two, tmp_path / "cache")
    folds = open_folds(data, two.splits)
    assert folds is not None and len(folds) == 2
    assert len(folds.pool) == 16 and not {"t.png", "u.png"} & set(folds.pool.names)
    for number in range(2):
        fold = folds[number]
        assert sorted([*fold.train, *fold.val]) == list(range(16))
        assert folds.pool.groups is not None
        assert not set(folds.pool.groups[fold.train]) & set(folds.pool.groups[fold.val])


def test_copies_are_in_one_fold_and_folds_make_no_other_data_set(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 16, 16), dtype=np.uint8)
    images[30] = images[3]
    arrays = {
        f"{s}_labels": (np.arange(n) % 2)[:, None] for s, n in (("train", 40), ("val", 20), ("test", 6))
    }
    np.savez(
        tmp_path / "x.npz",
        train_images=images,
        val_images=np.roll(images[:20], 5, axis=1),
        test_images=random.integers(0, 256, (6, 16, 16), dtype=np.uint8),
        **arrays,
    )
    config = NpzDataset(source="npz", modality="CXR", image_size=16, path=str(tmp_path / "x.npz"))
    plain = prepare(config, tmp_path / "cache")
    for seed in range(5):
        splits = SplitsConfig(folds=5, seed=seed)
        folds = open_folds(
            prepare(config.model_copy(update={"splits": SplitsConfig(folds=5)}), tmp_path / "cache"), splits
        )
        assert folds is not None
        assert folds.fold[0, 3] == folds.fold[0, 30]
        assert np.array_equal(folds.pool.images[:40], images[..., None])
        assert np.array_equal(folds.pool.images[40:], plain.split("val").images)
    assert len(list((tmp_path / "cache" / "datasets").glob("*/prepared.json"))) == 1
    assert open_folds(plain, config.splits) is None


def test_folds_are_proposed_where_data_are_few(tmp_path: Path) -> None:
    config = PhantomDataset(
        source="phantom-oct",
        modality="OCT",
        image_size=16,
        n_train=30,
        n_val=20,
        n_test=9,
        patients_train=20,
        patients_val=10,
        patients_test=9,
    )
    (line,) = (note for note in foresee(config, tmp_path) if "folds = 5" in note)
    assert "only 30 patients" in line
    without = config.model_copy(update=dict.fromkeys(("patients_train", "patients_val", "patients_test")))
    assert any("only 50 images" in note for note in foresee(without, tmp_path))
    large = without.model_copy(update={"n_train": 900, "n_val": 100})
    with_folds = config.model_copy(update={"splits": SplitsConfig(folds=3)})
    for other in (large, with_folds):
        assert not any("folds = 5" in note for note in foresee(other, tmp_path))


def test_repeats_need_folds() -> None:
    with pytest.raises(ValueError, match="needs folds"):
        SplitsConfig(repeats=2)
