"""Which parameters the next trial gets: Optuna's samplers, and equal budgets for strata.

Under `goal = "compare"` every trial is assigned to a stratum, and the sampler tunes the nuisance
hyperparameters from that stratum's own trials: what is good for one architecture tells nothing of another.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import SamplerConfig
from medfathom.definitions.grid import grid
from medfathom.definitions.space import Params, SpaceConfig, Value, label
from medfathom.errors import DefinitionError
from medfathom.study.growth import moved
from medfathom.study.policy.policy import gain_per_second
from medfathom.study.policy.warm_start import WarmStart
from medfathom.study.summary import GOES_ON_FROM, WITHDRAWN

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study


Earlier = tuple[SpaceConfig, int]
"""A space that a study had before, and the number of trials that had been begun when it became wider."""


class Grid(BaseSampler):
    """Every combination once, the strata in turns: a budget that ends early leaves them equal shares.

    A trial's place in the grid is its number, so that the order must be the same at each start and in each
    driver: it follows from `seed`, and from the spaces that the study had before.
    """

    def __init__(self, space: SpaceConfig, seed: int, earlier: Sequence[Earlier] = ()) -> None:
        """`earlier`: what trials of smaller spaces took keeps its places; see `study.growth`."""
        taken: list[Params] = []
        if earlier:
            before, begun = earlier[-1]
            old = Grid(before, seed, earlier[:-1])._points
            taken = [moved(old[place % len(old)], before, space) for place in range(begun)]
        self._points: list[Params] = [*taken, *self._order(space, seed, taken)]

    @staticmethod
    def _order(space: SpaceConfig, seed: int, taken: Sequence[Params]) -> list[Params]:
        """The points that are not taken; those of the strata with the fewest so far come first."""
        axes = sorted(grid(space).items())
        points = [dict(zip(dict(axes), values, strict=True)) for values in product(*dict(axes).values())]
        # The order of Optuna's GridSampler, which drew the grids of earlier versions.
        order = list(range(len(points)))
        np.random.RandomState(seed).shuffle(order)
        combinations = {label(c): c for c in space.allowed_combinations()}
        joint = "+".join(space.joint)

        def stratum(point: Params) -> tuple[Any, ...]:
            values = {**point, **combinations.get(str(point.get(joint)), {})}
            return tuple(values[name] for name in space.scientific())

        turns = Counter(map(stratum, taken))
        turn_of: dict[int, int] = {}
        for place in order:
            if points[place] not in taken:
                turn_of[place] = turns[stratum(points[place])]
                turns[stratum(points[place])] += 1
        return [points[place] for place in sorted(turn_of, key=turn_of.__getitem__)]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: each value is asked for by itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value at the trial's place."""
        return self._points[self._place(study.get_trials(deepcopy=False), trial.number)][param_name]

    def _place(self, trials: Sequence[FrozenTrial], number: int) -> int:
        """A trial's place: after the last one come those of withdrawn trials, then the grid begins anew.

        A trial that goes on with another's later folds takes no place.
        """
        before = [t for t in trials[:number] if GOES_ON_FROM not in t.user_attrs]
        left = [t.number for t in before if WITHDRAWN in t.user_attrs]
        past_end = len(before) - len(self._points)
        if 0 <= past_end < len(left):
            return self._place(trials, left[past_end])
        return len(before) % len(self._points)


def make_sampler(
    config: SamplerConfig,
    space: SpaceConfig,
    seed: int,
    earlier: Sequence[Earlier] = (),
    *,
    epochs: int = 1,
    warm: WarmStart | None = None,
) -> BaseSampler:
    """The Optuna sampler of a definition.

    Args:
        config: its name and settings.
        space: what is searched; `grid` enumerates it.
        seed: a new one for each start of a study: the same seed would propose the first trials again. For
            `grid` the study's own, at each start.
        earlier: smaller spaces that the study had before; for `grid`.
        epochs: of a trial's full length; for `gain`.
        warm: what earlier studies of the storage told; for `gain`.

    Raises:
        DefinitionError: `grid` over a continuous range, or there is no sampler of that name.
    """
    if config.name == "gain":
        return gain_per_second(config, space, seed, epochs=epochs, warm=warm)
    if config.name == "grid":
        return Grid(space, seed, earlier)
    return _optunas_own(config, seed)


