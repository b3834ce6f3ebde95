"""Cuts, kept features and what the fit loop is fed, on a small real network."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medfathom.models.build import Network, build_network
from medfathom.trial import feeding as feeding_module
from medfathom.trial import memory
from medfathom.trial.features.cache import FeatureCache
from medfathom.trial.features.decision import cut_costs
from medfathom.trial.feeding import Feed, Feeding, feed
from medfathom.trial.inputs import ImageInputs, Inputs, Views
from medfathom.trial.rows import open_rows

CPU = torch.device("cpu")
SIZE = 32
RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (70, SIZE, SIZE, 1), dtype=np.uint8)
VAL = RANDOM.integers(0, 256, (20, SIZE, SIZE, 1), dtype=np.uint8)


def network(depth: int, architecture: str = "test_resnet") -> Network:
    return build_network(
        architecture,
        init="random",
        num_outputs=2,
        unfreeze_depth=depth,
        image_size=SIZE,
        in_channels=1,
        seed=0,
    ).eval()


def feeding(folder: Path, depth: int, *, gigabytes: float = 1.0, **changes: Any) -> Feeding:
    wanted: dict[str, Any] = {
        "network": network(depth),
        "device": CPU,
        "autocast": False,
        "train_images": TRAIN,
        "val_images": VAL,
        "splits": ("train", "val"),
        "n_used": len(TRAIN),
        "epochs": 6,
        "preset": "none",
        "views": 2,
        "shared": True,
        "depths": frozenset(),
        "cache": FeatureCache(folder, int(gigabytes * 1e9)),
        "key": lambda cut: {"architecture": "test_resnet", "data": "random"},
        **changes,
    }
    return feed(Feed(**wanted))


def all_logits(inputs: Inputs, epoch: int = 1) -> Tensor:
    rows = inputs.rows(epoch)
    with torch.no_grad():
        batches = rows.batches(np.array_split(np.arange(len(rows)), 3))
        return torch.cat([inputs.logits(inputs.prepare(raw, None)) for raw in batches])


@pytest.mark.parametrize("depth", [0, 2, 4])
def test_every_cut_leads_to_the_same_logits(depth: int) -> None:
    net = network(depth)
    images = torch.randn(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(images)
        for groups in range(1, 5 - depth + 1):
            got = net.logits_from(groups, net.features_after(groups, images))
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_looking_at_another_cut_changes_nothing() -> None:
    net = network(2).train()
    before = {name: p.requires_grad for name, p in net.named_parameters()}
    modes = {name: m.training for name, m in net.named_modules()}
    net.features_after(1, torch.randn(2, 1, SIZE, SIZE))
    assert net.unfreeze_depth == 2
    assert {name: p.requires_grad for name, p in net.named_parameters()} == before
    assert {name: m.training for name, m in net.named_modules()} == modes


def test_frozen_groups_behind_an_early_cut_have_no_gradient() -> None:
    net = network(1).train()
    features = net.features_after(2, torch.randn(4, 1, SIZE, SIZE))
    net.logits_from(2, features).sum().backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_costs_rise_towards_the_head() -> None:
    costs = cut_costs(network(0), bytes_per_value=4)
    assert [cut.groups for cut in costs] == [1, 2, 3, 4, 5]
    macs = [cut.macs for cut in costs]
    assert macs == sorted(macs)
    head = network(0).facts.macs - macs[-1]
    assert head == 96 * 2  # the classifier's linear layer
    assert costs[-1].n_bytes == 96 * 4
    assert len(cut_costs(network(3), bytes_per_value=4)) == 2


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_features_from_the_cache_give_the_same_logits(depth: int, tmp_path: Path) -> None:
    kept, plain = feeding(tmp_path, depth), feeding(tmp_path, depth, gigabytes=0.0)
    assert kept.record().kept is True
    assert plain.record().kept is False
    for name in ("train", "val"):
        torch.testing.assert_close(
            all_logits(getattr(kept, name)), all_logits(getattr(plain, name)), rtol=1e-5, atol=1e-6
        )
    assert len(list(tmp_path.glob("*.bin"))) == 2


@pytest.mark.parametrize(("channels", "grey"), [(1, "repeat"), (1, "sum"), (3, "repeat")])
@pytest.mark.parametrize("preset", ["none", "wsi"])
def test_kept_features_lie_as_computed_ones_do(tmp_path: Path, channels: int, grey: Any, preset: str) -> None:
    """In another order of memory the rest would take other kernels, and sum in another order."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, SIZE, SIZE, channels), dtype=np.uint8)
    net = build_network(
        "test_resnet",
        init="random",
        num_outputs=2,
        unfreeze_depth=3,
        image_size=SIZE,
        in_channels=channels,
        seed=0,
        grey=grey,
    ).eval()
    wanted = {"network": net, "train_images": images, "val_images": images, "n_used": 8}
    kept = feeding(tmp_path, 3, preset=preset, **wanted)
    assert kept.record().kept
    seen: list[Tensor] = []
    for inputs in (kept.train, kept.val):
        raw = next(inputs.rows(1).batches([np.arange(8)]))
        seen.append(inputs.prepare(raw, None))
    rows = ImageInputs(net, Views(lambda _: open_rows(images, CPU)), CPU)
    raw = next(rows.rows(1).batches([np.arange(8)]))
    computed = net.forward_prefix(rows.prepare(raw, None))
    assert [features.stride() for features in seen] == [computed.stride()] * 2
    assert torch.equal(seen[1], computed)


