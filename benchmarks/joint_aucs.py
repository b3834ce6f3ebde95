"""What one model for three small real sets reaches, against a model for each.

`python benchmarks/joint_aucs.py DATA [SEEDS]` (a folder with pneumoniamnist.npz, octmh_64.npz and
histidc_64.npz; seeds "0,1" by default) prints a table of benchmarks/results/strategies.md. Images,
hyperparameters and what is judged are those of `transfer_strategies.py`. Nothing is searched: what is judged
has chosen nothing. Five minutes a seed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transfer_strategies import ARCHITECTURE, BATCH, DEPTH, EPOCHS, SETS, SIZE, drawn, made, mean_auc

from medfathom.data.joint import prepare_study
from medfathom.data.prepared import JointData, PreparedData, parts_of
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.joint import JointDataset
from medfathom.definitions.space import TrialParams
from medfathom.metrics.auc import Flags
from medfathom.metrics.classification import positives
from medfathom.trial.checkpoint import load_validation
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial
from medfathom.trial.validation import ValidationPredictions

DRAWS = 1000
NORMS = ("shared", "per_dataset")
Scores = list[np.ndarray]
"""Probabilities of each data set's judged images."""


def trial(data: PreparedData, norm: str, seed: int, folder: Path) -> Scores:
    """What one training says of the judged images of its data sets."""
    checkpoint = folder / "trial.pt"
    checkpoint.unlink(missing_ok=True)
    params = TrialParams(
        architecture=ARCHITECTURE, unfreeze_depth=DEPTH, batch_size=BATCH, norm=norm, sampling="equal"
    )
    training = TrainingConfig(precision="float32")
    task = TrialTask(data, training, EPOCHS, seed, folder / "cache", checkpoint, "cpu", 1)
    for _ in run_trial(params, task):
        pass
    found = ValidationPredictions.from_bytes(load_validation(checkpoint))
    if found is None:
        raise RuntimeError("no predictions")
    if not isinstance(data, JointData):
        return [found.scores]
    ends = np.cumsum([0, *(part.sizes["val"] for part in data.parts)])
    own = [slice(*pair) for pair in pairwise(ends)]
    # Each column is of one data set, and not known of the others' images.
    return [found.scores[rows][:, (found.labels[rows] != 255).any(axis=0)] for rows in own]


def run(folder: Path, seeds: list[int]) -> tuple[dict[str, list[Scores]], list[Flags], list[np.ndarray]]:
    """Scores by model and seed; of each data set's judged images the flags and the patients."""
    scores: dict[str, list[Scores]] = {"alone": [], **{norm: [] for norm in NORMS}}
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            tables = [
                {
                    "source": "npz",
                    "name": name,
                    "modality": modality,
                    "image_size": SIZE,
                    "path": str(made(folder, name, seed, Path(place))),
                    "leakage": "accept",
                }
                for name, modality in SETS.items()
            ]
            dataset = JointDataset.model_validate({"source": "joint", "datasets": tables, "channels": 3})
            joint = prepare_study(dataset, Path(place) / "data")
            for norm in NORMS:
                scores[norm].append(trial(joint, norm, seed, Path(place)))
            alone = [trial(part, "shared", seed, Path(place)) for part in parts_of(joint)]
            scores["alone"].append([own for (own,) in alone])
            print(f"seed {seed} is done", file=sys.stderr, flush=True)
        splits = [part.split("val") for part in parts_of(joint)]
        tasks = [part.task for part in parts_of(joint)]
    columns = [own.shape[1] for own in scores["alone"][0]]
    flags = [positives(t, s.labels, c) for t, s, c in zip(tasks, splits, columns, strict=True)]
    return scores, flags, [np.arange(len(s.labels)) if s.groups is None else s.groups for s in splits]


def means(each: list[Scores], flags: list[Flags], rows: list[np.ndarray]) -> np.ndarray:
    """AUC of each data set, mean over seeds, on these images of it; then the mean over data sets."""
    aucs = [
        [mean_auc(flag[row], own[row]) for flag, own, row in zip(flags, scores, rows, strict=True)]
        for scores in each
    ]
    over_seeds = np.mean(aucs, axis=0)
    return np.append(over_seeds, over_seeds.mean())


def table(scores: dict[str, list[Scores]], flags: list[Flags], units: list[np.ndarray]) -> Iterator[str]:
    """A line for each model: AUC, and its difference from the models alone; patients and seeds redrawn."""
    yield "| model | " + " | ".join(SETS.values()) + " | mean |"
    yield "| --- |" + " --- |" * (len(SETS) + 1)
    random, draws = np.random.default_rng(0), {norm: list[np.ndarray]() for norm in NORMS}
    for _ in range(DRAWS):
        rows = [drawn(unit, random) for unit in units]
        which = random.integers(len(scores["alone"]), size=len(scores["alone"]))
        found = {what: means([each[s] for s in which], flags, rows) for what, each in scores.items()}
        for norm in NORMS:
            draws[norm].append(found[norm] - found["alone"])
    every = [np.arange(len(flag)) for flag in flags]
    whole = {what: means(each, flags, every) for what, each in scores.items()}
    yield "| a model for each | " + " | ".join(f"{auc:.3f}" for auc in whole["alone"]) + " |"
    for norm in NORMS:
        ends = np.nanquantile(np.array(draws[norm]), [0.025, 0.975], axis=0)
        cells = [
            f"{auc:.3f} ({auc - other:+.3f}; {low:+.3f} to {high:+.3f})"
            for auc, other, low, high in zip(whole[norm], whole["alone"], *ends, strict=True)
        ]
        yield f"| one model, `{norm}` | " + " | ".join(cells) + " |"


def main() -> None:
    torch.set_num_threads(1)
    given = sys.argv[2] if len(sys.argv) > 2 else "0,1"
    print("\n".join(table(*run(Path(sys.argv[1]), [int(seed) for seed in given.split(",")]))))


if __name__ == "__main__":
    main()
