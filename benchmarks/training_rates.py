"""Parts of training.py that need no peer: rates, memory, the AUC kernel. Run through training.py."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score as sklearn_auc

from medfathom.data.prepare import prepare
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.space import TrialParams
from medfathom.metrics.auc import delong_interval, roc_auc_score
from medfathom.models.build import Network, build_network
from medfathom.trial.fit import Fit, FitSettings
from medfathom.trial.inputs import ImageInputs, Views, from_stored, to_stored
from medfathom.trial.memory import resident_bytes
from medfathom.trial.record import TrialRecord
from medfathom.trial.rows import ResidentRows
from medfathom.trial.small_maps import speed_up_small_maps
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

SIZE, EPOCHS, BATCH, N_TRAIN, N_VAL = 64, 3, 32, 2000, 524
DEPTHS = {"head": 0, "last": 1, "all": 5}
THREADS = 2
CPU = torch.device("cpu")


def section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    lines = [f"## {title}\n", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body), ""]


def clocked(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def run_one(
    folder: Path,
    cache_dir: Path,
    *,
    depth: int,
    threads: int,
    epochs: int = EPOCHS,
    architecture: str = "resnet18",
    seed: int = 0,
) -> Iterator[TrialRecord]:
    """One trial of the six, in this process."""
    config = NpzDataset(source="npz", modality="CXR", path=str(folder / "images.npz"), image_size=SIZE)
    data = prepare(config, cache_dir)
    task = TrialTask(data, TrainingConfig(), epochs, seed, cache_dir, None, device="cpu", threads=threads)
    init = f"file:{folder / 'weights.safetensors'}" if architecture == "resnet18" else "random"
    params = TrialParams(
        architecture=architecture,
        init=init,
        unfreeze_depth=depth,
        batch_size=BATCH,
        learning_rate=1e-3,
        warmup_fraction=0.0,
    )
    return run_trial(params, task)


def network_of(architecture: str, depth: int, *, small_maps: bool = True) -> Network:
    network = build_network(
        architecture,
        init="random",
        num_outputs=2,
        unfreeze_depth=depth,
        image_size=SIZE,
        in_channels=1,
        seed=0,
    )
    if small_maps:
        speed_up_small_maps(network)
    return network


def loop_part(folder: Path, runs: int) -> list[str]:
    rows = [["trained", "fit loop, images/s", "bare loop, images/s", "ratio", "wanted"]]
    for architecture, depth in (("resnet18", 5), ("resnet18", 1), ("tf_efficientnet_lite0", 5)):
        rates = [loop_rates(architecture, depth) for _ in range(runs)]
        ratios = [fit / bare for fit, bare in rates]
        medians = [f"{statistics.median(column):.0f}" for column in zip(*rates, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        what = "everything" if depth == 5 else "last stage, from features"
        rows.append([f"{architecture}, {what}", *medians, spread, "0.9"])
    return section("The fit loop against a bare forward-backward loop on ready tensors, two threads", rows)


class FeatureInputs:
    """Features at the network's own cut, as inputs of the fit loop."""

    def __init__(self, network: Network, features: np.ndarray) -> None:
        self.network, self._rows = network, ResidentRows(features, CPU)

    def rows(self, epoch: int) -> ResidentRows:
        return self._rows

    def prepare(self, raw: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        return from_stored(raw)

    def logits(self, prepared: torch.Tensor) -> torch.Tensor:
        return self.network.forward_rest(prepared)


def loop_rates(architecture: str, depth: int, steps: int = 8) -> tuple[float, float]:
    """Images per second of `Fit.train_epoch` and of torch alone, in turns, with one network and optimizer."""
    torch.set_num_threads(THREADS)
    network = network_of(architecture, depth)
    images = np.random.default_rng(0).integers(0, 256, (steps * BATCH, SIZE, SIZE, 1), dtype=np.uint8)
    labels = np.arange(len(images)) % 2
    inputs: Any = ImageInputs(network, Views(lambda _: ResidentRows(images, CPU)), CPU)
    if depth < 5:
        with torch.inference_mode():
            prepared = inputs.prepare(torch.from_numpy(images), None)
            inputs = FeatureInputs(network, to_stored(network.eval().forward_prefix(prepared)))
    params = TrialParams(architecture=architecture, batch_size=BATCH)
    settings = FitSettings("binary", 2, 100, seed=0, device=CPU, autocast=False)
    fit = Fit(network, inputs, labels, subset=np.arange(len(images)), params=params, settings=settings)
    ready = inputs.prepare(next(inputs.rows(1).batches([np.arange(BATCH)])), None)
    targets = torch.from_numpy(labels[:BATCH])

    def bare() -> None:
        network.train()
        for _ in range(steps):
            fit.optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(inputs.logits(ready), targets).backward()
            fit.optimizer.step()

    fit.train_epoch(1)
    bare()
    times = [(clocked(partial(fit.train_epoch, 2)), clocked(bare)) for _ in range(3)]
    fit_time, bare_time = (min(column) for column in zip(*times, strict=True))
    return len(images) / fit_time, len(images) / bare_time


def memory_part(folder: Path, runs: int) -> list[str]:
    """The resident memory's peak, less what the process held after a tiny trial (libraries, thread pools)."""
    rows = [["trained", "peak over start, MiB", "data + model, MiB", "beyond, MiB", "wanted, MiB"]]
    for kind, depth in DEPTHS.items():
        command = [sys.executable, __file__, str(folder), str(depth)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peak, known = json.loads(done.stdout.strip().splitlines()[-1])
        rows.append([kind, f"{peak:.0f}", f"{known:.0f}", f"{peak - known:.0f}", "300"])
    return section("Peak memory of a trial (ResNet-18, 64 px, batch 32, two threads)", rows)


def print_peak(folder: Path, depth: int) -> None:
    """In a process of its own: peak over start, and data + model, in MiB."""
    with tempfile.TemporaryDirectory() as cache:
        list(run_one(folder, Path(cache), depth=0, threads=THREADS, epochs=1, architecture="test_resnet"))
        before = resident_bytes()
        record = list(run_one(folder, Path(cache), depth=depth, threads=THREADS, epochs=2))[-1]
    known = (N_TRAIN + N_VAL) * SIZE * SIZE + 4 * record.n_params
    print(json.dumps([(record.peak_memory_bytes - before) / 2**20, known / 2**20]))


def kernel_part(folder: Path, runs: int) -> list[str]:
    rows = [["images x columns", "scikit-learn, ms", "kernel, ms", "ratio", "greatest difference"]]
    rows += [kernel_row(n, columns, runs) for n, columns in ((N_VAL, 1000), (20_000, 100))]
    random = np.random.default_rng(0)
    labels, scores, groups = random.integers(0, 2, N_VAL), random.random(N_VAL), np.arange(N_VAL) // 3
    delong = statistics.median(clocked(lambda: delong_interval(labels, scores)) for _ in range(9))
    grouped = statistics.median(clocked(lambda: delong_interval(labels, scores, groups)) for _ in range(9))
    text = (
        f"The interval of one column of {N_VAL} images: DeLong {1e3 * delong:.1f} ms, with "
        f"175 groups {1e3 * grouped:.1f} ms.\n"
    )
    return [*section("AUC of many score columns", rows), text]


def kernel_row(n: int, columns: int, runs: int) -> list[str]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, n)
    scores = np.round(random.normal(size=(n, columns)) + labels[:, None], 2)

    def reference() -> list[float]:
        return [sklearn_auc(labels, column) for column in scores.T]

    slow = statistics.median(clocked(reference) for _ in range(runs))
    fast = statistics.median(clocked(lambda: roc_auc_score(labels, scores)) for _ in range(runs))
    gap = np.abs(roc_auc_score(labels, scores) - reference()).max()
    name = f"{n:,} x {columns:,}"
    return [name, f"{1e3 * slow:.0f}", f"{1e3 * fast:.0f}", f"{slow / fast:.0f}", f"{gap:.0e}"]


def bf16_part(folder: Path, runs: int) -> list[str]:
    rows = [["ResNet-18, 64 px, batch 32, two threads", "float32, images/s", "bfloat16, images/s", "ratio"]]
    for what, train in (("training step", True), ("inference", False)):
        full, half = (step_rate(5, half=half, train=train) for half in (False, True))
        rows.append([what, f"{full:.0f}", f"{half:.0f}", f"{half / full:.2f}"])
    return section('bfloat16 on this CPU (without the instructions, `precision = "auto"` is float32)', rows)


def maps_part(folder: Path, runs: int) -> list[str]:
    rows = [
        [
            "ResNet-18, 64 px, two threads, images/s",
            "torch's default",
            "channels last",
            "and small maps",
            "ratio",
        ]
    ]
    for depth, what in ((5, "everything trained"), (1, "last stage trained, from features")):
        choices = ((False, False), (True, False), (True, True))
        rates = [step_rate(depth, channels_last=last, small_maps=small) for last, small in choices]
        rows.append([what, *(f"{rate:.0f}" for rate in rates), f"{rates[2] / rates[0]:.2f}"])
    return section("Memory format, and 2 x 2 maps as matrix products", rows)


def step_rate(
    depth: int,
    *,
    half: bool = False,
    train: bool = True,
    channels_last: bool = True,
    small_maps: bool = True,
) -> float:
    """Images per second of one step on ready tensors."""
    torch.set_num_threads(THREADS)
    network = network_of("resnet18", depth, small_maps=small_maps)
    images, labels = torch.randn(BATCH, 1, SIZE, SIZE), torch.arange(BATCH) % 2
    order = torch.channels_last if channels_last else torch.contiguous_format
    with torch.no_grad():
        features = network.eval().forward_prefix(images.contiguous(memory_format=order))
        features = features.contiguous(memory_format=order)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], fused=True)

    def step() -> None:
        network.train(train)
        with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network.forward_rest(features)
        if train:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()

    step()
    return BATCH / statistics.median(clocked(step) for _ in range(7))


