"""medfathom's own policy: first trials, expected gain per second, warm start, early stopping by the curve."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from medfathom.definitions.config import SamplerConfig, StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import SpaceConfig, TrialParams, suggest
from medfathom.errors import DefinitionError
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.policy.cost import CostModel
from medfathom.study.policy.opening import completed, practitioner
from medfathom.study.policy.policy import first_sentence, gain_per_second
from medfathom.study.policy.portfolio import first_trials, past_results, portfolios, read_portfolio
from medfathom.study.policy.process import Process, expected_improvement
from medfathom.study.policy.sampler import First, GainPerSecond, Past
from medfathom.study.policy.warm_start import WarmStart
from medfathom.study.sampling import make_sampler
from medfathom.study.stopping import curve_stops
from medfathom.study.summary import GOES_ON_FROM
from medfathom.validate import validate_study

LITES = [f"tf_efficientnet_lite{i}" for i in range(3)]


def demo(*changes: str) -> StudyConfig:
    return load_definition("demo", ["sampler=gain", "scheduler=curve", "sampler.portfolio=off", *changes])


def space(**dimensions: Any) -> SpaceConfig:
    return SpaceConfig.model_validate({"architecture": {"choices": LITES}, **dimensions})


def searched(sampler: Any, wanted: SpaceConfig, trials: int, goodness: Any) -> list[TrialParams]:
    """What a sampler asks for where a trial's AUC is `goodness` of its parameters."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found = []
    for _ in range(trials):
        trial = study.ask()
        params = suggest(trial, wanted)
        found.append(params)
        study.tell(trial, goodness(params))
    return found


def test_a_study_of_four_trials_begins_as_a_practitioner_would(workdir: Path) -> None:
    """The head alone and the whole network, pretrained, not to be stopped early; after a restart too."""
    with open_study(demo("budget.trials=4"), default_url(), "data") as driver:
        given = [driver.assign() for _ in range(2)]
    with open_study(demo("budget.trials=4"), default_url(), "data") as driver:
        assert [a.params for a in driver.adopt()] == [a.params for a in given if a]
        given += [driver.assign() for _ in range(2)]
        assert driver.assign() is None
    assert all(a and a.protected and a.params.init == "imagenet" for a in given)
    assert [(a.params.architecture, a.params.unfreeze_depth) for a in given if a] == [
        (LITES[0], 0),
        (LITES[0], 5),
        (LITES[1], 0),
        (LITES[2], 0),
    ]


def test_a_first_trial_that_a_run_withdrew_is_asked_for_again(workdir: Path) -> None:
    """It was begun, and the run ended before its first epoch: nothing is known of it."""
    config = demo("budget.trials=8")
    with open_study(config, default_url(), "data") as driver:
        begun = driver.assign()
        assert begun is not None
        assert driver.stop_in_hand({}, "the run ended") == [begun.number]
    with open_study(config, default_url(), "data") as driver:
        said = first_sentence(driver.study.sampler, driver.trials(), 5)
        assert "has room for 5 of 6 from a practitioner's start" in said
        again = driver.assign()
        assert again is not None
        assert (again.number, again.params) == (begun.number + 1, begun.params)


def test_a_run_says_how_many_first_trials_its_budget_has_room_for(workdir: Path) -> None:
    (workdir / "search" / "portfolios").mkdir(parents=True)
    trials = [f'[[trials]]\narchitecture = "{LITES[0]}"\nunfreeze_depth = {d}' for d in (1, 2, 3)]
    (workdir / "search" / "portfolios" / "mine.toml").write_text(
        "\n".join(['description = "d"', 'source = "s"', *trials])
    )
    with open_study(demo("budget.trials=7", "sampler.portfolio=mine"), default_url(), "data") as driver:
        sampler = driver.study.sampler
        assert isinstance(sampler, GainPerSecond)
        wanted = (
            "the first trials are fixed; the budget of 7 trials has room for 6 of 6 from a practitioner's "
            "start, 1 of 3 from portfolio mine"
        )
        assert first_sentence(sampler, driver.trials(), driver.budget) == wanted
        for _ in range(2):  # begun trials are among them
            driver.assign()
        assert first_sentence(sampler, driver.trials(), driver.budget) == wanted
        assert "5 of 6" in first_sentence(sampler, driver.trials(), 5)
    assert first_sentence(optuna.samplers.RandomSampler(), [], 7) == ""


