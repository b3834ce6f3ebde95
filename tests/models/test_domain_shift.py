"""Domain shift read off batch-norm statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medfathom.models.build import Network, build_network
from medfathom.models.domain_shift import domain_shift, picture, symmetric_divergence


def network(architecture: str = "resnet18") -> Network:
    torch.set_num_threads(1)
    return build_network(
        architecture, init="random", num_outputs=1, unfreeze_depth=0, image_size=32, in_channels=1, seed=0
    )


def batches(count: int = 3, scale: float = 1.0, shift: float = 0.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(8, 1, 32, 32, generator=generator) + shift for _ in range(count)]


def test_divergence_of_known_normals() -> None:
    # Two normals N(0, 1) and N(1, 4): KL sums to ((1 + 1) / 4 + (4 + 1) / 1) / 2 - 1 = 1.75
    one, four, zero = (torch.tensor([v]) for v in (1.0, 4.0, 0.0))
    assert symmetric_divergence(zero, one, one, four).item() == pytest.approx(1.75)
    assert symmetric_divergence(one, four, zero, one).item() == pytest.approx(1.75)
    assert symmetric_divergence(one, four, one, four).item() == 0


def test_the_images_it_was_trained_on_are_nearest() -> None:
    model = network()
    model.set_unfreeze_depth(5)
    with torch.no_grad():
        model.train()
        for _ in range(60):
            model.backbone(model.forward_prefix(torch.cat(batches())))
    near = domain_shift(model, batches())
    far = domain_shift(model, batches(scale=3.0, shift=2.0))
    assert near.value is not None
    assert far.value is not None
    assert far.value > 2 * near.value
    assert len(near.layers) == 20
    assert near.n_images == 24


def test_batches_of_any_size_give_the_same_number() -> None:
    model, images = network(), torch.cat(batches())
    whole, parts = domain_shift(model, [images]), domain_shift(model, list(images.split(5)))
    assert parts.value == pytest.approx(whole.value, rel=1e-4)


def test_the_network_is_left_as_it_was() -> None:
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    domain_shift(model, batches(1))
    assert model.unfreeze_depth == 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_no_images_and_no_batch_norm_are_said() -> None:
    assert domain_shift(network(), []).reason == "no image was given"
    model = network()
    model.backbone.requires_grad_(False)
    for layer in model.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = layer.running_var = None
    found = domain_shift(model, batches(1))
    assert found.value is None
    assert "no batch-norm layer" in found.reason


def test_picture(tmp_path: Path) -> None:
    assert (
        "resnet18" in picture([domain_shift(network(), batches(1))]).axes[0].get_legend_handles_labels()[1][0]
    )
    picture([]).savefig(tmp_path / "nothing.svg")
    assert (tmp_path / "nothing.svg").read_text().startswith("<?xml")
