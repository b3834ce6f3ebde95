"""Features of a frozen prefix, from the cache; the images themselves from when the cache fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medfathom.trial.features.cache import Array, Content, Entry, FeatureCache
from medfathom.trial.features.fixed_shape import in_portions, portions_for
from medfathom.trial.features.views import CHUNK, view_name, view_rows
from medfathom.trial.inputs import ImageInputs, Views, from_stored, to_stored
from medfathom.trial.rows import Rows, open_rows

if TYPE_CHECKING:
    from medfathom.models.build import Network

RawRows = Callable[[int, int], Tensor]
Compute = Callable[[int, int], Array]
"""Features of the rows from a start to before a stop."""
FromImages = Callable[[int, int, int], Array]
"""The same, at a cut that is given first, from images."""


class KeptFeatures:
    """A cut of a network's frozen prefix, the cache, and what became of it."""

    def __init__(
        self,
        network: Network,
        cut: int,
        *,
        device: torch.device,
        autocast: bool,
        cache: FeatureCache,
        key: Callable[[int], Mapping[str, Any]],
        also: Set[int] = frozenset(),
    ) -> None:
        """`key(cut)` names all that features at a cut follow from, but for the cut, the split and the view.

        `also` are earlier cuts at which other trials want features: they are kept on the way.
        """
        self.network = network
        self.cut = cut
        self.device = device
        self.built_seconds = 0.0
        """Time spent on computing features into the cache."""
        self.failure: str | None = None
        """Why the cache could not be used, once it could not."""
        self.by_way_of: set[int] = set()
        """Earlier cuts whose features were gone on from."""
        self._also = also
        self._autocast = autocast
        self._cache = cache
        self._key = key
        self._portions = portions_for(network, device)

    def open(self, split: str, view: str, images: ImageInputs, raw_rows: RawRows, n_rows: int) -> Rows:
        """The features of a split's view as rows.

        Args:
            split: `train` or `val`; `pool` of a cross-validation, whose folds share it.
            view: the view's name.
            images: how raw images are made ready.
            raw_rows: gives the view's raw images from a start to before a stop.
            n_rows: how many there are.

        Raises:
            OSError: they could not be written.
        """

        def from_images(cut: int, start: int, stop: int) -> Array:
            return self._features(cut, 0, images.prepare(raw_rows(start, stop), None))

        started = time.perf_counter()
        entry = self._entry(self.cut, {"split": split, "view": view}, n_rows, from_images)
        if entry.built:
            self.built_seconds += time.perf_counter() - started
        return open_rows(entry.array, self.device)

    def _entry(self, cut: int, what: Mapping[str, str], n_rows: int, from_images: FromImages) -> Entry:
        """The entry at a cut; where it is missing, built from features at an earlier cut or images."""

        def describe() -> Content:
            compute = self._from_earlier(cut, what, n_rows, from_images) or partial(from_images, cut)
            one = compute(0, 1)
            return Content((n_rows, *one.shape[1:]), one.dtype, compute, alignment=CHUNK)

        return self._cache.open_or_build(self._full_key(cut, what), describe)

    def _from_earlier(
        self, cut: int, what: Mapping[str, str], n_rows: int, from_images: FromImages
    ) -> Compute | None:
        """How to go on from the last earlier cut with features kept, or to be kept; None: there is none."""
        for start in range(cut - 1, 0, -1):
            if start in self._also or self._cache.has(self._full_key(start, what)):
                try:
                    earlier = open_rows(self._entry(start, what, n_rows, from_images).array, self.device)
                except OSError:
                    continue  # too large for the disk, perhaps: what is wanted itself may still have room
                self.by_way_of.add(start)
                return partial(self._from_features, cut, start, earlier)
        return None

    def _from_features(self, cut: int, start: int, earlier: Rows, low: int, high: int) -> Array:
        chunk = next(iter(earlier.batches([np.arange(low, high)])))
        return self._features(cut, start, from_stored(chunk))

    def _full_key(self, cut: int, what: Mapping[str, str]) -> dict[str, object]:
        return {**self._key(cut), "cut": cut, **what}

    def _features(self, cut: int, start: int, inputs: Tensor) -> Array:
        compute = partial(self.network.features_after, cut, start=start)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            return to_stored(in_portions(compute, inputs, self._portions))


class PrefixInputs:
    """One split's features at the cut."""

    def __init__(
        self, kept: KeptFeatures, split: str, images: ImageInputs, rows: Rows, *, preset: str, views: int
    ) -> None:
        """`rows` are the split's images; `images` is what is used when features cannot be kept."""
        self._kept, self._images = kept, images

        def open_view(view: int) -> Rows:  # no method: in a circle of references a network stays in memory
            raw_rows = partial(view_rows, rows, preset, view)
            return kept.open(split, view_name(preset, view), images, raw_rows, len(rows))

        self._views = Views(open_view, views)
        self._keeps = True

    def rows(self, epoch: int) -> Rows:
        """The features of the epoch's view, or its images."""
        if self._keeps:
            try:
                return self._views.at(epoch)
            except OSError as error:
                self._keeps = False
                self._kept.failure = error.strerror or str(error)
        return self._images.rows(epoch)

    def prepare(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Features are taken as they were."""
        return from_stored(raw) if self._keeps else self._images.prepare(raw, generator)

    def logits(self, prepared: Tensor) -> Tensor:
        """Through what follows the cut."""
        if self._keeps:
            return self._kept.network.logits_from(self._kept.cut, prepared)
        return self._images.logits(prepared)
