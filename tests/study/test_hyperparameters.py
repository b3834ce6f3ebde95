"""Every place that tells a trial's hyperparameters tells those that the trial had."""

from collections.abc import Sequence
from typing import Any

import pytest

from made_confirmations import confirmed, searched
from medfathom import trials
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.dashboard.notes import NotesAndPictures
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.export_runs import runs_of
from medfathom.study.connection import default_url
from medfathom.study.ids import storage_of, study_id_of, trial_id_of
from medfathom.study.open import open_study
from medfathom.study.read import read_study
from medfathom.study.summary import summarize_study
from medfathom.terminal.output import print_text
from medfathom.terminal.show import study_text

RATES = [0.003, 0.03]
EXCLUSIONS = (
    [{"architecture": "tf_efficientnet_lite1", "learning_rate": RATES[0]}],  # two are drawn together
    [{"unfreeze_depth": 2}, {"unfreeze_depth": 4}],  # one alone is
)


def definition(exclude: Sequence[Any]) -> StudyConfig:
    config = load_definition("demo", ["sampler=random", "scheduler=none", "space.optimizer.value=sgd"])
    content = config.model_dump()
    content["space"]["dimensions"]["learning_rate"] = {"choices": RATES}
    content["space"]["exclude"] = exclude
    return StudyConfig.model_validate(content)


@pytest.mark.parametrize("exclude", EXCLUSIONS)
def test_each_hyperparameter_is_told_by_name(
    workdir: object, exclude: Sequence[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = definition(exclude)
    with open_study(config, default_url(), "data") as driver:
        driver.recorder = NotesAndPictures(driver.study, print)
        given = {}
        for assignment in iter(driver.assign, None):
            given[assignment.number] = assignment.params
            facts = {"auc": 0.8, "architecture": assignment.params.architecture, "stratum": "all"}
            driver.complete(assignment.number, 0.8, facts)
        driver.close_records()
        study = driver.study
        attributes = storage_of(study).get_study_system_attrs(study_id_of(study))
    varied = ("architecture", "init", "unfreeze_depth", "learning_rate", "optimizer")
    wanted = {n: {name: getattr(params, name) for name in varied} for n, params in given.items()}
    study = read_study(default_url(), "demo")
    summary = summarize_study(study, study.get_trials())
    assert {row.number: dict(row.params) for row in summary.best} == {
        row.number: wanted[row.number] for row in summary.best
    }
    print_text(study_text(summary))
    shown = capsys.readouterr().out
    best = summary.best[0].number
    assert f"{given[best].learning_rate:.1e}" in shown
    assert {int(run.name.split()[1]): run.params for run in runs_of(study)[0]} == wanted
    frame = trials("demo")
    assert frame[list(varied)].to_dict("index") == wanted
    for trial in study.get_trials():
        note = next(v for k, v in attributes.items() if k == f"dashboard:{trial_id_of(trial)}:note_str:0")
        assert f"**Run.** learning_rate {given[trial.number].learning_rate:.2g}, optimizer sgd" in note


@pytest.mark.parametrize("exclude", EXCLUSIONS)
def test_a_confirmed_model_has_them_by_name(workdir: object, exclude: Sequence[Any]) -> None:
    config = definition(exclude)
    confirmation = confirmed(config, searched(config), 1)
    search = read_study(default_url(), "demo")
    found = summarize_confirmation(search, confirmation)
    assert found.strata
    for result in found.strata:
        params = trials("demo").loc[result.search_trial]
        assert set(result.params) == {"architecture", "init", "unfreeze_depth", "learning_rate", "optimizer"}
        assert all(result.params[name] == params[name] for name in result.params)
        assert result.params["learning_rate"] in RATES
        assert result.params["optimizer"] == "sgd"
