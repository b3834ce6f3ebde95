"""The first trials of a study under `goal = "best"`: as a practitioner would begin."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import BaseDistribution

from medfathom.definitions.space import Dimension, Params, SpaceConfig, TrialParams, Value
from medfathom.definitions.strategies import DRAWN
from medfathom.study.growth import asked
from medfathom.study.policy.cost import work_of
from medfathom.study.policy.sampler import First

SOUND = {0: 3e-3, 5: 1e-3}
"""A sound learning rate for Adam and its kin: of the head alone, and of the whole network."""
SOUND_SGD = 10.0
"""Plain gradient descent takes so many times the rate."""
FACTOR = 2.0
"""A number of an earlier trial may be changed by this factor at most to fit into a space."""


def practitioner(space: SpaceConfig) -> list[First]:
    """Each architecture pretrained, the head alone and the whole network, at a sound rate.

    The cheapest network begins with both; then come the heads of the others, which cost little, then their
    whole networks, cheap ones first. Where the space has not these depths, its least and its greatest.
    """
    inits = [i for i in space.values("init") if i not in DRAWN]
    depths = sorted({min(space.depths), max(space.depths)})
    chosen = []
    for architecture in map(str, space.values("architecture")):
        allowed = [i for i in inits if not _excluded(space, architecture, i)]
        for depth in depths if allowed else []:
            optimizer = space.values("optimizer")[0]
            values = {
                "architecture": architecture,
                "init": allowed[0],
                "unfreeze_depth": depth,
                "optimizer": optimizer,
            }
            params = completed(space, values)
            if isinstance(params, TrialParams):
                chosen.append(params)
    cheapest = min(chosen, key=lambda p: work_of(p, 1)).architecture if chosen else ""
    chosen.sort(key=lambda p: (p.architecture != cheapest, p.unfreeze_depth, work_of(p, 1)))
    return [First(dict(asked(p, space)[0]), "a practitioner's start", protected=True) for p in chosen]


def _excluded(space: SpaceConfig, architecture: str, init: Value) -> bool:
    return space.excluded({"architecture": architecture, "init": init})


def completed(space: SpaceConfig, values: Params) -> TrialParams | str:
    """Parameters with these values and usual ones for the rest; or, in words, what the space does not have.

    A number that the space does not have is moved to the nearest that it has, by `FACTOR` at most. What the
    space does not search is not looked at, but for the optimizer: without it a learning rate means nothing.
    """
    if values.get("optimizer", "adamw") not in space.values("optimizer"):
        return f"optimizer = {values.get('optimizer', 'adamw')}"
    found: dict[str, Value] = {}
    for name, dimension in space.dimensions.items():
        usual = name not in values
        wanted = _usual(space, name, values) if usual else values[name]
        value = _nearest(name, dimension, wanted, anything=usual or dimension.value is not None)
        if value is None:
            return f"{name} = {wanted}"
        found[name] = value
    if space.excluded(found):
        return " ".join(f"{name}={found[name]}" for name in space.joint)
    return TrialParams.model_validate(found)


def _usual(space: SpaceConfig, name: str, values: Params) -> Value:
    if name == "learning_rate":
        plain = values.get("optimizer", space.values("optimizer")[0]) == "sgd"
        return SOUND[0 if values.get("unfreeze_depth") == 0 else 5] * (SOUND_SGD if plain else 1.0)
    default: Value = TrialParams.model_fields[name].default
    return default


def _nearest(name: str, dimension: Dimension, wanted: Value, *, anything: bool) -> Value | None:
    """The value of a dimension that is nearest to the wanted one; None: it has none near enough."""
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if dimension.low is not None and dimension.high is not None and number:
        value: Value = min(max(wanted, dimension.low), dimension.high)
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


def distributions(space: SpaceConfig) -> Mapping[str, BaseDistribution]:
    """Optuna's distribution of every parameter of a space."""
    any_values = {name: dimension.ends[0] for name, dimension in space.dimensions.items()}
    return asked(TrialParams.model_validate({**any_values, **space.allowed_combinations()[0]}), space)[1]