def test_a_first_trial_that_two_sources_name_is_one(workdir: Path) -> None:
    """An earlier study began as a practitioner would, and these trials are its best."""
    config = demo("budget.trials=7", "sampler.portfolio=off")
    usual = practitioner(config.space)
    own = {**usual[0].params, "learning_rate": 2e-3}
    earlier = [First(params, "study old") for params in (usual[0].params, usual[5].params, own)]
    sampler = gain_per_second(config.sampler, config.space, 0, epochs=3, warm=WarmStart(first=earlier))
    assert [first.params for first in sampler.first] == [*(first.params for first in usual), own]
    said = "has room for 6 of 6 from a practitioner's start, 1 of 1 from study old"
    assert first_sentence(sampler, [], 7).endswith(said)


def test_first_trials_are_of_every_pretrained_architecture_of_the_space() -> None:
    wanted = space(
        init={"choices": ["random", "imagenet"]},
        unfreeze_depth={"choices": [1, 3]},
        learning_rate={"low": 1e-5, "high": 1e-4, "log": True},
        exclude=[{"architecture": LITES[2], "init": "imagenet"}],
    )
    first = practitioner(wanted)
    assert len(first) == 4
    assert all("init=imagenet" in f.params["architecture+init"] for f in first)
    assert {f.params["learning_rate"] for f in first} == {1e-4}
    assert {f.params["unfreeze_depth"] for f in first} == {1, 3}


def test_a_grid_is_searched_without_repeats_and_its_best_is_found_early() -> None:
    wanted = space(unfreeze_depth={"low": 0, "high": 5}, learning_rate={"choices": [1e-4, 1e-3, 1e-2]})

    def goodness(p: TrialParams) -> float:
        rate = abs(np.log10(p.learning_rate) + 3)
        return 0.9 - 0.05 * abs(p.unfreeze_depth - 3) - 0.1 * rate + 0.02 * LITES.index(p.architecture)

    places = []
    for seed in range(5):
        sampler = make_sampler(SamplerConfig(name="gain", portfolio="off"), wanted, seed, epochs=3)
        found = searched(sampler, wanted, 54, goodness)
        assert len({p.model_dump_json() for p in found}) == 54
        places.append([goodness(p) for p in found].index(max(map(goodness, found))))
    assert np.median(places) < 18  # a random order finds it at 27 in the median


@settings(max_examples=8, deadline=None)
@given(
    low=st.integers(0, 3),
    width=st.integers(1, 5),
    log=st.booleans(),
    step=st.sampled_from([None, 0.05]),
    seed=st.integers(0, 99),
)
def test_it_serves_any_optuna_study(low: int, width: int, log: bool, step: float | None, seed: int) -> None:
    """Optuna itself refuses a value outside the distribution."""
    own = {
        "a": optuna.distributions.IntDistribution(low + 1, low + 1 + width, log=log),
        "b": optuna.distributions.FloatDistribution(0.1, 0.9, step=step, log=log and step is None),
        "c": optuna.distributions.CategoricalDistribution([None, "x", True]),
    }
    first = First({"a": low + 1, "b": 0.1, "c": "x"}, "mine")
    study = optuna.create_study(direction="maximize", sampler=GainPerSecond(own, first=[first], seed=seed))
    for number in range(6):
        trial = study.ask(own)
        if number == 3:
            trial.report(0.5, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, trial.params["b"])
    assert study.trials[0].params == first.params
    assert all(low < t.params["a"] <= low + 1 + width and 0.1 <= t.params["b"] <= 0.9 for t in study.trials)


def test_cheaper_trials_come_first_where_nothing_else_tells_them_apart() -> None:
    wanted = space(unfreeze_depth={"low": 0, "high": 5}, learning_rate={"choices": [1e-4, 1e-3, 1e-2]})
    sampler = make_sampler(SamplerConfig(name="gain", portfolio="off"), wanted, 0, epochs=3)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    generator = np.random.default_rng(0)
    depths = []
    for _ in range(14):
        trial = study.ask()
        depths.append(suggest(trial, wanted).unfreeze_depth)
        study.tell(trial, 0.7 + 0.001 * generator.normal())
    assert np.mean(depths[6:]) < 2.5


