"""Several data sets in one training: how many images of each an epoch has, in which batches, and their loss.

An epoch has as many images as all training splits together, whatever the sampling. With shared batch norm a
batch is mixed; with batch norm for each data set every batch is of one data set, as its images are normalised
together, and the batches of all come in random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.data.prepared import JointData
from medfathom.definitions.space import TrialParams
from medfathom.metrics.classification import TaskKind
from medfathom.metrics.probabilities import num_outputs
from medfathom.trial.bags import BagBatch
from medfathom.trial.batching import Indices, balancing_weights, epoch_batches, steps_per_epoch
from medfathom.trial.losses import Loss
from medfathom.trial.randomness import derived_seed


@dataclass(frozen=True)
class Member:
    """One of the data sets.

    Attributes:
        task: what its labels mean.
        n_labels: columns that they take, after that of the data set's place.
        columns: of the network's outputs, those of its head.
    """

    task: TaskKind
    n_labels: int
    columns: slice

    def labels(self, of_all: Any) -> Any:
        """Its own labels, from rows of `JointData.split` that are all of it: (n,) or (n, K)."""
        return of_all[:, 1 : 1 + self.n_labels] if self.task == "multilabel" else of_all[:, 1]


def members_of(data: JointData) -> list[Member]:
    """The data sets, with the place of their head among the outputs."""
    members, start = [], 0
    for part in data.parts:
        n_outputs, n_classes = num_outputs(part.task, len(part.class_names)), len(part.class_names)
        n_labels = n_classes if part.task == "multilabel" else 1
        members.append(Member(part.task, n_labels, slice(start, start + n_outputs)))
        start += n_outputs
    return members


def images_of_each(counts: Sequence[int], sampling: str, temperature: float = 1.0) -> list[int]:
    """Images of each data set in an epoch; together as many as there are.

    Args:
        counts: its training images.
        sampling: see `TrialParams`.
        temperature: shares go with the counts to the power 1 / temperature; for the sampling of that name.

    >>> images_of_each([800, 100], "temperature", 2.0)
    [665, 235]
    """
    if sampling == "proportional":
        return list(counts)
    power = 0.0 if sampling == "equal" else 1.0 / temperature
    shares = np.asarray(counts, dtype=np.float64) ** power
    wanted = shares / shares.sum() * sum(counts)
    whole = np.floor(wanted).astype(np.int64)
    left = int(sum(counts) - whole.sum())
    whole[np.argsort(whole - wanted, kind="stable")[:left]] += 1
    return [max(int(count), 1) for count in whole]


class Mixture:
    """The batches and the loss of a training on several data sets."""

    def __init__(
        self, members: Sequence[Member], labels: NDArray[np.integer], params: TrialParams, seed: int
    ) -> None:
        """`labels` are those of the training images in use, as `JointData.split` has them."""
        self._members, self._labels, self._params, self._seed = members, labels, params, seed
        self._rows = [np.flatnonzero(labels[:, 0] == place) for place in range(len(members))]
        counts = [len(rows) for rows in self._rows]
        self._images = images_of_each(counts, params.sampling, params.sampling_temperature)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        size = self._params.batch_size
        if self._of_one_each:
            return sum(steps_per_epoch(count, size) for count in self._images)
        return steps_per_epoch(sum(self._images), size)

    @property
    def _of_one_each(self) -> bool:
        """Whether a batch has images of one data set alone."""
        return self._params.norm == "per_dataset"

    def loss(self, labels: Tensor) -> JointLoss:
        """The training loss; labels as above, as a tensor."""
        smoothing, weighted = self._params.label_smoothing, self._params.class_weights
        return JointLoss(self._members, labels, smoothing=smoothing, weighted=weighted)

    def batches(self, epoch: int) -> list[BagBatch]:
        """Those of an epoch, as positions among the training images in use."""
        if len(self._members) == 1:
            member, size, balanced = self._members[0], self._params.batch_size, self._params.balanced_sampling
            own = member.labels(self._labels)
            found = epoch_batches(member.task, own, size, balanced=balanced, seed=self._seed, epoch=epoch)
            return [_batch(rows, 0) for rows in found]
        random = np.random.default_rng(derived_seed(self._seed, "order", epoch))
        drawn = [self._drawn(place, random) for place in range(len(self._members))]
        size = self._params.batch_size
        if not self._of_one_each:
            order = random.permutation(np.concatenate(drawn))
            return [_batch(rows, None) for rows in np.array_split(order, self.steps)]
        batches = [
            _batch(rows, place)
            for place, own in enumerate(drawn)
            for rows in np.array_split(random.permutation(own), steps_per_epoch(len(own), size))
        ]
        return [batches[i] for i in random.permutation(len(batches))]

    def _drawn(self, place: int, random: np.random.Generator) -> Indices:
        """One data set's images of an epoch: each as often as the others, but for the last time round."""
        rows, wanted = self._rows[place], self._images[place]
        if self._params.balanced_sampling:
            member = self._members[place]
            weights = balancing_weights(member.task, member.labels(self._labels[rows]))
            return random.choice(rows, size=wanted, p=weights / weights.sum())
        times, rest = divmod(wanted, len(rows))
        return np.concatenate([np.tile(rows, times), random.permutation(rows)[:rest]])


def _batch(rows: Indices, dataset: int | None) -> BagBatch:
    return BagBatch(rows, np.arange(len(rows)), dataset)


class JointLoss:
    """Each image's loss is that of its own data set, from its own head; used as `Loss`.

    A batch's mean loss is over its images: how much a data set counts follows from how many it has there.
    """

    def __init__(
        self, members: Sequence[Member], labels: Tensor, *, smoothing: float = 0.0, weighted: bool = False
    ) -> None:
        """Class weights follow from the training labels of each data set."""
        self._members = members
        self._losses = [
            Loss(
                member.task,
                member.labels(labels[labels[:, 0] == place]),
                member.columns.stop - member.columns.start,
                smoothing=smoothing,
                weighted=weighted,
            )
            for place, member in enumerate(members)
        ]

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed over the batch; logits of all heads, (n, outputs)."""
        total = torch.zeros((), device=logits.device)
        for place, (member, loss) in enumerate(zip(self._members, self._losses, strict=True)):
            mine = targets[:, 0] == place
            if bool(mine.any()):
                total = total + loss.sum(logits[mine][:, member.columns], member.labels(targets[mine]))
        return total

    def weight(self, targets: Tensor) -> Tensor | float:
        """What the sum over a batch is divided by."""
        total: Tensor | float = 0.0
        for place, (member, loss) in enumerate(zip(self._members, self._losses, strict=True)):
            mine = targets[:, 0] == place
            if bool(mine.any()):
                total = total + loss.weight(member.labels(targets[mine]))
        return total
