"""Which confirmed models become an ensemble, what it gains, and its folder and ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import medfathom
from evaluating import write
from json_holds import holds
from made_confirmations import FACTS, load, searched
from made_models import CONFIG
from medfathom import cli
from medfathom.confirm import confirm_study
from medfathom.confirmation.ensemble import (
    ENSEMBLE,
    Ensemble,
    MemberOutputs,
    choose_members,
    ensemble_folder,
    ensemble_lines,
    find_ensemble,
    read_ensemble,
)
from medfathom.confirmation.find import (
    CONFIRMS,
    confirmation_name,
    confirmed_folder,
    find_confirmation,
    image_predictions_file,
    predictions_file,
)
from medfathom.confirmation.jobs import list_jobs
from medfathom.confirmation.paired import mean_auc_gain
from medfathom.confirmation.predictions import read_predictions
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.definitions.config import StudyConfig
from medfathom.errors import InputError, StorageError, WeightsError
from medfathom.export import export_model
from medfathom.exported.model import Model
from medfathom.exported.network import Deployed
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.calibration import calibrated
from medfathom.metrics.classification import log_loss
from medfathom.metrics.probabilities import probabilities
from medfathom.models.folder import WEIGHTS_FILE, ModelConfig, read_config, write_config
from medfathom.models.weights.lookup import locate_weights
from medfathom.reporting.model_facts import ensemble as ensemble_fact
from medfathom.reporting.record import gather
from medfathom.study.connection import default_url
from medfathom.study.open import open_study

torch.set_num_threads(1)

SMALL = CONFIG.model_copy(update={"architecture": "test_resnet", "temperature": 1.0})


def table(labels: np.ndarray, logits: np.ndarray, config: ModelConfig = SMALL, **more: Any) -> pd.DataFrame:
    """Predictions of two classes as `confirm` keeps them; two images a patient."""
    values = calibrated("binary", logits, config.image_temperature or config.temperature)
    content = {"name": [f"{k}" for k in range(len(labels))], **more}
    content |= {"group": [f"p{k // 2}" for k in range(len(labels))], "label": labels}
    content |= {"probability:ill": values[:, 0], "logit:well": logits[:, 0], "logit:ill": logits[:, 1]}
    return pd.DataFrame(content)


def kept_logits(folder: Path, labels: np.ndarray, *scores: np.ndarray) -> list[Path]:
    """Folders of models with these scores (n,) as logits, on the validation split."""
    folders = []
    for k, score in enumerate(scores):
        place = folder / f"trial-{k:05d}"
        place.mkdir()
        logits = np.stack([np.zeros(len(score)), score], axis=1)
        table(labels, logits).to_parquet(predictions_file(place, "val"))
        folders.append(place)
    return folders


def made_study(config: StudyConfig, noise: tuple[float, ...] = ()) -> tuple[Any, np.ndarray]:
    """A confirmed study of real networks with random weights; with `noise` predictions are made up instead.

    Model k then knows the label with normal errors of this standard deviation.
    """
    study, random = searched(config), np.random.default_rng(3)
    jobs = list_jobs(study, 3, None, [])
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    labels = np.arange(60) // 2 % 2
    pictures = random.integers(0, 256, (60, 32, 32, 1), dtype=np.uint8)
    with open_study(other, default_url(), "data") as driver:
        driver.study.set_user_attr(CONFIRMS, study.user_attrs["uid"])
        driver.budget = len(jobs)
        for job in jobs:
            keys = {"search_trial": job.trial.number, "seed_index": job.seed_index, "seed": job.seed_index}
            stratum = job.trial.user_attrs["stratum"]
            driver.study.enqueue_trial(job.trial.params, user_attrs={**keys, "stratum": stratum})
            assignment = driver.assign()
            assert assignment is not None
            number = assignment.number
            folder = confirmed_folder(study) / f"trial-{number:05d}"
            folder.mkdir(parents=True)
            own = SMALL.model_copy(update={"trial": number, "temperature": 0.5 + number / 4})
            torch.manual_seed(number)
            state = {n: t.contiguous() for n, t in Deployed(own).network.state_dict().items()}
            save_file(state, folder / WEIGHTS_FILE)
            write_config(folder, own)
            logits = Model(own, state).logits(pictures).astype(float)
            for split in ("val", "test"):
                if noise:
                    error = noise[number % len(noise)] * random.normal(size=60)
                    logits = np.stack([np.zeros(60), 2 * labels - 1 + error], axis=1)
                table(labels, logits, own).to_parquet(predictions_file(folder, split))
            auc = float(roc_auc_score(labels, logits[:, 1] - logits[:, 0])[0])
            driver.complete(
                number, 0.9 - number / 100, {**FACTS, "test_auc": auc, "folder": folder.name, "n_test": 60}
            )
    return load(config.name), pictures


def found_in(study: Any, most: int = 3, *, requested: bool = False) -> Ensemble:
    summary = summarize_confirmation(study, find_confirmation(study))
    found = find_ensemble(study, summary, most, requested=requested)
    study.set_user_attr(ENSEMBLE, found.model_dump(mode="json"))
    return found


def test_a_copy_of_the_best_is_not_chosen_and_a_different_one_is(tmp_path: Path) -> None:
    labels, random = np.arange(200) % 2, np.random.default_rng(0)
    good, other = (3 * (labels - 0.5) + 1.5 * random.normal(size=200) for _ in range(2))
    bad = random.normal(size=200)
    folders = kept_logits(tmp_path, labels, bad, good, good, other)
    outputs = MemberOutputs(folders, [SMALL] * 4, "val")
    chosen = choose_members(outputs, 4, 3)
    assert chosen in ([1, 3], [3, 1])
    losses = [outputs.log_loss(chosen[: k + 1]) for k in range(2)]
    assert losses[1] < losses[0] == min(outputs.log_loss([k]) for k in range(4))
    assert choose_members(outputs, 4, 1) == chosen[:1]


def test_the_average_is_the_mean_of_calibrated_probabilities(tmp_path: Path) -> None:
    labels, random = np.arange(40) % 2, np.random.default_rng(1)
    first, second = random.normal(size=(2, 40)) * 5
    folders = kept_logits(tmp_path, labels, first, second)
    configs = [SMALL, SMALL.model_copy(update={"temperature": 3.0})]
    outputs = MemberOutputs(folders, configs, "val")
    values = probabilities("binary", outputs.average([0, 1]))[:, 0]
    expected = (1 / (1 + np.exp(-first)) + 1 / (1 + np.exp(-second / 3))) / 2
    assert values == pytest.approx(expected, abs=1e-12)
    assert outputs.log_loss([0, 1]) == pytest.approx(log_loss("binary", labels, expected[:, None]))


def test_cases_are_averaged_image_by_image_and_then_combined(tmp_path: Path) -> None:
    labels, random = np.array([0, 1, 1]), np.random.default_rng(2)
    cases = ["a", "a", "b", "b", "c", "c"]
    config = SMALL.model_copy(update={"unit": "volume", "combine": "max", "image_temperature": 1.0})
    scores = random.normal(size=(2, 6))
    folders = kept_logits(tmp_path, labels, *scores[:, ::2])
    for folder, score in zip(folders, scores, strict=True):
        logits = np.stack([np.zeros(6), score], axis=1)
        table(labels.repeat(2), logits, case=cases).to_parquet(image_predictions_file(folder, "val"))
    outputs = MemberOutputs(folders, [config, config], "val")
    values = probabilities("binary", outputs.average([0, 1]))[:, 0]
    mean = (1 / (1 + np.exp(-scores))).mean(axis=0)
    assert values == pytest.approx(mean.reshape(3, 2).max(axis=1))
    assert outputs.image_labels.tolist() == [0, 0, 1, 1, 1, 1]


def test_the_interval_of_the_gain_counts_patients() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    good, bad = (labels + size * random.normal(size=80) for size in (0.5, 2))
    flags = np.stack([labels == 1], axis=1)
    first, second, alone = mean_auc_gain(flags, good[:, None], bad[:, None])
    assert (first, second) == pytest.approx((roc_auc_score(labels, good)[0], roc_auc_score(labels, bad)[0]))
    assert alone[0] < first - second < alone[1]
    times = [np.tile(values, (4, 1)) for values in (flags, good[:, None], bad[:, None])]
    patients = np.tile(np.arange(80), 4).tolist()
    *_, grouped = mean_auc_gain(*times, patients)
    *_, images = mean_auc_gain(*times)
    assert grouped == pytest.approx(alone, abs=0.02)
    assert images[1] - images[0] < 0.7 * (grouped[1] - grouped[0])


def test_a_class_without_images_does_not_count() -> None:
    random = np.random.default_rng(0)
    flags = np.zeros((60, 3), dtype=bool)
    flags[::2, 0] = flags[1::2, 1] = True
    scores, others = random.random((2, 60, 3))
    first, _, ci = mean_auc_gain(flags, scores, others)
    assert first == pytest.approx(np.mean([roc_auc_score(flags[:, c], scores[:, c])[0] for c in (0, 1)]))
    assert np.isfinite(ci).all()


def test_what_gains_is_kept_and_what_does_not_only_on_request(config: StudyConfig) -> None:
    study, _ = made_study(config, noise=(1.5,))
    found = found_in(study)
    assert 2 <= len(found.members) == len(set(found.members)) <= 3
    assert found.candidates == 6
    assert found.val_log_loss < found.single_val_log_loss
    assert found.kept
    assert found.val_gain.ci[0] > 0
    kept = read_predictions(predictions_file(ensemble_folder(study), "test"))
    assert found.test_auc == pytest.approx(roc_auc_score(kept.positive, kept.probabilities)[0])
    assert "It is kept, as the interval is above 0." in ensemble_lines(found)[1]
    assert read_ensemble(study) == found
    summary = summarize_confirmation(study, find_confirmation(study)).to_dict()
    holds("confirm", json.loads(json.dumps(summary | {"ensemble": found.model_dump(mode="json")})))


def test_the_choice_never_looks_at_the_test_split(config: StudyConfig) -> None:
    study, _ = made_study(config, noise=(1.0, 1.5))
    before = found_in(study)
    summary = summarize_confirmation(study, find_confirmation(study))
    for file in confirmed_folder(study).glob("trial-*/test.parquet"):
        rows = pd.read_parquet(file)
        rows["label"] = 1 - rows["label"]
        rows.to_parquet(file)
    after = find_ensemble(study, summary, 3, requested=False)
    assert after.members == before.members
    assert after.kept == before.kept
    assert after.test_auc == pytest.approx(1 - before.test_auc)


def test_an_ensemble_that_does_not_gain_is_refused_by_export(config: StudyConfig, tmp_path: Path) -> None:
    study, _ = made_study(config, noise=(0.05,))  # the single best has an AUC of 1 already
    with pytest.raises(StorageError, match="has no ensemble yet"):
        export_model(study.study_name, tmp_path / "model", ensemble=True)
    found = found_in(study)
    assert not found.kept
    with pytest.raises(StorageError, match="--keep-ensemble"):
        export_model(study.study_name, tmp_path / "model", ensemble=True)
    assert not (tmp_path / "model").exists()


def test_files_of_other_members_are_refused_by_export(config: StudyConfig, tmp_path: Path) -> None:
    """`confirm --ensemble` died after it had written the folder, before it had told the study."""
    study, _ = made_study(config)
    first = found_in(study, most=2, requested=True)
    weaker = confirmed_folder(study) / f"trial-{first.members[1]:05d}"
    for split in ("val", "test"):
        rows = pd.read_parquet(predictions_file(weaker, split))
        rows["logit:ill"] = -9.0 * rows["label"]
        rows.to_parquet(predictions_file(weaker, split))
    summary = summarize_confirmation(study, find_confirmation(study))
    second = find_ensemble(study, summary, 2, requested=True)
    assert second.members != first.members == read_ensemble(study).members
    with pytest.raises(StorageError, match=r"ensemble: it is of models .* was interrupted"):
        export_model(study.study_name, tmp_path / "model", ensemble=True, prints=False, onnx=False)


@pytest.mark.slow
def test_the_exported_folder_and_its_onnx_give_the_mean(config: StudyConfig, tmp_path: Path) -> None:
    study, pictures = made_study(config)
    found = found_in(study, requested=True)
    assert found.kept
    out = tmp_path / "model"
    done = export_model(study.study_name, out, ensemble=True, prints=False)
    assert done.ensemble == found
    holds("export", done.to_dict())
    assert done.onnx_difference is not None
    kept = read_predictions(predictions_file(ensemble_folder(study), "test"))
    said = medfathom.load(out).predict(pictures)
    assert said.probabilities[:, 1] == pytest.approx(kept.probabilities[:, 0], abs=1e-5)
    means = np.mean(
        [
            read_predictions(
                predictions_file(confirmed_folder(study) / f"trial-{n:05d}", "test")
            ).probabilities
            for n in found.members
        ],
        axis=0,
    )[:, 0]
    odds = np.log(means / (1 - means)) / read_config(out).temperature
    assert said.probabilities[:, 1] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    inputs = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (values,) = session.run(["probabilities"], {"images": inputs})
    assert values[:, 1] == pytest.approx(kept.probabilities[:, 0], abs=1e-4)
    card = (out / "README.md").read_text()
    assert "The mean of " in card
    assert "### Members" in card
    assert "timm.create_model" not in card
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["model"]["test"]["auc"] == pytest.approx(found.test_auc)
    with pytest.raises(WeightsError, match="an ensemble"):
        locate_weights("test_resnet", f"export:{out}")


@pytest.mark.slow
def test_an_exported_ensemble_is_evaluated_elsewhere(config: StudyConfig, tmp_path: Path) -> None:
    study, pictures = made_study(config)
    found = found_in(study, requested=True)
    out = tmp_path / "model"
    export_model(study.study_name, out, ensemble=True, prints=False, onnx=False)
    labels = np.arange(60) // 2 % 2
    definition = write(tmp_path, images=pictures[..., 0], labels=labels)
    evaluation = medfathom.evaluate(out, definition, pictures=tmp_path / "pictures")
    assert evaluation.metrics.auc == pytest.approx(found.test_auc, abs=1e-6)
    assert evaluation.internal is not None
    assert evaluation.internal.auc == pytest.approx(found.test_auc)
    assert f"ensemble of confirmation trials {', '.join(map(str, found.members))}" in evaluation.model
    assert (tmp_path / "pictures" / "roc.png").is_file()


def test_flags_that_do_not_fit_are_refused(
    capsys: pytest.CaptureFixture[str], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--keep-ensemble: also give --ensemble N"):
        confirm_study("demo", keep_ensemble=True)
    typed = ["medfathom", "export", "demo", "--out", "x", "--ensemble", "--trial", "3"]
    monkeypatch.setattr("sys.argv", typed)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "leave out --trial 3" in capsys.readouterr().err


def test_the_report_tells_it(config: StudyConfig) -> None:
    study, _ = made_study(config, noise=(1.0,))
    assert "No ensemble" in str(ensemble_fact(gather(study)))
    found = found_in(study)
    assert f"{found.val_log_loss:.4f}" in str(ensemble_fact(gather(study)))