def cpu_part(folder: Path, runs: int) -> list[str]:
    """One trial of each kind by both programs, side by side, each in a process with one thread.

    CPU time, unlike the clock, hardly minds what else the machine does.
    """
    done = [cpu_run(folder, kind, seed) for seed in range(runs) for kind in DEPTHS]
    rows = [["trial", "plain, CPU s", "medfathom, CPU s", "ratio", "wanted", "AUC plain", "AUC medfathom"]]
    wanted = {"head": "20", "last": "3", "all": "1.3"}
    for kind in DEPTHS:
        chosen = [run for run in done if run["kind"] == kind]
        for ours in ("cold", "warm") if kind != "all" else ("cold",):
            rows += [cpu_row(kind, ours, chosen, wanted[kind])]
    return section(f"CPU time of one trial on one thread, medians of {runs} runs side by side", rows)


def cpu_row(kind: str, ours: str, runs: list[dict[str, Any]], wanted: str) -> list[str]:
    pairs = [(run["plain"], run[ours]) for run in runs]
    seconds = [statistics.median(pair[side]["cpu"] for pair in pairs) for side in (0, 1)]
    ratios = [plain["cpu"] / mine["cpu"] for plain, mine in pairs]
    aucs = [statistics.mean(pair[side]["auc"] for pair in pairs) for side in (0, 1)]
    name = {"head": "head", "last": "last stage", "all": "everything"}[kind]
    name += {"cold": "" if kind == "all" else ", first", "warm": ", every later one"}[ours]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [name, *(f"{s:.1f}" for s in seconds), spread, wanted, *(f"{auc:.3f}" for auc in aucs)]


