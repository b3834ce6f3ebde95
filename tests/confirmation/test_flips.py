"""Test-time views: what a network says of flips, when they are kept, and the folder that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import medfathom
from json_holds import holds
from made_confirmations import load, searched
from made_models import CONFIG
from medfathom.confirm import confirm_study
from medfathom.confirmation.find import (
    CONFIRMS,
    confirmation_name,
    confirmed_folder,
    find_confirmation,
    predictions_file,
)
from medfathom.confirmation.jobs import list_jobs
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.confirmation.views import (
    VIEWS_FOUND,
    TestViews,
    find_views,
    read_views,
    views_folder,
    views_lines,
    views_of,
)
from medfathom.confirmation.worker import confirmed_results
from medfathom.data.heldout import open_test
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import TrialParams
from medfathom.errors import InputError
from medfathom.export import export_model
from medfathom.exported.network import Deployed
from medfathom.models.folder import read_config
from medfathom.reporting.model_facts import ensemble
from medfathom.reporting.record import Fact, gather
from medfathom.scheduling.messages import EpochResult, Order, RunSettings
from medfathom.study.assignment import Assignment
from medfathom.study.connection import default_url
from medfathom.study.open import open_study

torch.set_num_threads(1)


def test_the_logits_are_the_mean_over_the_flips() -> None:
    small = CONFIG.model_copy(update={"architecture": "test_resnet"})
    plain = Deployed(small).eval()
    views = ["as_is", "mirrored", "upside_down", "half_turn"]
    flipped = Deployed(small.model_copy(update={"views": views})).eval()
    flipped.weights.load_state_dict(plain.weights.state_dict())
    images = torch.rand(3, small.channels, small.image_size, small.image_size)
    with torch.inference_mode():
        each = [plain(images), plain(images.flip(3)), plain(images.flip(2)), plain(images.flip(2, 3))]
        torch.testing.assert_close(flipped(images), torch.stack(each).mean(0))
        torch.testing.assert_close(flipped(images.flip(3)), flipped(images))


def test_a_chest_x_ray_has_no_views(config: StudyConfig) -> None:
    assert isinstance(config.dataset.modality, str)
    assert views_of(config.dataset) == ["as_is", "mirrored"]  # type: ignore[arg-type]
    chest: Any = config.dataset.model_copy(update={"modality": "CXR"})
    with pytest.raises(InputError, match="for modality 'CXR' no flip is known that keeps the label"):
        views_of(chest)
    with pytest.raises(InputError, match="--keep-views: also give --views"):
        confirm_study("demo", keep_views=True)


def confirmed_once(config: StudyConfig, data: PreparedData, workdir: Path) -> Any:
    """A study with one confirmed model, trained for a moment."""
    study = searched(config, fingerprint=data.fingerprint)
    job = list_jobs(study, 1, None, [])[0]
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="test_resnet", init="random", unfreeze_depth=1)
    with open_study(other, default_url(), data.fingerprint) as driver:
        driver.study.set_user_attr(CONFIRMS, study.user_attrs["uid"])
        keys = {"search_trial": job.trial.number, "seed_index": 0, "seed": 0}
        driver.study.enqueue_trial(
            job.trial.params, user_attrs={**keys, "stratum": job.trial.user_attrs["stratum"]}
        )
        assert driver.assign() is not None
        order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
        folder = confirmed_folder(study)
        *_, last = confirmed_results(settings, order, study=config.name, folder=folder, pictures=frozenset())
        assert isinstance(last, EpochResult)
        assert last.parcel is not None
        last.parcel.unpack()
        driver.complete(0, last.record.auc or 0.0, {**last.record.attributes(), **last.extra})
    return load(config.name)


@pytest.mark.slow
def test_views_are_kept_on_request_and_the_folder_predicts_with_them(
    config: StudyConfig, data: PreparedData, workdir: Path
) -> None:
    study = confirmed_once(config, data, workdir)
    summary = summarize_confirmation(study, find_confirmation(study))
    dataset: Any = config.dataset
    found = find_views(study, summary, dataset, requested=False)
    assert found.kept == (found.val_gain.ci[0] > 0)
    kept = found.model_copy(update={"kept": True, "requested": True})
    study.set_user_attr(VIEWS_FOUND, kept.model_dump(mode="json"))
    assert read_views(study) == kept
    holds("confirm", summary.to_dict() | {"views": kept.model_dump(mode="json")})
    done = export_model(config.name, workdir / "model", prints=False)
    holds("export", done.to_dict())
    assert done.views == kept
    model = done.to_dict()["model"]
    # What the confirmation knows of the network without views is not told of it.
    assert (model["val_auc"], model["val_log_loss"], model["calibrations"]) == (kept.val_auc, None, [])
    assert read_config(workdir / "model").views == ["as_is", "mirrored"]
    images = open_test(data).images
    said = medfathom.load(workdir / "model").predict(images)
    own = read_predictions(predictions_file(views_folder(study), "test")).probabilities
    np.testing.assert_allclose(said.probabilities, own, atol=1e-5)
    mirrored = medfathom.load(workdir / "model").predict(np.ascontiguousarray(images[:, :, ::-1]))
    np.testing.assert_allclose(said.probabilities, mirrored.probabilities, atol=1e-4)
    session = onnxruntime.InferenceSession(str(workdir / "model" / "model.onnx"))
    inputs = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (values,) = session.run(["probabilities"], {"images": inputs})
    np.testing.assert_allclose(values, own, atol=1e-4)
    card = (workdir / "model" / "README.md").read_text()
    assert "The best model with views of each image" in card
    assert "Trained with one seed (judged without views of each image): mean test AUC" in card
    told = ensemble(gather(load(config.name)))
    assert isinstance(told, Fact)
    assert "The best model with views of each image" in told.text
    assert told.text.endswith("All other items are about the single network, without views of each image.")
    study.set_user_attr(VIEWS_FOUND, kept.model_copy(update={"kept": False}).model_dump(mode="json"))
    assert export_model(config.name, workdir / "plain", prints=False, onnx=False).views is None


def test_what_is_told() -> None:
    gains = {"value": 0.02, "ci": (0.01, 0.03)}
    found = TestViews(
        trial=0,
        views=["as_is", "mirrored"],
        val_auc=0.92,
        single_val_auc=0.9,
        test_auc=0.91,
        single_test_auc=0.89,
        val_gain=gains,  # type: ignore[arg-type]
        test_gain=gains,  # type: ignore[arg-type]
        requested=False,
        kept=True,
    )
    first, second = views_lines(found)
    assert "gain +0.0200 (95 % interval +0.0100 to +0.0300). It is kept, as the interval is above 0." in first
    assert second.startswith("Test AUC with views 0.9100 against 0.8900")
