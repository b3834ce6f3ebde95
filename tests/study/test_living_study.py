"""A study that goes on in a wider space: its trials are kept, and only what is new is topped up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from medfathom.confirm import _without_stopping
from medfathom.confirmation.jobs import enqueue, list_jobs
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import label, suggest
from medfathom.errors import StorageError
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.read import read_study

DATA = "data"
TWO = ["resnet18", "resnet34"]
THREE = ["resnet50", *TWO]  # the new one first: the numbers of the choices change


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, workdir: Path) -> str:
    """An empty storage of either kind."""
    return default_url() if request.param == "sqlite" else str(request.getfixturevalue("postgresql"))


def definition(name: str, architectures: list[str], trials: int, **more: Any) -> StudyConfig:
    """A small comparison; `more` are tables that replace its own."""
    whole = load_definition("demo", ["sampler=tpe", "scheduler=none"]).model_dump(exclude_defaults=True)
    space = {
        "architecture": {"choices": architectures, "role": "scientific"},
        "unfreeze_depth": {"choices": [0, 5], "role": "scientific"},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    budget = {"trials": trials, "epochs": 2}
    return StudyConfig.model_validate(
        {**whole, "name": name, "goal": "compare", "space": space, "budget": budget} | more
    )


def space_of(config: StudyConfig, **more: Any) -> dict[str, Any]:
    """The definition's space with other dimensions."""
    return {**config.space.model_dump(exclude_defaults=True)["dimensions"], **more}


def run_to_the_end(driver: Driver) -> list[str]:
    """Complete trials until the budget is spent. Returns the strata of the new ones, in order."""
    strata = []
    while assignment := driver.assign():
        driver.report(assignment.number, 1, 0.8)
        driver.complete(assignment.number, 0.8 + assignment.number / 100, {"epochs": 1})
        strata.append(assignment.stratum)
    return strata


def test_new_strata_are_topped_up_and_old_trials_stay(url: str) -> None:
    before = definition("topped", TWO, 8)
    with open_study(before, url, DATA) as driver:
        assert Counter(run_to_the_end(driver)).most_common() == [
            (s, 2) for s in map(label, before.space.strata())
        ]
        old = driver.trials()
    said: list[str] = []
    with open_study(definition("topped", THREE, 8), url, DATA, tell=said.append) as driver:
        assert run_to_the_end(driver) == []
    assert said == [
        "study 'topped' goes on with its 8 trials; new: architecture resnet50; 2 new strata; "
        "budget.trials = 8 is too few for them: give 12 or more"
    ]
    after = definition("topped", THREE, 12)
    with open_study(after, url, DATA, tell=said.append) as driver:
        new = run_to_the_end(driver)
        trials = driver.trials()
    assert len(said) == 1  # told once
    assert Counter(new) == {f"architecture=resnet50 unfreeze_depth={d}": 2 for d in (0, 5)}
    assert [(t.params, t.value, t.state) for t in trials[:8]] == [(t.params, t.value, t.state) for t in old]
    assert all(t.distributions["architecture"].choices == tuple(THREE) for t in trials)  # type: ignore[attr-defined]
    assert {t.user_attrs["definition_hash"] for t in trials[:8]} == {before.definition_hash}
    assert read_study(url, "topped").user_attrs["definition_hash"] == after.definition_hash


def test_what_was_fixed_is_part_of_the_stratum_now(url: str) -> None:
    before = definition("fixed", TWO, 4)
    with open_study(before, url, DATA) as driver:
        run_to_the_end(driver)
    init = {"choices": ["imagenet", "random"], "role": "scientific"}
    rate = {"low": 1e-5, "high": 1e-2, "log": True}
    narrow = [{"init": "random", "unfreeze_depth": 0}]
    space = {**space_of(before, init=init, learning_rate=rate), "exclude": narrow}
    after = definition("fixed", TWO, 6, space=space)
    with open_study(after, url, DATA) as driver:
        old = driver.trials()
        assert [t.user_attrs["stratum"].rpartition(" ")[2] for t in old] == ["init=imagenet"] * 4
        assert all(t.params["unfreeze_depth+init"].endswith("init=imagenet") for t in old)
        assert [suggest(t, after.space).init for t in old] == ["imagenet"] * 4
        assert {t.distributions["learning_rate"].low for t in old} == {1e-5}  # type: ignore[attr-defined]
        assert run_to_the_end(driver) == [f"architecture={a} unfreeze_depth=5 init=random" for a in TWO]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget": {"trials": 8, "epochs": 3}}, r"budget.epochs: 2 -> 3\)"),
        ({"seed": 1}, r"\(seed: null -> 1\)"),
        ({"goal": "best"}, r"\(goal: \"compare\" -> null\)"),
    ],
)
def test_any_other_change_is_refused_though_the_space_is_wider(
    workdir: Path, more: dict[str, Any], words: str
) -> None:
    with open_study(definition("other", TWO, 4), default_url(), DATA) as driver:
        run_to_the_end(driver)
    changed = definition("other", THREE, 4, **more)
    with pytest.raises(StorageError, match=words), open_study(changed, default_url(), DATA):
        pass


