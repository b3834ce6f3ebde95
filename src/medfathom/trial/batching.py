"""In which batches an epoch takes the training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.classification import TaskKind
from medfathom.metrics.unknown import is_present
from medfathom.trial.randomness import derived_seed

Indices = NDArray[np.int64]


def epoch_batches(
    task: TaskKind, labels: NDArray[np.integer], batch_size: int, *, balanced: bool, seed: int, epoch: int
) -> list[Indices]:
    """One epoch's batches of positions in `labels`.

    The epoch is cut into equal parts of at most `batch_size`, so that no last batch of one or two images
    upsets batch norm. `balanced`: images are drawn with replacement, every class as often (multilabel: by an
    image's rarest label).
    """
    random = np.random.default_rng(derived_seed(seed, "order", epoch))
    if balanced:
        weights = balancing_weights(task, labels)
        order = random.choice(len(labels), size=len(labels), p=weights / weights.sum())
    else:
        order = random.permutation(len(labels))
    return list(np.array_split(order, steps_per_epoch(len(labels), batch_size)))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """The number of batches in an epoch."""
    return -(-n_images // batch_size)


def balancing_weights(task: TaskKind, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """How much likelier each image is drawn, so that every class is drawn as often; not scaled."""
    if task == "multilabel":
        present = is_present(labels)
        rarity = 1.0 / np.maximum(present.sum(axis=0), 1)
        weights: NDArray[np.float64] = (present * rarity).max(axis=1)
        without = ~present.any(axis=1)
        weights[without] = 1.0 / max(int(without.sum()), 1)
        return weights
    inverse: NDArray[np.float64] = 1.0 / np.bincount(labels)[labels]
    return inverse
