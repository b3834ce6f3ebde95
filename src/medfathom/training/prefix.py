"""Features of a trial's frozen prefix: from the cache, or computed into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medfathom.training.feature_cache import Array, FeatureCache
from medfathom.training.inputs import ImageInputs, to_stored
from medfathom.training.rows import Rows, open_rows

if TYPE_CHECKING:
    from medfathom.models.build import Network

PREFIX_BATCH = 64
"""Images that go through the prefix at once; more gains nothing on a CPU and little on a GPU."""


@dataclass(frozen=True)
class Prefix:
    """A frozen prefix and the data it is applied to."""

    network: Network
    device: torch.device
    autocast: bool
    cache: FeatureCache
    key: dict[str, Any]
    """What features follow from, but for the split and the view."""

    def features(self, split: str, view: str, images: ImageInputs) -> Array:
        """Features of all rows of a split (n, …), memory-mapped."""
        rows = images.rows(1)
        probe = self._chunk(images, next(rows.batches([np.arange(1)])))
        shape = (len(rows), *probe.shape[1:])
        key = {**self.key, "split": split, "view": view}
        return self.cache.open_or_build(key, shape, probe.dtype, self._chunks(images, rows)).array

    def _chunks(self, images: ImageInputs, rows: Rows) -> Iterator[Array]:
        parts = np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // PREFIX_BATCH)))
        for raw in rows.batches(parts):
            yield self._chunk(images, raw)

    def _chunk(self, images: ImageInputs, raw: torch.Tensor) -> Array:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return to_stored(self.network.forward_prefix(images.prepare(raw, None)))

    def open(self, split: str, view: str, images: ImageInputs) -> Rows:
        """The features as rows."""
        return open_rows(self.features(split, view, images), self.device)