def _optunas_own(config: SamplerConfig, seed: int) -> BaseSampler:
    startup = config.n_startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if config.name == "gp":
            return optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed)
        if config.name == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
        if config.name == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=max(startup, 2), seed=seed)
        if config.name == "tpe":
            # Hyperparameters are proposed together, and not again while a trial with them is under way.
            return optuna.samplers.TPESampler(
                n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed
            )
    raise DefinitionError(f"sampler.name = {config.name!r}: no such sampler")


class StratumSampler(BaseSampler):
    """Gives the scientific hyperparameters of the stratum it was told, and tunes the rest within it.

    Owner: the driver, which sets `stratum` before each `study.ask()`, in one thread.
    """

    def __init__(self, base: BaseSampler, space: SpaceConfig) -> None:
        self.base = base
        self.stratum: dict[str, Value] = {}
        joint = space.joint
        self._assigned = [name for name in space.scientific() if name not in joint]
        self._choices: Sequence[Params] = ()
        if set(joint) & set(space.scientific()):
            self._assigned.append("+".join(joint))
            self._choices = space.allowed_combinations()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The base sampler's space, less what the stratum gives."""
        whole = self.base.infer_relative_search_space(self._view(study), trial)
        return {name: d for name, d in whole.items() if name not in self._assigned}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The base sampler's proposal from this stratum's trials."""
        return self.base.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The stratum's value of a scientific hyperparameter; else the base sampler's."""
        if param_name in self.stratum or param_name in self._assigned:
            return self._least_tried(study, self._given(self.stratum, param_name), param_name)
        return self.base.sample_independent(self._view(study), trial, param_name, param_distribution)

    def fits(self, stratum: Mapping[str, Value], params: Mapping[str, Any]) -> bool:
        """Whether a trial with these parameters (some may be missing yet) can be of the stratum."""
        return all(params[n] in self._given(stratum, n) for n in self._assigned if n in params)

    def _given(self, stratum: Mapping[str, Value], param_name: str) -> list[Value]:
        """The values of a parameter that a stratum allows: several where it joins nuisance dimensions too."""
        if param_name in stratum:
            return [stratum[param_name]]
        return [label(c) for c in self._choices if all(c[n] == v for n, v in stratum.items() if n in c)]

    def _least_tried(self, study: Study, values: Sequence[Value], param_name: str) -> Value:
        """Of a joint choice the part that is nuisance: each in turn, as no sampler knows it apart."""
        if len(values) == 1:
            return values[0]
        tried = Counter(t.params.get(param_name) for t in self._view(study).get_trials(deepcopy=False))
        return min(values, key=lambda value: tried[value])

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Let the base sampler prepare."""
        self.base.before_trial(self._view(study), trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the base sampler note the end of a trial."""
        self.base.after_trial(self._view(study), trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the base sampler."""
        self.base.reseed_rng()

    def _view(self, study: Study) -> Study:
        """The study as if it held this stratum's trials alone."""
        view = copy.copy(study)
        wanted = label(self.stratum)

        def stratum_trials(
            deepcopy: bool = True,
            states: Container[TrialState] | None = None,
            use_cache: bool = False,
        ) -> list[FrozenTrial]:
            trials = study._get_trials(deepcopy, states, use_cache)
            return [t for t in trials if t.user_attrs.get("stratum") == wanted]

        view._get_trials = stratum_trials  # type: ignore[method-assign]
        view._storage = cast("BaseStorage", _OwnNotes(study._storage, wanted))
        return view


class _OwnNotes:
    """A storage in which what samplers note of the study is a stratum's own.

    `qmc` counts there the points that it gave, and `nsga2` names there the parents of each generation. With
    one count for all, each of four strata would get every fourth point of the sequence, which is half of a
    range or less, and another half for each. Of another stratum's parents none is in the view.
    """

    def __init__(self, storage: BaseStorage, stratum: str) -> None:
        self._storage = storage
        self._prefix = hashlib.sha256(stratum.encode()).hexdigest()[:16] + ":"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The stratum's."""
        found = self._storage.get_study_system_attrs(study_id)
        return {k.removeprefix(self._prefix): v for k, v in found.items() if k.startswith(self._prefix)}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """One of the stratum's."""
        self._storage.set_study_system_attr(study_id, self._prefix + key, value)
