"""Training with two threads beside busy processes, by what idle OpenMP threads do meanwhile.

    python benchmarks/threads.py [--busy 0,2] [--seconds 6] [--out FILE.md]

torch runs its threads by GNU OpenMP. How they wait is read from the environment when torch is loaded, so each
cell is a process of its own. The busy processes count for ever. Rates are by the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from training_rates import section

from medfathom.models.build import build_network
from medfathom.trial.inputs import channels_last
from medfathom.trial.layout import lay_out

CONFIGURATIONS = (
    ("test_resnet", 32, 16),
    ("test_resnet", 32, 64),
    ("mobilenetv3_small_100", 64, 32),
    ("tf_efficientnet_lite0", 32, 64),
    ("resnet18", 32, 32),
    ("tf_efficientnet_lite0", 64, 32),
    ("resnet18", 64, 32),
)
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "one thread": (1, {}),
    "two threads": (2, {}),
    "two, spin 10,000": (2, {"GOMP_SPINCOUNT": "10000"}),
    "two, spin 1,000": (2, {"GOMP_SPINCOUNT": "1000"}),
    "two, passive": (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
}
"""Threads, and what is in the environment. Without it GNU OpenMP spins 300,000 times before it sleeps."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", default="0,2")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [["trained, bfloat16", "MACs of a step", "busy processes", *(f"{way}, images/s" for way in WAYS)]]
    for architecture, size, batch in CONFIGURATIONS:
        for busy in arguments.busy.split(","):
            name, macs = f"{architecture}, {size} px, batch {batch}", macs_of(architecture, size) * batch
            rates = beside(int(busy), architecture, size, batch, arguments.seconds)
            rows.append([name, f"{macs:.1e}", busy, *(f"{rate:.0f}" for rate in rates)])
            print(" | ".join(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(section("Threads", rows)) + "\n", encoding="utf-8")


def macs_of(architecture: str, size: int) -> int:
    return network_of(architecture, size).facts.macs


def network_of(architecture: str, size: int):  # type: ignore[no-untyped-def]
    return build_network(
        architecture,
        init="random",
        num_outputs=2,
        unfreeze_depth=5,
        image_size=size,
        in_channels=1,
        seed=0,
    )


def beside(busy: int, architecture: str, size: int, batch: int, seconds: float) -> list[float]:
    """The rate of each way, one after another."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        return [
            float(
                subprocess.run(
                    [
                        sys.executable,
                        __file__,
                        architecture,
                        str(size),
                        str(batch),
                        str(seconds),
                        str(threads),
                    ],
                    env=os.environ | environment,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout.splitlines()[-1]
            )
            for threads, environment in WAYS.values()
        ]
    finally:
        for other in others:
            other.kill()
            other.wait()


def print_rate(architecture: str, size: int, batch: int, seconds: float, threads: int) -> None:
    """In a process of its own: images per second of training steps on ready tensors."""
    torch.set_num_threads(threads)
    network = network_of(architecture, size)
    lay_out(network, torch.device("cpu"))
    images, labels = channels_last(torch.randn(batch, 1, size, size)), torch.arange(batch) % 2
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    step()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    print(batch * steps / (time.perf_counter() - started))


if __name__ == "__main__":
    if len(sys.argv) == 6 and not sys.argv[1].startswith("-"):
        print_rate(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
