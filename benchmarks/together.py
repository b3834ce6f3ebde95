"""Head-only trials over kept features: one after another against fitted side by side (`trial/stack.py`).

    uv run benchmarks/together.py [--data FILE.npz] [--size 64] [--architecture efficientnet_lite0]
        [--epochs 10] [--batch 32] [--trials 1 4 8 16] [--device cpu] [--precision float32]
        [--rounds 3] [--out FILE]

The features are there before the clock starts; both ways then build networks, train, judge every epoch and
write every checkpoint. Weights are drawn once and written to a file: a time needs no download. Without
`--data` the images are made up (2,000 of them). In bfloat16 a logit is rounded to 2^-9 of itself, up or down
as sums are ordered, so results are further apart there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from gpu import all_beside, drawn_weights, one_by_one

from medfathom.data.prepare import prepare
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset, PhantomDataset
from medfathom.definitions.space import TrialParams
from medfathom.trial.checkpoint import load_checkpoint, load_history
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import Waiting, run_trial


def main() -> None:
    """A table: trials, seconds both ways, their ratio, and how far apart the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--architecture", default="efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"`uv run benchmarks/together.py {' '.join(sys.argv[1:])}`; PyTorch {torch.__version__}.",
        "",
        "| trials | one after another (s) | side by side (s) | ratio | furthest apart: weight | AUC |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        for n in options.trials:
            lines.append(row(Path(name), options, n))
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def row(folder: Path, options: argparse.Namespace, n: int) -> str:
    """Medians over rounds that alternate; the ratio is of the medians."""
    trials = [trial(folder, options, seed) for seed in range(n)]
    list(run_trial(*trials[0]))  # computes the features
    apart, beside = [], []
    for _ in range(options.rounds):
        forget(trials)
        began = time.perf_counter()
        one_by_one(trials)
        apart.append(time.perf_counter() - began)
        alone = [outcome(task) for _, task in trials]
        forget(trials)
        began = time.perf_counter()
        all_beside(trials)
        beside.append(time.perf_counter() - began)
        together = [outcome(task) for _, task in trials]
    pairs = list(zip(alone, together, strict=True))
    weight = max(float((a - b).abs().max()) for (a, _), (b, _) in pairs)
    auc = max(abs(a - b) for (_, a), (_, b) in pairs)
    seconds, ours = statistics.median(apart), statistics.median(beside)
    return f"| {n} | {seconds:.2f} | {ours:.2f} | {seconds / ours:.2f} | {weight:.1e} | {auc:.1e} |"


def trial(folder: Path, options: argparse.Namespace, seed: int) -> Waiting:
    """One of the trials, its rate and decay its own."""
    weights = drawn_weights(folder, options.architecture, options.size)
    data = prepare(dataset(options), folder / "cache")
    params = TrialParams(
        architecture=options.architecture,
        init=f"file:{weights}",
        unfreeze_depth=0,
        batch_size=options.batch,
        learning_rate=0.001 * (1 + seed),
        weight_decay=0.0001 * seed,
    )
    training, checkpoint = TrainingConfig(precision=options.precision), folder / f"trial-{seed}.pt"
    cache, epochs = folder / "cache", options.epochs
    return params, TrialTask(data, training, epochs, seed, cache, checkpoint, options.device, threads=1)


def dataset(options: argparse.Namespace) -> NpzDataset | PhantomDataset:
    """The images."""
    if options.data is None:
        return PhantomDataset(
            source="phantom-cxr", modality="CXR", image_size=options.size, n_train=2000, n_val=500, n_test=50
        )
    return NpzDataset(
        source="npz", modality="CXR", image_size=options.size, path=str(options.data), leakage="accept"
    )


def forget(trials: list[Waiting]) -> None:
    """Remove their checkpoints."""
    for _, task in trials:
        assert task.checkpoint is not None
        task.checkpoint.unlink(missing_ok=True)


def outcome(task: TrialTask) -> tuple[torch.Tensor, float]:
    """The weights of a trial's head, and its AUC."""
    assert task.checkpoint is not None
    found = load_checkpoint(task.checkpoint, torch.device("cpu"))
    assert found is not None
    weights = torch.cat([tensor.flatten() for tensor in found.network.values()])
    return weights, load_history(task.checkpoint)[-1].auc or 0.0


if __name__ == "__main__":
    main()
