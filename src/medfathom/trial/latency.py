"""How long a trained network takes for one image."""

from __future__ import annotations

import time

import torch
from torch import nn

WARM_UP, FEWEST, MOST = 2, 9, 100
"""Forward passes."""

SECONDS = 1.0
"""So long passes are repeated at most, once there are enough."""


def latency_ms(network: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
    """The shortest of some forward passes of one image, in milliseconds, in float32.

    The shortest, as other trials share the machine: they only ever make a pass longer.

    Args:
        network: in any mode; it is left in that mode.
        shape: channels, height and width of an image.
        device: where the network is.
    """
    training = network.training
    network.eval()
    image = torch.rand(1, *shape, device=device)
    seconds: list[float] = []
    try:
        with torch.inference_mode():
            while len(seconds) < WARM_UP + FEWEST or (sum(seconds) < SECONDS and len(seconds) < MOST):
                started = time.perf_counter()
                network(image)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - started)
    finally:
        network.train(training)
    return 1000 * min(seconds[WARM_UP:])
