"""What is frozen does not move by a bit, what is trained moves; calibration gives random prefixes a scale."""

import copy
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medfathom.errors import ModelError
from medfathom.models.batch_norm import calibrate_batch_norm
from medfathom.models.build import Network, build_network

SIDE = 32


def build(architecture: str, unfreeze_depth: int, **changes: object) -> Network:
    options = {"init": "random", "num_outputs": 3, "image_size": SIDE, "in_channels": 3, "seed": 0, **changes}
    return build_network(architecture, unfreeze_depth=unfreeze_depth, **options)  # type: ignore[arg-type]


def images(n: int = 8, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def train(network: Network, steps: int = 2) -> None:
    """A few real steps as a training loop takes them, with an evaluation in between."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    labels = torch.arange(8) % 3
    for step in range(steps):
        network.train()
        loss = nn.functional.cross_entropy(network(images(seed=step)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            network(images(seed=99))


@cache
def untrained(architecture: str) -> tuple[Network, dict[str, Tensor]]:
    """One network for all tests of an architecture, and the tensors to begin with."""
    network = build(architecture, 5)
    return network, copy.deepcopy(network.state_dict())


@pytest.mark.parametrize("depth", range(6))
@pytest.mark.parametrize(
    "architecture",
    ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "densenet121", "convnext_atto"],
)
@pytest.mark.large
def test_the_prefix_stays_and_the_rest_moves(architecture: str, depth: int) -> None:
    network, before = untrained(architecture)
    network.load_state_dict(before)
    network.set_unfreeze_depth(depth)
    train(network)
    after = network.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == set(network.trained_state())
    frozen = [p for p in network.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)
    assert bool(frozen) == (depth < 5)


def test_dropout_of_the_prefix_is_off_and_that_of_the_rest_on() -> None:
    network = build("resnet10t", 1)
    for module in network.backbone.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda m, _, out: nn.functional.dropout(out, 0.5, m.training))
    network.train()
    features = network.forward_prefix(images())
    assert torch.equal(features, network.forward_prefix(images()))
    assert not torch.equal(network.forward_rest(features), network.forward_rest(features))


@settings(max_examples=25, deadline=None)
@given(depths=st.lists(st.integers(0, 5), min_size=1, max_size=5), training=st.booleans())
def test_freezing_is_idempotent_in_both_directions(depths: list[int], training: bool) -> None:
    once, often = NETWORKS
    for depth in depths:
        often.set_unfreeze_depth(depth)
    often.train(training)
    often.set_unfreeze_depth(depths[-1])
    once.set_unfreeze_depth(depths[-1])
    once.train(training)
    assert [p.requires_grad for p in once.parameters()] == [p.requires_grad for p in often.parameters()]
    assert [m.training for m in once.modules()] == [m.training for m in often.modules()]
    assert once.facts == often.facts


NETWORKS = (build("mobilenetv3_small_050", 5), build("mobilenetv3_small_050", 0))


@pytest.mark.parametrize("depth", [-1, 6])
def test_a_depth_out_of_range_is_refused(depth: int) -> None:
    with pytest.raises(ModelError, match=f"unfreeze_depth must be 0 to 5, but got {depth}"):
        NETWORKS[0].set_unfreeze_depth(depth)


def batches(n: int = 3) -> Iterator[Tensor]:
    return (images(seed=k) for k in range(n))


def test_calibration_gives_each_layer_the_average_of_its_batches() -> None:
    network = build("resnet18", 2)
    calibrate_batch_norm(network, batches())
    first = network.backbone.get_submodule("bn1")
    stem = network.backbone.get_submodule("conv1")
    assert isinstance(first, nn.BatchNorm2d)
    with torch.no_grad():
        seen = [stem(batch).transpose(0, 1).flatten(1) for batch in batches()]
    mean = torch.stack([s.mean(1) for s in seen]).mean(0)
    variance = torch.stack([s.var(1) for s in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, variance, rtol=1e-4, atol=1e-5)
    assert first.momentum == 0.1


@pytest.mark.parametrize("architecture", ["densenet121", "legacy_xception"])
def test_calibrated_features_neither_blow_up_nor_die(architecture: str) -> None:
    network = build(architecture, 0, image_size=64)
    data = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network.eval()
    raw = network.forward_prefix(data).std(0).mean()
    calibrate_batch_norm(network, [data])
    calibrated = network.forward_prefix(data).std(0).mean()
    assert 0.05 < calibrated < 5
    assert abs(calibrated.log()) < abs(raw.log())


def test_calibration_leaves_what_is_trained_alone_and_is_repeatable() -> None:
    network = build("mobilenetv3_small_050", 3)
    trained = copy.deepcopy(network.trained_state())
    modes = [m.training for m in network.modules()]
    calibrate_batch_norm(network, batches())
    once = copy.deepcopy(network.state_dict())
    calibrate_batch_norm(network, batches())
    assert all(torch.equal(trained[name], tensor) for name, tensor in network.trained_state().items())
    assert all(torch.equal(once[name], tensor) for name, tensor in network.state_dict().items())
    assert [m.training for m in network.modules()] == modes


def test_without_batch_norm_calibration_asks_for_no_images() -> None:
    def none() -> Iterator[Tensor]:
        raise AssertionError("asked for images")
        yield

    calibrate_batch_norm(build("vit_tiny_patch16_224", 0), none())


@pytest.mark.parametrize(
    ("given_batches", "message"),
    [([], "got no batch"), ([images(1)], "at least 2 images in a batch, but got 1")],
)
def test_calibration_says_what_it_needs(given_batches: list[Tensor], message: str) -> None:
    network = build("resnet10t", 0)
    with pytest.raises(ModelError, match=message):
        calibrate_batch_norm(network, given_batches)
    assert network.backbone.get_submodule("bn1").momentum == 0.1
