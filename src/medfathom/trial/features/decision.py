"""Whether to keep a frozen prefix's features, and at which cut: bytes against time saved, by arithmetic.

The arithmetic knows sizes and multiply-accumulates, not clocks, so that the same trial decides alike every
time. Its rates are round figures, on the slow side of what was measured (benchmarks/results/training.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medfathom.models.network import Network

CPU_MACS_PER_SECOND = 4e10
"""Inference in float32 on two cores."""

CUDA_MACS_PER_SECOND = 2e12

READ_BYTES_PER_SECOND = 1e9
"""Features from the page cache, or from an SSD, into a batch."""

WRITE_BYTES_PER_SECOND = 2e8
"""Features to disk, with their checksum."""

EXPECTED_TRIALS = 2
"""Trials of a study taken to share features, where the weights do not come from a trial's own seed."""


@dataclass(frozen=True)
class Cut:
    """A place where features could be kept. Per image."""

    groups: int
    """Layer groups below it, 1 to 4 or 5."""
    macs: int
    """Of these groups."""
    n_bytes: int
    """Of the features there."""


def cut_costs(network: Network, *, bytes_per_value: int) -> list[Cut]:
    """The cost per image of a cut after each layer group of the frozen prefix; the stem first."""
    return [
        Cut(groups, cut.macs, math.prod(cut.shape) * bytes_per_value)
        for groups in range(1, network.frozen_groups + 1)
        for cut in (network.cut(groups),)
    ]


@dataclass(frozen=True)
class Workload:
    """What the trial would do with the features."""

    n_train: int
    """Images in the training split; features are made for all of them."""
    n_used: int
    """Images of it that an epoch uses."""
    n_val: int
    epochs: int
    views: int
    """Augmented copies of the training images; 1 without augmentation."""
    shared: bool
    """Whether other trials can use the same features."""
    macs_per_second: float


@dataclass(frozen=True)
class CacheDecision:
    """The decision, with its arithmetic."""

    pays: bool
    """Whether keeping features is faster than computing them in every epoch."""
    stored: bool
    """Whether they are kept: it pays, and they fit into the cache."""
    cut: int
    """Layer groups below the place where features are kept (or would be)."""
    macs: int
    """Of these layer groups, for one image."""
    n_bytes: int
    """Of all features."""
    seconds_with: float
    """Estimated: prefix work, writing and reading features, over the trials that share them."""
    seconds_without: float
    reason: str


def decide_cache(cuts: Sequence[Cut], work: Workload, limit_bytes: int) -> CacheDecision:
    """Choose among the cuts of a frozen prefix; the last one is where the prefix ends.

    At an earlier cut the groups between it and the prefix's end are computed in every epoch.
    """
    end = cuts[-1]
    without = _uses(work) * end.macs / work.macs_per_second
    estimates = [(_seconds_with(cut, end, work), cut) for cut in cuts]
    best_seconds, best = min(estimates, key=lambda pair: pair[0])
    pays = best_seconds < without
    fitting = [pair for pair in estimates if _total_bytes(pair[1], work) <= limit_bytes and pair[0] < without]
    if fitting:
        best_seconds, best = min(fitting, key=lambda pair: pair[0])
    size = _total_bytes(best, work)
    return CacheDecision(
        pays=pays,
        stored=bool(fitting),
        cut=best.groups,
        macs=best.macs,
        n_bytes=size,
        seconds_with=best_seconds,
        seconds_without=without,
        reason=_reason(
            pays=pays, fits=bool(fitting), size=size, limit=limit_bytes, saved=without - best_seconds
        ),
    )


def _uses(work: Workload) -> int:
    """How often features of an image are needed."""
    trials = EXPECTED_TRIALS if work.shared else 1
    return trials * work.epochs * (work.n_used + work.n_val)


def _total_bytes(cut: Cut, work: Workload) -> int:
    return cut.n_bytes * (min(work.views, work.epochs) * work.n_train + work.n_val)


def _seconds_with(cut: Cut, end: Cut, work: Workload) -> float:
    size = _total_bytes(cut, work)
    build = size / cut.n_bytes * cut.macs / work.macs_per_second + size / WRITE_BYTES_PER_SECOND
    rest = (end.macs - cut.macs) / work.macs_per_second
    return build + _uses(work) * (rest + cut.n_bytes / READ_BYTES_PER_SECOND)


def _reason(*, pays: bool, fits: bool, size: int, limit: int, saved: float) -> str:
    megabytes = f"{size / 1e6:.1f} MB of features"
    if not pays:
        return f"not kept: computing the prefix anew takes no longer than writing and reading {megabytes}"
    if not fits:
        return f"not kept: {megabytes} would save about {saved:.1f} s, but cache_gb = {limit / 1e9:g}"
    return f"kept: {megabytes} save about {saved:.1f} s"
