"""What every source must do. A new one subclasses `SourceTests` and gives one fixture."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, Split
from medfathom.data.sources.base import Source
from medfathom.data.sources.open import open_source
from medfathom.errors import HeldOutError


@dataclass(frozen=True)
class Expected:
    """A data set and what is known of it. `first`: pixels of the first training image, at image_size."""

    config: Any
    task: str
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    channels: int
    has_groups: bool
    first: NDArray[Any] | None = None


class SourceTests:
    """Subclass and override `expected`."""

    @pytest.fixture
    def expected(self, tmp_path: Path) -> Expected:
        raise NotImplementedError

    @pytest.fixture
    def source(self, expected: Expected) -> Any:
        source = open_source(expected.config)
        yield source
        source.close()

    @pytest.fixture
    def prepared(self, expected: Expected, tmp_path: Path) -> PreparedData:
        return prepare(expected.config, tmp_path / "cache")

    def test_lists_without_reading_pixels_and_agrees_with_itself(
        self, source: Source, expected: Expected
    ) -> None:
        listing = source.listing()
        n = sum(expected.sizes.values())
        assert len(listing) == len(listing.labels) == len(listing.splits) == n
        assert len(set(listing.names)) == n
        assert (listing.groups is not None) == expected.has_groups
        assert (listing.task, listing.class_names) == (expected.task, expected.class_names)
        assert listing.channels == expected.channels
        assert not listing.problems

    def test_decodes_what_it_listed(self, source: Source) -> None:
        listing = source.listing()
        rows = range(0, len(listing), 3)
        for fetched in source.fetch(rows):
            raw = source.decode(fetched)
            assert raw.pixels.dtype == listing.dtype
            assert raw.pixels.shape == (16, 16, listing.channels)
            assert len(raw.sha256) == 64

    def test_signature_is_stable(self, expected: Expected) -> None:
        sources = [open_source(expected.config) for _ in range(2)]
        assert sources[0].signature() == sources[1].signature()
        for source in sources:
            source.close()

    def test_prepares_arrays_of_the_promised_form(self, prepared: PreparedData, expected: Expected) -> None:
        assert prepared.sizes == expected.sizes
        assert prepared.task == expected.task
        assert prepared.class_names == expected.class_names
        for name in SPLIT_NAMES:
            split = open_test(prepared) if name == "test" else prepared.split(name)
            self._check_split(split, prepared, expected, expected.sizes[name])

    def _check_split(self, split: Split, prepared: PreparedData, expected: Expected, n: int) -> None:
        side = prepared.image_size
        assert split.images.shape == (n, side, side, expected.channels)
        assert split.images.dtype in (np.uint8, np.uint16)
        assert isinstance(split.images, np.memmap)
        assert len(split) == len(split.labels) == len(split.names) == n
        assert (split.groups is not None) == expected.has_groups
        if expected.task == "multilabel":
            assert split.labels.dtype == np.uint8
            assert split.labels.shape == (n, len(expected.class_names))
            assert set(np.unique(split.labels)) <= {0, 1}
        else:
            assert split.labels.dtype == np.int64
            assert split.labels.shape == (n,)
            assert 0 <= split.labels.min() <= split.labels.max() < len(expected.class_names)

    def test_same_bytes_again_elsewhere(
        self, prepared: PreparedData, expected: Expected, tmp_path: Path
    ) -> None:
        again = prepare(expected.config, tmp_path / "elsewhere")
        assert again.fingerprint == prepared.fingerprint
        for name in ("train", "val"):
            first, second = prepared.split(name), again.split(name)
            assert np.array_equal(first.images, second.images)
            assert list(first.names) == list(second.names)

    def test_test_split_is_held_out(self, prepared: PreparedData) -> None:
        with pytest.raises(HeldOutError, match="confirm"):
            prepared.split("test")  # type: ignore[arg-type]

    def test_prepared_data_travels_to_workers(self, prepared: PreparedData) -> None:
        content = pickle.dumps(prepared)
        assert len(content) < 4096
        assert len(pickle.loads(content).split("val")) == prepared.sizes["val"]  # noqa: S301  our own, just made


class StoredSourceTests(SourceTests):
    """Of a source that holds pixels, rather than drawing them: `expected.first` is given."""

    def test_keeps_the_source_s_pixels(self, prepared: PreparedData, expected: Expected) -> None:
        assert np.array_equal(prepared.split("train").images[0], expected.first)
