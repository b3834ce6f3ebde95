"""Batches of bags, for heads with attention: images of one case stay together, as they are weighed together.

A bag is all images of a case, or a random part of them where there are many: an epoch uses every image once,
and a batch has about as many images as it would have without bags.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.metrics.classification import TaskKind
from medfathom.trial.batching import Indices, balancing_weights, steps_per_epoch
from medfathom.trial.randomness import derived_seed

BAG_IMAGES = 16
"""In one bag, at most: a batch of the usual 32 images then has two cases at least."""


@dataclass(frozen=True)
class BagBatch:
    """One batch.

    Attributes:
        rows: positions of its images, bag after bag, (n,).
        member: each image's bag, numbered from 0, (n,).
        dataset: the place of the data set that all its images are of; None: there is one, or they are mixed.
    """

    rows: Indices
    member: NDArray[np.int64]
    dataset: int | None = None

    @property
    def first(self) -> NDArray[np.int64]:
        """Where in the batch each bag begins."""
        return np.flatnonzero(np.diff(self.member, prepend=-1))

    def spans(self, parts: int) -> list[slice]:
        """The batch cut into about as many parts, between bags; where a bag is an image, into equal parts."""
        if parts == 1:
            return [slice(0, len(self.rows))]
        starts, sizes = self.first, np.full(parts, len(self.rows) // parts)
        sizes[: len(self.rows) % parts] += 1
        wanted = np.cumsum(sizes)[:-1]
        cuts = sorted({0, len(self.rows), *(int(starts[np.abs(starts - cut).argmin()]) for cut in wanted)})
        return [slice(begin, end) for begin, end in pairwise(cuts)]


def bag_batches(
    task: TaskKind,
    labels: NDArray[np.integer],
    member: NDArray[np.integer],
    batch_size: int,
    *,
    balanced: bool,
    seed: int,
    epoch: int,
) -> list[BagBatch]:
    """One epoch's batches.

    Args:
        task: what labels mean.
        labels: of the images that an epoch uses, (n,) or (n, K).
        member: the case of each, numbered from 0, (n,).
        batch_size: images in a batch, about; of a bag at most.
        balanced: bags are drawn with replacement, every class as often.
        seed: of the trial.
        epoch: from 1.
    """
    random = np.random.default_rng(derived_seed(seed, "order", epoch))
    bags = _bags(member, _most_images(batch_size), random)
    order = random.permutation(len(bags))
    if balanced:
        weights = balancing_weights(task, labels[[bag[0] for bag in bags]])
        order = random.choice(len(bags), size=len(bags), p=weights / weights.sum())
    chosen = [bags[i] for i in order]
    sizes = np.array([len(bag) for bag in chosen])
    steps = steps_per_epoch(len(member), batch_size)
    place = (np.cumsum(sizes) - sizes / 2) * steps / sizes.sum()
    batches = (np.flatnonzero(place.astype(np.int64) == step) for step in range(steps))
    return [_batch([chosen[i] for i in batch]) for batch in batches if len(batch)]


def labels_of_bags(labels: Tensor, member: NDArray[np.integer], batch_size: int) -> Tensor:
    """The label of each bag of an epoch, in no order: a draw changes which images it has, no more.

    Args:
        labels: of the images that an epoch uses; those of a case are alike.
        member: the case of each.
        batch_size: as in `bag_batches`.
    """
    _, first, sizes = np.unique(member, return_index=True, return_counts=True)
    bags = -(-sizes // _most_images(batch_size))
    return labels[torch.from_numpy(np.repeat(first, bags)).to(labels.device)]


def _most_images(batch_size: int) -> int:
    """In one bag."""
    return min(BAG_IMAGES, batch_size)


def _bags(member: NDArray[np.integer], most: int, random: np.random.Generator) -> list[Indices]:
    """Every image in one bag; the bags of a case are as equal as can be."""
    order = random.permutation(len(member))
    by_case = order[np.argsort(member[order], kind="stable")]
    ends = np.cumsum(np.bincount(member))[:-1]
    whole = np.split(by_case, ends)
    return [bag for case in whole if len(case) for bag in np.array_split(case, -(-len(case) // most))]


def _batch(bags: list[Indices]) -> BagBatch:
    sizes = [len(bag) for bag in bags]
    return BagBatch(np.concatenate(bags), np.repeat(np.arange(len(bags)), sizes))
