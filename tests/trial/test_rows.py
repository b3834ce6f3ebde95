from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from medfathom.trial.inputs import from_stored, pixels, to_stored
from medfathom.trial.rows import PrefetchedRows, ResidentRows, Rows, open_rows

CPU = torch.device("cpu")
BATCHES = [np.array([3, 1, 4]), np.array([5, 9]), np.array([2]), np.array([6, 0, 8]), np.array([7, 7])]


@pytest.fixture
def array(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", values)
    mapped: np.ndarray = np.load(tmp_path / "images.npy", mmap_mode="r")
    return mapped


@pytest.mark.parametrize("kind", [ResidentRows, PrefetchedRows])
def test_batches_come_in_order(kind: type[ResidentRows | PrefetchedRows], array: np.ndarray) -> None:
    rows: Rows = kind(array, CPU)
    assert len(rows) == 10
    got = list(rows.batches(BATCHES))
    assert len(got) == len(BATCHES)
    for batch, tensor in zip(BATCHES, got, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array[batch])


def test_a_map_is_resident_on_a_cpu_as_it_is(array: np.ndarray) -> None:
    assert isinstance(open_rows(array, CPU), ResidentRows)


def test_the_reader_ends_with_the_iteration(array: np.ndarray) -> None:
    before = threading.active_count()
    iterator = PrefetchedRows(array, CPU).batches(BATCHES * 10)
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_what_the_reader_raises_is_raised(array: np.ndarray) -> None:
    with pytest.raises(IndexError):
        list(PrefetchedRows(array, CPU).batches([np.array([0]), np.array([10])]))


def test_16_bit_images_keep_their_values() -> None:
    values = np.array([0, 1, 32767, 32768, 65535], dtype=np.uint16).reshape(5, 1, 1, 1)
    raw = next(ResidentRows(values, CPU).batches([np.arange(5)]))
    assert pixels(raw).flatten().tolist() == pytest.approx([0, 1 / 65535, 32767 / 65535, 32768 / 65535, 1])


def test_pixels_are_in_the_unit_range_and_channels_last(array: np.ndarray) -> None:
    images = pixels(next(ResidentRows(array, CPU).batches([np.arange(10)])))
    assert images.shape == (10, 3, 4, 4)
    assert images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), array / 255.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 5), (3, 5, 4, 2)])
def test_features_come_back_as_they_were(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    back = from_stored(torch.from_numpy(to_stored(features)))
    assert back.dtype == dtype
    assert torch.equal(back, features)
