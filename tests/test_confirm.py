"""What confirm does before it trains: choices, missing strata, jobs, bad input; how results are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medfathom.compare_confirmed import MOST_MODELS, compare_confirmed
from medfathom.confirm import _jobs, confirm_study
from medfathom.confirmed import (
    CONFIRMS,
    analysis_records,
    by_configuration,
    choose,
    confirmation_name,
    confirmed_folder,
    find_confirmation,
    predictions_file,
    sampling_interval,
    summarize,
)
from medfathom.confirmed_view import render
from medfathom.definitions import StudyConfig, load_study
from medfathom.errors import DataError, InputError, StorageError
from medfathom.storage import default_url, open_ledger
from medfathom.storage import load_study as load_study_of
from medfathom.training.auc import Z95, roc_auc_score


def load(name: str) -> Any:
    return load_study_of(default_url(), name)


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return load_study(
        "demo",
        [
            "sampler=random",
            "space.architecture.role='scientific'",
            "space.architecture.choices=['tf_efficientnet_lite0', 'tf_efficientnet_lite1']",
            "space.init.value='imagenet'",
            "space.unfreeze_depth.role='scientific'",
            "space.unfreeze_depth.low=0",
            "space.unfreeze_depth.high=1",
            "budget.trials=8",
        ],
    )


def searched(config: StudyConfig, *, complete: bool = True) -> Any:
    """Eight trials: those of lite0 complete with rising AUC, those of lite1 stopped, the last one failed."""
    with open_ledger(config, default_url(), "data") as ledger:
        for assignment in iter(ledger.assign, None):
            number = assignment.number
            facts = {"n_params": 4, "depth": 53, "family": "efficientnet", "macs": 5}
            if number == 7:
                ledger.fail(number, "out of memory", facts)
            elif complete and assignment.params.architecture.endswith("0"):
                ledger.complete(number, 0.7 + number / 100, facts)
            else:
                ledger.report(number, 1, 0.99)
                ledger.prune(number, facts, "stopped by asha at epoch 1")
    return load(config.name)


def test_the_best_complete_trial_of_each_stratum_is_chosen(config: StudyConfig) -> None:
    study = searched(config)
    found = choose(study)
    strata = [t.user_attrs["stratum"] for t in found.trials]
    assert len(strata) == len(set(strata))
    assert all("lite0" in stratum for stratum in strata)
    for trial in found.trials:
        same = [t for t in study.get_trials() if t.user_attrs["stratum"] == trial.user_attrs["stratum"]]
        assert trial.value == max(t.value for t in same if t.state.name == "COMPLETE")
    reasons = {m["stratum"]: m["reason"] for m in found.missing}
    assert set(strata).isdisjoint(reasons)
    assert len(strata) + len(reasons) == len(config.space.strata())
    drawn = {t.user_attrs["stratum"] for t in study.get_trials()}
    for stratum, reason in reasons.items():
        assert ("no complete trial" in reason) == (stratum in drawn)


def test_jobs_are_seed_by_seed_and_take_more_trials(config: StudyConfig) -> None:
    study = searched(config)
    jobs = _jobs(study, 2, None, [])
    n = len(choose(study).trials)
    assert [job.seed_index for job in jobs] == [0] * n + [1] * n
    assert {job.trial.number for job in _jobs(study, 1, 1, [])} == {choose(study).trials[0].number}
    complete = [t.number for t in study.get_trials() if t.state.name == "COMPLETE"]
    assert {job.trial.number for job in _jobs(study, 1, None, complete)} == set(complete)
    stopped = next(t.number for t in study.get_trials() if t.state.name == "PRUNED")
    for number, words in ((99, "no trial 99"), (stopped, "is PRUNED"), (7, "is FAIL")):
        with pytest.raises(StorageError, match=words):
            _jobs(study, 1, None, [number])
    with pytest.raises(InputError, match="--seeds 0"):
        _jobs(study, 0, None, [])
    with pytest.raises(InputError, match="--top 0"):
        _jobs(study, 1, 0, [])


def test_nothing_is_confirmed_before_a_trial_is_complete(config: StudyConfig) -> None:
    searched(config, complete=False)
    with pytest.raises(StorageError, match="no trial is complete yet"):
        confirm_study(config.name)


def test_other_data_and_a_test_split_of_one_class_are_refused(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(config)
    with pytest.raises(StorageError, match="was searched on other data"):
        confirm_study(config.name)
    assert "test_openings" not in load(config.name).user_attrs

    from medfathom.data import prepare  # noqa: PLC0415

    real = prepare.prepare

    def without_test(*arguments: Any, **options: Any) -> Any:
        data = real(*arguments, **options)
        from dataclasses import replace  # noqa: PLC0415

        return replace(
            data, fingerprint=study.user_attrs["dataset_fingerprint"], sizes={**data.sizes, "test": 0}
        )

    monkeypatch.setattr(prepare, "prepare", without_test)
    with pytest.raises(DataError, match="has no test split"):
        confirm_study(config.name)


def confirmed(config: StudyConfig, study: Any, seeds: int = 3) -> Any:
    """A made confirmation: known predictions of each model."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    jobs = _jobs(study, seeds, None, [])
    with open_ledger(other, default_url(), "data") as ledger:
        ledger.study.set_user_attr(CONFIRMS, study.user_attrs["uid"])
        ledger.budget = len(jobs)
        for job in jobs:
            keys = {"search_trial": job.trial.number, "seed_index": job.seed_index, "seed": job.seed_index}
            ledger.study.enqueue_trial(
                job.trial.params, user_attrs={**keys, "stratum": job.trial.user_attrs["stratum"]}
            )
            assignment = ledger.assign()
            assert assignment is not None
            assert assignment.seed == job.seed_index
            scores = labels + random.normal(0, 1, 60)
            name = f"trial-{assignment.number:05d}"
            folder = confirmed_folder(study) / name
            folder.mkdir(parents=True)
            table = {
                "name": list(map(str, range(60))),
                "group": None,
                "label": labels,
                "probability:ill": scores,
            }
            pd.DataFrame(table).to_parquet(predictions_file(folder, "test"))
            auc = float(roc_auc_score(labels, scores)[0])
            ledger.complete(assignment.number, 0.9, {"test_auc": auc, "folder": name, "n_test": 60})
    return find_confirmation(load(config.name))


