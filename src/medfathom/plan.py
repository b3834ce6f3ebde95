"""`medfathom plan`: what a study will take on this machine.

A short trial of every kind (architecture, unfreeze depth, weights that trials share or not) runs on a few of
the study's own images, in a process of its own; what it took is scaled up to all images, epochs and trials
(`forecast`). Where time is short, kinds that were not measured are estimated from the others.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.confirmation.sources import model_folders
from medfathom.data.joint import prepare_study, with_parts
from medfathom.data.prepared import Facts, JointData, PreparedData, array_file, names_file, write_facts
from medfathom.data.sizes import at_size, prepare_sizes
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import unfrozen
from medfathom.errors import MedfathomError
from medfathom.files import home
from medfathom.forecast import Cost, Forecast, forecast, next_to_measure
from medfathom.machine import cpus, memory_bytes
from medfathom.scheduling.cluster import Node, Slots, slots_from
from medfathom.trial.kinds import Kind, kinds_of
from medfathom.trial.task import INFERENCE_BATCH, TrialTask
from medfathom.trial.trial import run_trial
from medfathom.validate import sources_for

MEASURED_EPOCHS = 2
"""The first warms up; the second is measured."""

MEASURED_BATCHES = 3

LEAST_IMAGES = 96
"""In the measured training split, where batches are small."""


def plan_study(
    config: StudyConfig,
    say: Callable[[str], None] = lambda _: None,
    *,
    seconds: float | None = None,
    told: Callable[[Forecast], None] = lambda _: None,
    storage: str | None = None,
) -> Forecast:
    """Measure what every kind of trial takes, and forecast the study.

    Args:
        config: the definition.
        say: told what is under way.
        seconds: no further kind is measured after so long, the data prepared; those that are left are
            estimated. None: all are measured.
        told: the forecast so far, after each kind.
        storage: an Optuna storage URL, where inits name other studies.

    Raises:
        InputError: the data cannot be used.
    """
    slots = slots_from(config, [Node(cpus(), torch.cuda.device_count(), memory_bytes() or math.inf)])
    sources = model_folders(sources_for(config, storage))
    say("preparing the data")
    data = prepare_sizes(config.dataset, config.sizes, home() / "cache")
    kinds, costs = kinds_of(config), dict[int, Cost | str]()
    with tempfile.TemporaryDirectory(prefix="medfathom-plan-") as folder:
        tasks = _tasks(config, kinds, slots, Path(folder))
        end = math.inf if seconds is None else time.monotonic() + seconds
        while (i := next_to_measure(config, kinds, costs)) is not None:
            if time.monotonic() > end and any(isinstance(cost, Cost) for cost in costs.values()):
                break
            params = kinds[i].params
            what = f"{params.architecture}, unfreeze_depth {unfrozen(params.unfreeze_depth, params.strategy)}"
            say(f"measuring {what} ({len(costs) + 1} of {len(kinds)} kinds of trials)")
            # Its own seed, as trials have: weights drawn from it are shared with no other trial.
            task = replace(tasks[params.image_size], seed=config.seed + i, sources=sources)
            costs[i] = _cost_or_failure(params, task)
            told(forecast(config, kinds, costs, data.sizes, slots))
    return forecast(config, kinds, costs, data.sizes, slots)


def _tasks(config: StudyConfig, kinds: Sequence[Kind], slots: Slots, folder: Path) -> dict[int, TrialTask]:
    """Image size -> what the trials measured at this size have in common."""
    batch = max(kind.params.batch_size for kind in kinds)
    tasks = {}
    for size in {kind.params.image_size for kind in kinds}:
        own = prepare_study(at_size(config.dataset, size), home() / "cache")
        (place := folder / str(size)).mkdir()
        few = sample_images(own, place, batch)
        device = "cuda:0" if slots.gpus_per_trial else "cpu"
        tasks[size] = _task(config, own, few, device, slots.cpus_per_trial)
    return tasks


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
    """A small prepared data set of the same kind, its classes in turns; of several each is small."""
    if isinstance(data, JointData):
        few_of = []
        for name, part in zip(data.names, data.parts, strict=True):
            (own := folder / name).mkdir()
            few_of.append(sample_images(part, own, -(-batch_size // len(data.parts))))
        return with_parts(data, few_of, folder / "joint")
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
        with ProcessPoolExecutor(1, mp_context=_context()) as pool:
            return pool.submit(measure, params, task).result()
    except MedfathomError as error:
        return str(error)
    except BrokenProcessPool:
        return "its process was killed, probably because memory was full"


def _context() -> BaseContext:
    """How its process starts: from one that has imported torch already, where the system has that."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


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
