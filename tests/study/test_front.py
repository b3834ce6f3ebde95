"""Two objectives: what the definition refuses, what the storage holds, who is on the front."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from medfathom.confirmation.choice import choose
from medfathom.dashboard.notes import study_note
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import DefinitionError, RunError
from medfathom.study.connection import default_url
from medfathom.study.front import front_of, front_sentence
from medfathom.study.open import open_study
from medfathom.study.read import brief_trials, read_study, records
from medfathom.study.summary import SHOWN, summarize_study
from medfathom.terminal.show import study_text


def two_objectives(*more: str) -> StudyConfig:
    overrides = ["objectives.cost='macs'", "sampler=random", "scheduler=none", "budget.trials=4", *more]
    return load_definition("demo", overrides)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("scheduler=asha", 'needs scheduler = "none", but got "asha": early stopping looks at AUC alone'),
        ("goal='compare'", 'needs goal = "best"'),
        ("sampler=gp", "needs a sampler for several objectives"),
        ("budget.patience=3", "cannot be combined with budget.patience"),
        ("objectives.cost='price'", "objectives.cost"),
    ],
)
def test_what_looks_at_auc_alone_is_refused(change: str, words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        two_objectives(change)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_goes_with_a_cost_is_taken_where_nothing_is_named(workdir: Path) -> None:
    file = workdir / "own.toml"
    dataset = '[dataset]\nsource = "phantom-oct"\nmodality = "OCT"\nimage_size = 32\n'
    file.write_text(f'version = 1\nname = "own"\n{dataset}[objectives]\ncost = "n_params"\n')
    config = load_definition(str(file))
    assert (config.sampler.name, config.scheduler.name) == ("tpe", "none")


def spent(config: StudyConfig, costs: list[int | None], aucs: list[float]) -> None:
    with open_study(config, default_url(), "data") as driver:
        for assignment in iter(driver.assign, None):
            number = assignment.number
            if number == 3:
                driver.fail(number, "out of memory", {})
                continue
            facts = {"macs": costs[number], "log_loss": 0.5, "auc_ci_low": 0.6, "auc_ci_high": 0.95}
            driver.complete(number, aucs[number], facts)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "qmc"])
def test_a_front_is_searched_stored_and_told(workdir: Path, sampler: str) -> None:
    config = two_objectives(f"sampler={sampler}")
    spent(config, [500, 200, 900], [0.8, 0.7, 0.75])
    study = read_study(default_url(), "demo")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {t.number for t in study.best_trials} == {0, 1}
    brief = brief_trials(default_url(), study, SHOWN)
    summary = summarize_study(study, brief)
    assert summary.front is not None
    assert [(t.number, t.cost) for t in summary.front.trials] == [(1, 200), (0, 500)]
    assert [(t.number, t.cost) for t in summary.front.beaten] == [(2, 900)]
    assert summary.choice is not None
    assert summary.choice.best == 0
    assert [record["auc"] for record in records(study)] == [0.8, 0.7, 0.75, None]
    told = front_sentence(summary.front)
    assert told in study_note(study, study.trials)
    assert "multiply-accumulates" in told
    study_text(summary)
    chosen = choose(study)
    assert {t.number for t in chosen.trials} == {0, 1, 2}


def test_one_objective_has_no_front(workdir: Path) -> None:
    config = load_definition("demo", ["sampler=random", "budget.trials=4"])
    spent(config, [500, 200, 900], [0.8, 0.7, 0.75])
    study = read_study(default_url(), "demo")
    assert front_of(study, study.trials) is None


def test_a_record_without_the_cost_is_no_result(workdir: Path) -> None:
    with pytest.raises(RunError, match="its record has no macs"):
        spent(two_objectives(), [None, 200, 900], [0.8, 0.7, 0.75])


places = st.tuples(st.sampled_from([0.7, 0.8, 0.9]), st.sampled_from([1, 2, 3]))


@given(st.lists(places, min_size=1, max_size=7))
def test_the_front_is_what_optuna_says_once_for_each_place(points: list[tuple[float, int]]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("definition", {"objectives": {"cost": "macs"}})
    for auc, cost in points:
        study.add_trial(create_trial(values=[auc, cost], state=TrialState.COMPLETE))
    front = front_of(study, study.trials)
    assert front is not None
    assert {(t.auc, t.cost) for t in front.trials} == {tuple(t.values) for t in study.best_trials}
    assert len({(t.auc, t.cost) for t in front.trials}) == len(front.trials)
