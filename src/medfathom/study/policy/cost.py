"""What a trial will cost: from multiply-accumulates, cut and cache state, corrected by what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import DEFAULT, costs_like, groups_behind
from medfathom.errors import ModelError
from medfathom.models.catalog import lookup
from medfathom.study.summary import GOES_ON_FROM

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COSTED = ("architecture", "init", "unfreeze_depth", "strategy", "image_size")
"""Hyperparameters on which the expected cost depends."""
WORK_OF_LAST = (0.0, 0.15, 0.45, 0.65, 0.85, 1.0)
"""Share of a network's work that lies in its last 0 to 5 layer groups: round figures. What is measured
corrects them."""
BACKWARD = 2.0
"""Work of a backward pass, in forward passes."""
START = 0.05
"""What a trial takes besides, in epochs of its network's whole training."""
DEFAULT_MACS = 1e9
"""Of an architecture that is not in the catalog and cannot be measured."""


@dataclass(frozen=True)
class CostModel:
    """Expected seconds of a trial of full length, in some unit until a trial was measured."""

    epochs: int

    def expected(self, trials: Sequence[FrozenTrial], wanted: Sequence[TrialParams]) -> NDArray[np.float64]:
        """For each of the wanted parameters; `trials` are the study's own, with their records."""
        cached = {
            (a["architecture"], a["init"], searched_size(t))
            for t in trials
            if (a := t.user_attrs).get("unfreeze_depth", 5) < 5 and a.get("strategy") != "surgical"
        }
        factors = self._factors(trials)
        costs = []
        for params in wanted:
            names = _kinds(params)
            factor = next((factors[name] for name in names if name in factors), 1.0)
            prefix = (params.architecture, params.init, params.image_size)
            there = prefix in cached and params.init != "random"
            work = work_of(params, self.epochs) + (0.0 if there else prefix_work(params))
            costs.append(factor * work)
        return np.array(costs)

    def _factors(self, trials: Sequence[FrozenTrial]) -> dict[tuple[Any, ...], float]:
        """Measured seconds over expected ones: for each kind of trial, each architecture, and all."""
        ratios: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        for trial in trials:
            measured = _measured(trial)
            if measured is None:
                continue
            params, seconds, epochs = measured
            ratio = np.log(seconds / work_of(params, epochs))
            for name in _kinds(params):
                ratios[name].append(ratio)
        return {name: float(np.exp(np.median(found))) for name, found in ratios.items()}


def work_of(params: TrialParams, epochs: int) -> float:
    """Multiply-accumulates for one training image, its prefix's features kept."""
    trained = _share_behind(params)
    whole = _macs(params.architecture, params.image_size) * (1 + BACKWARD)
    return whole * (epochs * trained + START)


def forward_work(params: TrialParams) -> float:
    """Multiply-accumulates of a forward pass through what is trained, its prefix's features kept."""
    return _macs(params.architecture, params.image_size) * (_share_behind(params) + START)


def prefix_work(params: TrialParams) -> float:
    """Multiply-accumulates to compute an image's features of the frozen prefix, once."""
    return _macs(params.architecture, params.image_size) * (1 - _share_behind(params))


def _share_behind(params: TrialParams) -> float:
    """Share of a network's work behind its frozen prefix."""
    return WORK_OF_LAST[groups_behind(params.strategy, params.unfreeze_depth)]


def _kinds(params: TrialParams) -> list[tuple[Any, ...]]:
    kind = params.architecture, params.unfreeze_depth, costs_like(params.strategy)
    return [kind, kind[:1], ()]


def searched_size(trial: FrozenTrial) -> int:
    """A trial's image size where the space has sizes, else 0: all are alike."""
    return int(trial.user_attrs.get("image_size", 0)) if _searches_size(*trial.params) else 0


@cache
def _searches_size(*names: str) -> bool:
    return any("image_size" in name.split("+") for name in names)


def _measured(trial: FrozenTrial) -> tuple[TrialParams, float, int] | None:
    """A trial's parameters, as far as they matter here, its seconds and epochs; None: it told nothing."""
    attributes, names = (
        trial.user_attrs,
        ("architecture", "init", "unfreeze_depth", "train_seconds", "epochs"),
    )
    if any(attributes.get(name) is None for name in names) or attributes["train_seconds"] <= 0:
        return None
    if GOES_ON_FROM in attributes:  # its epochs are of all folds, its seconds of the later ones
        return None
    params = _params(
        *(attributes[n] for n in names[:3]), attributes.get("strategy", DEFAULT), searched_size(trial)
    )
    return params, float(attributes["train_seconds"]), int(attributes["epochs"])


@cache
def _params(architecture: str, init: str, unfreeze_depth: int, strategy: str, image_size: int) -> TrialParams:
    given = {"architecture": architecture, "init": init, "unfreeze_depth": unfreeze_depth}
    return TrialParams.model_validate({**given, "strategy": strategy, "image_size": image_size})


@cache
def _macs(architecture: str, image_size: int) -> float:
    """Of one image; at one size for all, where the space has no sizes."""
    try:
        facts = lookup(architecture)
    except ModelError:
        return DEFAULT_MACS
    # Work grows with the area.
    return float(facts.macs) * ((image_size or 224) / facts.native_size) ** 2
