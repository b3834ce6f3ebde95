"""Which change of a space makes it wider, and in what words."""

from __future__ import annotations

from typing import Any

import pytest

from medfathom.definitions.growth import news_of
from medfathom.definitions.space import SpaceConfig

ARCHITECTURE = {"choices": ["resnet18", "resnet34"], "role": "scientific"}
RATE = {"low": 1e-4, "high": 1e-2, "log": True}
DEPTH = {"low": 1, "high": 3, "role": "scientific"}


def space(**dimensions: Any) -> SpaceConfig:
    return SpaceConfig.model_validate({"architecture": ARCHITECTURE, **dimensions})


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        ({}, {}, []),
        ({}, {"init": {"value": "imagenet"}}, []),  # the default, said in so many words
        (
            {},
            {"architecture": {"choices": ["vgg16", "resnet18", "resnet34"], "role": "scientific"}},
            ["architecture vgg16"],
        ),
        ({}, {"init": {"choices": ["imagenet", "random"], "role": "scientific"}}, ["init random"]),
        ({"init": {"value": "random"}}, {"init": {"choices": ["imagenet", "random"]}}, ["init imagenet"]),
        (
            {"learning_rate": RATE},
            {"learning_rate": {**RATE, "low": 1e-5}},
            ["learning_rate 1e-05 to 0.01 (was 0.0001 to 0.01)"],
        ),
        ({}, {"learning_rate": RATE}, ["learning_rate 0.0001 to 0.01 (was 0.001)"]),
        (
            {"unfreeze_depth": DEPTH},
            {"unfreeze_depth": {**DEPTH, "low": 0, "high": 5}},
            ["unfreeze_depth 0 to 5 (was 1 to 3)"],
        ),
        (
            {},
            {"architecture": {"choices": ["resnet34", "resnet18"], "role": "scientific"}},
            [],  # another order alone is nothing new: such a definition is refused like any other change
        ),
        (
            {"init": {"value": "random"}},
            {"init": {"choices": ["random"], "role": "scientific"}},
            ["init is now scientific"],
        ),
    ],
)
def test_what_is_new_is_said(before: Any, after: Any, news: list[str]) -> None:
    assert news_of(space(**before), space(**after)) == news


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"architecture": {"choices": ["resnet18", "vgg16"], "role": "scientific"}}),
        ({}, {"architecture": {"choices": ["resnet18", "resnet34", "vgg16"]}}),  # no longer compared
        ({}, {"init": {"choices": ["random", "imagenet-stats"]}}),
        ({"learning_rate": RATE}, {"learning_rate": {**RATE, "low": 2e-4, "high": 1}}),
        ({"learning_rate": RATE}, {"learning_rate": {"low": 1e-5, "high": 1e-1}}),  # another scale
        ({"learning_rate": RATE}, {"learning_rate": {"choices": [1e-4, 1e-2]}}),
        ({"learning_rate": RATE}, {}),
        ({"learning_rate": {"choices": [1e-4, 1e-2]}}, {"learning_rate": RATE}),
        ({"learning_rate": {"value": 0.1}}, {"learning_rate": RATE}),
        ({"weight_decay": {"value": 0.1}}, {"weight_decay": {"value": 0.2}}),
        (
            {"unfreeze_depth": DEPTH},
            {"unfreeze_depth": DEPTH, "exclude": [{"architecture": "resnet18", "unfreeze_depth": 1}]},
        ),
    ],
)
def test_a_space_that_lost_something_is_not_wider(before: Any, after: Any) -> None:
    assert news_of(space(**before), space(**after)) is None


def test_a_new_choice_may_bring_its_exclusions() -> None:
    inits = {"choices": ["imagenet", "random"]}
    wider = space(
        architecture={"choices": ["resnet18", "resnet34", "vgg16"], "role": "scientific"},
        init=inits,
        exclude=[{"architecture": "vgg16", "init": "imagenet"}],
    )
    assert news_of(space(init=inits), wider) == ["architecture vgg16"]
    assert news_of(wider, space(**wider.dimensions)) == [
        "architecture=vgg16 init=imagenet is no longer excluded"
    ]
