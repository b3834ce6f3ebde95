"""How much of a GPU a trial takes: what trials of its kind were measured to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import costs_like

CONTEXT_BYTES = 768 * 2**20
"""What a process holds besides its tensors: CUDA's context and libraries."""
HEADROOM = 1.25
"""The allocator's fragments, and batches that happen to need more."""
MOST_PER_GPU = 8
"""More processes than this only wait for one another."""


class MeasuredShares:
    """Peak memory of past trials by architecture, depth, strategy and image size, as fractions of a GPU.

    A kind of trial that was never measured gets a whole GPU: the first of each kind measures it.
    """

    def __init__(self) -> None:
        self._peaks: dict[tuple[str, int, str, int], dict[int, float]] = {}

    def learn(self, params: TrialParams, attributes: Mapping[str, Any]) -> None:
        """Take in a trial's record; one that did not run on a GPU is passed over."""
        peak, device = attributes.get("peak_memory_bytes"), attributes.get("device_memory_bytes")
        if not peak or not device:
            return
        peaks = self._peaks.setdefault(_kind(params), {})
        fraction = (peak * HEADROOM + CONTEXT_BYTES) / device
        peaks[params.batch_size] = max(fraction, peaks.get(params.batch_size, 0.0))

    def share(self, params: TrialParams) -> float:
        """The fraction of a GPU to ask for: 1 over the number of such trials that fit side by side.

        Memory grows with the batch, at most in proportion: a larger batch than those measured is bounded by
        the proportion, a smaller one by the next larger, and none takes less than what a smaller batch took.
        """
        peaks = self._peaks.get(_kind(params))
        if not peaks:
            return 1.0
        size = params.batch_size
        enough = min(fraction * max(1.0, size / batch) for batch, fraction in peaks.items())
        least = max((fraction for batch, fraction in peaks.items() if batch <= size), default=0.0)
        return _one_of(max(enough, least))

    def smallest(self) -> float:
        """No trial asks for less; 1 while nothing is measured."""
        needed = [fraction for peaks in self._peaks.values() for fraction in peaks.values()]
        return _one_of(min(needed)) if needed else 1.0


def _kind(params: TrialParams) -> tuple[str, int, str, int]:
    return params.architecture, params.unfreeze_depth, costs_like(params.strategy), params.image_size


def _one_of(fraction: float) -> float:
    """1 over how often the fraction fits into 1."""
    return 1.0 / min(max(int(1.0 / fraction), 1), MOST_PER_GPU)
