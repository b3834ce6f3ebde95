"""Kinds of trials that cost alike, and how many of each a study will have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import Dimension, SpaceConfig, TrialParams, Value
from medfathom.definitions.strategies import costs_like
from medfathom.trial.network import draws_weights


@dataclass(frozen=True)
class Kind:
    """Trials that cost alike."""

    params: TrialParams
    """One of them."""
    inits: tuple[str, ...]
    trials: float
    """How many of the study's are expected to be of this kind."""


def kinds_of(config: StudyConfig) -> list[Kind]:
    """The kinds of trials that a study will have, in the space's order.

    Trials are taken to fall equally on the strata, and within a stratum on what it leaves open.
    """
    combinations = _combinations(config.space)
    trials = _expected_trials(config, combinations)
    members_of: dict[tuple[Value, ...], list[int]] = {}
    for i, combination in enumerate(combinations):
        params = _typical(config, combination)
        key = (
            *(params.architecture, params.unfreeze_depth, params.strategy),
            *(draws_weights(params), params.image_size),
        )
        members_of.setdefault(key, []).append(i)
    return [
        Kind(
            _typical(config, combinations[members[0]]),
            tuple(str(combinations[i]["init"]) for i in members),
            sum(trials[i] for i in members),
        )
        for members in members_of.values()
    ]


def _combinations(space: SpaceConfig) -> list[dict[str, Value]]:
    """All allowed combinations of what makes a trial cheap or dear."""
    names = ("architecture", "unfreeze_depth", "init", "image_size", "strategy")
    every = [dict(zip(names, values, strict=True)) for values in product(*map(space.values, names))]
    return [combination for combination in every if not space.excluded(combination)]


def _expected_trials(config: StudyConfig, combinations: Sequence[Mapping[str, Value]]) -> list[float]:
    """How many trials each combination gets."""
    members_of = [
        [i for i, c in enumerate(combinations) if all(c[n] == v for n, v in stratum.items() if n in c)]
        for stratum in config.space.strata()
    ]
    reachable = [members for members in members_of if members]
    trials = [0.0] * len(combinations)
    for members in reachable:
        for i in members:
            trials[i] += trials_of(config) / len(reachable) / len(members)
    return trials


def _typical(config: StudyConfig, combination: Mapping[str, Value]) -> TrialParams:
    """A trial of this combination, with the middle of everything else; of a strategy that costs alike."""
    others = {
        name: _middle(name, dimension)
        for name, dimension in config.space.dimensions.items()
        if name not in combination
    }
    strategy = costs_like(str(combination["strategy"]))
    return TrialParams.model_validate({**others, **combination, "strategy": strategy})


def _middle(name: str, dimension: Dimension) -> Value:
    if dimension.value is not None:
        return dimension.value
    if dimension.choices is not None:
        return dimension.choices[len(dimension.choices) // 2]
    if dimension.low is None or dimension.high is None:
        raise ValueError(f"{name} has neither choices nor a range")
    low, high = dimension.low, dimension.high
    middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
    return round(middle) if TrialParams.model_fields[name].annotation is int else middle
