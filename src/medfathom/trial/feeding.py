"""What a trial's fit loop is fed: images, or features of its frozen prefix where it pays to keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.models.graph.layer_groups import GROUPS
from medfathom.trial.augmentation import augment
from medfathom.trial.features.cache import FeatureCache
from medfathom.trial.features.decision import (
    CPU_MACS_PER_SECOND,
    CUDA_MACS_PER_SECOND,
    CacheDecision,
    Cut,
    Workload,
    cut_costs,
    decide_cache,
)
from medfathom.trial.features.kept import KeptFeatures, PrefixInputs
from medfathom.trial.features.views import NO_AUGMENTATION, view_rows
from medfathom.trial.inputs import ImageInputs, Inputs, Views
from medfathom.trial.record import FeatureUse
from medfathom.trial.rows import Rows, open_rows

if TYPE_CHECKING:
    from medfathom.models.build import Network

VIEW_BYTES = 2**30
"""What one augmented copy of the training images may take where it is held whole.

A constant: free memory changes, and a trial that is resumed must go on with the images that it had.
"""


@dataclass(frozen=True)
class Feed:
    """What inputs are made for."""

    network: Network
    device: torch.device
    autocast: bool
    train_images: NDArray[np.generic]
    val_images: NDArray[np.generic]
    n_used: int
    """Training images that an epoch uses."""
    epochs: int
    preset: str
    """Augmentation."""
    views: int
    """Augmented copies that a frozen prefix chooses from."""
    shared: bool
    """Whether other trials have the same prefix weights."""
    depths: Set[int]
    """Unfreeze depths of the study's trials."""
    cache: FeatureCache
    splits: tuple[str, str]
    """Names of the two arrays of images, the same for the same array."""
    key: Callable[[int], Mapping[str, Any]]
    """What features at a cut follow from, but for the cut, the split and the view."""


@dataclass(frozen=True)
class Feeding:
    """Inputs of both splits."""

    train: Inputs
    val: Inputs
    decision: CacheDecision | None
    """None: nothing is frozen."""
    kept: KeptFeatures | None
    views: int
    """Augmented copies in use; 0: augmentation is drawn anew for every batch."""
    macs_from_features: int
    """Multiply-accumulates that what is kept leaves of an image's forward pass."""

    @property
    def keeps_features(self) -> bool:
        """Whether features of a frozen prefix are in use."""
        return self.kept is not None and self.kept.failure is None

    def record(self) -> FeatureUse | None:
        """The decision, its arithmetic, and what came of it; None: nothing is frozen."""
        if self.decision is None:
            return None
        failure = self.kept.failure if self.kept is not None else None
        saved = self.decision.seconds_without - self.decision.seconds_with
        return FeatureUse(
            kept=self.keeps_features,
            cut=self.decision.cut,
            bytes=self.decision.n_bytes,
            seconds_saved=round(saved, 3),
            why=self.decision.reason if failure is None else f"not kept: the cache failed ({failure})",
            views=self.views,
            by_way_of=sorted(self.kept.by_way_of) if self.kept is not None else None,
            built_seconds=round(self.kept.built_seconds, 3) if self.kept is not None else 0.0,
        )


def feed(wanted: Feed) -> Feeding:
    """Decide, and open what was decided on. Features are computed when an epoch first asks for them."""
    train_rows = open_rows(wanted.train_images, wanted.device)
    val_rows = open_rows(wanted.val_images, wanted.device)
    val = ImageInputs(wanted.network, Views(lambda _: val_rows), wanted.device)
    augmented = wanted.preset != NO_AUGMENTATION
    decision = _decide(wanted, augmented=augmented) if wanted.network.frozen_groups else None
    views = (
        wanted.views
        if augmented and decision is not None and decision.pays and _views_fit(wanted, decision)
        else 0
    )
    images = _training_images(wanted, train_rows, views=views, augmented=augmented)
    macs = wanted.network.facts.macs
    if decision is None or not decision.stored:
        return Feeding(images, val, decision, None, views, macs)
    kept = KeptFeatures(
        wanted.network,
        decision.cut,
        device=wanted.device,
        autocast=wanted.autocast,
        cache=wanted.cache,
        key=wanted.key,
        also=_cuts_of_others(wanted, decision),
    )
    train = PrefixInputs(
        kept, wanted.splits[0], images, train_rows, preset=wanted.preset, views=max(views, 1)
    )
    no_views = PrefixInputs(kept, wanted.splits[1], val, val_rows, preset=NO_AUGMENTATION, views=1)
    return Feeding(train, no_views, decision, kept, views, macs - decision.macs)


def _decide(wanted: Feed, *, augmented: bool) -> CacheDecision:
    return decide_cache(_costs(wanted), _workload(wanted, augmented=augmented), wanted.cache.limit_bytes)


def _cuts_of_others(wanted: Feed, decision: CacheDecision) -> frozenset[int]:
    """Earlier cuts at which other trials of the study will keep features of the same prefix.

    Computing features at the last cut passes all earlier ones: what is kept there on the way spares the other
    trials their own pass. As many as fit into the cache together, the deepest first.
    """
    if not wanted.shared:
        return frozenset()
    costs, limit = _costs(wanted), wanted.cache.limit_bytes
    work = _workload(wanted, augmented=wanted.preset != NO_AUGMENTATION)
    others = [decide_cache(costs[: GROUPS - d], work, limit) for d in wanted.depths if d < GROUPS]
    earlier = {other.cut: other.n_bytes for other in others if other.stored and other.cut < decision.cut}
    chosen, room = set[int](), limit - decision.n_bytes
    for cut in sorted(earlier, reverse=True):
        if earlier[cut] <= room:
            chosen.add(cut)
            room -= earlier[cut]
    return frozenset(chosen)


def _costs(wanted: Feed) -> list[Cut]:
    return cut_costs(wanted.network, bytes_per_value=2 if wanted.autocast else 4)


def _workload(wanted: Feed, *, augmented: bool) -> Workload:
    cuda = wanted.device.type == "cuda"
    return Workload(
        n_train=len(wanted.train_images),
        n_used=wanted.n_used,
        n_val=len(wanted.val_images),
        epochs=wanted.epochs,
        views=wanted.views if augmented else 1,
        shared=wanted.shared,
        macs_per_second=CUDA_MACS_PER_SECOND if cuda else CPU_MACS_PER_SECOND,
    )


def _views_fit(wanted: Feed, decision: CacheDecision) -> bool:
    """Features of views are made chunk by chunk; without the cache each view is held whole."""
    return decision.stored or wanted.train_images.nbytes <= VIEW_BYTES


def _training_images(wanted: Feed, rows: Rows, *, views: int, augmented: bool) -> ImageInputs:
    if not augmented:
        return ImageInputs(wanted.network, Views(lambda _: rows), wanted.device)
    if views == 0:
        anew = partial(_augment, wanted.preset)
        return ImageInputs(wanted.network, Views(lambda _: rows), wanted.device, anew)

    def open_view(view: int) -> Rows:
        whole = view_rows(rows, wanted.preset, view, 0, len(rows))
        return open_rows(whole.cpu().numpy(), wanted.device)

    return ImageInputs(wanted.network, Views(open_view, views), wanted.device)


def _augment(preset: str, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return augment(images, preset, generator)
