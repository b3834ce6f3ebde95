from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medfathom.models.build import build_network
from medfathom.trial.features.fixed_shape import CPU_PORTION, channels_last, in_portions, portions_for
from medfathom.trial.layout import lay_out
from medfathom.trial.memory import OutOfMemoryError
from medfathom.trial.portions import Portions

CPU = torch.device("cpu")


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "densenet121", "tf_efficientnet_lite0", pytest.param("vgg11", marks=pytest.mark.slow)],
)
@pytest.mark.large
def test_features_do_not_depend_on_the_batch(architecture: str, autocast: bool) -> None:
    network = build_network(
        architecture,
        init="random",
        num_outputs=2,
        unfreeze_depth=0,
        image_size=32,
        in_channels=1,
        seed=0,
    ).eval()
    lay_out(network, CPU)
    portions = portions_for(network, CPU)
    images = channels_last(torch.randn(70, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        whole = in_portions(network.forward_prefix, images, portions)
        for chosen in (order, order[:15], order[-1:]):
            part = in_portions(network.forward_prefix, channels_last(images[chosen]), portions)
            assert torch.equal(part, whole[chosen])


def test_every_call_has_one_shape_and_order() -> None:
    seen = []

    def compute(images: Tensor) -> Tensor:
        seen.append((images.shape, images.stride()))
        return images[:, :, :1, :1]

    for count in (1, 8, 13):
        got = in_portions(compute, channels_last(torch.randn(count, 1, 6, 6)), Portions(8, "toy on cpu"))
        assert got.shape == (count, 1, 1, 1)
    assert set(seen) == {((8, 1, 6, 6), (36, 1, 6, 1))}


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 5, 1, 1), (3, 5, 4, 2), (3, 7)])
def test_channels_last_is_said_by_the_strides(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape)
    got = channels_last(values)
    assert torch.equal(got, values)
    if len(shape) == 4:
        _, c, h, w = shape
        assert got.stride() == (c * h * w, 1, w * c, c)
        assert channels_last(got).data_ptr() == got.data_ptr()


def test_portions_shrink_when_memory_runs_out() -> None:
    def compute(images: Tensor) -> Tensor:
        if len(images) > 5:
            raise MemoryError
        return images.sum(dim=(1, 2, 3))

    images = torch.randn(20, 1, 2, 2)
    portions = Portions(CPU_PORTION, "toy on cpu")
    torch.testing.assert_close(in_portions(compute, images, portions), images.sum(dim=(1, 2, 3)))
    assert portions.at_once == 4

    def never(images: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="computing features with toy on cpu does not fit"):
        in_portions(never, images, portions)
