"""What a trial costs that does nothing: medfathom's searcher against plain Ray Tune, in one run.

    uv run benchmarks/overhead.py [--trials 200] [--runs 3] [--workers 2] [--without function] [--out FILE]

Every trial reports five epochs of random AUC to Optuna on SQLite; medfathom also writes
thirty user attributes. The peers are written as Ray's documentation shows: OptunaSearch with a function
trainable (the default way; a process a trial), and with a class trainable whose actors are reused, default
loggers on. More workers than cores share them; a cluster's workers have cores of their own, and there the
driver's CPU time a trial is what bounds the trials a second. Each measurement has a process of its own. The
steady cost is the time from the end of the first tenth of the trials to the last, over their number: imports
and the start of Ray are left out. The first part is eight trials a worker where these are more (at most half
of all), so that every worker has started.
"""

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
EPOCHS = 5
KINDS = {"medfathom": "medfathom", "Tune class, reused actors": "class", "Tune function": "function"}
SLOW_TRIALS = 8  # of the function API: seconds each


def nothing(plan: Any, order: Any) -> Iterator[Any]:
    """A trial's results without training; with thirty user attributes, as a real one."""
    from medfathom.scheduling.messages import EpochResult
    from medfathom.trial.record import TrialRecord

    generator = random.Random(order.assignment.seed)
    attributes = {f"attribute_{i}": i for i in range(30)}
    for epoch in range(1, EPOCHS + 1):
        yield EpochResult(TrialRecord(auc=generator.random(), epochs=epoch, max_epochs=EPOCHS), attributes)


class Clock:
    """Ends of trials, and the steady seconds between them: of the clock, and of the driver's CPU."""

    def __init__(self, workers: int) -> None:
        self.started = 8 * workers  # trials by then: the first workers take many before the last has started
        self.ends: list[tuple[float, float]] = []

    def end(self) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))

    def steady(self) -> tuple[float, float]:
        warm = max(1, len(self.ends) // 10, min(self.started, len(self.ends) // 2))
        first, last = self.ends[warm - 1], self.ends[-1]
        trials = len(self.ends) - warm
        return (last[0] - first[0]) / trials, (last[1] - first[1]) / trials


def begin_ray(workers: int) -> None:
    """One core for each worker, whether the machine has it or not."""
    import ray

    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=128 * 2**20,
    )


def ours(trials: int, folder: Path, workers: int) -> tuple[float, float]:
    from medfathom.definitions.load import load_definition
    from medfathom.scheduling import run_trials
    from medfathom.study.open import open_study
    from medfathom.study.watcher import Watcher

    class Ends(Clock, Watcher):
        def trial_ends(self, number: int, state: Any, auc: float | None, reason: str) -> None:
            self.end()

    config = load_definition("demo", [f"budget.trials={trials}", f"budget.epochs={EPOCHS}", "scheduler=none"])
    clock = Ends(workers)
    begin_ray(workers)
    with open_study(config, f"sqlite:///{folder / 'ours.db'}", "none") as driver:
        run_trials(config, driver, clock, folder, work=nothing)
    return clock.steady()


def define_space(trial: Any) -> None:
    trial.suggest_categorical("architecture", ["a", "b", "c"])
    trial.suggest_categorical("init", ["imagenet", "random"])
    trial.suggest_int("unfreeze_depth", 0, 5)
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)


def peer(trials: int, folder: Path, workers: int, kind: str) -> tuple[float, float]:
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.epoch = 0

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            return {"auc": random.random(), "done": self.epoch == EPOCHS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "epoch").write_text(str(self.epoch))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.epoch = int(Path(checkpoint, "epoch").read_text())

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.epoch = 0
            return True

    def function(config: dict[str, Any]) -> None:
        import timm
        import torch  # what a trial needs; a new process imports them again

        del timm, torch
        for _ in range(EPOCHS):
            tune.report({"auc": random.random()})

    class Ends(Clock, tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.end()

    clock = Ends(workers)
    begin_ray(workers)
    try:
        tune.Tuner(
            Nothing if kind == "class" else function,
            tune_config=tune.TuneConfig(
                metric="auc",
                mode="max",
                search_alg=OptunaSearch(
                    define_space,
                    metric="auc",
                    mode="max",
                    storage=optuna.storages.RDBStorage(f"sqlite:///{folder / f'{kind}.db'}"),
                ),
                num_samples=trials,
                max_concurrent_trials=workers,
                reuse_actors=kind == "class",
            ),
            run_config=tune.RunConfig(storage_path=str(folder / kind), verbose=0, callbacks=[clock]),
        ).fit()
    finally:
        ray.shutdown()
    return clock.steady()


def table(found: dict[str, list[tuple[float, float]]], trials: int, workers: int) -> str:
    base = statistics.median(seconds for seconds, _ in found["medfathom"])
    lines = [
        "# Overhead: a trial that does nothing",
        "",
        f"{date.today().isoformat()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite, "
        f"{workers} workers, {trials} trials ({SLOW_TRIALS} of the function API); steady seconds a trial, "
        f"median of {len(found['medfathom'])} runs. `uv run benchmarks/overhead.py --workers {workers}`",
        "",
        "| what | s a trial | ratio | driver's CPU s a trial | runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, values in found.items():
        median = statistics.median(seconds for seconds, _ in values)
        cpu = statistics.median(cpu for _, cpu in values)
        runs = ", ".join(f"{seconds:.3f}" for seconds, _ in values)
        lines.append(f"| {name} | {median:.3f} | {median / base:.1f} | {cpu:.3f} | {runs} |")
    return "\n".join(lines) + "\n"


def measure(kind: str, trials: int, workers: int) -> tuple[float, float]:
    """One measurement in a process of its own: what one sets in the environment must not help another."""
    command = [sys.executable, __file__, "--only", kind, "--trials", str(trials), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cpu = map(float, done.stdout.split()[-2:])
    return seconds, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--without", choices=list(KINDS.values()), nargs="*", default=[])
    parser.add_argument("--only", choices=list(KINDS.values()))
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            one = ours if options.only == "medfathom" else partial(peer, kind=options.only)
            print(*one(options.trials, Path(folder), options.workers))
        return
    kinds = {name: kind for name, kind in KINDS.items() if kind not in options.without}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(options.runs):
        for name, kind in kinds.items():
            trials = SLOW_TRIALS if kind == "function" else options.trials
            found[name].append(measure(kind, trials, options.workers))
    text = table(found, options.trials, options.workers)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
