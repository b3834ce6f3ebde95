"""`medfathom plan`: what a study will take on this machine.

A short trial of every kind (architecture, unfreeze depth, weights that trials share or not) runs on a few of
the study's own images, in a process of its own; what it took is scaled up to all images, epochs and trials.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.data.prepare import prepare
from medfathom.data.prepared import Facts, PreparedData, array_file, names_file, write_facts
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import Dimension, TrialParams, Value
from medfathom.errors import MedfathomError
from medfathom.files import home
from medfathom.scheduling.cluster import slots_from
from medfathom.scheduling.gpu_shares import MeasuredShares
from medfathom.trial.trial import INFERENCE_BATCH, TRAIN_AUC_IMAGES, TrialTask, draws_weights, run_trial

MEASURED_EPOCHS = 2
"""The first warms up; the second is measured."""


MEASURED_BATCHES = 3


LEAST_IMAGES = 96
"""In the measured training split, where batches are small."""


@dataclass(frozen=True)
class Kind:
    """Trials that cost alike."""

    params: TrialParams
    """One of them."""
    inits: tuple[str, ...]
    trials: float
    """How many of the study's are expected to be of this kind."""


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


def plan_study(config: StudyConfig, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure what every kind of trial takes, and forecast the study.

    Args:
        config: the definition.
        say: told what is under way.

    Returns:
        Keys `study device trials epochs concurrent kinds` and `hours` and `device_hours`, each `[least,
        most]`: all trials stopped as early as the scheduler may, or none. `kinds` has a row for each:
        `architecture inits unfreeze_depth batch_size trials seconds_per_epoch seconds_per_trial
        seconds_of_features images_per_second peak_memory_bytes side_by_side`, or `failure`.

    Raises:
        InputError: the data cannot be used.
    """
    slots = slots_from(config, os.cpu_count() or 1, torch.cuda.device_count())
    device = "cuda:0" if slots.gpus_per_trial else "cpu"
    say("preparing the data")
    data = prepare(config.dataset, home() / "cache")
    kinds = kinds_of(config)
    rows = []
    with tempfile.TemporaryDirectory(prefix="medfathom-plan-") as folder:
        few = sample_images(data, Path(folder), max(kind.params.batch_size for kind in kinds))
        share = sum(few.sizes.values()) / sum(data.sizes[name] for name in few.sizes)
        training = config.training.model_copy(update={"cache_gb": config.training.cache_gb * share})
        task = TrialTask(
            data=few,
            training=training,
            max_epochs=max(config.budget.epochs, MEASURED_EPOCHS + 1),  # the last epoch does more than others
            seed=config.seed,
            cache_dir=Path(folder),
            checkpoint=None,
            device=device,
            threads=slots.cpus_per_trial,
            depths=config.space.depths,
        )
        for number, kind in enumerate(kinds):
            what = f"{kind.params.architecture}, unfreeze_depth {kind.params.unfreeze_depth}"
            say(f"measuring {what} ({number + 1} of {len(kinds)})")
            # Its own seed, as trials have: weights drawn from it are shared with no other trial.
            cost = _measured(kind.params, replace(task, seed=config.seed + number))
            rows.append(_row(config, data, kind, cost, slots.concurrent, slots.measured_gpus))
    return _forecast(config, rows, slots.concurrent, device)


def kinds_of(config: StudyConfig) -> list[Kind]:
    """The kinds of trials that a study will have, in the space's order.

    Trials are taken to fall equally on the strata, and within a stratum on what it leaves open.
    """
    names = ("architecture", "unfreeze_depth", "init")
    space = config.space
    combinations = [dict(zip(names, v, strict=True)) for v in product(*map(space.values, names))]
    combinations = [c for c in combinations if not space.excluded(c)]
    trials: dict[int, float] = defaultdict(float)
    members_of = [
        [i for i, c in enumerate(combinations) if all(c[n] == v for n, v in stratum.items() if n in c)]
        for stratum in space.strata()
    ]
    reachable = [members for members in members_of if members]
    for members in reachable:
        for i in members:
            trials[i] += trials_of(config) / len(reachable) / len(members)
    found: dict[tuple[Value, ...], list[int]] = {}
    for i, combination in enumerate(combinations):
        params = _typical(config, combination)
        key = (params.architecture, params.unfreeze_depth, draws_weights(params))
        found.setdefault(key, []).append(i)
    return [
        Kind(
            _typical(config, combinations[members[0]]),
            tuple(str(combinations[i]["init"]) for i in members),
            sum(trials[i] for i in members),
        )
        for members in found.values()
    ]


def _typical(config: StudyConfig, combination: Mapping[str, Value]) -> TrialParams:
    """A trial of this combination, with the middle of everything else."""
    others = {
        name: _middle(name, dimension)
        for name, dimension in config.space.dimensions.items()
        if name not in combination
    }
    return TrialParams.model_validate({**others, **combination})


def _middle(name: str, dimension: Dimension) -> Value:
    if dimension.value is not None:
        return dimension.value
    if dimension.choices is not None:
        return dimension.choices[len(dimension.choices) // 2]
    if dimension.low is None or dimension.high is None:
        raise ValueError(f"{name} has neither choices nor a range")
    low, high = dimension.low, dimension.high
    middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
    return round(middle) if TrialParams.model_fields[name].annotation is int else middle


def sample_images(data: PreparedData, folder: Path, batch_size: int) -> PreparedData:
    """A small prepared data set of the same kind, its classes in turns."""
    sizes: dict[str, int] = {}
    train = max(MEASURED_BATCHES * batch_size, LEAST_IMAGES)
    for name, wanted in (("train", train), ("val", INFERENCE_BATCH)):
        split = data.split(name)  # type: ignore[arg-type]
        chosen = classes_in_turn(split.labels)[:wanted]
        np.save(array_file(folder, name, "images"), split.images[chosen])
        np.save(array_file(folder, name, "labels"), split.labels[chosen])
        names_file(folder, name).write_text("[]", encoding="utf-8")
        sizes[name] = len(chosen)
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


def _measured(params: TrialParams, task: TrialTask) -> Cost | str:
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
    first, second = (next(running).attributes for _ in range(MEASURED_EPOCHS))
    running.close()
    built = [(a.get("feature_cache") or {}).get("built_seconds", 0.0) for a in (first, second)]
    views = (second.get("feature_cache") or {}).get("views", 0)
    n_train, n_val = task.data.sizes["train"], task.data.sizes["val"]
    used = second["n_train"]
    # Features of a second view are computed within the second epoch's training.
    train = used / second["images_per_second"] - (built[1] - built[0])
    epoch = second["train_seconds"] - first["train_seconds"] - (built[1] - built[0])
    passed = min(max(views, 1), MEASURED_EPOCHS) * n_train + n_val
    return Cost(
        startup=max(first["train_seconds"] - built[0] - epoch, 0.0),
        train=max(train, 0.0) / used,
        validate=max(epoch - train, 0.0) / n_val,
        feature=built[1] / passed,
        views=views,
        peak_memory_bytes=second["peak_memory_bytes"],
        device_memory_bytes=second.get("device_memory_bytes"),
    )


def _row(
    config: StudyConfig, data: PreparedData, kind: Kind, cost: Cost | str, concurrent: int, gpus: float
) -> dict[str, Any]:
    params = kind.params
    row = {
        "architecture": params.architecture,
        "inits": list(kind.inits),
        "unfreeze_depth": params.unfreeze_depth,
        "batch_size": params.batch_size,
        "trials": kind.trials,
    }
    if isinstance(cost, str):
        return {**row, "failure": cost}
    fraction, epochs, sizes = params.train_fraction, config.budget.epochs, data.sizes
    earliest = epochs if config.scheduler.name == "none" else min(config.scheduler.grace_epochs, epochs)
    features = [cost.features(sizes, e) for e in (earliest, epochs)]
    times = kind.trials if draws_weights(params) else min(kind.trials, 1.0)
    totals = [
        kind.trials * cost.trial(sizes, fraction, e) + times * f
        for e, f in zip((earliest, epochs), features, strict=True)
    ]
    return {
        **row,
        "seconds_per_epoch": cost.epoch(sizes, fraction),
        "seconds_per_trial": cost.trial(sizes, fraction, epochs),
        "seconds_of_features": features[1],
        "features": "for each trial" if draws_weights(params) else "once",
        "images_per_second": 1 / cost.train if cost.train else None,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "side_by_side": _side_by_side(params, cost, concurrent, gpus),
        "seconds_in_all": totals,
    }


def _side_by_side(params: TrialParams, cost: Cost, concurrent: int, gpus: float) -> int:
    """How many such trials run at once: with `gpus_per_trial = "auto"` as many as their memory lets."""
    if not gpus:
        return concurrent
    shares = MeasuredShares()
    shares.learn(params, {k: getattr(cost, k) for k in ("peak_memory_bytes", "device_memory_bytes")})
    return min(concurrent, round(gpus / shares.share(params)))


def _forecast(
    config: StudyConfig, rows: Sequence[dict[str, Any]], concurrent: int, device: str
) -> dict[str, Any]:
    measured = [row for row in rows if "failure" not in row]
    return {
        "study": config.name,
        "device": device,
        "trials": trials_of(config),
        "epochs": config.budget.epochs,
        "concurrent": concurrent,
        "kinds": list(rows),
        "hours": [
            sum(row["seconds_in_all"][i] / row["side_by_side"] for row in measured) / 3600 for i in (0, 1)
        ],
        "device_hours": [sum(row["seconds_in_all"][i] for row in measured) / 3600 for i in (0, 1)],
    }
