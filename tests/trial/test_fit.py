from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medfathom.definitions.space import TrialParams
from medfathom.models.build import build_network
from medfathom.trial import fit as fit_module
from medfathom.trial.batching import epoch_batches
from medfathom.trial.fit import BACKWARD_FACTOR, MEMORY_SHARE, Fit, FitSettings, NonFiniteLossError
from medfathom.trial.inputs import ImageInputs, Views, pixels
from medfathom.trial.memory import OutOfMemoryError
from medfathom.trial.randomness import derived_seed
from medfathom.trial.rows import ResidentRows
from toys import ToyNetwork, toy_images

CPU = torch.device("cpu")
IMAGES, LABELS = toy_images(60)


def inputs_of(network: ToyNetwork) -> Any:
    toy: Any = network
    return ImageInputs(toy, Views(lambda _: ResidentRows(IMAGES, CPU)), CPU)


def losses(fitted: Fit, epochs: int) -> list[float]:
    return [fitted.train_epoch(epoch) for epoch in range(1, epochs + 1)]


def fit(network: ToyNetwork, *, epochs: int = 3, autocast: bool = False, **changes: Any) -> Fit:
    params = TrialParams.model_validate(
        {"architecture": "toy", "learning_rate": 0.01, "batch_size": 16, "warmup_fraction": 0.0, **changes}
    )
    settings = FitSettings("binary", 2, epochs, seed=0, device=CPU, autocast=autocast)
    toy: Any = network
    return Fit(toy, inputs_of(network), LABELS, subset=np.arange(60), params=params, settings=settings)


