"""The first trials of a study under `goal = "best"`: as a practitioner would begin, then what worked elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from medfathom.definitions.space import Dimension, SpaceConfig, TrialParams, Value, label, suggest
from medfathom.study.policy.cost import work_of
from medfathom.study.policy.sampler import First

WITHOUT_KNOWLEDGE = ("random", "imagenet-stats")
"""Inits that are not pretrained."""

SOUND = {0: 3e-3, 5: 1e-3}
"""A sound learning rate for Adam and its kin: of the head alone, and of the whole network."""
SOUND_SGD = 10.0
"""Plain gradient descent takes so many times the rate."""
FACTOR = 2.0
"""A number of an earlier trial may be changed by this factor at most to fit into a space."""


def practitioner(space: SpaceConfig) -> list[First]:
    """Each architecture pretrained, the head alone and the whole network, at a sound rate; the cheapest first.

    Where a space has no pretrained init, its first one; where it has not these depths, its least and greatest.
    """
    inits = [i for i in space.values("init") if i not in WITHOUT_KNOWLEDGE]
    depths = sorted({min(space.depths), max(space.depths)})
    chosen = []
    for architecture in map(str, space.values("architecture")):
        allowed = [i for i in inits if not _excluded(space, architecture, i)]
        for depth in depths if allowed else []:
            values = {"architecture": architecture, "init": allowed[0], "unfreeze_depth": depth}
            params = completed(space, values)
            if params is not None:
                chosen.append(params)
    cheapest = {p.architecture: work_of(p, 1) for p in reversed(chosen)}
    chosen.sort(key=lambda p: (cheapest[p.architecture], p.unfreeze_depth))
    return [First(as_optuna(space, p), "practitioner", protected=True) for p in chosen]


def _excluded(space: SpaceConfig, architecture: str, init: Value) -> bool:
    return space.excluded({"architecture": architecture, "init": init})


def completed(space: SpaceConfig, values: Mapping[str, Value]) -> TrialParams | None:
    """Parameters with these values and usual ones for the rest; None: the space has no such combination.

    A number that the space does not have is moved to the nearest that it has, by `FACTOR` at most.
    """
    found: dict[str, Value] = {}
    for name, dimension in space.dimensions.items():
        usual = name not in values
        wanted = _usual(space, name, values) if usual else values[name]
        value = _nearest(name, dimension, wanted, anything=usual)
        if value is None:
            return None
        found[name] = value
    for name, value in values.items():
        if name not in space.dimensions and TrialParams.model_fields[name].default != value:
            return None
    return None if space.excluded(found) else TrialParams.model_validate(found)


def _usual(space: SpaceConfig, name: str, values: Mapping[str, Value]) -> Value:
    if name == "learning_rate":
        plain = values.get("optimizer", space.values("optimizer")[0]) == "sgd"
        return SOUND[0 if values.get("unfreeze_depth") == 0 else 5] * (SOUND_SGD if plain else 1.0)
    default: Value = TrialParams.model_fields[name].default
    return default


def _nearest(name: str, dimension: Dimension, wanted: Value, *, anything: bool) -> Value | None:
    """The value of a dimension that is nearest to the wanted one; None: it has none near enough."""
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if dimension.low is not None and dimension.high is not None and number:
        value: Value = min(max(wanted, dimension.low), dimension.high)  # type: ignore[type-var]
        return value if anything or _near(value, wanted) else None
    choices = dimension.choices if dimension.choices is not None else [dimension.value]
    there = [c for c in choices if c is not None]
    if wanted in there:
        return wanted
    if number and name != "unfreeze_depth" and all(isinstance(c, int | float) for c in there):
        value = min(there, key=lambda c: _distance(c, wanted))
        return value if anything or _near(value, wanted) else None
    return there[0] if anything else None


def _distance(a: Value, b: Value) -> float:
    if float(a) > 0 and float(b) > 0:
        return abs(math.log(float(a) / float(b)))
    return abs(float(a) - float(b)) * 1e6  # from or to zero: no factor leads there


def _near(a: Value, b: Value) -> bool:
    return a == b or _distance(a, b) <= math.log(FACTOR) + 1e-9


def as_optuna(space: SpaceConfig, params: TrialParams) -> dict[str, Any]:
    """Parameters as Optuna knows them: without fixed ones, jointly chosen ones as one."""
    joint = space.joint
    found = {n: getattr(params, n) for n, d in space.dimensions.items() if d.value is None and n not in joint}
    together = {"+".join(joint): label({n: getattr(params, n) for n in joint})} if joint else {}
    return {**together, **found}


def as_params(space: SpaceConfig, params: Mapping[str, Any]) -> TrialParams:
    """Optuna's parameters of a trial as ours."""
    values = dict(params)
    joint = "+".join(space.joint)
    if joint:
        values |= {label(c): c for c in space.allowed_combinations()}[values.pop(joint)]
    fixed = {n: d.value for n, d in space.dimensions.items() if d.value is not None}
    return TrialParams.model_validate({**fixed, **values})


def distributions(space: SpaceConfig) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every parameter of a space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    suggest(trial, space)
    return dict(trial.distributions)
