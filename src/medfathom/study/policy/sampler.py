"""An Optuna sampler that weighs expected gain against expected seconds. It knows nothing of medfathom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.study.policy.process import Scales

Params = Mapping[str, Any]

ENOUGH = 3
"""So many trials must have told something before a process is fitted; until then draws are random."""
AT_MOST = 200
"""Trials that a process is fitted to, the latest: its time grows with the third power."""
FITTED_AGAIN = 1.1
"""Scales of the process are fitted again each time that the trials have become so many times as many. That is
most of the work, and they change little."""
WHOLE_GRID = 2_000
"""A space of at most so many combinations is looked at whole."""
DRAWN = 400
"""So many random combinations are looked at of a larger one."""
PAST_AT_MOST = 300
"""Trials of all other studies together that a process is fitted to, for the same reason."""
NEIGHBOURS_OF = 5
"""Around so many of the best trials each other value of one hyperparameter is looked at."""
LACKS = 0.005
"""Values are told apart by the logarithm of what they lack to 1, plus this."""


@dataclass(frozen=True)
class First:
    """A trial to begin with: its parameters, where it comes from, whether it may be stopped early."""

    params: Params
    source: str
    protected: bool = False


@dataclass(frozen=True)
class Past:
    """Trials of another study: parameters, and values in [0, 1]."""

    name: str
    params: Sequence[Params]
    values: Sequence[float]

    def thinned(self, most: int) -> Past:
        """At most so many of its trials, good and bad ones alike: evenly by their rank."""
        ranked = np.argsort(self.values, kind="stable")
        kept = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int))]
        return Past(self.name, [self.params[i] for i in kept], [self.values[i] for i in kept])


@dataclass
class GainPerSecond(BaseSampler):
    """First the given trials, then those with the greatest expected improvement per expected second.

    For maximising a value in [0, 1] over a fixed space. What a running or a stopped trial will reach is taken
    from the trial's latest value. With a promising trial the same parameters with each other value of one
    hyperparameter are candidates too (so an unfreeze depth is promoted to the next).

    Attributes:
        space: the distribution of every parameter.
        first: trials to begin with, in order. One that the study has already is not asked for again.
        seconds: what a trial with these parameters will cost, given the study's trials; any unit.
        explain: parameters as the process sees them (a joint choice taken apart, say); as they are if None.
        past: other studies, from which the process learns as far as they agree with this one.
        steps: of a trial's full length.
        price: the power of the seconds by which the improvement is divided. 0 does not look at them, 1 is
            gain per second; in between, expensive trials are not put off for ever.
    """

    space: Mapping[str, BaseDistribution]
    first: Sequence[First] = ()
    seconds: Callable[[Sequence[FrozenTrial], Sequence[Params]], NDArray[np.float64]] | None = None
    explain: Callable[[Params], Params] | None = None
    past: Sequence[Past] = ()
    steps: int | None = None
    price: float = 0.5
    seed: int | None = None
    _random: RandomSampler = field(init=False)
    _generator: np.random.Generator = field(init=False)
    _scales: Scales | None = field(init=False, default=None)
    _fitted_at: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Begin the random numbers, and take of other studies what a process can be fitted to."""
        each = max(PAST_AT_MOST // max(len(self.past), 1), ENOUGH)
        self.past = [other.thinned(each) for other in self.past]
        self._random = RandomSampler(seed=self.seed)
        self._generator = np.random.default_rng(self.seed)

    def protects(self, params: Params) -> bool:
        """Whether a trial is one of the first, and not to be stopped early."""
        return any(first.protected and first.params == params for first in self.first)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space."""
        return dict(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All parameters of the next trial."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        trials = [t for t in others if t.params.keys() == self.space.keys()]
        begun = {_key(t.params) for t in trials}
        for first in self.first:
            if _key(first.params) not in begun:
                return dict(first.params)
        told = _told(trials)
        if len(told) < ENOUGH:
            return {name: self._draw(d) for name, d in self.space.items()}
        candidates = [c for c in self._candidates(told) if _key(c) not in begun]
        if not candidates:
            return {name: self._draw(d) for name, d in self.space.items()}
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

        with threadpool_limits(1):  # workers hold all cores: a second thread of BLAS waits seconds for one
            gain = self._gain(told, [t for t in trials if not t.state.is_finished()], candidates)
        if self.seconds is not None:
            gain = gain / self.seconds(trials, candidates) ** self.price
        return dict(candidates[int(np.argmax(gain))])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value: for parameters outside the space."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Begin other random numbers."""
        self._random.reseed_rng()
        self._generator = np.random.default_rng()

    def _gain(
        self,
        told: Sequence[tuple[FrozenTrial, float]],
        running: Sequence[FrozenTrial],
        candidates: Sequence[Params],
    ) -> NDArray[np.float64]:
        """Expected improvement of each candidate, running trials taken to reach what is expected of them."""
        n_told, told = len(told), told[-AT_MOST:]
        known, busy = [t.params for t, _ in told], [t.params for t in running]
        past = [params for other in self.past for params in other.params]
        columns = self._columns([*past, *known, *busy, *candidates])
        study = [i for i, other in enumerate(self.past, start=1) for _ in other.params]
        points = np.column_stack([columns.values, [*study, *[0] * (len(columns.values) - len(study))]])
        numeric = [*columns.numeric, False]
        ends = np.cumsum([len(past), len(known), len(busy)])
        before, seen, under_way, wanted = np.split(points, ends)
        values = [standardised(other.values) for other in self.past] + [standardised([v for _, v in told])]
        basis, heights = np.vstack([before, seen]), np.concatenate(values)
        from medfathom.study.policy.process import Process, expected_improvement  # noqa: PLC0415  imports scipy

        if self._scales is None or n_told >= FITTED_AGAIN * self._fitted_at:
            self._scales, self._fitted_at = Process.fitted(basis, heights, numeric).scales, n_told
        process = Process.of(basis, heights, numeric, self._scales)
        if running:
            expected, _ = process.predict(under_way)
            process = process.given(under_way, expected)
        best = float(process.predict(seen)[0].max())
        return expected_improvement(*process.predict(wanted), best)

    def _columns(self, rows: Sequence[Params]) -> Columns:
        return Columns.of([self.explain(row) for row in rows] if self.explain else rows)

    def _candidates(self, told: Sequence[tuple[FrozenTrial, float]]) -> list[Params]:
        """The whole grid where it is small; else random draws, and neighbours of the best trials."""
        axes = {name: _all_values(d) for name, d in self.space.items()}
        sizes = [len(values) if values is not None else WHOLE_GRID + 1 for values in axes.values()]
        if np.prod(sizes, dtype=float) <= WHOLE_GRID:
            points = product(*(values or [] for values in axes.values()))
            return [dict(zip(axes, point, strict=True)) for point in points]
        drawn: list[Params] = [{name: self._draw(d) for name, d in self.space.items()} for _ in range(DRAWN)]
        best = sorted(told, key=lambda pair: -pair[1])[:NEIGHBOURS_OF]
        return drawn + [
            {**trial.params, name: value}
            for trial, _ in best
            for name, distribution in self.space.items()
            for value in axes[name] or [self._draw(distribution) for _ in range(10)]
        ]

    def _draw(self, distribution: BaseDistribution) -> Any:
        """A random value."""
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[int(self._generator.integers(len(distribution.choices)))]
        if isinstance(distribution, IntDistribution):
            low, high = (np.log(v) if distribution.log else v for v in (distribution.low, distribution.high))
            drawn = self._generator.uniform(low, high) if distribution.log else None
            value = self._generator.integers(low, high + 1) if drawn is None else round(np.exp(drawn))
            return int(distribution.low + (value - distribution.low) // distribution.step * distribution.step)
        if isinstance(distribution, FloatDistribution):
            if distribution.log:
                value = np.exp(self._generator.uniform(np.log(distribution.low), np.log(distribution.high)))
            else:
                value = self._generator.uniform(distribution.low, distribution.high)
            if distribution.step:
                value = (
                    distribution.low
                    + round((value - distribution.low) / distribution.step) * distribution.step
                )
            return float(min(max(value, distribution.low), distribution.high))
        raise TypeError(f"{distribution!r}: no such distribution")


def _told(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, float]]:
    """Trials with what they reached; a stopped one is taken to have gained what the median one did."""
    finished = [t for t in trials if t.state == TrialState.COMPLETE]

    @cache
    def usual_gain(step: int) -> float:
        gains = [
            max(t.value or 0.0, 0.0) - t.intermediate_values[step]
            for t in finished
            if step in t.intermediate_values
        ]
        return max(float(np.median(gains)), 0.0) if gains else 0.0

    told = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            told.append((trial, trial.value))
        elif trial.state == TrialState.PRUNED and trial.intermediate_values:
            step, value = max(trial.intermediate_values.items())
            told.append((trial, float(min(value + usual_gain(step), 1.0))))
    return told


@dataclass(frozen=True)
class Columns:
    """Parameters as numbers: a number in [0, 1], logarithmic where it spans a power of ten; or a category."""

    values: NDArray[np.float64]
    numeric: list[bool]

    @classmethod
    def of(cls, rows: Sequence[Params]) -> Columns:
        """All rows have the same names."""
        columns, numeric = [], []
        for name in rows[0]:
            column = [row[name] for row in rows]
            number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)
            numeric.append(number)
            columns.append(_scaled(np.array(column, dtype=float)) if number else _indices(column))
        return cls(np.column_stack(columns), numeric)


def _key(params: Params) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())


def _scaled(column: NDArray[np.float64]) -> NDArray[np.float64]:
    if column.min() > 0 and column.max() >= 10 * column.min():
        column = np.log(column)
    scaled: NDArray[np.float64] = (column - column.min()) / max(column.max() - column.min(), 1e-12)
    return scaled


def _indices(column: Sequence[Any]) -> NDArray[np.float64]:
    places = {value: float(i) for i, value in enumerate(dict.fromkeys(column))}
    return np.array([places[value] for value in column])


def standardised(values: Sequence[float]) -> NDArray[np.float64]:
    """Values by the logarithm of what they lack to 1, of mean 0 and spread 1."""
    lacking = -np.log(1 + LACKS - np.array(values, dtype=float))
    scaled: NDArray[np.float64] = (lacking - lacking.mean()) / max(lacking.std(), 1e-3)
    return scaled


def _all_values(distribution: BaseDistribution) -> list[Any] | None:
    """Every value; None: there is no end of them."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    return None
