"""Strategies in a space: what means nothing is left out or, with nothing left, refused with the reason."""

from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from medfathom.definitions.load import load_definition
from medfathom.definitions.space import SpaceConfig, label, stratum_of, suggest
from medfathom.definitions.strategies import MEANINGS, refusal
from medfathom.errors import DefinitionError
from medfathom.study.sampling import StratumSampler, make_sampler
from medfathom.trial.kinds import kinds_of


def space(**dimensions: Any) -> SpaceConfig:
    return SpaceConfig.model_validate({"architecture": {"value": "resnet18"}, **dimensions})


ALL = {"role": "scientific", "choices": list(MEANINGS)}


def test_without_strategies_nothing_is_sampled_together() -> None:
    plain = space(unfreeze_depth={"low": 0, "high": 5}, init={"choices": ["imagenet", "random"]})
    assert plain.joint == []
    assert plain.values("strategy") == ["fixed"]
    assert plain.left_out() == []


def test_cells_that_mean_nothing_are_left_out() -> None:
    found = space(strategy=ALL, unfreeze_depth={"role": "scientific", "low": 0, "high": 5})
    assert found.joint == ["strategy", "unfreeze_depth"]
    cells = {(s["strategy"], s["unfreeze_depth"]) for s in found.strata()}
    assert len(cells) == 7 * 6 - 6 - 1  # all but fixed mean nothing at 0, surgical neither at 5
    assert ("surgical", 4) in cells
    assert "left out: strategy surgical at depth 0 with imagenet, depth 5 with imagenet" in found.left_out()


def test_only_dimensions_that_matter_are_sampled_together() -> None:
    inits = {"choices": ["imagenet", "random"]}
    depths = {"choices": [1, 5]}
    assert space(strategy={"choices": ["fixed", "lp-ft"]}, unfreeze_depth=depths, init=inits).joint == []
    pulled = space(strategy={"choices": ["fixed", "l2-sp"]}, unfreeze_depth=depths, init=inits)
    assert pulled.joint == ["strategy", "init"]
    assert len(pulled.allowed_combinations()) == 3
    assert pulled.excluded({"strategy": "l2-sp", "init": "random"})
    assert not pulled.excluded({"init": "random"}), "fixed is left"


@pytest.mark.parametrize(
    ("dimensions", "reason"),
    [
        ({"strategy": {"value": "surgical"}, "unfreeze_depth": {"value": 0}}, "no layer group is trained"),
        ({"strategy": {"value": "surgical"}}, "all layer groups are trained"),
        ({"strategy": {"value": "l2-sp"}, "init": {"value": "random"}}, "random values"),
        (
            {"strategy": {"value": "lp-ft"}, "unfreeze_depth": {"low": 0, "high": 5}},
            "leave unfreeze_depth = 0",
        ),
        (
            {"strategy": {"choices": ["fixed", "gradual"]}, "unfreeze_depth": {"value": 0}},
            "leave strategy = 'g",
        ),
        (
            {"strategy": {"value": "l2-sp"}, "init": {"choices": ["imagenet", "random"]}},
            "leave init = 'random'",
        ),
    ],
)
def test_what_means_nothing_is_refused_with_the_reason(dimensions: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        space(**dimensions)


def test_every_strategy_means_something_somewhere() -> None:
    for strategy in MEANINGS:
        assert refusal(strategy, 2, "imagenet") is None
    assert refusal("bitfit", 5, "random") is None


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValidationError, match="strategy = 'lpft'"):
        space(strategy={"value": "lpft"})


def test_a_stepwise_strategy_needs_two_epochs() -> None:
    with pytest.raises(DefinitionError, match="at least 2 epochs, but got budget"):
        load_definition(
            "demo", ["space.strategy={value='gradual'}", "space.unfreeze_depth={value=5}", "budget.epochs=1"]
        )


def test_a_stratum_tries_its_nuisance_depths_in_turn() -> None:
    """Strategies are compared, depths are not: each strategy sees its own depths equally often."""
    mixed = space(
        strategy=ALL, unfreeze_depth={"choices": [0, 1, 5]}, learning_rate={"low": 1e-4, "high": 0.1}
    )
    sampler = StratumSampler(
        make_sampler(load_definition("demo").sampler.model_copy(update={"name": "tpe"}), mixed, 0), mixed
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    depths: dict[str, list[int]] = {label(s): [] for s in mixed.strata()}
    for stratum in mixed.strata() * 6:
        sampler.stratum = stratum
        trial = study.ask()
        params = suggest(trial, mixed)
        assert stratum_of(params, mixed) == label(stratum)
        assert sampler.fits(stratum, trial.params)
        trial.set_user_attr("stratum", label(stratum))
        study.tell(trial, 0.5)
        depths[label(stratum)].append(params.unfreeze_depth)
    assert sorted(depths["strategy=fixed"]) == [0, 0, 1, 1, 5, 5]
    assert sorted(depths["strategy=lp-ft"]) == [1, 1, 1, 5, 5, 5]
    assert depths["strategy=surgical"] == [1] * 6


def test_trials_of_stepwise_strategies_are_forecast_as_fixed_ones() -> None:
    strategies = [
        "space.strategy={choices=['fixed', 'lp-ft', 'gradual', 'bitfit']}",
        "space.unfreeze_depth={value=5}",
    ]
    config = load_definition(
        "demo", ["space.architecture={value='resnet18'}", "space.init={value='random'}", *strategies]
    )
    kinds = kinds_of(config)
    assert [k.params.strategy for k in kinds] == ["fixed", "bitfit"]
    assert [k.trials for k in kinds] == pytest.approx([12, 4])


def test_the_shipped_study_compares_every_strategy_that_needs_no_extra() -> None:
    study = load_definition("which_strategy")
    assert set(MEANINGS) - set(study.space.values("strategy")) == {"lora"}
    assert study.space.left_out() == []
    assert study.budget.trials >= 10 * len(study.space.strata())
