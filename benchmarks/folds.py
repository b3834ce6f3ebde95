"""What cross-validation costs beside one validation split, and how often its interval holds.

    uv run benchmarks/folds.py price [PNEUMONIAMNIST.npz]     # three studies in a folder of their own
    uv run benchmarks/folds.py replay                        # the price on recorded trials, in seconds
    uv run benchmarks/folds.py coverage                      # simulated scores, known AUCs

Prints the tables of benchmarks/results/folds.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulated_folds import simulate

if TYPE_CHECKING:
    from tables import Table

DRAWS = 1_000
IMAGES = 400
"""Of PneumoniaMNIST's training and validation images that the price is measured on: a small data set."""

REPLAYS = 50
"""Studies of each recorded data set."""

SPACE = [
    "space.learning_rate.low=0.0003",
    "space.learning_rate.high=0.01",
    "budget.trials=16",
    "budget.epochs=4",
    "resources.concurrent=1",
]


def coverage() -> None:
    """Of the interval of the mean AUC over five folds."""
    print("| n | positive | AUC | repeats | held, % | width |\n| --- | --- | --- | --- | --- | --- |")
    for n, share, auc, repeats in product((100, 200, 500), (0.5, 0.2), (0.75, 0.9), (1, 2)):
        found = simulate(n, share=share, auc=auc, folds=5, repeats=repeats, draws=DRAWS, seed=n)
        row = f"| {n} | {share} | {auc} | {repeats} | {100 * found.held:.1f} | {found.width:.3f} |"
        print(row, flush=True)


def few_images(source: Path, folder: Path) -> Path:
    """An npz file with some of the images of another."""
    random = np.random.default_rng(0)
    with np.load(source) as whole:
        arrays = {name: whole[name] for name in whole.files}
    sizes = {"train": IMAGES * 9 // 10, "val": IMAGES // 10, "test": len(arrays["test_labels"])}
    for split, size in sizes.items():
        rows = np.sort(random.permutation(len(arrays[f"{split}_labels"]))[:size])
        for what in ("images", "labels"):
            arrays[f"{split}_{what}"] = arrays[f"{split}_{what}"][rows]
    path = folder / "few.npz"
    np.savez(path, **arrays)
    return path


def price(source: Path) -> None:
    """Of studies with the same definition, once with one split and once cross-validated."""
    from medfathom.definitions.load import load_definition
    from medfathom.run import run_study
    from medfathom.study.connection import default_url
    from medfathom.study.read import read_study

    print("| folds | trials | complete | epochs | trial seconds | wall seconds | best AUC | 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="mf-folds-") as folder:
        path = few_images(source, Path(folder))
        for keys in ([], ["dataset.splits.folds=5"], ["dataset.splits.folds=5", "dataset.splits.repeats=2"]):
            os.environ["MEDFATHOM_STORAGE"] = str(Path(folder) / f"home-{len(keys)}")  # features of its own
            name = "price-" + ("-".join(key.rpartition("=")[2] for key in keys) or "1")
            changes = [f"name={name}", f"dataset.path={path}", *SPACE, *keys]
            config = load_definition("pneumoniamnist", changes)
            began = time.perf_counter()
            outcome = run_study(config)
            wall = time.perf_counter() - began
            trials = read_study(default_url(), name).trials
            seconds = sum(t.user_attrs.get("train_seconds", 0.0) for t in trials)
            epochs = sum(len(t.intermediate_values) for t in trials)
            epochs -= sum(config.budget.epochs for t in trials if "goes_on_from" in t.user_attrs)
            best = trials[outcome.best_number or 0]
            ends = [best.user_attrs[key] for key in ("auc_ci_low", "auc_ci_high")]
            print(
                f"| {' x '.join(name.split('-')[1:])} | {len(trials)} | {outcome.counts.complete} | {epochs} "
                f"| {seconds:.0f} | {wall:.0f} | {outcome.best_auc:.4f} | {ends[0]:.3f} to {ends[1]:.3f} |",
                flush=True,
            )


def replay() -> None:
    """The price of studies whose trials are drawn from benchmarks/replay, by the program's own rules.

    Stopped early by ASHA in the first fold, by nothing later; each later fold takes what the first took. A
    real study finds the features of a frozen prefix in the cache by then, and stops between folds.
    """
    sys.path.insert(0, str(Path(__file__).parent / "replay"))
    from tables import recorded

    tables = recorded()
    print("| folds | trials | price, median | 90 % | most | finalists, median |")
    print("| --- | --- | --- | --- | --- | --- |")
    for repeats, trials in product((1, 2), (8, 16, 32)):
        random = np.random.default_rng(trials)
        found = [_replayed(table, repeats, trials, random) for table in tables for _ in range(REPLAYS)]
        prices, finalists = np.array(found).T
        print(
            f"| {5 * repeats} | {trials} | {np.median(prices):.2f} | {np.quantile(prices, 0.9):.2f} | "
            f"{prices.max():.2f} | {np.median(finalists):.0f} |",
            flush=True,
        )


def _replayed(table: Table, repeats: int, budget: int, random: np.random.Generator) -> tuple[float, int]:
    """The seconds of one study over those of its first folds, and how many trials went on."""
    from optuna.trial import FrozenTrial, TrialState, create_trial

    from medfathom.definitions.load import load_definition
    from medfathom.study.finalists import next_finalist
    from medfathom.study.stopping import halving_stops
    from medfathom.study.summary import GOES_ON_FROM

    splits = ["dataset.splits.folds=5", f"dataset.splits.repeats={repeats}"]
    config = load_definition("demo", [*splits, f"budget.epochs={table.epochs}", f"budget.trials={budget}"])
    drawn = random.permutation(len(table.trials))[:budget]
    chosen = [list(table.trials.values())[place] for place in drawn]
    curves: dict[int, dict[int, float]] = {}
    trials: list[FrozenTrial] = []

    def ended(auc: float, attributes: dict[str, float | bool]) -> None:
        trial = create_trial(state=TrialState.PRUNED, value=auc, user_attrs=attributes)
        trial.number = len(trials)
        trials.append(trial)

    for place, one in enumerate(chosen, start=1):
        number, epoch = len(trials), 0
        for epoch, auc in enumerate(one.aucs, start=1):
            curves.setdefault(number, {})[epoch] = auc
            if halving_stops(curves, number, epoch, grace=1, factor=2):
                break
        seconds = {"epochs": epoch, "train_seconds": sum(one.seconds[:epoch])}
        ended(one.aucs[epoch - 1], {**seconds, "folds": epoch == table.epochs})
        while finalist := next_finalist(config, trials, all_begun=place == len(chosen)):
            later = finalist.user_attrs["train_seconds"] * (5 * repeats - 1)
            ended(finalist.value or 0.0, {GOES_ON_FROM: finalist.number, "train_seconds": later})
    first = sum(t.user_attrs["train_seconds"] for t in trials if GOES_ON_FROM not in t.user_attrs)
    whole = sum(t.user_attrs["train_seconds"] for t in trials)
    return whole / first, sum(GOES_ON_FROM in t.user_attrs for t in trials)


if __name__ == "__main__":
    if sys.argv[1:2] == ["coverage"]:
        coverage()
    elif sys.argv[1:2] == ["replay"]:
        replay()
    else:
        price(Path(sys.argv[2]))
