"""What a study will take, from what trials of each kind took; a kind that was not measured is estimated.

An estimate takes the speed of the measured kind that is most alike, and the multiply-accumulates of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from medfathom.analysis.as_json import FLAT, plain
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.dataset import SplitsConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import TrialParams
from medfathom.study.policy.cost import forward_work, prefix_work, work_of
from medfathom.trial.gpu_shares import MeasuredShares
from medfathom.trial.kinds import Kind
from medfathom.trial.network import draws_weights
from medfathom.trial.parts import TRAIN_AUC_IMAGES

if TYPE_CHECKING:
    from medfathom.scheduling.cluster import Slots


@dataclass(frozen=True)
class Cost:
    """What a trial took, measured. Seconds for one image where nothing else is said."""

    startup: float
    """Seconds: building the network, loading its weights."""
    train: float
    validate: float
    feature: float
    """Passing an image through the frozen prefix, to be kept; 0 where nothing is kept, or it was already."""
    views: int
    peak_memory_bytes: int
    device_memory_bytes: int | None

    def epoch(self, sizes: Mapping[str, int], train_fraction: float) -> float:
        """Seconds of an epoch, its features already kept."""
        return _used(sizes, train_fraction) * self.train + sizes["val"] * self.validate

    def trial(self, sizes: Mapping[str, int], train_fraction: float, epochs: int) -> float:
        """Seconds of a trial of so many epochs, its features already kept."""
        judged = min(_used(sizes, train_fraction), TRAIN_AUC_IMAGES)
        return self.startup + epochs * self.epoch(sizes, train_fraction) + judged * self.validate

    def features(self, sizes: Mapping[str, int], epochs: int) -> float:
        """Seconds to compute the features that are kept."""
        return self.feature * (min(max(self.views, 1), epochs) * sizes["train"] + sizes["val"])


def _used(sizes: Mapping[str, int], train_fraction: float) -> int:
    """Training images that an epoch uses."""
    return math.ceil(sizes["train"] * train_fraction)


@dataclass(frozen=True)
class Measured:
    """What trials of one kind take, scaled up from a measured one."""

    seconds_per_epoch: float
    seconds_per_trial: float
    """Of a trial that runs its full length, its features already kept."""
    seconds_of_features: float
    """To compute the features that are kept; 0 where none are."""
    features: Literal["once", "for each trial"]
    """How often that is done."""
    images_per_second: float | None
    """Training images; None where training took no measurable time."""
    peak_memory_bytes: int
    side_by_side: int
    """How many such trials run at once."""
    seconds_in_all: tuple[float, float]
    """Of all trials of this kind, one after another: each stopped as early as may be, none stopped. Of a
    cross-validation: none goes on to later folds, all that may."""


@dataclass(frozen=True)
class KindForecast:
    """A kind of trial and what it takes, or why its trials fail.

    Attributes:
        measured: what was measured, or estimated from another kind; why its trial failed.
        estimated: it was not measured itself.
    """

    kind: Kind
    measured: Measured | str
    estimated: bool = False


@dataclass(frozen=True)
class Forecast:
    """What a study will take on this machine.

    Attributes:
        trials: of the whole study.
        concurrent: at most so many trials run at once.
        kinds: in the space's order.
    """

    study: str
    device: str
    trials: int
    epochs: int
    concurrent: int
    kinds: tuple[KindForecast, ...]

    @property
    def failures(self) -> list[tuple[Kind, str]]:
        """The kinds whose trial failed, and why."""
        return [(k.kind, k.measured) for k in self.kinds if isinstance(k.measured, str)]

    @property
    def n_estimated(self) -> int:
        """How many kinds were not measured."""
        return sum(each.estimated for each in self.kinds)

    @property
    def hours(self) -> list[float]:
        """Least and most: all trials stopped as early as the scheduler may, or none."""
        return self._hours(lambda measured: measured.side_by_side)

    @property
    def device_hours(self) -> list[float]:
        """The same with one trial at a time."""
        return self._hours(lambda _: 1)

    def _hours(self, at_once: Callable[[Measured], int]) -> list[float]:
        measured = [k.measured for k in self.kinds if isinstance(k.measured, Measured)]
        return [sum(m.seconds_in_all[end] / at_once(m) for m in measured) / 3600 for end in (0, 1)]

    def to_dict(self) -> ForecastJson:
        """Plain values for JSON."""
        return {
            "study": self.study,
            "device": self.device,
            "trials": self.trials,
            "epochs": self.epochs,
            "concurrent": self.concurrent,
            "kinds": [plain(_row(each)) for each in self.kinds],
            "hours": self.hours,
            "device_hours": self.device_hours,
        }


@dataclass(frozen=True)
class Failure:
    """Why trials of a kind fail."""

    failure: str


@dataclass(frozen=True)
class KindRow:
    """A kind of trial: what it takes, or why its trials fail.

    Attributes:
        inits: that cost alike.
        image_size: pixels; null: that of the data set.
        trials: expected of this kind.
        estimated: it was not measured itself.
    """

    architecture: str
    inits: Sequence[str]
    unfreeze_depth: int
    strategy: str
    image_size: int | None
    batch_size: int
    trials: float
    estimated: bool
    measured: Measured | Failure = field(metadata=FLAT)


class ForecastJson(TypedDict):
    """What a study will take on this machine.

    Attributes:
        trials: of the whole study.
        concurrent: at most so many trials run at once.
        hours: least and most: all trials stopped as early as the scheduler may, or none.
        device_hours: the same with one trial at a time.
    """

    study: str
    device: str
    trials: int
    epochs: int
    concurrent: int
    kinds: list[Annotated[dict[str, object], KindRow]]
    hours: list[float]
    device_hours: list[float]


def _row(found: KindForecast) -> KindRow:
    params, measured = found.kind.params, found.measured
    return KindRow(
        architecture=params.architecture,
        inits=found.kind.inits,
        unfreeze_depth=params.unfreeze_depth,
        strategy=params.strategy,
        image_size=params.image_size or None,
        batch_size=params.batch_size,
        trials=found.kind.trials,
        estimated=found.estimated,
        measured=Failure(measured) if isinstance(measured, str) else measured,
    )


def forecast(
    config: StudyConfig,
    kinds: Sequence[Kind],
    costs: Mapping[int, Cost | str],
    sizes: Mapping[str, int],
    slots: Slots,
) -> Forecast:
    """From what some kinds took to what the study will take.

    Args:
        config: the definition.
        kinds: all kinds of trials that the study has.
        costs: by place in `kinds`, of those that were measured: what a trial took, or why it failed.
        sizes: images of each split.
        slots: what a trial takes of the machine.
    """
    judged = _sizes(sizes, config.dataset.splits)
    known = {i: cost for i, cost in costs.items() if isinstance(cost, Cost)}
    found = []
    for i, kind in enumerate(kinds):
        cost = costs.get(i) or _estimated(kind, {kinds[k]: cost for k, cost in known.items()})
        scaled = cost if isinstance(cost, str) else _scaled(config, judged, kind, cost, slots)
        found.append(KindForecast(kind, scaled, estimated=i not in costs))
    return Forecast(
        study=config.name,
        device="cuda:0" if slots.gpus_per_trial else "cpu",
        trials=trials_of(config),
        epochs=config.budget.epochs,
        concurrent=slots.concurrent,
        kinds=tuple(found),
    )


def next_to_measure(config: StudyConfig, kinds: Sequence[Kind], measured: Collection[int]) -> int | None:
    """Which kind to measure next: that with the largest expected part of the study; None: all are measured.

    The dearest comes first, then the cheapest: what starts and ends a trial does not grow with its network.
    Kinds that differ from a measured one in their init alone come last.
    """
    left = [i for i in range(len(kinds)) if i not in measured]
    if not left:
        return None
    alike = {_shape(kinds[i]) for i in measured}
    new = [i for i in left if _shape(kinds[i]) not in alike] or left
    parts = {i: kinds[i].trials * work_of(kinds[i].params, config.budget.epochs) for i in new}
    return (min if len(measured) == 1 else max)(new, key=lambda i: parts[i])


def _shape(kind: Kind) -> tuple[str, int, str, int]:
    params = kind.params
    return params.architecture, params.unfreeze_depth, params.strategy, params.image_size


def _estimated(kind: Kind, known: Mapping[Kind, Cost]) -> Cost | str:
    """What a trial is expected to take, by the speed of the kind that is most alike."""
    if not known:
        return "no trial of another kind could be measured either"
    params = kind.params
    nearest = min(known, key=lambda other: _unlike(params, other.params))
    cost, theirs = known[nearest], nearest.params
    forward = cost.validate / forward_work(theirs)
    train = cost.train / forward_work(theirs)
    return replace(
        cost,
        train=train * forward_work(params),
        validate=forward * forward_work(params),
        feature=forward * prefix_work(params),
    )


def _unlike(one: TrialParams, other: TrialParams) -> tuple[bool, int, float]:
    """How unlike two kinds are: another network, more or fewer layers trained, more or less work."""
    work = abs(math.log(forward_work(one) / forward_work(other)))
    return one.architecture != other.architecture, abs(one.unfreeze_depth - other.unfreeze_depth), work


def _sizes(sizes: Mapping[str, int], splits: SplitsConfig) -> Mapping[str, int]:
    """Images that one training trains and is judged on."""
    if splits.folds is None:
        return sizes
    pool = sizes["train"] + sizes["val"]
    return {"train": pool - pool // splits.folds, "val": pool // splits.folds}


def _scaled(config: StudyConfig, sizes: Mapping[str, int], kind: Kind, cost: Cost, slots: Slots) -> Measured:
    """From what one trial took on few images to what all trials of its kind take."""
    fraction, epochs = kind.params.train_fraction, config.budget.epochs
    earliest = epochs if config.scheduler.name == "none" else min(config.scheduler.grace_epochs, epochs)
    drawn = draws_weights(kind.params)
    times = kind.trials if drawn else min(kind.trials, 1.0)
    most = _most_folds(config)

    def in_all(epochs: int) -> float:
        return kind.trials * cost.trial(sizes, fraction, epochs) + times * cost.features(sizes, epochs)

    return Measured(
        seconds_per_epoch=cost.epoch(sizes, fraction),
        seconds_per_trial=cost.trial(sizes, fraction, epochs),
        seconds_of_features=cost.features(sizes, epochs),
        features="for each trial" if drawn else "once",
        images_per_second=1 / cost.train if cost.train else None,
        peak_memory_bytes=cost.peak_memory_bytes,
        side_by_side=_side_by_side(kind.params, cost, slots),
        seconds_in_all=(in_all(earliest), most * in_all(epochs)),
    )


def _most_folds(config: StudyConfig) -> float:
    """How many times as long as with one training of each trial, at most: see `study.finalists`.

    Later folds may take as long as the first ones; one trial, and one of each stratum of a comparison, has
    them in any case.
    """
    later = config.dataset.splits.trainings - 1
    if not later:
        return 1.0
    finalists = len(config.space.strata()) if config.goal == "compare" else 1
    return 1 + max(1.0, min(finalists / trials_of(config), 1.0) * later)


def _side_by_side(params: TrialParams, cost: Cost, slots: Slots) -> int:
    """How many such trials run at once: with `gpus_per_trial = "auto"` as many as their memory lets."""
    if not slots.measured_gpus:
        return slots.concurrent
    shares = MeasuredShares()
    shares.learn(params, {k: getattr(cost, k) for k in ("peak_memory_bytes", "device_memory_bytes")})
    return min(slots.concurrent, round(slots.measured_gpus / shares.share(params)))