def test_an_epoch_is_the_plain_loop() -> None:
    """Written out with torch alone: the same batches, rates and losses."""
    network = ToyNetwork(5)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0}]
    )
    expected, step = [], 0
    for epoch in (1, 2):
        torch.manual_seed(derived_seed(0, "dropout", epoch))
        total = 0.0
        network.train()
        batches = epoch_batches("binary", LABELS, 16, balanced=False, seed=0, epoch=epoch)
        for batch in batches:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * 0.5 * (1 + np.cos(np.pi * step / (3 * len(batches))))
            images = (torch.from_numpy(IMAGES[batch]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
            loss = functional.cross_entropy(network(images), torch.from_numpy(LABELS[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
            step += 1
        expected.append(total / len(batches))
    assert losses(fit(ToyNetwork(5)), 2) == pytest.approx(expected, rel=1e-5)


def test_training_learns() -> None:
    network = ToyNetwork(5)
    fitted = fit(network, epochs=6)
    curve = losses(fitted, 6)
    assert curve[-1] < 0.6 * curve[0]
    logits = fitted.predict(inputs_of(network), 17)
    assert ((logits[:, 1] > logits[:, 0]) == LABELS).mean() > 0.8


@pytest.mark.parametrize("batch_size", [7, 64])
def test_predictions_do_not_depend_on_batches(batch_size: int) -> None:
    network = ToyNetwork(5)
    fitted = fit(network)
    expected = network.eval()((pixels(torch.from_numpy(IMAGES)) - 0.5) / 0.25).detach().numpy()
    np.testing.assert_allclose(fitted.predict(inputs_of(network), batch_size), expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_prefix_does_not_move() -> None:
    network = ToyNetwork(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fitted = fit(network)
    fitted.train_epoch(1)
    fitted.predict(inputs_of(network), 32)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(network.trained_state())


def out_of_memory_above(limit: int, network: ToyNetwork, error: BaseException) -> Callable[[Tensor], Tensor]:
    """The network's `forward_rest`, which raises `error` for more images than `limit`."""
    forward_rest = network.forward_rest

    def limited(features: Tensor) -> Tensor:
        if len(features) > limit:
            raise error
        return forward_rest(features)

    return limited


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = losses(fit(ToyNetwork(0, dropout=0.0)), 2)
    network = ToyNetwork(0, dropout=0.0)
    monkeypatch.setattr(network, "forward_rest", out_of_memory_above(5, network, error))
    fitted = fit(network)
    assert losses(fitted, 2) == pytest.approx(expected, rel=1e-5)
    assert fitted.portions.at_once == 4
    assert fitted.predict(inputs_of(network), 64).shape == (60, 2)


def test_short_memory_splits_batches_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = losses(fit(ToyNetwork(0, dropout=0.0)), 2)
    network = ToyNetwork(0, dropout=0.0)
    fitted = fit(network)
    kept_by_one = 8 * 4 * BACKWARD_FACTOR  # the head keeps its input: 8 floats
    monkeypatch.setattr(fit_module, "free_bytes", lambda _: int(kept_by_one / MEMORY_SHARE * 3))
    assert losses(fitted, 2) == pytest.approx(expected, rel=1e-5)
    assert fitted.portions.at_once == 3


def test_batches_that_fit_stay_whole() -> None:
    fitted = fit(ToyNetwork(5))
    losses(fitted, 1)
    assert fitted.portions.at_once == 16


def parts_seen(network: ToyNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every call of the network's trained part."""
    seen: list[int] = []
    forward_rest = network.forward_rest

    def noting(features: Tensor) -> Tensor:
        seen.append(len(features))
        return forward_rest(features)

    monkeypatch.setattr(network, "forward_rest", noting)
    return seen


def test_split_batches_have_no_small_part_for_batch_norm() -> None:
    """At 32 px the last stage's map is 1 x 1: batch norm refuses one image by itself."""
    images, labels = toy_images(33, size=32)
    network: Any = build_network(
        "test_resnet", init="random", num_outputs=2, unfreeze_depth=5, image_size=32, in_channels=1, seed=0
    )
    params = TrialParams.model_validate({"architecture": "test_resnet", "batch_size": 33})
    inputs = ImageInputs(network, Views(lambda _: ResidentRows(images, CPU)), CPU)
    settings = FitSettings("binary", 2, 2, seed=0, device=CPU, autocast=False)
    fitted = Fit(network, inputs, labels, subset=np.arange(33), params=params, settings=settings)
    fitted.resume(32)
    assert np.isfinite(losses(fitted, 2)).all()


@pytest.mark.parametrize(
    ("depth", "at_once", "parts"),
    [(5, 14, [8, 7]), (5, 2, [3, 2, 2, 2, 2, 2, 2]), (5, 1, [3, 2, 2, 2, 2, 2, 2]), (0, 1, [1] * 15)],
)
def test_parts_are_equal_and_go_on_so_after_a_resume(
    depth: int, at_once: int, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ToyNetwork(depth)
    seen = parts_seen(network, monkeypatch)
    first = fit(network)
    first.resume(at_once)
    again = fit(network)
    again.resume(first.portions.at_once)
    for fitted in (first, again):
        seen.clear()
        fitted.train_epoch(1)
        assert seen == parts * 4
    assert first.portions.at_once == (max(at_once, 2) if depth else at_once)


def test_short_memory_leaves_batch_norm_two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ToyNetwork(5)
    fitted = fit(network)
    monkeypatch.setattr(fit_module, "free_bytes", lambda _: 1)
    fitted.train_epoch(1)
    assert fitted.portions.at_once == 2


def test_no_memory_for_batch_norm_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ToyNetwork(1)
    limited = out_of_memory_above(1, network, torch.OutOfMemoryError("CUDA"))
    monkeypatch.setattr(network, "forward_rest", limited)
    with pytest.raises(OutOfMemoryError, match="does not fit even 2 images, as batch norm needs, at a time"):
        fit(network).train_epoch(1)


def test_no_memory_at_all_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ToyNetwork(0)
    monkeypatch.setattr(
        network, "forward_rest", out_of_memory_above(0, network, torch.OutOfMemoryError("CUDA"))
    )
    with pytest.raises(
        OutOfMemoryError, match="out of memory: training toy on cpu does not fit even one image"
    ):
        fit(network).train_epoch(1)
    with pytest.raises(OutOfMemoryError, match="out of memory: validating toy on cpu"):
        fit(network).predict(inputs_of(network), 8)


def test_other_errors_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ToyNetwork(5)
    monkeypatch.setattr(
        network, "forward_rest", out_of_memory_above(0, network, RuntimeError("shape mismatch"))
    )
    with pytest.raises(RuntimeError, match="shape mismatch"):
        fit(network).train_epoch(1)


def test_a_non_finite_loss_ends_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ToyNetwork(5)
    forward_rest = network.forward_rest
    monkeypatch.setattr(network, "forward_rest", lambda x: forward_rest(x) * torch.tensor(float("nan")))
    with pytest.raises(NonFiniteLossError, match=r"non-finite loss: .* epoch 1 with learning_rate = 0.01"):
        fit(network).train_epoch(1)


def test_divergence_is_seen() -> None:
    fitted = fit(ToyNetwork(5), optimizer="sgd", learning_rate=10.0, weight_decay=1.0, epochs=40)
    with pytest.raises(NonFiniteLossError, match="learning_rate = 10"):
        losses(fitted, 40)


def test_bfloat16_runs_close_to_float32() -> None:
    network = ToyNetwork(5)
    half, full = fit(network, autocast=True), fit(ToyNetwork(5))
    losses_half, losses_full = losses(half, 1), losses(full, 1)
    # Six weighted layers round input, weights and output, by 2^-8 of each number at most and to either side:
    # the errors add up as the 18 steps of a random walk do.
    assert losses_half == pytest.approx(losses_full, rel=math.sqrt(18) * 2**-8)
    assert losses_half != losses_full
    assert half.predict(inputs_of(network), 32).dtype == np.float32


def test_class_weights_even_out_the_bags_that_the_loss_is_of() -> None:
    """Few images in a case of one class, many in one of the other: each class counts as much in an epoch."""
    member = np.concatenate([np.repeat(np.arange(6), 2), np.repeat([6, 7], 24)])
    labels = np.repeat([0, 1], [12, 48])
    params = TrialParams.model_validate(
        {"architecture": "toy", "learning_rate": 0.01, "batch_size": 16, "class_weights": True}
        | {"combine": "attention"}
    )
    network, settings = ToyNetwork(5), FitSettings("binary", 2, 1, seed=0, device=CPU, autocast=False)
    toy: Any = network
    fitted = Fit(
        toy,
        inputs_of(network),
        labels,
        subset=np.arange(60),
        params=params,
        settings=settings,
        member=member,
    )
    weights, of_class = fitted.loss_of_one().weights, torch.zeros(2)
    assert weights is not None
    for batch in fitted.batches(1):
        for label in labels[batch.rows[batch.first]]:
            of_class[label] += weights[label]
    assert of_class[0] == pytest.approx(float(of_class[1]))
    assert float(of_class.sum()) == pytest.approx(6 + 4)  # bags
