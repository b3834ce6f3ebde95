"""Training on a GPU, in one process and without Ray: the fit loop, whole trials, heads side by side.

    python benchmarks/gpu.py [--device cuda] [--size 224] [--batch 64] [--images 2048] [--epochs 3]
        [--architectures resnet50 densenet121 vit_base_patch16_224 efficientnet_b0]
        [--precision bfloat16] [--heads 64] [--processes 4]
        [--parts loop script compile heads processes memory] [--out FILE.md]

loop: `Fit.train_epoch` against a forward-backward loop on ready tensors (goal .95 of its images a second).
script: a trial (`run_trial`, features and checkpoints included) against a plain timm + DataLoader script with
the same weights, frozen parts, optimizer and batches (goals: everything 2x, the last stage 5x, the head 20x).
compile: what `torch.compile` costs at the first step, and what it gains in each later one; without and with
CUDA graphs (its mode `reduce-overhead`).
heads: head-only trials over the same features, fitted side by side against one after another.
processes: trials in processes side by side on the device, as Ray runs them, against one after another.
memory: what is set aside for a trial after one with half the batch was measured, against what it then takes.

Images and weights are drawn: no download is needed for a time. `--device cpu --size 32 --images 64 --batch 16
--architectures test_resnet --precision float32 --heads 6 --processes 2 --parts loop script heads processes
memory` tries them without a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.space import TrialParams
from medfathom.machine import memory_bytes
from medfathom.models.build import Network, build_network
from medfathom.trial.alike import MOST_BESIDE
from medfathom.trial.fit import Fit, FitSettings
from medfathom.trial.gpu_shares import CONTEXT_BYTES, MeasuredShares
from medfathom.trial.inputs import ImageInputs, Views
from medfathom.trial.layout import lay_out
from medfathom.trial.memory import device_bytes, free_bytes
from medfathom.trial.record import TrialRecord
from medfathom.trial.rows import open_rows
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import Waiting, run_trial

DEPTHS = {"everything": 5, "the last stage": 1, "the head": 0}
ROUNDS = 3
FIRST_STEPS = 4


@dataclass(frozen=True)
class Bench:
    """What all parts measure with."""

    folder: Path
    cache: Path
    device: torch.device
    size: int
    batch: int
    epochs: int
    precision: str
    heads: int
    processes: int
    data: PreparedData

    @property
    def autocast(self) -> bool:
        return self.precision == "bfloat16"

    def seconds(self, action: Callable[[], object]) -> float:
        """Of the clock, until the device has done it."""
        self.wait()
        began = time.perf_counter()
        action()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def network(self, architecture: str, depth: int) -> Network:
        network = build_network(
            architecture,
            init=f"file:{drawn_weights(self.folder, architecture, self.size)}",
            num_outputs=2,
            unfreeze_depth=depth,
            image_size=self.size,
            in_channels=3,
            seed=0,
        )
        lay_out(network, self.device)
        return network

    def trial(self, architecture: str, depth: int, seed: int = 0) -> Waiting:
        params = TrialParams(
            architecture=architecture,
            init=f"file:{drawn_weights(self.folder, architecture, self.size)}",
            unfreeze_depth=depth,
            batch_size=self.batch,
            learning_rate=1e-4 * (1 + seed),
        )
        training = TrainingConfig(precision=self.precision)
        checkpoint = self.folder / f"trial-{seed}.pt"
        checkpoint.unlink(missing_ok=True)
        device = "cuda:0" if self.device.type == "cuda" else "cpu"
        return params, TrialTask(self.data, training, self.epochs, seed, self.cache, checkpoint, device, 2)


def main() -> None:
    """All parts that are asked for; a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    usual = ["resnet50", "densenet121", "vit_base_patch16_224", "efficientnet_b0"]
    parser.add_argument("--architectures", nargs="+", default=usual)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch finds no GPU here; --device cpu tries the same code without one")
    lines = [heading(options)]
    with tempfile.TemporaryDirectory() as name:
        bench = bench_of(Path(name), options)
        for part in options.parts:
            lines += [f"## {part}", "", *PARTS[part](bench, options.architectures), ""]
            if options.out:
                options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def heading(options: argparse.Namespace) -> str:
    """Where and how."""
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    return (
        f"# Training on a GPU\n\n{date.today()}, {device}, PyTorch {torch.__version__}, timm "
        f"{timm.__version__}. `python benchmarks/gpu.py {' '.join(sys.argv[1:])}`\n"
    )


