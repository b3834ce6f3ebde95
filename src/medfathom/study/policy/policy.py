"""medfathom's policy as an Optuna sampler: first trials and cost model put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfathom.definitions.config import SamplerConfig
from medfathom.definitions.space import SpaceConfig, TrialParams
from medfathom.study.policy.cost import CostModel
from medfathom.study.policy.opening import as_params, distributions, practitioner
from medfathom.study.policy.portfolio import first_trials, portfolios
from medfathom.study.policy.sampler import First, GainPerSecond, Past

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def gain_per_second(
    config: SamplerConfig,
    space: SpaceConfig,
    seed: int,
    *,
    epochs: int,
    past: Sequence[Past] = (),
    first: Sequence[First] | None = None,
) -> GainPerSecond:
    """The sampler of a definition.

    Args:
        config: which portfolio.
        space: what is searched.
        seed: of the random numbers.
        epochs: of a trial's full length.
        past: trials of other studies that fit into the space.
        first: in the place of the practitioner's and the portfolio's trials.
    """
    model = CostModel(epochs)
    searched = [name for name, d in space.dimensions.items() if d.value is None]

    @cache
    def known(items: tuple[tuple[str, Any], ...]) -> TrialParams:
        return as_params(space, dict(items))

    def seconds(trials: Sequence[FrozenTrial], wanted: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        return model.expected(trials, [known(tuple(params.items())) for params in wanted])

    def explain(params: Mapping[str, Any]) -> Mapping[str, Any]:
        whole = known(tuple(params.items()))
        return {name: getattr(whole, name) for name in searched}

    if first is None:
        first = [*practitioner(space), *first_trials(portfolios(config.portfolio), space).fitting]
    return GainPerSecond(
        space=distributions(space),
        first=first,
        seconds=seconds,
        explain=explain,
        past=past,
        steps=epochs,
        seed=seed,
    )