def test_measured_seconds_correct_the_cost_model() -> None:
    model, params = CostModel(4), [TrialParams(architecture=a, unfreeze_depth=5) for a in LITES]
    before = model.expected([], params)
    assert before[0] < before[1] < before[2]
    study = optuna.create_study()
    for architecture, seconds in ((LITES[0], 100.0), (LITES[1], 10.0)):
        trial = study.ask()
        record = {"architecture": architecture, "init": "imagenet", "unfreeze_depth": 5}
        for key, value in (record | {"train_seconds": seconds, "epochs": 4}).items():
            trial.set_user_attr(key, value)
    after = model.expected(study.get_trials(), params)
    assert after[:2] == pytest.approx([100, 10])
    finalist = study.ask()  # all folds' epochs, the later folds' seconds
    for key, value in (record | {"train_seconds": 100.0, "epochs": 20, GOES_ON_FROM: 0}).items():
        finalist.set_user_attr(key, value)
    assert model.expected(study.get_trials(), params) == pytest.approx(after)
    frozen = [TrialParams(architecture=LITES[0], unfreeze_depth=0)]
    whole = model.expected(study.get_trials(), frozen)
    trial.set_user_attr("unfreeze_depth", 0)
    trial.set_user_attr("architecture", LITES[0])
    trial.set_user_attr("train_seconds", None)
    assert model.expected(study.get_trials(), frozen)[0] < whole[0]  # the features are there


def test_the_process_agrees_with_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    points, there = generator.uniform(size=(30, 2)), generator.uniform(size=(20, 2))
    values = np.sin(4 * points[:, 0]) + 0.1 * generator.normal(size=30)
    values = (values - values.mean()) / values.std()
    ours = Process.fitted(points, values, [True, True])
    theirs = GaussianProcessRegressor(
        RBF(ours.scales.columns) + WhiteKernel(ours.scales.noise), optimizer=None
    )
    mean, sd = theirs.fit(points, values).predict(there, return_std=True)
    found_mean, found_sd = ours.predict(there)
    assert found_mean == pytest.approx(mean, abs=1e-6)
    assert found_sd**2 + ours.scales.noise == pytest.approx(sd**2, abs=1e-6)
    assert ours.scales.columns[1] > ours.scales.columns[0]  # the second column says nothing
    again = Process.fitted(points[:20], values[:20], [True, True])
    whole = Process.of(points, values, again.numeric, again.scales)
    later = again.given(points[20:], values[20:])
    assert later.predict(there)[0] == pytest.approx(whole.predict(there)[0])


def test_expected_improvement_is_the_mean_of_what_comes_above() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    simulated = np.maximum(drawn - 0.6, 0).mean()
    found = expected_improvement(np.array([0.3]), np.array([0.5]), 0.6)
    assert found[0] == pytest.approx(simulated, rel=0.01)


def test_an_earlier_studys_best_are_tried_and_what_does_not_fit_is_named(workdir: Path) -> None:
    with open_study(demo("name=old"), default_url(), "data") as driver:
        for _ in range(6):
            assignment = driver.assign()
            assert assignment
            driver.complete(assignment.number, 0.6 + 0.05 * assignment.number, {})
    narrower = demo("name=new", f"space.architecture.choices={LITES[:2]}")
    with open_study(narrower, default_url(), "data") as driver:
        assert (
            driver.warm_start == f"warm start from old (4 trials); left out: 2 with architecture = {LITES[2]}"
        )
        given = [driver.assign() for _ in range(7)]
    assert sum(bool(a and a.protected) for a in given) == 4
    for changes in (["sampler.warm_start=off"], ["dataset.modality=CXR"]):
        with open_study(demo("name=other", *changes), default_url(), "data", fresh=True) as driver:
            assert driver.warm_start == ""
    with (
        pytest.raises(DefinitionError, match=r"no other study 'odl'; did you mean 'old'"),
        open_study(demo("name=third", 'sampler.warm_start=["odl"]'), default_url(), "data"),
    ):
        pass


def test_a_portfolio_gives_what_a_space_has(workdir: Path, tmp_path: Path) -> None:
    trials = [
        {"architecture": LITES[0], "learning_rate": 2e-3},
        {"architecture": LITES[0], "learning_rate": 1e-5},
        {"architecture": "vgg16"},
    ]
    lines = ['description = "d"', 'source = "s"']
    for trial in trials:
        lines += ["[[trials]]", *(f"{k} = {v!r}" for k, v in trial.items())]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    found = first_trials([read_portfolio(path)], space(learning_rate={"choices": [1e-3, 1e-2]}))
    assert [f.params["learning_rate"] for f in found.fitting] == [1e-3]
    assert found.left == {"learning_rate = 1e-05": 1, "architecture = vgg16": 1}
    path.write_text(path.read_text().replace("0.002", "-1"))
    with pytest.raises(DefinitionError, match=r"mine.toml: definition: trial 1: learning_rate"):
        read_portfolio(path)
    with pytest.raises(DefinitionError, match=r"sampler.portfolio: no search/portfolios/nosuch.toml"):
        validate_study("demo", ["sampler=gain", "sampler.portfolio=nosuch"])