def test_a_value_that_is_gone_is_refused_with_both_lists(workdir: Path) -> None:
    with open_study(definition("gone", TWO, 4), default_url(), DATA):
        pass
    changed = definition("gone", ["resnet18", "resnet50"], 4)
    words = r'architecture.choices: \["resnet18", "resnet34"\] -> \["resnet18", "resnet50"\]'
    with pytest.raises(StorageError, match=words), open_study(changed, default_url(), DATA):
        pass


def test_it_is_not_widened_under_another_run(postgresql: str, workdir: Path) -> None:
    wider = definition("shared", THREE, 8)
    with open_study(definition("shared", TWO, 4), postgresql, DATA) as driver:
        driver.assign()
        words = r"cannot take in what is new \(architecture resnet50\): another run is working on it"
        with pytest.raises(StorageError, match=words), open_study(wider, postgresql, DATA):
            pass
        assert driver.assign()  # it goes on undisturbed
    with open_study(wider, postgresql, DATA) as driver:
        taken = driver.adopt()
        assert [(a.number, a.params.architecture in TWO) for a in taken] == [(0, True), (1, True)]
        for assignment in taken:
            driver.complete(assignment.number, 0.9, {})
        assert len(run_to_the_end(driver)) == 6
    narrower = definition("shared", TWO, 8)
    with pytest.raises(StorageError, match=r"architecture\.choices"), open_study(narrower, postgresql, DATA):
        pass


def test_a_killed_widening_leaves_the_study_as_it_was(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = definition("killed", TWO, 4)
    with open_study(before, default_url(), DATA) as driver:
        run_to_the_end(driver)
        old = driver.trials()

    def fail(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("medfathom.study.growth._replace", fail)
        with (
            pytest.raises(KeyboardInterrupt),
            open_study(definition("killed", THREE, 6), default_url(), DATA),
        ):
            pass
    with open_study(before, default_url(), DATA) as driver:
        assert driver.trials() == old


def test_a_grid_goes_on_with_what_is_not_taken(workdir: Path) -> None:
    sampler = {"name": "grid"}
    rates = {"choices": [1e-3, 1e-2]}
    small = definition("grid", TWO, 5, sampler=sampler)
    small = definition("grid", TWO, 5, sampler=sampler, space=space_of(small, learning_rate=rates))
    with open_study(small, default_url(), DATA) as driver:
        run_to_the_end(driver)
    architectures = {"choices": THREE, "role": "scientific"}
    more = {"choices": [1e-4, *rates["choices"]]}
    space = space_of(small, architecture=architectures, learning_rate=more)
    wider = definition("grid", THREE, 18, sampler=sampler, space=space)
    for trials in (9, 18):  # the order is the same at each start
        budget = wider.budget.model_copy(update={"trials": trials})
        with open_study(wider.model_copy(update={"budget": budget}), default_url(), DATA) as driver:
            run_to_the_end(driver)
            found = [tuple(sorted(t.params.items())) for t in driver.trials()]
    assert len(found) == len(set(found)) == 18


def test_a_confirmation_follows_its_study(workdir: Path) -> None:
    before = definition("followed", TWO, 4)
    with open_study(before, default_url(), DATA) as driver:
        run_to_the_end(driver)
    study = read_study(default_url(), "followed")
    jobs = list_jobs(study, 1, None, ())
    with open_study(_without_stopping(study), default_url(), DATA) as driver:
        enqueue(driver, jobs, 0, workdir)
    init = {"choices": ["imagenet", "random"], "role": "scientific"}
    space = {**space_of(before, init=init), "exclude": [{"init": "random", "unfreeze_depth": 0}]}
    with open_study(definition("followed", TWO, 6, space=space), default_url(), DATA):
        pass
    again = _without_stopping(read_study(default_url(), "followed"))
    with open_study(again, default_url(), DATA) as driver:
        driver.budget = 4
        taken = [driver.assign() for _ in jobs]
        drawn = [(a.params.architecture, a.params.unfreeze_depth, a.params.learning_rate) for a in taken if a]
        assert [t.user_attrs["stratum"].count("init=imagenet") for t in driver.trials()] == [1] * 4
    wanted = [suggest(job.trial, before.space) for job in jobs]
    assert drawn == [(p.architecture, p.unfreeze_depth, p.learning_rate) for p in wanted]
    assert {t.state for t in read_study(default_url(), again.name).trials} == {TrialState.RUNNING}


def test_a_study_of_one_size_goes_on_with_several(workdir: Path) -> None:
    before = definition("sizes", TWO, 2)
    with open_study(before, default_url(), DATA) as driver:
        run_to_the_end(driver)
    size = before.dataset.image_size
    space = space_of(before, image_size={"choices": [size, 2 * size], "role": "scientific"})
    said: list[str] = []
    with open_study(
        definition("sizes", TWO, 8, space=space), default_url(), DATA, tell=said.append
    ) as driver:
        assert [t.params["image_size"] for t in driver.trials()] == [size, size]
        assert len(run_to_the_end(driver)) == 6
        assert len({t.user_attrs["stratum"] for t in driver.trials()}) == 8
    assert f"image_size {2 * size}; 4 new strata" in said[0]
