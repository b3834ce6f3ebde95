"""Features of a frozen prefix, from the cache; the images themselves from when the cache fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medfathom.training.feature_cache import Array, Content, FeatureCache
from medfathom.training.fixed_shape import in_portions, portions_for
from medfathom.training.inputs import ImageInputs, Views, from_stored, to_stored
from medfathom.training.rows import Rows, open_rows
from medfathom.training.views import CHUNK, view_name, view_rows

if TYPE_CHECKING:
    from medfathom.models.build import Network

RawRows = Callable[[int, int], Tensor]


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
        key: Mapping[str, Any],
    ) -> None:
        """`key` names all that features follow from, but for the cut, the split and the view."""
        self.network = network
        self.cut = cut
        self.device = device
        self.built_seconds = 0.0
        """Time spent on computing features into the cache."""
        self.failure: str | None = None
        """Why the cache could not be used, once it could not."""
        self._autocast = autocast
        self._cache = cache
        self._key = {**key, "cut": cut}
        self._portions = portions_for(network, device)

    def open(self, split: str, view: str, images: ImageInputs, raw_rows: RawRows, n_rows: int) -> Rows:
        """The features of a split's view as rows.

        Args:
            split: `train` or `val`.
            view: the view's name.
            images: how raw images are made ready.
            raw_rows: gives the view's raw images from a start to before a stop.
            n_rows: how many there are.

        Raises:
            OSError: they could not be written.
        """

        def compute(start: int, stop: int) -> Array:
            return self._features(images.prepare(raw_rows(start, stop), None))

        def describe() -> Content:
            one = compute(0, 1)
            return Content((n_rows, *one.shape[1:]), one.dtype, compute, alignment=CHUNK)

        started = time.perf_counter()
        entry = self._cache.open_or_build({**self._key, "split": split, "view": view}, describe)
        if entry.built:
            self.built_seconds += time.perf_counter() - started
        return open_rows(entry.array, self.device)

    def _features(self, prepared: Tensor) -> Array:
        compute = partial(self.network.features_after, self.cut)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            return to_stored(in_portions(compute, prepared, self._portions))


class PrefixInputs:
    """One split's features at the cut."""

    def __init__(
        self, kept: KeptFeatures, split: str, images: ImageInputs, rows: Rows, *, preset: str, views: int
    ) -> None:
        """`rows` are the split's images; `images` is what is used when features cannot be kept."""
        self._kept, self._split, self._images, self._rows, self._preset = kept, split, images, rows, preset
        self._views = Views(self._open, views)
        self._keeps = True

    def _open(self, view: int) -> Rows:
        raw_rows = partial(view_rows, self._rows, self._preset, view)
        name = view_name(self._preset, view)
        return self._kept.open(self._split, name, self._images, raw_rows, len(self._rows))

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
