"""The data sets of a trial, one or several: whose images are whose, and what a network is worth on each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.data.prepared import JointData, PreparedData, Split
from medfathom.data.splits import training_subset
from medfathom.definitions.space import TrialParams
from medfathom.errors import DataError
from medfathom.metrics.cases import cases_of
from medfathom.metrics.classification import has_auc
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.attention import attended
from medfathom.trial.batching import Indices
from medfathom.trial.cross_validation import RunningFold
from medfathom.trial.judging import judge
from medfathom.trial.losses import Loss
from medfathom.trial.mixture import members_of
from medfathom.trial.randomness import derived_seed
from medfathom.trial.record import SplitMetrics
from medfathom.trial.validation import ValidationPredictions
from medfathom.units import Combine

TRAIN_AUC_IMAGES, TRAIN_AUC_CASES = 500, 50
"""Training images on which the AUC is taken at the end, to be held against the validation AUC. Of cases as
many as have so many images, but so many cases at least."""

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """One data set of a trial.

    Attributes:
        place: among the data sets, from 0.
        name: empty where there is one only.
        data: it, prepared.
        train: its images of which some are trained on; of a fold the whole pool.
        val: its images that are judged.
        first: where its images begin among the trial's training images.
        trainable: rows of `train` that may be trained on.
        val_rows: rows of the trial's validation images that are its own; None: all.
        columns: of the network's outputs.
    """

    place: int
    name: str
    data: PreparedData
    train: Split
    val: Split
    first: int
    trainable: Indices
    val_rows: Indices | None
    columns: slice

    def check(self) -> None:
        """Raise DataError where no class has both members and others: that cannot rank models."""
        if not has_auc(self.data.task, self.val.labels, len(self.data.class_names)):
            raise DataError(
                f"{self.data.folder}: the validation split's {len(self.val)} images are all of one class: "
                "its AUC is undefined; give a validation split that has both"
            )

    def training_rows(self, fraction: float, seed: int) -> Indices:
        """Rows of the trial's training images that are trained on."""
        rows, clusters = self.trainable, self.train.clusters
        of_these = None if clusters is None else clusters[rows]
        return self.first + rows[training_subset(self.train.labels[rows], of_these, fraction, seed)]

    def judge(self, logits: Logits, combine: Combine, objective: str) -> SplitMetrics:
        """What the logits of its validation images are worth."""
        return judge(self.data, self.val, logits, combine, objective=objective)

    def loss(self, logits: Logits, combine: Combine) -> float:
        """The mean over its validation images, or with attention over cases: as in training."""
        n_outputs = num_outputs(self.data.task, len(self.data.class_names))
        values, cases = torch.from_numpy(logits), self.val.units.cases
        labels = torch.from_numpy(self.val.labels.astype(np.int64))
        loss = Loss(self.data.task, labels, n_outputs)
        if combine == "attention" and cases is not None:
            values = attended(values, torch.from_numpy(cases.member), len(cases))
            labels = labels[torch.from_numpy(cases.first)]
        return float(loss.sum(values, labels)) / float(loss.weight(labels))

    def train_auc(
        self, predict: Callable[[Indices], Logits], used: Indices, combine: Combine
    ) -> float | None:
        """AUC on some of what was trained on, always the same; None: undefined.

        Args:
            predict: rows of the trial's training images -> all outputs.
            used: rows of the trial's training images that are trained on.
            combine: as in `judge`.
        """
        own = used[(used >= self.first) & (used < self.first + len(self.train))] - self.first
        chosen = self._chosen_to_judge(own)
        logits = predict(self.first + chosen)[:, self.columns]
        return judge(self.data, self.train.part(chosen), logits, combine).auc

    def _chosen_to_judge(self, used: Indices) -> Indices:
        """Of cases all images or none."""
        drawn = np.random.default_rng(0).permutation(used)
        if self.train.cases is None:
            return np.sort(drawn[:TRAIN_AUC_IMAGES])
        found = cases_of(self.train.cases[drawn])
        kept = np.cumsum(found.sizes) <= TRAIN_AUC_IMAGES
        kept[:TRAIN_AUC_CASES] = True
        return np.sort(drawn[kept[found.member]])


def trial_parts(data: PreparedData, fold: RunningFold | None) -> list[Part]:
    """The data sets of a trial; of a fold its pool, and the images that it judges.

    Raises:
        DataError: the validation images of one of them cannot rank models.
    """
    if isinstance(data, JointData):
        parts = _of_several(data)
    elif fold is not None:
        pool = fold.folds.pool
        parts = [Part(0, "", data, pool, pool.part(fold.val), 0, fold.train, fold.val, slice(None))]
    else:
        train = data.split("train")
        parts = [
            Part(0, "", data, train, data.split("val"), 0, np.arange(len(train)), None, slice(None)),
        ]
    for part in parts:
        part.check()
    return parts


def rows_to_train(parts: Sequence[Part], params: TrialParams, seed: int) -> Indices:
    """The rows of a trial's training images that are trained on; `seed` is the trial's."""
    drawn = derived_seed(seed, "train_fraction")
    return np.concatenate([part.training_rows(params.train_fraction, drawn) for part in parts])


def name_of_rows(rows: Indices, n_images: int) -> bool | str:
    """What tells these images of a split from others of it, for a key; True: all of them."""
    return len(rows) == n_images or hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()


def _of_several(data: JointData) -> list[Part]:
    parts, first, first_val = [], 0, 0
    for place, (name, own, member) in enumerate(zip(data.names, data.parts, members_of(data), strict=True)):
        train, val = own.split("train"), own.split("val")
        rows = np.arange(first_val, first_val + len(val))
        parts.append(Part(place, name, own, train, val, first, np.arange(len(train)), rows, member.columns))
        first, first_val = first + len(train), first_val + len(val)
    return parts


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; None where one of them is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def kept_predictions(parts: Sequence[Part], logits: Sequence[Logits], combine: Combine) -> bytes:
    """What a finished trial says of the validation images, see `trial.validation`."""
    found = [
        (part.data.task, part.val.units, part.val.units.logits(part.data.task, own, combine))
        for part, own in zip(parts, logits, strict=True)
    ]
    several = len(found) > 1
    return (
        ValidationPredictions.of_several(found) if several else ValidationPredictions.of(*found[0])
    ).to_bytes()