def cpu_run(folder: Path, kind: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "cpu", str(folder), kind, str(seed)]
    both = [
        subprocess.Popen([*command, program], stdout=subprocess.PIPE, text=True)
        for program in ("plain", "medfathom")
    ]
    result: dict[str, Any] = {"kind": kind, "seed": seed}
    for process in both:
        output = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f"{process.args}: exit {process.returncode}")
        result |= json.loads(output.strip().splitlines()[-1])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def print_cpu(folder: Path, kind: str, seed: int, program: str) -> None:
    """In a process of its own: CPU seconds and AUC of a trial; medfathom's again with features kept."""
    torch.set_num_threads(1)
    if program == "plain":
        print(json.dumps({"plain": plain_trial(folder, kind, seed)}))
        return
    result = {}
    with tempfile.TemporaryDirectory() as cache:
        config = NpzDataset(source="npz", modality="CXR", path=str(folder / "images.npz"), image_size=SIZE)
        prepare(config, Path(cache))  # once for a study, not once for a trial
        for name in ("cold", "warm") if kind != "all" else ("cold",):
            started = time.process_time()
            records = list(run_one(folder, Path(cache), depth=DEPTHS[kind], threads=1, seed=seed))
            result[name] = {"cpu": time.process_time() - started, "auc": records[-1].auc}
    print(json.dumps(result))


def plain_trial(folder: Path, kind: str, seed: int) -> dict[str, float]:
    """The plain script's own function, without Ray around it."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
    import plain_ray_timm as plain

    reports: list[dict[str, float]] = []
    plain.tune.report = reports.append
    config = {
        "train": kind,
        "lr": 1e-3,
        "npz": str(folder / "images.npz"),
        "weights": str(folder / "weights.safetensors"),
        "architecture": "resnet18",
        "size": SIZE,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "workers": 0,
        "seed": seed,
    }
    started = time.process_time()
    plain.train(config)
    return {"cpu": time.process_time() - started, "auc": reports[-1]["auc"]}


if __name__ == "__main__":
    if sys.argv[1] == "cpu":
        print_cpu(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        print_peak(Path(sys.argv[1]), int(sys.argv[2]))
