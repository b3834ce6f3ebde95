"""A confirmed model of volumes: what is kept, and that `predict` says the same of the same folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from making import save
from making_cases import SLICES, SPLITS, volume_config, volume_table
from medfathom.confirmation.find import image_predictions_file, predictions_file
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.record import ConfirmedRecord
from medfathom.confirmation.worker import confirmed_results
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.errors import DataError
from medfathom.exported.model import Model, load_unsealed
from medfathom.metrics.auc import roc_auc_score
from medfathom.scheduling.messages import EpochResult, Order, RunSettings
from medfathom.study.assignment import Assignment

pytestmark = pytest.mark.large


@pytest.fixture(scope="module", params=["mean", "max", "attention"])
def confirmed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ConfirmedRecord]:
    """The folder of a confirmed model, and what is recorded of it."""
    root = tmp_path_factory.mktemp("confirmed")
    dataset = volume_config(volume_table(root / "set"))
    config = load_definition("demo", [])
    budget = config.budget.model_copy(update={"epochs": 2})
    config = config.model_copy(update={"dataset": dataset, "budget": budget})
    fingerprint = prepare(dataset, root / "cache").fingerprint
    settings = replace(RunSettings(config, root, 1, "cpu", root, ""), fingerprint=fingerprint)
    params = TrialParams(
        architecture="test_resnet", init="random", learning_rate=0.01, batch_size=16, combine=request.param
    )
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    numbers = frozenset([0])
    *_, found = confirmed_results(settings, order, study="s", folder=root / "confirmed", pictures=numbers)
    assert isinstance(found, EpochResult), found
    assert found.parcel is not None
    found.parcel.unpack()
    return root, ConfirmedRecord.of({**found.record.attributes(), **found.extra})


@pytest.fixture(scope="module")
def model(confirmed: tuple[Path, ConfirmedRecord]) -> Model:
    return load_unsealed(confirmed[0] / "confirmed" / "trial-00000")


def test_the_test_split_is_judged_by_volume(confirmed: tuple[Path, ConfirmedRecord]) -> None:
    root, record = confirmed
    folder = root / "confirmed" / "trial-00000"
    kept = read_predictions(predictions_file(folder, "test"))
    assert len(kept.names) == SPLITS["test"] == record.test.n_cases
    assert record.n_test == SPLITS["test"] * SLICES
    assert record.test.auc == pytest.approx(roc_auc_score(kept.positive, kept.probabilities)[0])
    assert kept.groups is not None
    assert len(set(kept.groups)) == SPLITS["test"] // 2
    images = pd.read_parquet(image_predictions_file(folder, "test"))
    assert len(images) == record.n_test
    assert set(images["case"]) == set(kept.names)
    auc = roc_auc_score(images["label"].to_numpy() == 1, images["probability:ill"].to_numpy())[0]
    assert record.test.image_auc == pytest.approx(auc)
    assert {"roc.png", "confusion.png", "calibration.png"} <= set(record.pictures or ())


def test_the_exported_configuration_knows_unit_and_combination(model: Model) -> None:
    assert model.config.unit == "volume"
    assert model.config.image_temperature is not None
    assert len(model.config.thresholds) == 1


def test_predicting_the_folders_of_the_test_split_says_the_same(
    confirmed: tuple[Path, ConfirmedRecord], model: Model
) -> None:
    root, _ = confirmed
    kept = read_predictions(predictions_file(root / "confirmed" / "trial-00000", "test"))
    said = model.predict([root / "set" / name for name in kept.names])
    assert said.names == [str(root / "set" / name) for name in kept.names]
    assert said.n_images == [SLICES] * SPLITS["test"]
    assert said.probabilities[:, 1] == pytest.approx(kept.probabilities[:, 0], abs=1e-6)
    threshold = model.config.thresholds[0]
    assert threshold is not None
    assert said.predicted == ["ill" if p >= threshold else "well" for p in said.probabilities[:, 1]]
    whole = model.predict(root / "set")  # a folder of folders: all volumes
    assert len(whole) == sum(SPLITS.values())
    assert any(line.startswith("images read: 128; volumes: 32") for line in whole.remarks)


def test_a_row_is_a_volume_and_beside_it_a_row_for_each_slice(
    confirmed: tuple[Path, ConfirmedRecord], model: Model
) -> None:
    root, _ = confirmed
    said = model.predict(root / "set" / "vol30")
    (row,) = said.rows()
    assert list(row) == ["case", "images", "predicted", "well", "ill"]
    assert (row["case"], row["images"]) == (str(root / "set" / "vol30"), SLICES)
    assert said.of_images is not None
    rows = said.of_images.rows()
    assert [list(r) for r in rows] == [["case", "image", "well", "ill"]] * SLICES
    assert rows[2]["image"] == str(root / "set" / "vol30" / "2.png")


def test_an_unreadable_slice_is_named_and_the_others_are_judged(
    confirmed: tuple[Path, ConfirmedRecord], model: Model, tmp_path: Path
) -> None:
    root, _ = confirmed
    for k in range(SLICES):
        (tmp_path / f"{k}.png").write_bytes((root / "set" / "vol30" / f"{k}.png").read_bytes())
    (tmp_path / "2.png").write_text("no image")
    said = model.predict(tmp_path)
    assert said.n_images == [SLICES - 1]
    assert list(said.unreadable) == [str(tmp_path / "2.png")]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "bad.png").write_text("no image")
    assert len(model.predict(tmp_path / "only")) == 0


def test_arrays_are_volumes(model: Model) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    one = model.predict(stack)
    assert (one.names, one.n_images) == (["0"], [3])
    two = model.predict([stack, stack[0]])
    assert (two.names, two.n_images) == (["0", "1"], [3, 1])
    assert two.probabilities[0] == pytest.approx(one.probabilities[0], abs=1e-6)


def test_a_pattern_puts_images_of_a_flat_folder_together(
    confirmed: tuple[Path, ConfirmedRecord], model: Model, tmp_path: Path
) -> None:
    """Whatever the folders above are called: `p9_R_` is no case."""
    root, flat = confirmed[0], tmp_path / "p9_R_"
    slices = [(root / "set" / "vol31" / f"{k}.png").read_bytes() for k in range(2)]
    flat.mkdir()
    for patient, k in ((p, k) for p in ("p1", "p2") for k in range(2)):
        (flat / f"{patient}_L_{k}.png").write_bytes(slices[k])
    patterns = {"case_pattern": "_([LR])_", "group_pattern": r"^(\w+\d)_"}
    found = Model(model.config.model_copy(update=patterns), model.module.network.state_dict())
    said = found.predict([flat / name for name in ("p1_L_0.png", "p1_L_1.png", "p2_L_0.png", "p2_L_1.png")])
    assert (said.names, said.n_images) == (["p1/L", "p2/L"], [2, 2])


def test_an_image_whose_path_names_no_case_is_told(model: Model, tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), dtype=np.uint8)
    for name in ("L_0.png", "other.png"):
        save(tmp_path / "set" / name, pixels)
    found = Model(
        model.config.model_copy(update={"case_pattern": "([LR])_"}), model.module.network.state_dict()
    )
    said = found.predict(tmp_path / "set")
    assert said.names == ["L"]
    assert list(said.unreadable) == [str(tmp_path / "set" / "other.png")]
    assert "case_pattern find none" in said.unreadable[str(tmp_path / "set" / "other.png")]


def test_what_a_folder_of_cases_has_besides_images_is_named(model: Model, tmp_path: Path) -> None:
    save(tmp_path / "v1" / "0.png", np.zeros((32, 32), dtype=np.uint8))
    (tmp_path / "v1" / "notes.txt").write_text("no image")
    said = model.predict(tmp_path)
    assert said.n_images == [1]
    assert [name for ignored in said.ignored for name in ignored.names] == ["v1/notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder: it is empty"):
        model.predict(tmp_path / "empty")
