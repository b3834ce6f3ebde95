"""What confirm chooses, and the jobs that follow."""

import numpy as np
import pytest
import sqlalchemy as sa
from optuna.study import Study

from made_confirmations import load, searched
from medfathom.confirmation.choice import choose
from medfathom.confirmation.jobs import list_jobs
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.data.prepared import Units
from medfathom.definitions.config import StudyConfig
from medfathom.errors import InputError, StorageError
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.probabilities import probabilities
from medfathom.study.connection import default_url
from medfathom.study.ids import trial_id_of
from medfathom.study.predictions import keep_predictions, predictions_path
from medfathom.trial.validation import ValidationPredictions


def test_the_best_complete_trial_of_each_stratum_is_chosen(config: StudyConfig) -> None:
    study = searched(config)
    found = choose(study)
    strata = [t.user_attrs["stratum"] for t in found.trials]
    assert len(strata) == len(set(strata))
    assert all("lite0" in stratum for stratum in strata)
    for trial in found.trials:
        same = [t for t in study.get_trials() if t.user_attrs["stratum"] == trial.user_attrs["stratum"]]
        assert trial.value == max(t.value for t in same if t.state.name == "COMPLETE")
    reasons = {m.stratum: m.reason for m in found.missing}
    assert set(strata).isdisjoint(reasons)
    assert len(strata) + len(reasons) == len(config.space.strata())
    drawn = {t.user_attrs["stratum"] for t in study.get_trials()}
    for stratum, reason in reasons.items():
        assert ("no complete trial" in reason) == (stratum in drawn)


def said(study: Study, worst: str) -> Study:
    """Every complete trial ranks 200 validation images well, but for those of one stratum, which guess."""
    random, aucs = np.random.default_rng(0), dict[int, float]()
    labels = np.arange(200) % 2
    units = Units(labels, None, [str(i) for i in range(200)])
    for trial in study.get_trials():
        if trial.state.name == "COMPLETE":
            signal = (trial.user_attrs["stratum"] != worst) * 3.0 * labels
            logit = signal + random.standard_normal(200)
            of_two = np.stack([0 * logit, logit], axis=1)
            content = ValidationPredictions.of("binary", units, of_two).to_bytes()
            keep_predictions(study, trial.number, content)
            values = probabilities("binary", of_two)
            aucs[trial_id_of(trial)] = float(roc_auc_score(labels == 1, values)[0])
    engine = sa.create_engine(default_url(), poolclass=sa.NullPool)
    with engine.begin() as connection:  # what the trials reached, as it would be of these predictions
        for trial_id, auc in aucs.items():
            put = sa.text("update trial_values set value = :auc where trial_id = :trial")
            connection.execute(put, {"auc": auc, "trial": trial_id})
    return load(study.study_name)  # type: ignore[no-any-return]


def test_strata_that_may_be_the_best_are_confirmed(config: StudyConfig) -> None:
    study = searched(config)
    worst = choose(study).trials[-1]
    assert len({job.trial.number for job in list_jobs(study, 1, None, [])}) == len(choose(study).trials), (
        "nothing tells trials apart without predictions"
    )
    study = said(study, worst.user_attrs["stratum"])
    wanted = {job.trial.user_attrs["stratum"] for job in list_jobs(study, 1, None, [])}
    others = {t.user_attrs["stratum"] for t in choose(study).trials}
    assert len(others) > 1
    assert wanted == others - {worst.user_attrs["stratum"]}
    missing = {m.stratum: m.reason for m in summarize_confirmation(study, None).missing}
    assert "significantly lower than the highest" in missing[worst.user_attrs["stratum"]]
    all_strata = {job.trial.user_attrs["stratum"] for job in list_jobs(study, 1, 9, [])}
    assert all_strata == others, "--top takes so many"


def test_a_stratum_that_was_not_compared_is_not_said_to_be_lower(config: StudyConfig) -> None:
    """Its predictions are on another machine: nobody knows whether it is as good as the best."""
    study = searched(config)
    last = choose(study).trials[-1].user_attrs["stratum"]
    study = said(study, worst="")
    for trial in study.get_trials():
        if trial.user_attrs["stratum"] == last:
            predictions_path(study, trial.number).unlink(missing_ok=True)
    missing = {m.stratum: m.reason for m in summarize_confirmation(study, None).missing}
    assert missing[last] == (
        "not confirmed: not known to be as good as the best (not all trials were compared with it)"
    )


def test_a_comparison_confirms_every_stratum(config: StudyConfig) -> None:
    compared = config.model_copy(update={"goal": "compare"})
    study = searched(compared)
    study = said(study, choose(study).trials[-1].user_attrs["stratum"])
    assert len(list_jobs(study, 1, None, [])) == len(choose(study).trials)


def test_jobs_are_seed_by_seed_and_take_more_trials(config: StudyConfig) -> None:
    study = searched(config)
    jobs = list_jobs(study, 2, None, [])
    n = len(choose(study).trials)
    assert [job.seed_index for job in jobs] == [0] * n + [1] * n
    assert {job.trial.number for job in list_jobs(study, 1, 1, [])} == {choose(study).trials[0].number}
    complete = [t.number for t in study.get_trials() if t.state.name == "COMPLETE"]
    assert {job.trial.number for job in list_jobs(study, 1, None, complete)} == set(complete)
    stopped = next(t.number for t in study.get_trials() if t.state.name == "PRUNED")
    for number, words in ((99, "no trial 99"), (stopped, "is PRUNED"), (7, "is FAIL")):
        with pytest.raises(StorageError, match=words):
            list_jobs(study, 1, None, [number])
    with pytest.raises(InputError, match="--seeds 0"):
        list_jobs(study, 0, None, [])
    with pytest.raises(InputError, match="--top 0"):
        list_jobs(study, 1, 0, [])
