"""What each transfer strategy reaches, and what an epoch of it costs, on three small real sets.

`python benchmarks/transfer_strategies.py DATA RESULTS` (a folder with pneumoniamnist.npz, octmh_64.npz and
histidc_64.npz; a file that keeps what was run, so that a second call goes on) prints the table of
benchmarks/results/strategies.md. Nothing is searched: every trial has the same hyperparameters, written down
before the first one ran, so what a trial is judged on (each set's validation and test images together) has
chosen nothing. A quarter of an hour of a CPU core, on a machine that does little else.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.space import TrialParams
from medfathom.metrics.auc import roc_auc_score
from medfathom.trial.checkpoint import load_validation
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial
from medfathom.trial.validation import ValidationPredictions

SETS = {"pneumoniamnist": "CXR", "octmh_64": "OCT", "histidc_64": "WSI"}
ARCHITECTURE, SIZE, EPOCHS, DEPTH = "tf_efficientnet_lite0", 64, 6, 3
TRAIN, JUDGED, BATCH = 200, 200, 16
"""Images at most: of training (each seed its own draw), and that are judged (the same for all)."""
CONFIGURATIONS = {
    "fixed": DEPTH,
    "lp-ft": DEPTH,
    "gradual": DEPTH,
    "surgical": DEPTH,
    "l2-sp": DEPTH,
    "bitfit": DEPTH,
    "fixed, head alone": 0,
    "fixed, everything": 5,
}
DRAWS = 2000
Kept = dict[str, dict[str, list[float]]]


def drawn_by_patient(patients: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows of whole patients, drawn until the next one would be too many."""
    order = np.random.default_rng(seed).permutation(np.unique(patients))
    sizes = np.array([(patients == one).sum() for one in order])
    return np.flatnonzero(np.isin(patients, order[np.cumsum(sizes) <= most]))


def made(folder: Path, name: str, seed: int, out: Path) -> Path:
    """The set with the seed's training images, its validation and test images in one split."""
    with np.load(folder / f"{name}.npz") as content:
        given = dict(content)
    both = {
        part: np.concatenate([given[f"val_{part}"], given[f"test_{part}"]])
        for part in ("images", "labels", "groups")
        if f"val_{part}" in given
    }
    own = given.get("train_groups", np.arange(len(given["train_images"])))
    chosen = drawn_by_patient(own, TRAIN, seed)
    arrays = {key: array[chosen] for key, array in given.items() if key.startswith("train")}
    rows = drawn_by_patient(both.get("groups", np.arange(len(both["images"]))), JUDGED, 0)
    for split in ("val", "test"):
        arrays |= {f"{split}_{part}": array[rows] for part, array in both.items()}
    np.savez(out / f"{name}-{seed}.npz", **arrays)
    return out / f"{name}-{seed}.npz"


def trial(data: PreparedData, what: str, seed: int, folder: Path) -> tuple[ValidationPredictions, float]:
    """The predictions after the last epoch, and the CPU seconds of an epoch."""
    checkpoint = folder / "trial.pt"
    checkpoint.unlink(missing_ok=True)
    params = TrialParams.model_validate(
        {
            "architecture": ARCHITECTURE,
            "strategy": what.partition(",")[0],
            "unfreeze_depth": CONFIGURATIONS[what],
            "batch_size": BATCH,
        }
    )
    training = TrainingConfig(precision="float32")
    task = TrialTask(data, training, EPOCHS, seed, folder / f"cache-{seed}-{what}", checkpoint, "cpu", 1)
    started = time.process_time()
    for _ in run_trial(params, task):
        pass
    found = ValidationPredictions.from_bytes(load_validation(checkpoint))
    if found is None:
        raise RuntimeError(f"{what}: no predictions")
    return found, (time.process_time() - started) / EPOCHS


