"""What a worker tells of a confirmation that cannot begin."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from medfathom.confirmation.find import predictions_file
from medfathom.confirmation.predictions import read_logits, read_predictions
from medfathom.confirmation.worker import confirmed_results
from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.exported.model import load_unsealed
from medfathom.metrics.rules import CALIBRATIONS
from medfathom.models.folder import read_config
from medfathom.scheduling.messages import EpochResult, Failure, Order, RunSettings
from medfathom.scheduling.worker import node_storage
from medfathom.study.assignment import Assignment
from medfathom.trial.checkpoint import load_validation
from medfathom.trial.validation import ValidationPredictions


def test_a_confirmation_that_fails_before_its_first_epoch_says_what_it_is(workdir: Path) -> None:
    """As a search trial does: its weights are gone, and yet its size is known."""
    config = load_definition("demo", [])
    data = prepare(config.dataset, workdir / "cache")
    settings = replace(RunSettings(config, workdir, 1, "cpu", workdir, ""), fingerprint=data.fingerprint)
    params = TrialParams(architecture="resnet18", init="file:absent.pt", unfreeze_depth=1)
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    (failed,) = confirmed_results(
        settings, order, study="demo", folder=workdir / "confirmed", pictures=frozenset()
    )
    assert isinstance(failed, Failure)
    assert "absent.pt" in failed.reason
    assert failed.identity is not None
    assert (failed.identity.architecture, failed.identity.seed) == ("resnet18", 7)
    assert (failed.identity.n_params or 0) > 10**7
    assert not (workdir / "confirmed").exists()


LORA = pytest.param("lora", marks=pytest.mark.skipif(find_spec("peft") is None, reason="peft is an extra"))


@pytest.mark.parametrize("strategy", ["gradual", "bitfit", LORA])
def test_a_confirmed_model_was_trained_by_its_trial_s_strategy(workdir: Path, strategy: str) -> None:
    small = ["image_size=32", "n_train=24", "n_val=12", "n_test=12"]
    config = load_definition("demo", ["budget.epochs=3", *(f"dataset.{part}" for part in small)])
    data = prepare(config.dataset, workdir / "cache")
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="test_resnet", init="random", unfreeze_depth=2, strategy=strategy)
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    folder = workdir / "confirmed"
    *_, last = confirmed_results(settings, order, study="demo", folder=folder, pictures=frozenset())
    assert isinstance(last, EpochResult)
    assert last.parcel is not None
    last.parcel.unpack()
    assert last.record.strategy == read_config(folder / "trial-00000").strategy == strategy
    # What is kept predicts as the trial did; its temperature moves an AUC of three classes a little.
    assert last.extra["validation_auc"] == pytest.approx(last.record.auc, abs=0.05)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_confirmed_model_predicts_what_its_trial_predicted(workdir: Path, fraction: float) -> None:
    small = ["image_size=32", "n_train=24", "n_val=12", "n_test=12"]
    more = ["budget.epochs=2", "training.precision=float32"]
    config = load_definition("demo", [*more, *(f"dataset.{part}" for part in small)])
    data = prepare(config.dataset, workdir / "cache")
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="test_resnet", init="random", unfreeze_depth=0, train_fraction=fraction)
    order, folder = Order(Assignment(0, params, "", 7), "study/trial-00000.pt"), workdir / "confirmed"
    *_, last = confirmed_results(settings, order, study="demo", folder=folder, pictures=frozenset())
    assert isinstance(last, EpochResult) and last.parcel is not None
    last.parcel.unpack()
    said = load_validation(node_storage(settings) / "checkpoints" / order.checkpoint)
    of_trial = ValidationPredictions.from_bytes(said)
    assert of_trial is not None
    logits, _ = read_logits(predictions_file(folder / "trial-00000", "val"))
    assert logits == pytest.approx(of_trial.logits, abs=1e-4)


def test_what_the_search_looked_for_is_judged_beside_the_auc(workdir: Path) -> None:
    small = ["image_size=32", "n_train=24", "n_val=12", "n_test=12"]
    config = load_definition("demo", ["budget.epochs=1", *(f"dataset.{part}" for part in small)])
    data = prepare(config.dataset, workdir / "cache")
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="test_resnet", init="random", unfreeze_depth=0)
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    *_, last = confirmed_results(
        settings,
        order,
        study="demo",
        folder=workdir / "confirmed",
        pictures=frozenset(),
        objective="auprc",
    )
    assert isinstance(last, EpochResult)
    assert last.parcel is not None
    last.parcel.unpack()
    assert last.extra["test_objective_value"] == last.extra["test_average_precision"]
    assert last.record.value == last.record.auc  # a confirmation's own value is the AUC


@pytest.mark.parametrize("calibration", ["isotonic", "venn_abers"])
def test_the_folder_predicts_with_the_calibration_that_was_chosen(workdir: Path, calibration: str) -> None:
    small = ["image_size=32", "n_train=24", "n_val=36", "n_test=12"]
    changes = ["budget.epochs=1", f"decision.calibration={calibration}", *(f"dataset.{p}" for p in small)]
    config = load_definition("demo", changes)
    data = prepare(config.dataset, workdir / "cache")
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="test_resnet", init="random", unfreeze_depth=1)
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    folder = workdir / "confirmed"
    *_, last = confirmed_results(settings, order, study="demo", folder=folder, pictures=frozenset())
    assert isinstance(last, EpochResult)
    assert last.parcel is not None
    last.parcel.unpack()
    assert last.extra["calibration"] == calibration
    assert [each["kind"] for each in last.extra["calibrations"]] == ["none", *CALIBRATIONS]
    model = load_unsealed(folder / "trial-00000")
    assert all(curve.y for curve in model.config.curves)
    kept = read_predictions(predictions_file(folder / "trial-00000", "test")).probabilities
    found = model.predict(open_test(data).images)
    np.testing.assert_allclose(found.probabilities, kept, atol=1e-6)
    assert not np.allclose(
        kept,
        model.config.model_copy(update={"calibration": "temperature"}).calibrated(
            model.logits(open_test(data).images)
        ),
    )
