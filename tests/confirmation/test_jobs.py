"""What confirm chooses, and the jobs that follow."""

import pytest

from made_confirmations import searched
from medfathom.confirmation.choice import choose
from medfathom.confirmation.jobs import list_jobs
from medfathom.definitions.config import StudyConfig
from medfathom.errors import InputError, StorageError


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