def run(folder: Path, kept: Path, seeds: list[int]) -> None:
    """Run every trial that is not kept yet."""
    known = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            for name, modality in SETS.items():
                file = made(folder, name, seed, Path(place))
                config = NpzDataset(
                    source="npz", modality=modality, image_size=SIZE, path=str(file), leakage="accept"
                )
                data = prepare(config, Path(place) / "data")
                for what in CONFIGURATIONS:
                    key = f"{name}|{what}|{seed}"
                    if key in known:
                        continue
                    found, seconds = trial(data, what, seed, Path(place))
                    known[key] = {
                        "positive": found.positive.astype(int).tolist(),
                        "scores": found.scores.tolist(),
                        "groups": None if found.groups is None else found.groups.tolist(),
                        "seconds": seconds,
                    }
                    kept.write_text(json.dumps(known))
                    auc = float(np.mean(roc_auc_score(found.positive, found.scores)))
                    print(f"{key}: AUC {auc:.4f}, {seconds:.2f} CPU s an epoch", file=sys.stderr, flush=True)


def mean_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    return float(np.nanmean(roc_auc_score(positive, scores)))


def drawn(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows of as many patients as there are, drawn with replacement."""
    found = np.unique(groups)
    return np.concatenate([np.flatnonzero(groups == g) for g in random.choice(found, len(found))])


def table(known: dict[str, dict[str, object]], seeds: list[int]) -> Iterator[str]:
    """A line for each configuration: mean AUC and its difference from `fixed`, patients and seeds redrawn."""
    yield "| strategy | " + " | ".join(SETS.values()) + " | CPU time of an epoch over that of `fixed` |"
    yield "| --- |" + " --- |" * (len(SETS) + 1)
    aucs, intervals = {}, {}
    for name in SETS:
        of = {w: [known[f"{name}|{w}|{s}"] for s in seeds] for w in CONFIGURATIONS}
        positive = np.array(of["fixed"][0]["positive"], dtype=bool)
        scores = {w: [np.array(one["scores"]) for one in each] for w, each in of.items()}
        groups = of["fixed"][0]["groups"]
        units = np.arange(len(positive)) if groups is None else np.array(groups)
        random, draws = np.random.default_rng(0), {w: [] for w in CONFIGURATIONS}
        for _ in range(DRAWS):
            rows, which = drawn(units, random), random.integers(len(seeds), size=len(seeds))
            if positive[rows].all(axis=0).any() or not positive[rows].any(axis=0).all():
                continue
            each = {
                w: np.array([mean_auc(positive[rows], scores[w][s][rows]) for s in np.unique(which)])
                for w in CONFIGURATIONS
            }
            weights = np.unique(which, return_counts=True)[1] / len(which)
            for w in CONFIGURATIONS:
                draws[w].append(float(weights @ (each[w] - each["fixed"])))
        for w in CONFIGURATIONS:
            aucs[name, w] = float(np.mean([mean_auc(positive, one) for one in scores[w]]))
            intervals[name, w] = np.quantile(draws[w], [0.025, 0.975])
    for w in CONFIGURATIONS:
        cells = []
        for name in SETS:
            low, high = intervals[name, w]
            difference = aucs[name, w] - aucs[name, "fixed"]
            own = "" if w == "fixed" else f" ({difference:+.3f}; {low:+.3f} to {high:+.3f})"
            cells.append(f"{aucs[name, w]:.3f}{own}")
        ratios = [
            float(known[f"{n}|{w}|{s}"]["seconds"]) / float(known[f"{n}|fixed|{s}"]["seconds"])
            for n in SETS
            for s in seeds
        ]
        cost = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"| {w} | " + " | ".join(cells) + f" | {cost} |"


def main() -> None:
    folder, kept = Path(sys.argv[1]), Path(sys.argv[2])
    seeds = [int(seed) for seed in (sys.argv[3] if len(sys.argv) > 3 else "0,1").split(",")]
    torch.set_num_threads(1)
    run(folder, kept, seeds)
    print("\n".join(table(json.loads(kept.read_text()), seeds)))


if __name__ == "__main__":
    main()
