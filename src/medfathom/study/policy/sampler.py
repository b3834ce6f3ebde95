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
        seconds: what a trial with these parameters (explained) will cost, given the study's trials; any unit.
        explain: parameters as the process sees them (a joint choice taken apart, say); as they are if None.
        past: other studies, from which the process learns as far as they agree with this one.
        withdrawn: which trials count as never begun; None: all count.
        steps: of a trial's full length.
        price: the power of the seconds by which the improvement is divided. 0 does not look at them, 1 is
            gain per second; in between, expensive trials are not put off for ever.
    """

    space: Mapping[str, BaseDistribution]
    first: Sequence[First] = ()
    seconds: Callable[[Sequence[FrozenTrial], Sequence[Params]], NDArray[np.float64]] | None = None
    explain: Callable[[Params], Params] | None = None
    past: Sequence[Past] = ()
    withdrawn: Callable[[FrozenTrial], bool] | None = None
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
        if self.withdrawn is not None:
            trials = [t for t in trials if not self.withdrawn(t)]
        begun = {_key(t.params) for t in trials}
        for first in self.first:
            if _key(first.params) not in begun:
                return dict(first.params)
        told = _told(trials)
        if len(told) < ENOUGH:
            return dict(self._drawn(1)[0])
        candidates = [c for c in self._candidates(told) if _key(c) not in begun]
        if not candidates:
            return dict(self._drawn(1)[0])
        wanted = self._explained(candidates)
        with _blas().limit(limits=1):  # workers hold all cores: a second thread waits seconds for one
            gain = self._gain(told, [t for t in trials if not t.state.is_finished()], wanted)
        if self.seconds is not None:
            gain = gain / self.seconds(trials, wanted) ** self.price
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
        wanted: Sequence[Params],
    ) -> NDArray[np.float64]:
        """Expected improvement of each candidate (explained ones); running trials are taken to reach what is
        expected of them."""
        n_told, told = len(told), told[-AT_MOST:]
        known, busy = [t.params for t, _ in told], [t.params for t in running]
        past = [params for other in self.past for params in other.params]
        columns = Columns.of([*self._explained([*past, *known, *busy]), *wanted])
        study = [i for i, other in enumerate(self.past, start=1) for _ in other.params]
        points = np.column_stack([columns.values, [*study, *[0] * (len(columns.values) - len(study))]])
        numeric = [*columns.numeric, False]
        ends = np.cumsum([len(past), len(known), len(busy)])
        before, seen, under_way, candidates = np.split(points, ends)
        values = [standardised(other.values) for other in self.past] + [standardised([v for _, v in told])]
        basis, heights = np.vstack([before, seen]), np.concatenate(values)
        from medfathom.study.policy.process import Process, expected_improvement  # noqa: PLC0415  imports scipy

        if self._scales is None or n_told >= FITTED_AGAIN * self._fitted_at:
            self._scales, self._fitted_at = Process.fitted(basis, heights, numeric).scales, n_told
        process = Process.of(basis, heights, numeric, self._scales)
        if running:
            process = process.given(under_way, process.means(under_way))
        best = float(process.means(seen).max())
        return expected_improvement(*process.predict(candidates), best)

    def _explained(self, rows: Sequence[Params]) -> Sequence[Params]:
        return [self.explain(row) for row in rows] if self.explain else rows

    def _candidates(self, told: Sequence[tuple[FrozenTrial, float]]) -> list[Params]:
        """The whole grid where it is small; else random draws, and neighbours of the best trials."""
        axes = {name: _all_values(d) for name, d in self.space.items()}
        sizes = [len(values) if values is not None else WHOLE_GRID + 1 for values in axes.values()]
        if np.prod(sizes, dtype=float) <= WHOLE_GRID:
            points = product(*(values or [] for values in axes.values()))
            return [dict(zip(axes, point, strict=True)) for point in points]
        best = sorted(told, key=lambda pair: -pair[1])[:NEIGHBOURS_OF]
        return self._drawn(DRAWN) + [
            {**trial.params, name: value}
            for trial, _ in best
            for name, distribution in self.space.items()
            for value in axes[name] or self._draw(distribution, 10)
        ]

    def _drawn(self, n: int) -> list[Params]:
        """Random combinations."""
        columns = [self._draw(distribution, n) for distribution in self.space.values()]
        return [dict(zip(self.space, row, strict=True)) for row in zip(*columns, strict=True)]

    def _draw(self, distribution: BaseDistribution, n: int) -> list[Any]:
        """Random values."""
        random = self._generator
        if isinstance(distribution, CategoricalDistribution):
            return [distribution.choices[i] for i in random.integers(len(distribution.choices), size=n)]
        if not isinstance(distribution, IntDistribution | FloatDistribution):
            raise TypeError(f"{distribution!r}: no such distribution")
        low, high = distribution.low, distribution.high
        values: NDArray[Any]
        if isinstance(distribution, IntDistribution) and not distribution.log:
            values = random.integers(distribution.low, distribution.high + 1, size=n)
        elif distribution.log:
            values = np.exp(random.uniform(np.log(low), np.log(high), size=n))
        else:
            values = random.uniform(low, high, size=n)
        if isinstance(distribution, IntDistribution):
            return [int(v) for v in low + (np.round(values) - low) // distribution.step * distribution.step]
        if distribution.step:
            values = low + np.round((values - low) / distribution.step) * distribution.step
        return [float(v) for v in np.clip(values, low, high)]


@cache
def _blas() -> Any:
    """The numerical libraries' threads. To be asked for when these are loaded."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # noqa: PLC0415

    from medfathom.study.policy import process  # noqa: F401, PLC0415  loads scipy's

    return ThreadpoolController()


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
            number = set(map(type, column)) <= {int, float}
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
