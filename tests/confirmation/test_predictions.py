from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from making import config, images, save
from medfathom.confirmation.paired import compare_models
from medfathom.confirmation.predictions import read_predictions, write_predictions
from medfathom.data.check.all_splits import AllSplits
from medfathom.data.check.check import check_data
from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.metrics.unknown import UNKNOWN, is_absent, is_present


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Two labels, of which "b" is not known of every third image."""
    lines = ["path,a,b,split"]
    for row, pixels in enumerate(images(90)):
        save(tmp_path / f"{row}.png", pixels)
        b = "-1" if row % 3 == 0 else str(row // 3 % 2)
        lines.append(f"{row}.png,{row % 2},{b},{('train', 'val', 'test')[row // 30]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    keys = {"label_columns": ["a", "b"], "uncertain": "ignore", "split_column": "split"}
    return prepare(config("csv", path=str(tmp_path / "t.csv"), **keys), tmp_path / "cache")


def test_labels_that_are_not_known_are_kept_as_empty_cells(data: PreparedData, tmp_path: Path) -> None:
    test = open_test(data)
    assert set(np.unique(test.labels)) == {0, 1, UNKNOWN}
    values = np.random.default_rng(0).random((30, 2))
    path = tmp_path / "test.parquet"
    write_predictions(path, data, test, values, values.astype(np.float32))
    assert pd.read_parquet(path)["label:b"].isna().sum() == 10
    found = read_predictions(path)
    assert np.array_equal(found.positive, test.labels)
    assert is_present(found.positive).sum() + is_absent(found.positive).sum() == 50


def test_models_are_compared_on_images_of_which_the_class_is_known() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60).astype(np.uint8)
    scores = {name: random.random(60) + 0.4 * labels for name in "xy"}
    more = {name: np.concatenate([score, random.random(20)]) for name, score in scores.items()}
    masked = np.concatenate([labels, np.full(20, UNKNOWN, dtype=np.uint8)])
    groups = [str(i // 2) for i in range(80)]
    plain = compare_models(labels == 1, scores, groups[:60], resamples=200)
    assert compare_models(masked, more, groups, resamples=200) == plain


def test_the_check_counts_known_labels(data: PreparedData, tmp_path: Path) -> None:
    keys = {"label_columns": ["a", "b"], "uncertain": "ignore", "split_column": "split"}
    report = check_data(config("csv", path=str(tmp_path / "t.csv"), **keys), tmp_path / "cache")
    train = report.splits[0]
    assert (train.n_images, train.classes, train.known) == (30, {"a": 15, "b": 10}, {"a": 30, "b": 20})
    # 50 % of both everywhere: nothing differs between splits, whatever is not known.
    assert not [f for f in report.findings if "of the training images" in f.message]
    described = AllSplits(data).describe(3)
    assert described.label == "a"
