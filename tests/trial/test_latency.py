"""How long a network takes for one image."""

import time

import torch
from torch import Tensor, nn

from medfathom.trial.latency import FEWEST, WARM_UP, latency_ms


class Slow(nn.Module):
    """Takes as long as it says, twice that in its first passes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.passes, self.shapes = seconds, 0, set[torch.Size]()

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.passes += 1
        self.shapes.add(images.shape)
        until = time.perf_counter() + self.seconds * (2 if self.passes <= WARM_UP else 1)
        while time.perf_counter() < until:
            pass
        return images


def test_the_shortest_pass_of_one_image_counts() -> None:
    network = Slow(0.12)
    network.train()
    found = latency_ms(network, (3, 8, 8), torch.device("cpu"))
    assert 120 <= found < 240, "the first passes, which take 240 ms, do not count"
    assert network.training
    assert network.passes == WARM_UP + FEWEST
    assert network.shapes == {torch.Size((1, 3, 8, 8))}


def test_a_quick_network_is_asked_more_often() -> None:
    network = Slow(0.0)
    latency_ms(network, (1, 8, 8), torch.device("cpu"))
    assert network.passes == 100
