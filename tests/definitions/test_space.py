"""Spaces: what is suggested is always allowed, and strata are what the scientific dimensions span."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medfathom.definitions.space import SpaceConfig, TrialParams, label, stratum_of, suggest, values_of
from strategies import spaces

FIVE = {
    "architecture": {"role": "scientific", "choices": ["vgg16"]},
    "init": {"role": "scientific", "choices": ["imagenet", "random"]},
    "unfreeze_depth": {"role": "scientific", "choices": [0, 1, 5]},
    "exclude": [{"init": "random", "unfreeze_depth": 0}],
}


@given(space=spaces(), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_suggestions_are_allowed_and_belong_to_a_stratum(space: SpaceConfig, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    strata = {label(s) for s in space.strata()}
    for _ in range(5):
        params = suggest(study.ask(), space)
        values = params.model_dump()
        assert not space.excluded(values)
        assert stratum_of(params, space) in strata
        for name, dimension in space.dimensions.items():
            if dimension.choices is not None:
                assert values[name] in dimension.choices


@given(space=spaces(), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_stored_trial_gives_its_parameters_again(space: SpaceConfig, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    first = suggest(trial, space)
    assert suggest(optuna.trial.Trial(study, trial._trial_id), space) == first


def test_exclusions_give_the_papers_five_settings() -> None:
    space = SpaceConfig.model_validate(FIVE)
    assert space.joint == ["init", "unfreeze_depth"]
    assert [tuple(s.values())[1:] for s in space.strata()] == [
        ("imagenet", 0),
        ("imagenet", 1),
        ("imagenet", 5),
        ("random", 1),
        ("random", 5),
    ]


def test_ranges_never_change_between_trials() -> None:
    space = SpaceConfig.model_validate(FIVE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = set()
    for _ in range(20):
        trial = study.ask()
        suggest(trial, space)
        distributions.add(repr(sorted(trial.distributions.items())))
    assert len(distributions) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exclude": [{"init": "imagnet"}]}, "'imagnet' is not among"),
        ({"exclude": [{"batch_size": 8}]}, "not a dimension of this space that has choices"),
        ({"exclude": [{"init": "random"}, {"init": "imagenet"}]}, "leaves no combination"),
        (
            {"learning_rate": {"role": "scientific", "low": 1e-4, "high": 1.0}},
            "scientific dimension needs choices",
        ),
        ({"init": {"choices": ["random"], "value": "random"}}, "exactly one of"),
        ({"learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "log range needs low > 0"),
        ({"unfreeze_depth": {"choices": [1, 1]}}, "repeat themselves"),
        ({"batch_size": {"choices": ["8"]}}, "batch_size = '8'"),
    ],
)
def test_a_space_that_cannot_be(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SpaceConfig.model_validate({**FIVE, **change})


def test_a_space_without_architectures() -> None:
    with pytest.raises(ValidationError, match=r"give \[space.architecture\]"):
        SpaceConfig.model_validate({"init": {"choices": ["random"]}})


def test_fixed_values_reach_the_trial() -> None:
    space = SpaceConfig.model_validate({**FIVE, "batch_size": {"role": "fixed", "value": 64}})
    params = suggest(optuna.create_study().ask(), space)
    assert params.batch_size == 64
    assert params.learning_rate == TrialParams(architecture="vgg16").learning_rate


def test_a_whole_number_of_a_fraction_names_one_stratum() -> None:
    """Else no trial counts for its stratum, which then gets the whole budget."""
    fractions = {"train_fraction": {"role": "scientific", "choices": [0.5, 1]}, "exclude": []}
    space = SpaceConfig.model_validate({**FIVE, **fractions})
    assert space.values("train_fraction") == [0.5, 1.0]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {stratum_of(suggest(study.ask(), space), space) for _ in range(60)}
    assert len(drawn) > 10
    assert drawn <= {label(stratum) for stratum in space.strata()}
    with pytest.raises(ValueError, match="choices repeat themselves"):
        SpaceConfig.model_validate({**FIVE, "train_fraction": {"choices": [1, 1.0]}, "exclude": []})


def test_integer_ranges_are_enumerated() -> None:
    space = SpaceConfig.model_validate({**FIVE, "unfreeze_depth": {"low": 0, "high": 3}, "exclude": []})
    assert values_of("unfreeze_depth", space.dimensions["unfreeze_depth"]) == [0, 1, 2, 3]


def test_depths_that_trials_can_have() -> None:
    ranged = {**FIVE, "unfreeze_depth": {"low": 0, "high": 3}, "exclude": []}
    assert SpaceConfig.model_validate(ranged).depths == {0, 1, 2, 3}
    assert SpaceConfig.model_validate({**ranged, "unfreeze_depth": {"value": 2}}).depths == {2}
    assert SpaceConfig.model_validate({"architecture": FIVE["architecture"]}).depths == {5}


def test_an_unknown_augmentation_is_refused() -> None:
    """Else every trial would fail, after the data set has been prepared."""
    with pytest.raises(ValueError, match=r"augmentation = 'octt': input should be 'none', 'cxr', 'oct' or"):
        SpaceConfig.model_validate({**FIVE, "augmentation": {"value": "octt"}})
