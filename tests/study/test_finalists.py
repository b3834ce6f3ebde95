"""Which trials go on with later folds: the best, within the price, in their true states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from medfathom.answer import _failures, _tuned
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.export_runs import runs_of
from medfathom.study.assignment import Assignment
from medfathom.study.choice import choice_of, choice_sentences, completed
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.stopping import Stopping
from medfathom.study.summary import GOES_ON_FROM, summarize_study

E, K = 2, 5


def definition(**more: Any) -> StudyConfig:
    changes = ["sampler=random", "scheduler=none", "budget.trials=12", f"budget.epochs={E}"]
    whole = load_definition("demo", [*changes, f"dataset.splits.folds={K}"]).model_dump(exclude_defaults=True)
    return StudyConfig.model_validate(whole | more)


@pytest.fixture
def driver(workdir: Path) -> Iterator[Driver]:
    with open_study(definition(), default_url(), "data") as opened:
        yield opened


def judged(auc: float) -> dict[str, Any]:
    one = {"auc": auc, "blocks": [0], "influence": [0.01], "excess": 0.01, "judged": 40}
    return {"val_loss": 1 - auc, "judged": {**one, "positives": 9.0, "negatives": 9.0, "known": 1.0}}


def first_fold(driver: Driver, assignment: Assignment, auc: float, seconds: float = 10.0) -> None:
    for epoch in range(1, E + 1):
        driver.report(assignment.number, epoch, auc)
    attributes = {"epochs": E, "folds": [judged(auc)], "fold_aucs": [auc], "train_seconds": seconds}
    driver.prune(assignment.number, attributes, "has its first fold")


def later_folds(driver: Driver, assignment: Assignment, auc: float) -> None:
    folds = {"fold_aucs": [auc] * K, "folds": [judged(auc)] * K}
    attributes = {"epochs": E * K, "train_seconds": 10.0 * (K - 1), **folds}
    driver.complete(assignment.number, auc, attributes)


def go_through(driver: Driver, aucs: list[float]) -> list[int]:
    """Run the study. Returns the trials that went on, in order."""
    went_on = []
    waiting = iter(aucs)
    while assignment := driver.assign():
        if assignment.scored:
            went_on.append(driver.trials()[assignment.number].user_attrs[GOES_ON_FROM])
            later_folds(driver, assignment, 0.7)
        else:
            first_fold(driver, assignment, next(waiting))
    return went_on


def test_the_best_go_on_and_the_price_doubles_at_most(driver: Driver) -> None:
    aucs = [0.6, 0.9, 0.7, 0.65, 0.8, 0.5, 0.95, 0.55, 0.85, 0.75, 0.4, 0.3]
    went_on = go_through(driver, aucs)
    trials = driver.trials()
    # The best when 4, 8 and 12 trials had paid for the four later folds of one.
    assert [trials[number].value for number in went_on] == [0.9, 0.95, 0.85]
    first = sum(t.user_attrs["train_seconds"] for t in trials if GOES_ON_FROM not in t.user_attrs)
    later = sum(t.user_attrs["train_seconds"] for t in trials if GOES_ON_FROM in t.user_attrs)
    assert (first, later) == (120, 120)
    assert driver.done()
    assert driver.counts().by_state() == {"COMPLETE": 3, "PRUNED": 9, "FAIL": 0, "RUNNING": 0}


def test_states_are_honest(driver: Driver) -> None:
    go_through(driver, list(np.linspace(0.5, 0.9, 12)))
    trials = driver.trials()
    done = completed(trials, "auc")
    assert all(GOES_ON_FROM in t.user_attrs and len(t.user_attrs["fold_aucs"]) == K for t in done)
    for finalist in done:
        first = trials[finalist.user_attrs[GOES_ON_FROM]]
        assert first.state == TrialState.PRUNED
        assert finalist.params == first.params
        assert finalist.user_attrs["seed"] == first.user_attrs["seed"]
        assert finalist.user_attrs["stratum"] == first.user_attrs["stratum"]
        assert finalist.intermediate_values.items() >= first.intermediate_values.items()
        assert finalist.user_attrs["max_epochs"] == E * K
    found = summarize_study(driver.study, trials)
    assert found.best[0].fold_aucs == [0.7] * K
    assert sum(s.complete + s.pruned for s in found.strata) == 12
    runs, left_out = runs_of(driver.study)
    assert (len(runs), left_out) == (12, 0)
    assert _failures(driver.study)[1] == 12
    choice = choice_of(driver.study, trials)
    assert choice is not None
    assert choice.tied == tuple(t.number for t in sorted(done, key=lambda t: t.number))  # all have 0.7
    assert (choice.compared, choice.units) == (len(done), K * 40)  # images, not the 9 + 9 patients


def test_an_older_study_does_not_say_how_many_images_its_folds_have(driver: Driver) -> None:
    go_through(driver, list(np.linspace(0.5, 0.9, 12)))
    trials = driver.trials()
    for trial in trials:
        for fold in trial.user_attrs.get("folds", []):
            fold["judged"].pop("judged")
    choice = choice_of(driver.study, trials)
    assert choice is not None
    assert choice.units == 0
    assert "on the same validation images" in " ".join(choice_sentences(choice))


def test_a_small_study_has_one_finalist_in_any_case(workdir: Path) -> None:
    config = definition(budget={"trials": 2, "epochs": E})
    with open_study(config, default_url(), "data") as driver:
        assert go_through(driver, [0.8, 0.7]) == [0]
        assert driver.done()


def test_each_stratum_of_a_comparison_has_a_finalist(workdir: Path) -> None:
    space = {
        "architecture": {"choices": ["resnet18", "resnet34"], "role": "scientific"},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    config = definition(goal="compare", space=space, budget={"trials": 4, "epochs": E})
    with open_study(config, default_url(), "data") as driver:
        assert sorted(go_through(driver, [0.9, 0.5, 0.8, 0.6])) in ([0, 3], [0, 1], [1, 2], [2, 3])
        done = completed(driver.trials(), "auc")
        assert {t.user_attrs["architecture"] for t in done} == {"resnet18", "resnet34"}
        rows, _ = _tuned(driver.study)  # for the report
        assert [row.trials for row in rows] == [2, 2]
        for found in summarize_study(driver.study, driver.trials()).strata:
            assert found.tuning is not None
            assert found.tuning.trials == found.complete + found.pruned == 2  # a finalist is no further trial


def test_one_that_the_scheduler_stopped_never_goes_on(driver: Driver) -> None:
    while assignment := driver.assign():
        driver.report(assignment.number, 1, 0.9)
        driver.prune(assignment.number, {"epochs": 1, "fold_aucs": [0.9], "folds": [judged(0.9)]}, "by asha")
    assert driver.done() and driver.counts().pruned == 12


def test_a_killed_finalist_goes_on_under_its_number(workdir: Path) -> None:
    config = definition(budget={"trials": 2, "epochs": E})
    with open_study(config, default_url(), "data") as driver:
        for auc in (0.8, 0.7):
            begun = driver.assign()
            assert begun
            first_fold(driver, begun, auc)
        finalist = driver.assign()
        assert finalist and finalist.number == 2
        driver.report(2, E + 1, 0.75)
    with open_study(config, default_url(), "data") as driver:
        assert not driver.done()
        (again,) = driver.adopt()
        assert (again.number, dict(again.reported)) == (2, {1: 0.8, 2: 0.8, 3: 0.75})
        assert [score.judged.auc for score in again.scored] == [0.8]
        assert again.seed == finalist.seed and again.params == finalist.params
        later_folds(driver, again, 0.7)
        assert driver.assign() is None
        assert driver.done()


def test_a_trial_killed_at_the_end_of_its_first_fold_ends_with_it(workdir: Path) -> None:
    """The driver died between hearing of the fold's last epoch and ending the trial: it is told again."""
    config = definition(budget={"trials": 2, "epochs": E})
    with open_study(config, default_url(), "data") as driver:
        begun = driver.assign()
        assert begun
        for epoch in range(1, E + 1):
            driver.report(begun.number, epoch, 0.8)
    with open_study(config, default_url(), "data") as driver:
        (again,) = driver.adopt()
        stopping = Stopping(config, [])
        stopping.learn(again.stratum, again.number, again.reported)
        left = [epoch for epoch in range(1, E * K + 1) if epoch > max(again.reported)]  # what a worker tells
        assert left[0] == E
        assert stopping.stops(again.stratum, again.number, E, 0.8)
        first_fold(driver, again, 0.8)
        assert driver.trials()[again.number].intermediate_values == {1: 0.8, 2: 0.8}