def bench_of(folder: Path, options: argparse.Namespace) -> Bench:
    """With drawn images of three channels; a quarter as many to validate on."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", options.images), ("val", options.images // 4), ("test", 8)):
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None]
        arrays[f"{split}_images"] = random.integers(0, 256, (n, options.size, options.size, 3), np.uint8)
    np.savez(folder / "images.npz", **arrays)
    config = NpzDataset(
        source="npz", modality="WSI", image_size=options.size, path=str(folder / "images.npz")
    )
    return Bench(
        folder,
        folder / "cache",
        torch.device(options.device),
        options.size,
        options.batch,
        options.epochs,
        options.precision,
        options.heads,
        options.processes,
        prepare(config, folder / "cache"),
    )


def loop(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """Images a second of the fit loop and of the bare one, in turns."""
    rows = ["| network | trained | fit loop | bare loop | ratio |", "| --- | --- | --- | --- | --- |"]
    for architecture in architectures:
        for what, depth in DEPTHS.items():
            fit, bare = fit_and_bare(bench, architecture, depth)
            fit(), bare()
            pairs = [(bench.seconds(fit), bench.seconds(bare)) for _ in range(ROUNDS)]
            n = len(bench.data.split("train"))
            ours, theirs = (n / min(column) for column in zip(*pairs, strict=True))
            rows.append(f"| {architecture} | {what} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")
    return rows


def fit_and_bare(
    bench: Bench, architecture: str, depth: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """An epoch of each, with one network and one optimizer; both go through the frozen prefix."""
    network, train = bench.network(architecture, depth), bench.data.split("train")
    rows = open_rows(train.images, bench.device)
    inputs = ImageInputs(network, Views(lambda _: rows), bench.device)
    settings = FitSettings("binary", 2, 100, seed=0, device=bench.device, autocast=bench.autocast)
    params = TrialParams(architecture=architecture, batch_size=bench.batch)
    subset = np.arange(len(train))
    fit = Fit(network, inputs, train.labels, subset=subset, params=params, settings=settings)
    ready = inputs.prepare(next(rows.batches([subset[: bench.batch]])), None)
    targets = torch.from_numpy(train.labels[: bench.batch].astype(np.int64)).to(bench.device)

    def bare() -> None:
        network.train()
        for _ in range(-(-len(train) // bench.batch)):
            fit.optimizer.zero_grad(set_to_none=True)
            with fit.autocast():
                logits = inputs.logits(ready)
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
            fit.optimizer.step()

    return lambda: fit.train_epoch(1), bare


class Images(Dataset[tuple[torch.Tensor, int]]):
    """As a plain script has them: an image at a time, made ready by the loader's processes."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float]):
        self.images, self.labels = images, labels
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(np.array(self.images[index])).permute(2, 0, 1).float() / 255
        return (image - self.mean) / self.std, int(self.labels[index])


def plain_script(bench: Bench, architecture: str, trained: frozenset[str]) -> None:
    """The same trial as one would write it with timm: frozen parameters, AdamW, bfloat16, channels last."""
    model = timm.create_model(architecture, num_classes=2, **_sized(architecture, bench.size))
    model.load_state_dict(load_file(drawn_weights(bench.folder, architecture, bench.size)), strict=False)
    model.to(bench.device, memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or name.startswith(model.default_cfg["classifier"]))
    config = timm.data.resolve_model_data_config(model)
    loaders = []
    for name in ("train", "val"):
        split = bench.data.split(name)
        images = Images(split.images, split.labels, config["mean"], config["std"])
        cuda = bench.device.type == "cuda"
        workers = min(os.cpu_count() or 1, 8) if cuda else 0
        loaders.append(DataLoader(images, bench.batch, name == "train", num_workers=workers, pin_memory=cuda))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for _ in range(bench.epochs):
        for loader, training in zip(loaders, (True, False), strict=True):
            model.train(training)
            for images, targets in loader:
                ready = images.to(bench.device, memory_format=torch.channels_last, non_blocking=True)
                with (
                    torch.set_grad_enabled(training),
                    torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.autocast),
                ):
                    logits = model(ready)
                if training:
                    loss = torch.nn.functional.cross_entropy(logits.float(), targets.to(bench.device))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()


