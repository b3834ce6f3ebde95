"""Confirmed models summarized: seeds and test images apart; rows and comparisons for the analysis."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState

from json_holds import holds
from made_confirmations import confirmed, load, made_model, made_result, searched
from medfathom.analysis.results import from_trials
from medfathom.answer import analyze_all
from medfathom.confirmation.choice import choose
from medfathom.confirmation.comparison import MOST_MODELS, compare_confirmed
from medfathom.confirmation.find import (
    by_configuration,
    confirmation_name,
    confirmed_folder,
    job_key,
    predictions_file,
)
from medfathom.confirmation.jobs import enqueue, list_jobs
from medfathom.confirmation.openings import OPENINGS, read_openings
from medfathom.confirmation.summary import (
    _model,
    _one,
    analysis_records,
    best_model,
    interval_over_images_and_seeds,
    sampling_interval,
    summarize_confirmation,
)
from medfathom.confirmation.words import objective_sentence
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import StorageError
from medfathom.metrics.intervals import Z95
from medfathom.models.folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.read import records
from medfathom.terminal.confirmation import confirmation_text
from medfathom.trial.record import SplitMetrics


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_over_few_seeds_cover(n_seeds: int) -> None:
    """Seeds that differ much, test sampling that is known well: the normal quantile covers 73 to 89 %."""
    random = np.random.default_rng(n_seeds)
    inside = 0
    for _ in range(1000):
        sampling = random.normal(0, 0.002)
        aucs = 0.8 + sampling + random.normal(0, 0.02, n_seeds)
        mean, half = float(aucs.mean()), Z95 * 0.002
        low, high = interval_over_images_and_seeds(
            mean, mean - half, mean + half, float(aucs.std(ddof=1)), n_seeds
        )
        inside += low <= 0.8 <= high
    assert inside >= 930
    assert interval_over_images_and_seeds(0.8, 0.7, 0.9, None, 1) == pytest.approx([0.7, 0.9])


def test_a_summary_keeps_seeds_apart_from_test_sampling(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    summary = summarize_confirmation(study, confirmation)
    assert list(summary.missing) == choose(study).missing
    for result in summary.strata:
        aucs = [model.test_auc for model in result.models]
        assert result.test_auc == pytest.approx(np.mean(aucs))
        assert result.seed_sd == pytest.approx(np.std(aucs, ddof=1))
        assert result.seed_sd is not None
        low, high = result.sampling_ci
        seeds = 4.302653 * result.seed_sd / np.sqrt(3)  # Student's quantile, 2 degrees of freedom
        assert result.test_auc - result.ci[0] == pytest.approx(np.hypot(result.test_auc - low, seeds))
        assert result.ci[1] == pytest.approx(
            min(1, result.test_auc + np.hypot(high - result.test_auc, seeds))
        )
    assert confirmation_text(summary)

    one = [summary.strata[0].models[0]]
    # The same model three times is one model: its interval must not become narrower.
    assert sampling_interval(one * 3) == pytest.approx(sampling_interval(one))


def test_predictions_of_a_copy_of_the_storage_are_not_taken_for_the_study_s(config: StudyConfig) -> None:
    """Both have the same home folder, and a trial of this number: the later one's files are there."""
    study = searched(config)
    confirmation = confirmed(config, study)
    jobs = list_jobs(study, 3, None, [])
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    with open_study(other, default_url(), "data") as driver:
        for each in confirmation.get_trials():
            for name in (WEIGHTS_FILE, CONFIG_FILE):
                (confirmed_folder(study) / each.user_attrs["folder"] / name).touch()
        assert not enqueue(driver, jobs, 0, confirmed_folder(study))
        first, second = (confirmed_folder(study) / f"trial-0000{k}" for k in (0, 1))
        shutil.copyfile(predictions_file(second, "test"), predictions_file(first, "test"))
        with pytest.raises(StorageError, match=r"trial-00000/test.parquet: its AUC is not 0\.\d+, as"):
            summarize_confirmation(study, confirmation)
        assert enqueue(driver, jobs, 0, confirmed_folder(study))
        (again,) = driver.trials(TrialState.WAITING)
    assert job_key(again) == job_key(confirmation.get_trials()[0])


def test_the_validation_auc_is_that_of_the_predictions_that_are_kept(config: StudyConfig) -> None:
    """Training may judge in bfloat16; of the test split, too, predictions in float32 are judged."""
    confirmed(config, searched(config))
    trial = load(confirmation_name(config.name)).trials[0]
    assert _model(trial, Path()).val_auc == trial.value == 0.9  # as earlier versions left it
    trial.set_user_attr("validation_auc", 0.85)
    assert _model(trial, Path()).val_auc == 0.85


