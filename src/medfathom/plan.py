"""`medfathom plan`: what a study will take on this machine.

A short trial of every kind (architecture, unfreeze depth, weights that trials share or not) runs on a few of
the study's own images, in a process of its own; what it took is scaled up to all images, epochs and trials.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.data.prepare import prepare
from medfathom.data.prepared import Facts, PreparedData, array_file, names_file, write_facts
from medfathom.data.sizes import at_size, prepare_sizes
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.dataset import SplitsConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import TrialParams
from medfathom.errors import MedfathomError
from medfathom.files import home
from medfathom.machine import cpus
from medfathom.scheduling.cluster import Slots, slots_from
from medfathom.scheduling.gpu_shares import MeasuredShares
from medfathom.trial.kinds import Kind, kinds_of
from medfathom.trial.network import draws_weights
from medfathom.trial.task import INFERENCE_BATCH, TrialTask
from medfathom.trial.trial import TRAIN_AUC_IMAGES, run_trial

MEASURED_EPOCHS = 2
"""The first warms up; the second is measured."""

MEASURED_BATCHES = 3

LEAST_IMAGES = 96
"""In the measured training split, where batches are small."""


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
    """A kind of trial and what it takes, or why its trials fail."""

    kind: Kind
    measured: Measured | str


@dataclass(frozen=True)
class Forecast:
    """What a study will take on this machine.

    Attributes:
        trials: of the whole study.
        concurrent: at most so many trials run at once.
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

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: the fields, `hours` and `device_hours`.

        `kinds` has a row for each kind: what it is, then the fields of `Measured`, or `failure`.
        """
        fields = {name: getattr(self, name) for name in ("study", "device", "trials", "epochs", "concurrent")}
        rows = [
            {
                "architecture": each.kind.params.architecture,
                "inits": each.kind.inits,
                "unfreeze_depth": each.kind.params.unfreeze_depth,
                "image_size": each.kind.params.image_size or None,
                "batch_size": each.kind.params.batch_size,
                "trials": each.kind.trials,
                **({"failure": each.measured} if isinstance(each.measured, str) else asdict(each.measured)),
            }
            for each in self.kinds
        ]
        return {**fields, "kinds": rows, "hours": self.hours, "device_hours": self.device_hours}


def plan_study(config: StudyConfig, say: Callable[[str], None] = lambda _: None) -> Forecast:
    """Measure what every kind of trial takes, and forecast the study.

    Args:
        config: the definition.
        say: told what is under way.

    Raises:
        InputError: the data cannot be used.
    """
    slots = slots_from(config, cpus(), torch.cuda.device_count())
    device = "cuda:0" if slots.gpus_per_trial else "cpu"
    say("preparing the data")
    data = prepare_sizes(config.dataset, config.sizes, home() / "cache")
    kinds = kinds_of(config)
    found = []
    with tempfile.TemporaryDirectory(prefix="medfathom-plan-") as folder:
        batch = max(kind.params.batch_size for kind in kinds)
        tasks = {}
        for size in {kind.params.image_size for kind in kinds}:
            own = prepare(at_size(config.dataset, size), home() / "cache")
            (place := Path(folder) / str(size)).mkdir()
            few = sample_images(own, place, batch)
            tasks[size] = _task(config, own, few, device, slots.cpus_per_trial)
        for number, kind in enumerate(kinds):
            task = tasks[kind.params.image_size]
            what = f"{kind.params.architecture}, unfreeze_depth {kind.params.unfreeze_depth}"
            say(f"measuring {what} ({number + 1} of {len(kinds)})")
            # Its own seed, as trials have: weights drawn from it are shared with no other trial.
            cost = _cost_or_failure(kind.params, replace(task, seed=config.seed + number))
            sizes = _sizes(data.sizes, config.dataset.splits)
            scaled = cost if isinstance(cost, str) else _scaled(config, sizes, kind, cost, slots)
            found.append(KindForecast(kind, scaled))
    return Forecast(
        study=config.name,
        device=device,
        trials=trials_of(config),
        epochs=config.budget.epochs,
        concurrent=slots.concurrent,
        kinds=tuple(found),
    )


def _task(config: StudyConfig, data: PreparedData, few: PreparedData, device: str, threads: int) -> TrialTask:
    """What the measured trials have in common; the cache has room for a share of the study's."""
    share = sum(few.sizes.values()) / sum(data.sizes[name] for name in few.sizes)
    return TrialTask(
        data=few,
        training=config.training.model_copy(update={"cache_gb": config.training.cache_gb * share}),
        max_epochs=max(config.budget.epochs, MEASURED_EPOCHS + 1),  # the last epoch does more than others
        seed=config.seed,
        cache_dir=few.folder,
        checkpoint=None,
        device=device,
        threads=threads,
        depths=config.space.depths,
    )