def drawn_weights(folder: Path, architecture: str, size: int) -> Path:
    """A file of drawn weights, made once in a folder: all programs start from the same."""
    path = folder / f"{architecture}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        model = timm.create_model(architecture, num_classes=0, **_sized(architecture, size))
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def _sized(architecture: str, size: int) -> dict[str, int]:
    """Networks of patches are built for a size; others have no such argument."""
    return {"img_size": size} if architecture.startswith("vit") else {}


def script(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """Seconds of a whole trial both ways, in turns: features still to be computed, and there already."""
    rows = [
        "| network | trained | plain, s | medfathom, s | ratio | features there, s | ratio | peak, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for architecture in architectures:
        for what, depth in DEPTHS.items():
            network = bench.network(architecture, depth)
            names = {n.removeprefix("backbone.") for n, p in network.named_parameters() if p.requires_grad}
            del network
            plain = partial(plain_script, bench, architecture, frozenset(names))
            times, peak = [], 0.0
            for number in range(ROUNDS):
                anew = replace(bench, cache=bench.folder / f"cache-{architecture}-{depth}-{number}")
                first, peak = whole_trial(anew, architecture, depth)
                warm, _ = whole_trial(anew, architecture, depth)
                times.append((bench.seconds(plain), first, warm))
            theirs, first, warm = (statistics.median(column) for column in zip(*times, strict=True))
            rows.append(
                f"| {architecture} | {what} | {theirs:.2f} | {first:.2f} | {theirs / first:.1f} "
                f"| {warm:.2f} | {theirs / warm:.1f} | {peak:.0f} |"
            )
    return rows


def whole_trial(bench: Bench, architecture: str, depth: int) -> tuple[float, float]:
    """Seconds of a trial, and its peak memory in MiB."""
    trial, records = bench.trial(architecture, depth), list[TrialRecord]()
    seconds = bench.seconds(lambda: records.extend(run_trial(*trial)))
    return seconds, records[-1].peak_memory_bytes / 2**20


def compiled(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """Steps of everything trained, with and without `torch.compile`: after how many steps does it pay."""
    torch.compiler.config.force_disable_caches = True
    rows = [
        "| network | mode | start, s | compiled, s | a step, ms | compiled, ms | pays after steps |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for architecture in architectures:
        first, later = steps(bench, architecture, None)
        for mode in ("default", "reduce-overhead"):
            first_compiled, later_compiled = steps(bench, architecture, mode)
            gain = later - later_compiled
            after = f"{(first_compiled - first) / gain:.0f}" if gain > 0 else "never"
            rows.append(
                f"| {architecture} | {mode} | {first:.2f} | {first_compiled:.2f} | {1e3 * later:.1f} "
                f"| {1e3 * later_compiled:.1f} | {after} |"
            )
    return rows


def steps(bench: Bench, architecture: str, mode: str | None) -> tuple[float, float]:
    """Seconds that the first steps take beyond what later ones take, and seconds of a later one.

    `mode`: of `torch.compile`; None: not compiled. CUDA graphs are captured in the second and third step. No
    mode finds what another one left in the caches.
    """
    torch.compiler.reset()
    network = bench.network(architecture, 5).train()
    run = network if mode is None else torch.compile(network, mode=mode)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    shape = (bench.batch, 3, bench.size, bench.size)
    images = torch.randn(shape, device=bench.device).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(bench.batch, device=bench.device) % 2

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.autocast):
            logits = run(images)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()

    first = sum(bench.seconds(step) for _ in range(FIRST_STEPS))
    later = min(bench.seconds(step) for _ in range(2 * ROUNDS))
    return first - FIRST_STEPS * later, later


def heads(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """Head-only trials, their features there: one, many one after another, many side by side."""
    rows = [
        "| network | heads | one, s | one after another, s | side by side, s | ratio | price in trials |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for architecture in architectures:
        list(run_trial(*bench.trial(architecture, 0)))  # computes the features

        seeds = range(bench.heads)
        one = bench.seconds(partial(one_by_one, [bench.trial(architecture, 0)]))
        apart = bench.seconds(partial(one_by_one, [bench.trial(architecture, 0, seed) for seed in seeds]))
        trials = [bench.trial(architecture, 0, seed) for seed in seeds]  # without their checkpoints again
        beside = bench.seconds(partial(all_beside, trials))
        rows.append(
            f"| {architecture} | {bench.heads} | {one:.2f} | {apart:.1f} | {beside:.1f} "
            f"| {apart / beside:.2f} | {beside / one:.1f} |"
        )
    return rows


def one_by_one(trials: Sequence[Waiting]) -> None:
    """Each trial by itself."""
    for trial in trials:
        list(run_trial(*trial))


def all_beside(trials: Sequence[Waiting]) -> None:
    """As a run does it: at most `MOST_BESIDE` beside a first one, then each one's own turn."""
    for start in range(0, len(trials), 1 + MOST_BESIDE):
        first, *others = trials[start : start + 1 + MOST_BESIDE]
        list(run_trial(*first, others))
        one_by_one(others)


def processes(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """Trials, their features there, one after another and each in a process of its own at the same time."""
    rows = [
        "| network | trained | trials | one after another, s | in processes, s | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    n = bench.processes
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(n, _wait_for_all, (spawn.Barrier(n),)) as pool:
        for architecture in architectures:
            for what, depth in DEPTHS.items():
                list(run_trial(*bench.trial(architecture, depth)))  # computes the features
                trials = [bench.trial(architecture, depth, seed) for seed in range(n)]
                pool.map(_in_a_process, trials, chunksize=1)  # once to wake up each process's device
                trials = [bench.trial(architecture, depth, seed) for seed in range(n)]
                beside = bench.seconds(partial(pool.map, _in_a_process, trials, chunksize=1))
                trials = [bench.trial(architecture, depth, seed) for seed in range(n)]
                apart = bench.seconds(partial(one_by_one, trials))
                rows.append(
                    f"| {architecture} | {what} | {n} | {apart:.2f} | {beside:.2f} | {apart / beside:.2f} |"
                )
    return rows


_all_there: Any = None


def _wait_for_all(barrier: Any) -> None:
    global _all_there  # noqa: PLW0603  a process of a pool has no other place for it
    _all_there = barrier


def _in_a_process(trial: Waiting) -> None:
    """Begins when every process has a trial: none takes two."""
    _all_there.wait()
    list(run_trial(*trial))


def memory(bench: Bench, architectures: Sequence[str]) -> list[str]:
    """What `MeasuredShares` sets aside for a trial, learnt from one of half its batch, and what it takes.

    What it takes is the peak of its tensors and what a process holds besides; the device's own count has
    what the allocator keeps too (and what other programs have taken).
    """
    rows = [
        "| network | trained | batch | set aside, MiB | tensors and context, MiB | on the device, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    whole = device_bytes(bench.device) or memory_bytes()
    for architecture in architectures:
        for what, depth in DEPTHS.items():
            shares = MeasuredShares()
            for batch in (bench.batch // 2, bench.batch):
                params, task = replace(bench, batch=batch).trial(architecture, depth)
                asked = shares.share(params) * whole
                if bench.device.type == "cuda":
                    torch.cuda.empty_cache()
                *_, record = run_trial(params, task)
                shares.learn(params, {**record.attributes(), "device_memory_bytes": whole})
            taken = record.peak_memory_bytes + CONTEXT_BYTES
            on_device = whole - free_bytes(bench.device)
            cells = " | ".join(f"{n / 2**20:.0f}" for n in (asked, taken, on_device))
            rows.append(f"| {architecture} | {what} | {bench.batch} | {cells} |")
    return rows


PARTS: dict[str, Callable[[Bench, Sequence[str]], list[str]]] = {
    "loop": loop,
    "script": script,
    "compile": compiled,
    "heads": heads,
    "processes": processes,
    "memory": memory,
}

if __name__ == "__main__":
    main()
