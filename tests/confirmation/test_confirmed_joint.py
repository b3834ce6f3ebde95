"""A confirmed model of several data sets: each head judged, kept, exported and used by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import medfathom
from joint_sets import chest, retina, tissue
from made_confirmations import made_model, made_result
from medfathom.confirmation.find import is_kept, predictions_file
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.record import ConfirmedRecord
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.confirmation.words import in_test_split, judged_on, what_varies
from medfathom.confirmation.worker import confirmed_results
from medfathom.data.joint import open_test_of, prepare_study
from medfathom.data.prepared import JointData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.errors import ExportedModelError, WeightsError
from medfathom.exported.model import load_unsealed
from medfathom.models.folder import MANIFEST_FILE, read_config, read_model_folder, write_manifest
from medfathom.models.weights.lookup import locate_weights
from medfathom.scheduling.messages import EpochResult, Order, RunSettings
from medfathom.study.assignment import Assignment
from medfathom.trial.record import SplitMetrics

NAMES = ["chest", "retina", "tissue"]


def study() -> StudyConfig:
    demo = load_definition("demo", ["budget.epochs=2"]).model_dump(mode="json")
    del demo["dataset"]
    tables = [chest(), retina(), tissue()]
    return StudyConfig.model_validate({**demo, "datasets": tables, "joint": {"channels": 3}})


@pytest.fixture(scope="module", params=["shared", "per_dataset"])
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, JointData, EpochResult]:
    """A confirmed model's folder, the data, and its last result."""
    storage = tmp_path_factory.mktemp("confirmed")
    config = study()
    data = prepare_study(config.dataset, storage / "cache")
    assert isinstance(data, JointData)
    settings = RunSettings(config, storage, 1, "cpu", storage, data.fingerprint)
    params = TrialParams(
        architecture="test_resnet", init="random", unfreeze_depth=2, norm=request.param, batch_size=8
    )
    order = Order(Assignment(0, params, "", 7), "study/trial-00000.pt")
    *_, last = confirmed_results(settings, order, study="both", folder=storage, pictures=frozenset())
    assert isinstance(last, EpochResult)
    assert last.parcel is not None
    last.parcel.unpack()
    return storage / "trial-00000", data, last


def test_what_is_recorded_is_each_data_set_s_and_the_mean(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, _, last = kept
    record = ConfirmedRecord.of({**last.record.attributes(), **last.extra})
    assert record.datasets is not None
    assert list(record.datasets) == NAMES
    assert record.test.auc == pytest.approx(np.mean([own.test.auc for own in record.datasets.values()]))
    assert (record.n_test, record.temperature) == (48, None)
    # What is kept says of validation what the trial said; temperature moves an AUC of three classes a little.
    for name, own in record.datasets.items():
        assert own.validation.auc == pytest.approx(last.record.datasets[name].auc, abs=0.05)  # type: ignore[index]
    assert is_kept(folder, NAMES)
    predictions_file(folder / "retina", "test").rename(folder / "moved")
    assert not is_kept(folder, NAMES)
    (folder / "moved").rename(predictions_file(folder / "retina", "test"))


def test_a_head_is_a_model_of_its_data_set(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, data, _ = kept
    for place, name in enumerate(NAMES):
        model, part = load_unsealed(folder / name), data.parts[place]
        assert model.config.class_names == list(part.class_names)
        assert (model.config.task, model.config.modality) == (part.task, part.modality)
        assert model.config.dataset_fingerprint == part.fingerprint
        written = read_predictions(predictions_file(folder / name, "test"))
        found = model.decide(list(written.names), model.logits(open_test_of(data, place).images))
        own = found.probabilities[:, 1:] if part.task == "binary" else found.probabilities
        assert np.allclose(own, written.probabilities, atol=1e-6)


def test_grey_images_are_read_as_the_network_was_trained(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, data, _ = kept
    model = load_unsealed(folder / "chest")
    grey = data.parts[0].split("val").images[:4, :, :, 0]
    ours = model.predict(list(grey)).probabilities
    joint = model.decide(list("0123"), model.logits(data.split("val").images[:4])).probabilities
    assert np.allclose(ours, joint, atol=1e-6)


def sealed(folder: Path, names: list[str]) -> None:
    """As `export` leaves it."""
    for name in names:
        write_manifest(folder / name)
    write_manifest(folder)


def test_an_exported_model_is_used_by_its_heads(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, data, _ = kept
    sealed(folder, NAMES)
    with pytest.raises(ExportedModelError, match=r"name one of its heads: .*chest, .*retina, .*tissue"):
        medfathom.load(folder)
    image = data.parts[1].split("val").images[0, :, :, 0]
    assert len(medfathom.load(folder / "retina").predict(image)) == 1
    # The weights of all heads lie above.
    manifest = folder / MANIFEST_FILE
    before = manifest.read_text()
    manifest.write_text(before.replace(before[:8], "0" * 8, 1))
    with pytest.raises(ExportedModelError, match="changed since the export"):
        medfathom.load(folder / "retina")
    manifest.write_text(before)


def test_a_joint_backbone_is_a_start_where_it_is_one(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, _, _ = kept
    sealed(folder, NAMES)
    init = f"export:{folder / 'chest'}"
    if read_config(folder).norm == "shared":
        location = locate_weights("test_resnet", init, None, {})
        assert location.path == folder / "model.safetensors"
    else:
        with pytest.raises(WeightsError, match="no one backbone to start from"):
            locate_weights("test_resnet", init, None, {})
    with pytest.raises(WeightsError, match="name one of its heads"):
        locate_weights("test_resnet", f"export:{folder}", None, {})


def test_the_whole_model_names_its_heads(kept: tuple[Path, JointData, EpochResult]) -> None:
    folder, data, _ = kept
    config = read_config(folder)
    assert config.heads == NAMES
    assert (config.dataset, config.modality) == ("chest+retina+tissue", "CXR+OCT+WSI")
    assert config.dataset_fingerprint == data.fingerprint
    assert json.loads((folder / "medfathom.json").read_text())["heads"] == NAMES
    with pytest.raises(ExportedModelError, match="used by its heads"):
        load_unsealed(folder)
    sealed(folder, NAMES)
    assert read_model_folder(folder / "tissue").head == 2


def test_data_sets_of_cases_are_told_as_cases() -> None:
    """The AUC of one is per case: 12 cases, not their 48 images."""
    images, cases = made_result(), made_result(models=(made_model(n_test=48, test=SplitMetrics(n_cases=12)),))
    assert what_varies(made_result(datasets={"a": images, "b": images})).startswith("over test images")
    both = made_result(datasets={"a": images, "b": cases})
    assert what_varies(both).startswith("over test images and cases")
    grouped = SplitMetrics(auc_interval="DeLong, logit, clustered by group")
    alone = made_result(models=(made_model(test=grouped),))
    assert what_varies(alone) == "over test patients (or slides), for this one seed only"
    mixed = made_result(datasets={"a": alone, "b": images})
    assert what_varies(mixed).startswith("over test patients (or slides) and images")
    assert in_test_split(cases, "case") == "12 test cases (48 images)"
    summary = ConfirmationSummary(
        study="s",
        modality="CXR",
        objective="auc",
        unfinished=None,
        openings=(),
        strata=(both,),
        missing=(),
        failures=(),
        efficiency=None,
    )
    assert judged_on(summary) == "a 100 test images, b 12 test cases (48 images)"
