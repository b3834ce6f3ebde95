"""Record the learning curves of a whole grid, so that searches can be replayed on them in seconds.

    uv run benchmarks/replay/record.py --data ../shared/data --weights ../shared/weights --work FOLDER
    uv run benchmarks/replay/record.py --work FOLDER --pack benchmarks/replay/curves.csv.gz

The first trains every combination of grid.toml on the phantom and on subsets of three real sets, one trial
after another on one thread, with the program's own trial code and feature cache. It goes on where it was
stopped. The second packs what is there. It reads the test split, as a benchmark may and a study may not.

A row is a trial. `auc_E`, `loss_E` (validation), `seconds_E` and `cpu_E` (wall clock; CPU seconds of the
process) belong to epoch E; the first epoch has the start of the trial in it, but not `built_seconds`, the CPU
seconds in which features of the frozen prefix were computed. A pretrained prefix's are computed once for all
trials that share them: `cut` and `kept` say which.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.models.build import Network
from medfathom.trial.checkpoint import load_checkpoint
from medfathom.trial.inputs import ImageInputs, Views
from medfathom.trial.judging import judge
from medfathom.trial.network import network_of
from medfathom.trial.rows import open_rows
from medfathom.trial.task import INFERENCE_BATCH, TrialTask
from medfathom.trial.trial import run_trial

HERE = Path(__file__).parent
SEED = 0
SIZE = 28
SETS = {
    "pneumoniamnist": ("CXR", {"train": 192, "val": 160, "test": 500}),
    "octmh_64": ("OCT", {"train": 192, "val": 137, "test": 110}),
    "histidc_64": ("WSI", {"train": 192, "val": 160, "test": 500}),
}
"""Modality, and images that are drawn from each split. The 43 validation images of octmh_64 would say little:
its three splits are pooled and drawn again."""
POOLED = {"octmh_64"}


def subset(source: Path, sizes: dict[str, int], target: Path, *, pooled: bool) -> Path:
    """A smaller npz file: rows drawn without a look at them, so that class shares stay but for chance."""
    if target.exists():
        return target
    arrays, generator = np.load(source), np.random.default_rng(SEED)
    kept: dict[str, Any] = {}
    if pooled:
        images, labels = (
            np.concatenate([arrays[f"{s}_{kind}"] for s in sizes]) for kind in ("images", "labels")
        )
        parts = np.split(generator.permutation(len(images)), np.cumsum(list(sizes.values()))[:-1])
        for split, rows in zip(sizes, parts, strict=True):
            kept |= {f"{split}_images": images[rows], f"{split}_labels": labels[rows]}
    else:
        for split, size in sizes.items():
            rows = np.sort(generator.permutation(len(arrays[f"{split}_images"]))[:size])
            names = [name for name in arrays.files if name.startswith(f"{split}_")]
            kept |= {name: arrays[name][rows] for name in names}
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, **kept)
    return target


def studies(data: Path, weights: Path, work: Path) -> dict[str, StudyConfig]:
    """The definition of each set."""
    folder = work / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "mobilenetv2_100.safetensors"
    if not link.exists():
        link.symlink_to((weights / "mobilenetv2_100.backbone.safetensors").resolve())
    phantom = load_definition(
        str(HERE / "grid.toml"), [f"training.weights_dir={folder}", "training.precision=float32"]
    )
    found = {"phantom-oct": phantom}
    for name, (modality, sizes) in SETS.items():
        path = subset(data / f"{name}.npz", sizes, work / "subsets" / f"{name}.npz", pooled=name in POOLED)
        dataset = NpzDataset(
            source="npz", path=str(path), modality=modality, image_size=SIZE, leakage="accept"
        )
        found[name] = phantom.model_copy(update={"dataset": dataset})
    return found


def grid(config: StudyConfig) -> Iterator[TrialParams]:
    """Every combination, a learning rate at a time."""
    names = ["learning_rate", "architecture", "init", "unfreeze_depth"]
    for values in product(*(config.space.values(name) for name in names)):
        point = dict(zip(names, values, strict=True))
        if not config.space.excluded(point):
            yield TrialParams.model_validate(point)


def key_of(dataset: str, params: TrialParams) -> str:
    return f"{dataset} {params.architecture} {params.init} {params.unfreeze_depth} {params.learning_rate:g}"


def test_auc(network: Network, data: PreparedData, params: TrialParams) -> float | None:
    test = open_test(data)
    rows = open_rows(test.images, torch.device("cpu"))
    inputs = ImageInputs(network, Views(lambda _: rows), torch.device("cpu"))
    network.eval()
    parts = np.array_split(np.arange(len(test)), -(-len(test) // INFERENCE_BATCH))
    with torch.inference_mode():
        raw = [next(iter(rows.batches([part]))) for part in parts]
        logits = torch.cat([inputs.logits(inputs.prepare(batch, None)) for batch in raw]).numpy()
    return judge(data, test, logits, params.combine).auc


def record(dataset: str, config: StudyConfig, params: TrialParams, work: Path) -> dict[str, object]:
    """Train one trial to its end."""
    data = prepare(config.dataset, work / "cache")
    checkpoint = work / "checkpoint.pt"
    checkpoint.unlink(missing_ok=True)
    task = TrialTask(
        data=data,
        training=config.training,
        max_epochs=config.budget.epochs,
        seed=SEED,
        cache_dir=work / "cache",
        checkpoint=checkpoint,
        device="cpu",
        threads=1,
        depths=config.space.depths,
    )
    row: dict[str, object] = {"key": key_of(dataset, params), "dataset": dataset, "modality": data.modality}
    row |= {n: getattr(params, n) for n in ("architecture", "init", "unfreeze_depth", "learning_rate")}
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        for found in run_trial(params, task):
            epoch, share = found.epochs, (time.process_time() - cpu) / (time.perf_counter() - wall)
            use = found.feature_cache
            built = use.built_seconds if use is not None and epoch == 1 else 0.0
            row[f"auc_{epoch}"] = round(found.auc or 0.5, 5)
            row[f"loss_{epoch}"] = round(found.val_loss or 0.0, 5)
            row[f"seconds_{epoch}"] = round(time.perf_counter() - wall - built, 4)
            row[f"cpu_{epoch}"] = round(time.process_time() - cpu - built * share, 4)
            if epoch == 1:
                row |= {"n_params": found.n_params, "macs": found.macs, "n_train": found.n_train}
                row |= {"kept": bool(use and use.kept), "cut": use.cut if use else 0}
                row["built_seconds"] = round(built * share, 4)
            wall, cpu = time.perf_counter(), time.process_time()
        loaded = load_checkpoint(checkpoint, torch.device("cpu"))
        if loaded is None:
            raise FileNotFoundError(checkpoint)
        network = network_of(params, task, data.split("train"))
        network.load_trained_state(loaded.network)
        row["test_auc"] = round(test_auc(network, data, params) or 0.5, 5)
    except Exception as error:  # noqa: BLE001  a trial that fails is a result too, with its reason
        row["failure"] = " ".join(str(error).split())[:200]
    return row


def columns(epochs: int) -> list[str]:
    names = ["key", "dataset", "modality", "architecture", "init", "unfreeze_depth", "learning_rate"]
    names += ["n_params", "macs", "n_train", "kept", "cut", "built_seconds", "test_auc", "failure"]
    return names + [f"{what}_{e}" for what in ("auc", "loss", "seconds", "cpu") for e in range(1, epochs + 1)]


def run(data: Path, weights: Path, work: Path, limit: int | None) -> None:
    """Record what is missing."""
    configs = studies(data, weights, work)
    path = work / "curves.csv"
    done = {row["key"] for row in csv.DictReader(path.open())} if path.exists() else set()
    whole = [(name, configs[name], params) for params in grid(configs["phantom-oct"]) for name in configs]
    # A learning rate at a time, a data set within it: the feature cache serves neighbours.
    whole.sort(key=lambda item: (rates(configs).index(item[2].learning_rate), list(configs).index(item[0])))
    todo = [item for item in whole if key_of(item[0], item[2]) not in done][:limit]
    started = time.perf_counter()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns(configs["phantom-oct"].budget.epochs))
        if not done:
            writer.writeheader()
        for place, (name, config, params) in enumerate(todo, start=1):
            row = record(name, config, params, work)
            writer.writerow(row)
            file.flush()
            rate = (time.perf_counter() - started) / place
            print(
                f"{place}/{len(todo)} {row['key']} AUC {row.get('auc_8')} test {row.get('test_auc')} "
                f"{row.get('failure', '')} · {rate:.2f} s a trial, "
                f"{rate * (len(todo) - place) / 60:.0f} min left",
                flush=True,
            )


def rates(configs: dict[str, StudyConfig]) -> list[object]:
    return list(configs["phantom-oct"].space.values("learning_rate"))


def pack(work: Path, target: Path) -> None:
    """The rows in the order of their keys, compressed without a time: the same rows give the same file."""
    rows = sorted(csv.DictReader((work / "curves.csv").open()), key=lambda row: row["key"])
    with target.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        lines = [",".join(list(rows[0])[1:])]
        lines += [",".join(row[name] for name in list(rows[0])[1:]) for row in rows]
        packed.write(("\n".join(lines) + "\n").encode())
    print(f"{target}: {len(rows)} trials, {target.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Record, or pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="at most so many trials")
    parser.add_argument(
        "--pack", type=Path, help="write what is recorded as a compressed CSV, and train nothing"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.pack:
        pack(chosen.work, chosen.pack)
    else:
        run(chosen.data, chosen.weights, chosen.work.absolute(), chosen.limit)


if __name__ == "__main__":
    main()
