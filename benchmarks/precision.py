"""float32, bfloat16 as torch's autocast has it, and bfloat16 by kind of layer (ours), on a CPU.

    python benchmarks/precision.py [--sizes 32,64,224] [--architectures …] [--repeats 5] [--out FILE.md]

One thread; all layers trained by SGD, or a forward pass in inference mode as for a frozen prefix. The ways
take turns, so that whatever else the machine does hits all of them, and CPU time is counted. A rate is of the
median of the repeats. In torch's columns depthwise layers are torch's own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from training_rates import section

from medfathom.models.build import Network, build_network
from medfathom.trial.inputs import channels_last
from medfathom.trial.layout import lay_out
from medfathom.trial.small_maps import speed_up_small_maps

CPU = torch.device("cpu")
ARCHITECTURES = (
    "tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2,mobilenetv2_100,mobilenetv3_small_100,"
    "mobilenetv3_large_100,resnet18,resnet50,densenet121,convnext_atto,vit_tiny_patch16_224"
)
PIXELS = 64 * 64 * 64
"""Pixels of a batch: 64 images of 64 px."""

Way = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="32,64,224")
    parser.add_argument("--architectures", default=ARCHITECTURES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = [
        "float32, torch",
        "autocast, torch",
        "float32, ours",
        "bfloat16, ours",
        "ours, bfloat16 / float32",
    ]
    rows = [
        ["architecture", "px", *(f"{ways[0]} (trained)", *ways[1:]), *(f"{ways[0]} (forward)", *ways[1:])]
    ]
    for size in arguments.sizes.split(","):
        for architecture in arguments.architectures.split(","):
            rows.append([architecture, size, *cells(architecture, int(size), arguments.repeats)])
            print(" | ".join(rows[-1]), flush=True)
    load = "/".join(f"{part:.1f}" for part in os.getloadavg())
    lines = section(f"Precision by kind of layer, images/s (torch {torch.__version__}, load {load})", rows)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cells(architecture: str, size: int, repeats: int) -> list[str]:
    """Four rates and a ratio, trained and then forward."""
    batch = max(8, min(64, PIXELS // size**2))
    plain, ours = (network_of(architecture, size, by_kind=by_kind) for by_kind in (False, True))
    networks = ((plain, False), (plain, True), (ours, False), (ours, True))
    found = []
    for action in (training_step, forward_pass):
        ways = [partial(action, network, batch, size, half=half) for network, half in networks]
        rates = [batch / seconds for seconds in in_turns(ways, repeats)]
        found += [*(f"{rate:.0f}" for rate in rates), f"{rates[3] / rates[2]:.2f}"]
    return found


def network_of(architecture: str, size: int, *, by_kind: bool) -> Network:
    network = build_network(
        architecture,
        init="random",
        num_outputs=2,
        unfreeze_depth=5,
        image_size=size,
        in_channels=1,
        seed=0,
    )
    if by_kind:
        lay_out(network, CPU)
    else:
        speed_up_small_maps(network)
    return network


def in_turns(ways: list[Way], repeats: int) -> list[float]:
    """Median CPU seconds of each, after one turn to warm up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for way, of_way in zip(ways, seconds, strict=True):
            started = time.process_time()
            way()
            if turn:
                of_way.append(time.process_time() - started)
    return [statistics.median(of_way) for of_way in seconds]


def training_step(network: Network, batch: int, size: int, *, half: bool) -> None:
    """Forward, backward, and a step of SGD, which needs no state."""
    network.train()
    images, labels = channels_last(torch.randn(batch, 1, size, size)), torch.arange(batch) % 2
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = network(images)
    network.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    torch.optim.SGD(network.parameters(), lr=1e-3, fused=True).step()


def forward_pass(network: Network, batch: int, size: int, *, half: bool) -> None:
    network.eval()
    images = channels_last(torch.randn(batch, 1, size, size))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        network(images)


if __name__ == "__main__":
    main()
