"""Early stopping as plain functions: which trials are compared, and that strata are stopped alike."""

from __future__ import annotations

from collections import defaultdict

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.study.stopping import Stopping

EPOCHS = 10


def comparison(strata: int) -> StudyConfig:
    changes = ["sampler=random", "scheduler=hyperband", f"budget.epochs={EPOCHS}"]
    names = ["resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "vgg16"][:strata]
    space = {
        "architecture": {"choices": names, "role": "scientific"},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    whole = load_definition("demo", changes).model_dump(exclude_defaults=True)
    return StudyConfig.model_validate(whole | {"goal": "compare", "space": space})


@pytest.mark.parametrize("strata", [1, 2, 3, 6])
def test_hyperband_stops_the_trials_of_each_stratum_alike(strata: int) -> None:
    """Strata are asked for in turns: none may have all of its trials in one bracket."""
    stopping = Stopping(comparison(strata), [])
    stopped: dict[str, set[int]] = defaultdict(set)
    for number in range(30 * strata):
        stratum = f"stratum {number % strata}"
        for epoch in range(1, EPOCHS + 1):
            if stopping.stops(stratum, number, epoch, 0.9 - number / 1000):
                stopped[stratum].add(epoch)
                break
    assert set(map(frozenset, stopped.values())) == {frozenset({1, 3, 9})}
    assert len(stopped) == strata
