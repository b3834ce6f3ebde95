"""What building, tracing and listing networks costs, and what one channel loses.

    uv run benchmarks/models.py [--data FOLDER] [--out FILE.md] [--threads N] [PART ...]

Parts: building, tracing, listing, grey (which needs --data); all of them by default.

Every architecture of the catalog is built with random weights at 64 px (or the smallest size it takes) and
frozen at unfreeze depth 2, twice in one process: the first time its graph is traced, measured and cut. Wall
and processor time are given, since other work may run beside. `--data` names a folder with
pneumoniamnist.npz and weights of MobileNetV2 (mobilenetv2_100.backbone.safetensors in it or in ../weights).
"""

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfathom.models.batch_norm import calibrate_batch_norm
from medfathom.models.build import Network, build_network
from medfathom.models.facts import ArchitectureFacts, shipped
from medfathom.models.graph.blueprint import find_groups

LIMIT = 2.0  # seconds to build and freeze any network of the catalog
LISTING_LIMIT = 0.5
LISTINGS = 9  # runs of the command
TRACING_LIMIT = 180.0
FEATURES_SIDE = 128
TRAIN_IMAGES = 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("parts", nargs="*", default=["building", "tracing", "listing", "grey"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = {"building": building, "tracing": tracing, "listing": listing}
    sections = [line for part, lines in measured.items() if part in options.parts for line in lines()]
    if options.data and "grey" in options.parts:
        sections += grey(options.data)
    text = "\n".join([*heading(options.parts), *sections]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def heading(parts: list[str]) -> list[str]:
    versions = f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    return [
        "# Networks: building, tracing, listing",
        "",
        f"{date.today()}, two cores ({platform.machine()}, no GPU), {torch.get_num_threads()} thread(s), "
        f"{versions}.",
        "Other programs may have run beside it, so processor time is given too.",
        f"`uv run benchmarks/models.py --threads {torch.get_num_threads()} {' '.join(parts)}`",
        "",
    ]


def small_side(facts: ArchitectureFacts) -> int:
    return next(s for s in range(max(64, facts.smallest_size), 1024) if facts.takes(s))


def timed_build(facts: ArchitectureFacts) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    build_network(
        facts.name,
        init="random",
        num_outputs=2,
        unfreeze_depth=2,
        image_size=small_side(facts),
        in_channels=3,
        seed=0,
    )
    return time.perf_counter() - wall, time.process_time() - cpu


def building() -> list[str]:
    timed_build(shipped()[0])  # imports and caches of torch itself
    rows = []
    for facts in shipped()[1:]:
        gc.collect()
        rows.append((facts, timed_build(facts), timed_build(facts)))
    rows.sort(key=lambda row: -row[1][0])
    lines = [
        f"## Building and freezing, without weights (goal: under {LIMIT:.0f} s)",
        "",
        "| architecture | parameters | first in a process: wall, CPU (s) | again: wall, CPU (s) |",
        "| --- | ---: | ---: | ---: |",
    ]
    shown = rows[:10] + [row for row in rows[10:] if row[0].name in ("resnet50", "tf_efficientnet_lite0")]
    for facts, first, again in shown:
        lines.append(
            f"| {facts.name} | {facts.n_params / 1e6:.1f} M | {first[0]:.2f}, {first[1]:.2f} | "
            f"{again[0]:.2f}, {again[1]:.2f} |"
        )
    lines.append("")
    for clock, k in (("wall", 0), ("CPU", 1)):
        first, again = ([row[which][k] for row in rows] for which in (1, 2))
        missed = [row[0].name for row in rows if row[1][k] > LIMIT]
        lines.append(
            f"By {clock} time: median of first builds {statistics.median(first):.2f} s, slowest "
            f"{max(first):.2f} s; over {LIMIT:.0f} s: {len(missed)} of {len(rows)}"
            f"{' (' + ', '.join(missed) + ')' if missed else ''}; again: {sum(t > LIMIT for t in again)}.  "
        )
    return [*lines, ""]


def tracing() -> list[str]:
    wall, cpu = time.perf_counter(), time.process_time()
    for facts in shipped():
        find_groups(facts.name)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return [
        f"## Tracing, measuring and cutting all {len(shipped())} (goal: 70 in under {TRACING_LIMIT:.0f} s)",
        "",
        f"{wall:.0f} s wall, {cpu:.0f} s CPU at their native sizes, on the meta device.",
        "",
    ]


def listing() -> list[str]:
    program = str(Path(sys.executable).with_name("medfathom"))
    code = "import time; t = time.perf_counter(); from medfathom.models.catalog import shipped; shipped(); "
    code += "print(time.perf_counter() - t)"
    reading = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(LISTINGS)
    ]
    whole = [seconds_of([program, "list", "architectures"]) for _ in range(LISTINGS)]
    helping = [seconds_of([program, "--help"]) for _ in range(LISTINGS)]
    return [
        f"## `medfathom list architectures` (goal: under {LISTING_LIMIT} s)",
        "",
        f"Median of {LISTINGS}: {statistics.median(whole):.2f} s for the whole command, Python's start and "
        f"imports included (best {min(whole):.2f}, worst {max(whole):.2f}); `medfathom --help` takes "
        f"{statistics.median(helping):.2f} s, reading the table {statistics.median(reading):.3f} s.",
        "",
    ]


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def grey(data: Path) -> list[str]:
    lines = [
        "## One channel: repeated or summed",
        "",
        f"PneumoniaMNIST enlarged to {FEATURES_SIDE} px, {TRAIN_IMAGES} training images, logistic regression",
        "on frozen features (unfreeze depth 0), batch norm calibrated unless pretrained: test AUC.",
        "",
        "| architecture | init | repeat | sum | first layer's normalisation |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    mobilenet = next(
        p for p in (data, data.parent / "weights") if (p / "mobilenetv2_100.backbone.safetensors").exists()
    )
    for architecture, pretrained in (
        ("tf_efficientnet_lite0", "imagenet"),
        ("mobilenetv2_100", f"file:{mobilenet / 'mobilenetv2_100.backbone.safetensors'}"),
    ):
        inits = [pretrained, "random"] + (["imagenet-stats"] if pretrained == "imagenet" else [])
        for init in inits:
            aucs = [frozen_auc(data, architecture, init, way) for way in ("repeat", "sum")]
            kind = "the same for each colour" if architecture.startswith("tf_") else "one for each colour"
            shown = "pretrained" if init == pretrained else init
            lines.append(f"| {architecture} | {shown} | {aucs[0]:.4f} | {aucs[1]:.4f} | {kind} |")
    return [*lines, ""]


def frozen_auc(data: Path, architecture: str, init: str, way: str) -> float:
    network = build_network(
        architecture,
        init=init,
        num_outputs=1,
        unfreeze_depth=0,
        image_size=FEATURES_SIDE,
        in_channels=1,
        seed=0,
        grey="sum" if way == "sum" else "repeat",
    ).eval()
    with np.load(data / "pneumoniamnist.npz", allow_pickle=False) as arrays:
        chosen = np.random.default_rng(0).permutation(len(arrays["train_images"]))[:TRAIN_IMAGES]
        train, test = arrays["train_images"][chosen], arrays["test_images"]
        train_labels, test_labels = arrays["train_labels"][chosen].ravel(), arrays["test_labels"].ravel()
    if init in ("random", "imagenet-stats"):
        calibrate_batch_norm(network, batches(network, train))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(features(network, train), train_labels)
    return float(roc_auc_score(test_labels, model.decision_function(features(network, test))))


def batches(network: Network, images: np.ndarray) -> Iterator[torch.Tensor]:
    mean, std = (values[0] for values in network.normalization)
    for part in np.array_split(images, len(images) // 50):
        tensor = torch.from_numpy(part).float().unsqueeze(1) / 255
        tensor = torch.nn.functional.interpolate(tensor, size=FEATURES_SIDE, mode="bilinear")
        yield (tensor - mean) / std


def features(network: Network, images: np.ndarray) -> np.ndarray:
    return np.concatenate([network.forward_prefix(batch).numpy() for batch in batches(network, images)])


if __name__ == "__main__":
    main()