def test_every_shipped_portfolio_can_be_read() -> None:
    for portfolio in portfolios("shipped"):
        assert portfolio.rows or 8 <= len(portfolio.trials) <= 12
        assert portfolio.source


def test_results_on_other_data_decide_what_is_tried_first(tmp_path: Path) -> None:
    """Two other data sets agree that one rate is best; the study's own trials say nothing of it."""
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    lines = ["architecture,learning_rate,one,two"]
    for i, rate in enumerate(rates):
        lines.append(f"{LITES[0]},{rate},{0.9 - 0.1 * abs(i - 3)},{0.8 - 0.1 * abs(i - 3)}")
    (tmp_path / "others.csv").write_text("\n".join([*lines, "vgg16,0.001,0.99,"]))
    path = tmp_path / "others.toml"
    path.write_text('description = "d"\nsource = "s"\nresults = "others.csv"')
    wanted = space(architecture={"choices": LITES[:2]}, learning_rate={"choices": rates})
    past = past_results([read_portfolio(path)], wanted)
    assert [p.name for p in past] == ["others: one", "others: two"]
    assert [len(p.params) for p in past] == [5, 5]
    first = [First({"architecture": LITES[0], "learning_rate": rates[i]}, "given") for i in (0, 1, 4)]
    sampler = gain_per_second(
        SamplerConfig(name="gain"), wanted, 0, epochs=1, warm=WarmStart(past=past), first=first
    )
    asked = searched(sampler, wanted, 4, lambda p: 0.85 - 0.1 * abs(rates.index(p.learning_rate) - 3))
    assert asked[-1].learning_rate == 3e-3
    (tmp_path / "others.csv").unlink()
    with pytest.raises(DefinitionError, match=r"others.csv: No such file"):
        read_portfolio(path)


def test_other_studies_are_thinned_by_rank() -> None:
    whole = Past("old", [{"x": i} for i in range(100)], [0.5 + i / 200 for i in range(100)])
    kept = whole.thinned(5)
    assert [p["x"] for p in kept.params] == [0, 25, 50, 74, 99]
    assert list(kept.values) == [whole.values[int(p["x"])] for p in kept.params]
    assert len(whole.thinned(1000).params) == 100


@given(power=st.floats(0.1, 1), lift=st.floats(0, 0.2))
def test_a_curve_is_stopped_when_even_a_hopeful_forecast_stays_below_the_best(
    power: float, lift: float
) -> None:
    """All curves rise by the same power law: what is stopped would not have become the best, and what would
    is not stopped."""
    finals = [0.65, 0.7, 0.75, 0.8, 0.81, 0.82, 0.83, 0.85]
    steps = range(1, 11)
    curves = {i: {e: 1 - (1 - f) * (e / 10) ** -power for e in steps} for i, f in enumerate(finals)}
    own = 0.75 + lift
    mine = {e: 1 - (1 - own) * (e / 10) ** -power for e in range(1, 6)}
    stopped = curve_stops(curves | {8: mine}, 8, 5, grace=2, epochs=10)
    if own > 0.86:
        assert not stopped
    if own < 0.80:
        assert stopped
    assert not curve_stops({0: curves[0], 3: mine}, 3, 5, grace=2, epochs=10)


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'sampler.name = "gain".*take sampler = "tpe"'):
        load_definition("demo", ["goal=compare", "sampler=gain"])
    with pytest.raises(
        DefinitionError, match=r"36 strata to compare: the smallest budget is budget.trials = 36"
    ):
        validate_study("demo", ["goal=compare", "sampler=tpe", "budget.trials=4"])


def test_a_number_is_moved_by_a_factor_of_two_at_most() -> None:
    wanted = space(learning_rate={"low": 1e-4, "high": 1e-2, "log": True}, batch_size={"choices": [16, 64]})
    moved = completed(wanted, {"architecture": LITES[0], "learning_rate": 1.5e-2, "batch_size": 32})
    assert isinstance(moved, TrialParams)
    assert (moved.learning_rate, moved.batch_size) == (1e-2, 16)
    assert completed(wanted, {"architecture": LITES[0], "learning_rate": 0.1}) == "learning_rate = 0.1"
    other = {"architecture": LITES[0], "learning_rate": 1e-3, "optimizer": "sgd"}
    assert completed(wanted, other) == "optimizer = sgd"
