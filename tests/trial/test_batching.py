from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.trial.batching import epoch_batches, steps_per_epoch


@given(n=st.integers(2, 300), batch_size=st.integers(2, 64), seed=st.integers(0, 99), epoch=st.integers(1, 9))
def test_an_epoch_takes_every_image_once(n: int, batch_size: int, seed: int, epoch: int) -> None:
    labels = np.arange(n) % 2
    batches = epoch_batches("binary", labels, batch_size, balanced=False, seed=seed, epoch=epoch)
    sizes = [len(batch) for batch in batches]
    assert len(batches) == steps_per_epoch(n, batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    labels = np.arange(50) % 2

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            epoch_batches("binary", labels, 8, balanced=False, seed=seed, epoch=epoch)
        ).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_balanced_sampling_evens_classes_out() -> None:
    labels = np.array([0] * 1900 + [1] * 100)
    batches = epoch_batches("binary", labels, 32, balanced=True, seed=0, epoch=1)
    drawn = labels[np.concatenate(batches)]
    assert len(drawn) == 2000
    assert drawn.mean() == pytest.approx(0.5, abs=0.04)


def test_balanced_sampling_raises_rare_labels() -> None:
    labels = np.zeros((2000, 2), dtype=np.uint8)
    labels[:900, 0] = 1
    labels[:20, 1] = 1
    drawn = labels[np.concatenate(epoch_batches("multilabel", labels, 32, balanced=True, seed=0, epoch=1))]
    assert drawn[:, 1].mean() > 0.2  # 0.01 without
    assert 0.2 < (drawn.sum(axis=1) == 0).mean() < 0.5
