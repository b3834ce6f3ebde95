"""medfathom's policy as an Optuna sampler: first trials and cost model put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfathom.definitions.config import SamplerConfig
from medfathom.definitions.space import SpaceConfig, TrialParams, label
from medfathom.study.policy.cost import COSTED, CostModel
from medfathom.study.policy.opening import distributions, practitioner
from medfathom.study.policy.portfolio import first_trials, past_results, portfolios
from medfathom.study.policy.sampler import First, GainPerSecond
from medfathom.study.policy.warm_start import WarmStart
from medfathom.study.summary import GOES_ON_FROM, WITHDRAWN

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


def first_sentence(sampler: BaseSampler, begun: Sequence[FrozenTrial], budget: int) -> str:
    """How many of the trials to begin with fit into a budget, by where they come from, for the user.

    Args:
        sampler: of the study; others than medfathom's own have no such trials, and nothing is said.
        begun: all trials of the study so far.
        budget: trials that the study may have.
    """
    first = sampler.first if isinstance(sampler, GainPerSecond) else ()
    there = [t.params for t in begun if not {WITHDRAWN, GOES_ON_FROM} & t.user_attrs.keys()]
    waiting = [f for f in first if f.params not in there]
    cut = waiting[max(budget - len(there), 0) :]
    whole, left = Counter(f.source for f in first), Counter(f.source for f in cut)
    parts = [f"{n - left[source]} of {n} from {source}" for source, n in whole.items()]
    said = f"the first trials are fixed; the budget of {budget} trials has room for {', '.join(parts)}"
    return said if parts else ""


def gain_per_second(
    config: SamplerConfig,
    space: SpaceConfig,
    seed: int,
    *,
    epochs: int,
    warm: WarmStart | None = None,
    first: Sequence[First] | None = None,
) -> GainPerSecond:
    """The sampler of a definition.

    Args:
        config: which portfolio.
        space: what is searched.
        seed: of the random numbers.
        epochs: of a trial's full length.
        warm: what earlier studies of the storage told.
        first: in the place of the practitioner's and the portfolios' trials and results.
    """
    warm = warm or WarmStart()
    model = CostModel(epochs)
    searched = [name for name, d in space.dimensions.items() if d.value is None]

    fixed = {name: d.value for name, d in space.dimensions.items() if d.value is not None}
    costed = [name for name in COSTED if name in searched]
    together = "+".join(space.joint)
    combinations = {label(c): c for c in space.allowed_combinations()} if together else {}

    def explain(params: Mapping[str, Any]) -> Mapping[str, Any]:
        apart = {**params, **combinations[params[together]]} if together else params
        return {name: apart[name] for name in searched}

    @cache
    def alike(values: tuple[Any, ...]) -> TrialParams:
        return TrialParams.model_validate({**fixed, **dict(zip(costed, values, strict=True))})

    def seconds(trials: Sequence[FrozenTrial], wanted: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        kinds = [tuple(whole[name] for name in costed) for whole in wanted]
        distinct = list(dict.fromkeys(kinds))
        costs = dict(zip(distinct, model.expected(trials, [alike(k) for k in distinct]), strict=True))
        return np.array([costs[kind] for kind in kinds])

    past = list(warm.past)
    if first is None:
        known_portfolios = portfolios(config.portfolio)
        past += past_results(known_portfolios, space)
        shipped = first_trials(known_portfolios, space).fitting
        each_once: dict[frozenset[tuple[str, Any]], First] = {}
        for trial in (*practitioner(space), *warm.first, *shipped):
            each_once.setdefault(frozenset(trial.params.items()), trial)
        first = list(each_once.values())
    return GainPerSecond(
        space=distributions(space),
        first=first,
        seconds=seconds,
        explain=explain,
        past=past,
        withdrawn=lambda trial: WITHDRAWN in trial.user_attrs,
        steps=epochs,
        seed=seed,
    )