def test_another_trial_reads_what_one_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = feeding(tmp_path, 0)
    expected = all_logits(first.train)
    assert first.record().built_seconds > 0
    again = feeding(tmp_path, 0)
    monkeypatch.setattr(again.kept.network, "forward_prefix", None)
    assert torch.equal(all_logits(again.train), expected)
    assert again.record().built_seconds == 0


def test_what_other_trials_want_is_kept_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depths = frozenset({0, 1, 3, 5})
    expected = {d: all_logits(feeding(tmp_path / f"alone-{d}", d, preset="oct").train) for d in (0, 1, 3)}
    first = feeding(tmp_path / "shared", 0, preset="oct", depths=depths)
    assert torch.equal(all_logits(first.train), expected[0])
    assert first.record().by_way_of == [2, 4]
    all_logits(first.val)
    for depth in (1, 3):
        later = feeding(tmp_path / "shared", depth, preset="oct", depths=depths)
        monkeypatch.setattr(later.kept.network, "features_after", None)
        assert torch.equal(all_logits(later.train), expected[depth])
        all_logits(later.val)
        assert later.record().built_seconds == 0


def test_features_go_on_from_earlier_ones_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = all_logits(feeding(tmp_path / "alone", 0).train)
    all_logits(feeding(tmp_path / "shared", 2).train)
    head = feeding(tmp_path / "shared", 0)
    monkeypatch.setattr(head.kept.network, "forward_prefix", None)
    starts: list[int] = []
    features_after = head.kept.network.features_after

    def noting(groups: int, inputs: Tensor, start: int = 0) -> Tensor:
        starts.append(start)
        return features_after(groups, inputs, start)

    monkeypatch.setattr(head.kept.network, "features_after", noting)
    assert torch.equal(all_logits(head.train), expected)
    assert set(starts) == {3}


def test_what_others_want_is_left_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = frozenset({0, 1, 3})
    head = feeding(tmp_path, 0).decision
    tight = feeding(tmp_path, 0, depths=depths, gigabytes=(head.n_bytes + 1) / 1e9)
    unshared = feeding(tmp_path / "unshared", 0, depths=depths, shared=False)
    for alone in (tight, unshared):
        all_logits(alone.train)
        assert alone.record().kept is True
        assert alone.record().by_way_of == []

    def small_disk(descriptor: int, offset: int, length: int) -> None:
        if length > 96 * 4 * len(TRAIN):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", small_disk)
    small = feeding(tmp_path / "small", 0, depths=depths)
    expected = all_logits(feeding(tmp_path / "alone", 0).train)
    assert torch.equal(all_logits(small.train), expected)
    assert small.record().kept is True
    assert small.record().by_way_of == []


