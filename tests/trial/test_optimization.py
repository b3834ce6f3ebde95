from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfathom.definitions.space import TrialParams
from medfathom.trial.optimization import build_optimizer, rate_factor, set_rates
from toys import ToyNetwork


def params(**changes: Any) -> TrialParams:
    return TrialParams(architecture="toy", **changes)


def test_rates_fall_towards_the_stem() -> None:
    network = ToyNetwork(3)
    optimizer = build_optimizer(
        network,
        params(learning_rate=0.1, layer_decay=0.5, head_lr_factor=10.0, weight_decay=0.01),
    )
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {2: 0.025, 3: 0.05, 4: 0.1}
    for index, group in enumerate(network.groups):
        for parameter in group.parameters():
            assert rates.get(id(parameter)) == (pytest.approx(expected[index]) if index >= 2 else None)
    assert {rates[id(p)] for p in network.head.parameters()} == {1.0}


def test_norms_and_biases_do_not_decay() -> None:
    optimizer = build_optimizer(ToyNetwork(5), params(weight_decay=0.01))
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_every_optimizer_learns(name: str, kind: type) -> None:
    network = ToyNetwork(0)
    optimizer = build_optimizer(network, params(optimizer=name, learning_rate=0.1))
    assert type(optimizer) is kind
    before = network.head.weight.detach().clone()
    network(torch.ones(2, 1, 16, 16)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, network.head.weight)


@given(
    total=st.integers(1, 400),
    warmup=st.floats(0, 1),
    decay=st.sampled_from(["cosine", "exponential", "none"]),
)
def test_schedule_rises_then_falls(total: int, warmup: float, decay: str) -> None:
    chosen = params(warmup_fraction=warmup, decay=decay)
    factors = [rate_factor(step, total, chosen) for step in range(total)]
    top = round(warmup * total)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert max(factors) == pytest.approx(1.0)


def test_known_points_of_the_schedule() -> None:
    cosine = params(warmup_fraction=0.1)
    assert [rate_factor(step, 110, cosine) for step in (0, 10, 11, 60)] == pytest.approx(
        [1 / 11, 1.0, 1.0, 0.5], abs=0.01
    )
    exponential = params(warmup_fraction=0.0, decay="exponential")
    assert rate_factor(50, 100, exponential) == pytest.approx(0.1)


def test_rates_keep_their_ratios() -> None:
    optimizer = build_optimizer(ToyNetwork(1), params(learning_rate=0.1, head_lr_factor=10.0))
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05, 0.5}