def sample_images(data: PreparedData, folder: Path, batch_size: int) -> PreparedData:
    """A small prepared data set of the same kind, its classes in turns."""
    sizes: dict[str, int] = {}
    train = max(MEASURED_BATCHES * batch_size, LEAST_IMAGES)
    for name, wanted in (("train", train), ("val", INFERENCE_BATCH)):
        split = data.split(name)  # type: ignore[arg-type]
        few_images = split.part(classes_in_turn(split.labels)[:wanted])
        np.save(array_file(folder, name, "images"), few_images.images)
        np.save(array_file(folder, name, "labels"), few_images.labels)
        if few_images.cases is not None:
            np.save(array_file(folder, name, "cases"), few_images.cases)
        names_file(folder, name).write_text(json.dumps(few_images.names), encoding="utf-8")
        sizes[name] = len(few_images)
    few = replace(data, folder=folder, fingerprint=f"few of {data.fingerprint}", sizes=sizes)
    write_facts(Facts(few))
    return few


def classes_in_turn(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Indices of all rows: one of each class (each combination of labels), then one of each again, …"""
    _, which = np.unique(labels, axis=0, return_inverse=True)
    which = which.reshape(-1)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(which.max() + 1))
    turn = np.empty(len(which), dtype=np.intp)
    turn[order] = np.arange(len(which)) - starts[which[order]]
    return np.lexsort((which, turn))


def _cost_or_failure(params: TrialParams, task: TrialTask) -> Cost | str:
    """What a trial takes, or why it fails; in a process of its own, whose memory it has alone."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(measure, params, task).result()
    except MedfathomError as error:
        return str(error)
    except BrokenProcessPool:
        return "its process was killed: out of memory, most likely"


def measure(params: TrialParams, task: TrialTask) -> Cost:
    """Run a trial for `MEASURED_EPOCHS` epochs.

    Raises:
        RunError: it failed.
    """
    running = run_trial(params, task)
    first, second = (next(running) for _ in range(MEASURED_EPOCHS))
    running.close()
    built = [r.feature_cache.built_seconds if r.feature_cache else 0.0 for r in (first, second)]
    seconds = [r.train_seconds or 0.0 for r in (first, second)]
    views = second.feature_cache.views if second.feature_cache else 0
    n_train, n_val = task.data.sizes["train"], task.data.sizes["val"]
    used = second.n_train or n_train
    # Features of a second view are computed within the second epoch's training.
    train = used / (second.images_per_second or math.inf) - (built[1] - built[0])
    epoch = seconds[1] - seconds[0] - (built[1] - built[0])
    passed = min(max(views, 1), MEASURED_EPOCHS) * n_train + n_val
    return Cost(
        startup=max(seconds[0] - built[0] - epoch, 0.0),
        train=max(train, 0.0) / used,
        validate=max(epoch - train, 0.0) / n_val,
        feature=built[1] / passed,
        views=views,
        peak_memory_bytes=second.peak_memory_bytes or 0,
        device_memory_bytes=second.device_memory_bytes,
    )


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
    most = 1 if config.dataset.splits.folds is None else 2  # see `study.finalists`

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


def _side_by_side(params: TrialParams, cost: Cost, slots: Slots) -> int:
    """How many such trials run at once: with `gpus_per_trial = "auto"` as many as their memory lets."""
    if not slots.measured_gpus:
        return slots.concurrent
    shares = MeasuredShares()
    shares.learn(params, {k: getattr(cost, k) for k in ("peak_memory_bytes", "device_memory_bytes")})
    return min(slots.concurrent, round(slots.measured_gpus / shares.share(params)))