def test_a_longer_budget_goes_on_with_new_trials(workdir: Path) -> None:
    grid = {
        "sampler": {"name": "grid"},
        "space": {
            "architecture": {"choices": ["resnet18", "resnet34", "resnet50"]},
            "unfreeze_depth": {"low": 0, "high": 1},
        },
    }
    for trials in (2, 6):
        config = definition(budget={"trials": trials, "epochs": E}, **grid)
        with open_study(config, default_url(), "data") as driver:
            go_through(driver, [0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
            firsts = [t for t in driver.trials() if GOES_ON_FROM not in t.user_attrs]
            assert len(firsts) == trials
    assert len({tuple(sorted(t.params.items())) for t in firsts}) == 6  # finalists take no place of the grid


def test_where_the_finalist_fails_the_next_best_goes_on(workdir: Path) -> None:
    config = definition(budget={"trials": 3, "epochs": E, "trial_minutes": 2})
    with open_study(config, default_url(), "data") as driver:
        for auc in (0.8, 0.9, 0.7):
            begun = driver.assign()
            assert begun and begun.trainings(config) == 1
            first_fold(driver, begun, auc)
        finalist = driver.assign()
        assert finalist and finalist.trainings(config) == K - 1  # its time limit is that of so many
        driver.fail(finalist.number, "out of memory", {})
        assert not driver.done()
        again = driver.assign()
        assert again and driver.trials()[again.number].user_attrs[GOES_ON_FROM] == 0
        later_folds(driver, again, 0.7)
        assert driver.done()
        assert driver.counts().by_state() == {"COMPLETE": 1, "PRUNED": 1, "FAIL": 1, "RUNNING": 0}