def test_a_summary_keeps_seeds_apart_from_test_sampling(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    content = summarize(study, confirmation)
    assert content["missing"] == choose(study).missing
    for row in content["strata"]:
        aucs = [m["test_auc"] for m in row["models"]]
        assert row["test_auc"] == pytest.approx(np.mean(aucs))
        assert row["seed_sd"] == pytest.approx(np.std(aucs, ddof=1))
        low, high = row["sampling_ci"]
        seeds = Z95 * row["seed_sd"] / np.sqrt(3)
        assert row["test_auc"] - row["ci"][0] == pytest.approx(np.hypot(row["test_auc"] - low, seeds))
        assert row["ci"][1] == pytest.approx(
            min(1, row["test_auc"] + np.hypot(high - row["test_auc"], seeds))
        )
    assert render(content)

    one = [confirmed_folder(study) / t.user_attrs["folder"] for t in confirmation.get_trials()[:1]]
    # The same model three times is one model: its interval must not become narrower.
    assert sampling_interval(one * 3) == pytest.approx(sampling_interval(one))


def test_a_confirmation_of_another_study_of_that_name_does_not_count(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    with open_ledger(config, default_url(), "data", fresh=True):
        pass
    assert find_confirmation(load(config.name)) is None


def test_confirmed_rows_and_comparisons_for_the_analysis(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    rows = analysis_records(study, confirmation)
    assert len(rows) == 3 * len(by_configuration(confirmation))
    assert {row["seed"] for row in rows} == {0, 1, 2}
    assert all(row["auc"] != row["val_auc"] and not any(k.startswith("test_") for k in row) for row in rows)
    found = compare_confirmed(study, confirmation)
    n = min(MOST_MODELS, len(by_configuration(confirmation)))
    assert len(found[0]["pairs"]) == n * (n - 1) // 2
    assert found[0]["class"] == "ill"
