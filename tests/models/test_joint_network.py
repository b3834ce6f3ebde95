"""A network for several data sets, and the network of one of them that it holds."""

from __future__ import annotations

import pytest
import torch

from medfathom.models.batch_norm import BatchNorm
from medfathom.models.build import HeadOptions, build_network
from medfathom.models.joint import OwnNorm, state_of_one


def network(outputs: int | tuple[int, ...], depth: int = 2, hidden: int = 0):  # type: ignore[no-untyped-def]
    return build_network(
        "test_resnet",
        init="random",
        num_outputs=outputs,
        unfreeze_depth=depth,
        image_size=32,
        in_channels=3,
        seed=0,
        head=HeadOptions(hidden=hidden),
    )


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_heads_stand_side_by_side(hidden: int) -> None:
    both = network((3, 2), hidden=hidden).eval()
    assert both(images()).shape == (4, 5)
    alone = network(3, hidden=hidden).eval()
    assert torch.equal(both(images())[:, :3], alone(images()))
    assert both.facts.depth == alone.facts.depth


def test_a_new_network_normalises_all_data_sets_alike() -> None:
    plain, own = network((3, 2)).eval(), network((3, 2))
    own.give_own_norms(2)
    own.eval()
    for place in (0, 1):
        own.use_norms_of(place)
        assert torch.equal(own(images()), plain(images()))


def test_training_on_one_data_set_moves_no_other_s_batch_norm() -> None:
    own = network((3, 2))
    own.give_own_norms(2)
    own.train()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    own.use_norms_of(1)
    own(images())[:, 3:].sum().backward()
    after = own.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".per_dataset.1." in name for name in moved)
    with_gradient = {name for name, p in own.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".per_dataset.1.weight" in name for name in with_gradient)
    assert not any(".per_dataset.0." in name or "heads.0." in name for name in with_gradient)


def test_only_what_is_trained_has_one_for_each() -> None:
    own = network((3, 2), depth=1)
    frozen = [m for m in own.prefix_modules() if isinstance(m, BatchNorm)]
    own.give_own_norms(2)
    assert [m for m in own.prefix_modules() if isinstance(m, BatchNorm)] == frozen
    wrapped = [name for name, m in own.backbone.named_modules() if isinstance(m, OwnNorm)]
    assert wrapped
    assert all(name.startswith("layer4") for name in wrapped)
    assert own.open_groups == {5}
    assert own.trained_groups == {5}


def test_the_state_of_one_is_its_own_network_s() -> None:
    own = network((3, 2))
    own.give_own_norms(2)
    own.train()
    for place in (0, 1):  # statistics of their own
        own.use_norms_of(place)
        own(images() * (1 + place))
    own.eval()
    for place, columns in ((0, slice(0, 3)), (1, slice(3, 5))):
        alone = network(columns.stop - columns.start)
        alone.load_state_dict(state_of_one(own.state_dict(), place))
        own.use_norms_of(place)
        assert torch.equal(alone.eval()(images()), own(images())[:, columns])