def test_nothing_frozen_has_nothing_to_keep(tmp_path: Path) -> None:
    whole = feeding(tmp_path, 5)
    assert whole.record() is None
    all_logits(whole.train)
    assert list(tmp_path.iterdir()) == []


def test_views_take_turns_and_are_the_same_without_the_cache(tmp_path: Path) -> None:
    kept = feeding(tmp_path, 0, preset="oct")
    plain = feeding(tmp_path, 0, preset="oct", gigabytes=0.0)
    assert kept.views == plain.views == 2
    seen = [all_logits(kept.train, epoch) for epoch in (1, 2, 3)]
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1])
    for epoch in (1, 2):
        torch.testing.assert_close(all_logits(plain.train, epoch), seen[epoch - 1], rtol=1e-5, atol=1e-6)
    assert torch.equal(all_logits(kept.val), all_logits(feeding(tmp_path, 0).val))  # never augmented


def test_views_do_not_depend_on_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is resumed on a busier machine goes on with the images that it had."""
    seen = []
    for kilobytes in (2**40, 1):
        meminfo = tmp_path / "meminfo"
        meminfo.write_text(f"MemAvailable: {kilobytes} kB\n")
        monkeypatch.setattr(memory, "_MEMINFO", meminfo)
        seen.append(feeding(tmp_path, 0, preset="oct", gigabytes=0.0).views)
    assert seen == [2, 2]
    monkeypatch.setattr(feeding_module, "VIEW_BYTES", TRAIN.nbytes - 1)
    assert feeding(tmp_path, 0, preset="oct", gigabytes=0.0).views == 0
    assert feeding(tmp_path, 0, preset="oct").views == 2


def test_augmentation_is_drawn_anew_where_nothing_is_frozen(tmp_path: Path) -> None:
    whole = feeding(tmp_path, 5, preset="oct")
    assert whole.views == 0
    raw = next(whole.train.rows(1).batches([np.arange(4)]))
    random = torch.Generator().manual_seed(0)
    assert not torch.equal(whole.train.prepare(raw, random), whole.train.prepare(raw, random))
    assert torch.equal(whole.train.prepare(raw, None), whole.train.prepare(raw, None))


def test_a_full_disk_leaves_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = [
        all_logits(feeding(tmp_path, 0, preset="oct", gigabytes=0.0).train, epoch) for epoch in (1, 2)
    ]
    monkeypatch.setattr(os, "posix_fallocate", full)
    full_disk = feeding(tmp_path, 0, preset="oct")
    for epoch in (1, 2):
        torch.testing.assert_close(all_logits(full_disk.train, epoch), expected[epoch - 1])
    record = full_disk.record()
    assert record is not None
    assert record.kept is False
    assert record.why == "not kept: the cache failed (No space left on device)"
    assert list(tmp_path.glob("*.bin")) == []


def test_memory_that_runs_out_halves_the_prefix_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = all_logits(feeding(tmp_path / "a", 0).train)
    short = feeding(tmp_path / "b", 0)
    net = short.kept.network
    forward_prefix = net.forward_prefix

    def limited(images: Tensor) -> Tensor:
        if len(images) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward_prefix(images)

    monkeypatch.setattr(net, "forward_prefix", limited)
    torch.testing.assert_close(all_logits(short.train), expected, rtol=1e-5, atol=1e-6)


def test_features_are_kept_in_their_own_precision(tmp_path: Path) -> None:
    half = feeding(tmp_path, 1, autocast=True)
    whole = feeding(tmp_path / "float32", 1)
    rows = half.train.rows(1)
    prepared = half.train.prepare(next(rows.batches([np.arange(5)])), None)
    assert prepared.dtype == torch.bfloat16
    assert half.decision.n_bytes * 2 == whole.decision.n_bytes