def test_confirmed_rows_and_comparisons_for_the_analysis(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    summary = summarize_confirmation(study, confirmation)
    rows = analysis_records(study, summary)
    assert len(rows) == 3 * len(by_configuration(confirmation))
    assert {row["seed"] for row in rows} == {0, 1, 2}
    assert all(row["auc"] != row["val_auc"] and not any(k.startswith("test_") for k in row) for row in rows)
    (found,) = compare_confirmed(summary)
    n = min(MOST_MODELS, len(by_configuration(confirmation)))
    assert len(found.comparison.pairs) == n * (n - 1) // 2
    assert found.class_name == "ill"


def test_what_else_is_compared_is_a_setting_of_the_row(config: StudyConfig) -> None:
    """Of the training fractions not only the best is analysed."""
    changes = ["space.train_fraction.role='scientific'", "space.train_fraction.choices=[0.25, 1.0]"]
    changes += ["space.architecture.value='tf_efficientnet_lite0'", "space.unfreeze_depth.value=1"]
    wider = load_definition(
        "demo", [*changes, "space.init.value='imagenet'", "sampler=random", "budget.trials=8", "name=wider"]
    )
    study = searched(wider)
    rows = analysis_records(study, summarize_confirmation(study, confirmed(wider, study)))
    expected = {"train_fraction=0.25", "train_fraction=1.0"}
    assert {row["setting"] for row in rows} == expected
    assert {row["setting"] for row in records(study) if row["state"] == "COMPLETE"} == expected
    frame, _ = from_trials(records(study))
    assert set(frame["setting"]) == expected


def test_the_json_form_has_its_keys_in_order(config: StudyConfig) -> None:
    study = searched(config)
    content: Any = summarize_confirmation(study, confirmed(config, study)).to_dict()
    holds("confirm", content)
    assert list(content) == [
        *(
            "study",
            "modality",
            "objective",
            "unfinished",
            "n_test",
            "positive",
            "openings",
            "strata",
            "missing",
            "failures",
        )
    ]
    facts = ["architecture", "family", "init", "unfreeze_depth", "strategy", "n_params", "n_trainable_params"]
    aucs = [
        "search_auc",
        "search_value",
        "val_auc",
        "val_log_loss",
        "test_auc",
        "seed_sd",
        "sampling_ci",
        "ci",
        "optimism",
    ]
    aucs.append("gap")
    others = ["sensitivity", "specificity", "precision", "accuracy", "average_precision"]
    assert list(content["strata"][0]) == [
        *("stratum", "search_trial", "chosen", *facts, "depth", "macs", "params", *aucs),
        *("unit", "combine", "n_test_cases", "models", *others),
        *("brier_loss", "calibration_error", "image_auc", "objective_value"),
    ]
    keys = [
        "trial",
        "seed",
        "val_auc",
        "val_log_loss",
        "test_auc",
        "test_ci",
        "calibration",
        "calibrations",
        "folder",
    ]
    assert list(content["strata"][0]["models"][0]) == keys
    assert content["strata"][0]["models"][0]["test_ci"] == [None, None]
    assert set(content["missing"][0]) == {"stratum", "reason"}


def test_openings_of_older_versions_are_read(config: StudyConfig) -> None:
    study = searched(config)
    stored = [{"when": "2026-01-31 12:00:00", "by": "confirm", "models": [[0, 0], [2, 1]], "n_images": 60}]
    study.set_user_attr(OPENINGS, stored)
    assert [opening.to_dict() for opening in read_openings(load(config.name))] == stored
    summary = summarize_confirmation(load(config.name), None)
    assert (summary.n_test, summary.strata) == (60, ())


def test_an_analysis_reads_predictions_once_to_summarize_and_once_to_compare(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(config)
    trials = confirmed(config, study).get_trials()
    reads: Counter[str] = Counter()
    real = pd.read_parquet

    def counted(path: Path) -> pd.DataFrame:
        reads[path.parent.name] += 1
        return real(path)

    monkeypatch.setattr(pd, "read_parquet", counted)
    study.set_user_attr(LEAKAGE, "Leakage: 2 images have exact copies in several splits")
    analysis, folder = analyze_all([config.name], [])
    (told,) = analysis.studies
    assert (told.study, told.positive) == (config.name, "1")
    assert told.leakage.startswith("Leakage: 2 images")
    assert f"{config.name}: Leakage: 2 images" in (folder / "report.html").read_text()
    content: Any = analysis.to_dict()
    holds("analyze", content)
    assert len(content["confirmed"][0]["strata"]) == 2
    first = {t.user_attrs["folder"] for t in trials if t.user_attrs["seed_index"] == 0}
    assert reads == {t.user_attrs["folder"]: 1 + (t.user_attrs["folder"] in first) for t in trials}


def test_a_mean_over_seeds_is_over_all_of_them(config: StudyConfig) -> None:
    """A model that calls nothing positive has no precision; that of the other seeds is not the mean."""
    study = searched(config)
    trials = next(iter(by_configuration(confirmed(config, study)).values()))
    models = tuple(
        replace(_model(trial, confirmed_folder(study)), test=SplitMetrics(auc=0.8, precision=p, accuracy=0.7))
        for trial, p in zip(trials, (0.9, None, 0.8), strict=True)
    )
    found = _one(study.trials[models[0].row["search_trial"]], {}, models, 0.8, chosen=True)
    assert (found.metric_means["precision"], found.metric_means["accuracy"]) == (None, pytest.approx(0.7))


def test_the_objective_of_the_search_is_told_beside_the_test_auc() -> None:
    models = [
        made_model(test=SplitMetrics(auc=0.8, objective_value=v), validation=SplitMetrics(objective_value=w))
        for v, w in ((0.4, 0.7), (0.6, 0.9))
    ]
    result = made_result(models=tuple(models), metric_means={"objective_value": 0.5}, search_value=0.75)
    assert best_model(result, "objective") is models[1]
    told = objective_sentence(result, "auprc")
    assert (
        "Objective of the search, AUPRC: 0.7500 on validation in the search, 0.5000 on the test split" in told
    )
    assert "the test split itself" in objective_sentence(result, "sensitivity_at_specificity:0.9")
    assert "not calibrated" in objective_sentence(result, "log_loss")
    assert objective_sentence(result, "unit_auc") == ""
