"""What a finished trial says of validation images: kept, so that trials can be compared image by image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import Units
from medfathom.metrics.auc import Flags
from medfathom.metrics.classification import TaskKind, positives
from medfathom.metrics.influences import Floats
from medfathom.metrics.probabilities import probabilities
from medfathom.metrics.unknown import UNKNOWN

LARGEST_BYTES = 16 * 2**20
"""What is larger is not kept: it travels from a worker to its driver, and is read again by `show`."""


@dataclass(frozen=True)
class ValidationPredictions:
    """Logits of the validation images (or cases) after the last epoch.

    Attributes:
        task: what the labels mean.
        labels: as in `data.prepared.Units`, of the n images or cases.
        logits: float32, (n, outputs).
        groups: the patient of each as a number, (n,); None: not known.
    """

    task: TaskKind
    labels: NDArray[Any]
    logits: NDArray[np.float32]
    groups: NDArray[np.int32] | None

    @classmethod
    def of(cls, task: TaskKind, units: Units, logits: NDArray[np.floating]) -> ValidationPredictions:
        """From the units of the validation split and their logits."""
        groups = None if units.groups is None else np.unique(units.groups, return_inverse=True)[1]
        return cls(
            task,
            units.labels.astype(np.int32 if units.labels.ndim == 1 else np.uint8),
            logits.astype(np.float32),
            None if groups is None else groups.astype(np.int32),
        )

    @classmethod
    def of_several(
        cls, found: Sequence[tuple[TaskKind, Units, NDArray[np.floating]]]
    ) -> ValidationPredictions:
        """From several data sets: task, units and logits of each.

        A column is a class of one data set, and not known of the images of the others. The columns of a data
        set with fewer classes are there several times, so that the mean over columns is that over data sets.
        """
        columns = [_log_odds(task, logits) for task, _, logits in found]
        repeats = [math.lcm(*(own.shape[1] for own in columns)) // own.shape[1] for own in columns]
        shape = (
            sum(map(len, columns)),
            sum(own.shape[1] * k for own, k in zip(columns, repeats, strict=True)),
        )
        labels, logits = np.full(shape, UNKNOWN, np.uint8), np.zeros(shape, np.float32)
        groups, row, column = [], 0, 0
        for (task, units, _), own, k in zip(found, columns, repeats, strict=True):
            place = slice(row, row + len(own)), slice(column, column + own.shape[1] * k)
            labels[place] = np.tile(positives(task, units.labels, own.shape[1]), (1, k))
            logits[place] = np.tile(own, (1, k))
            known = np.arange(len(own)) if units.groups is None else units.groups
            number = np.unique(known, return_inverse=True)[1]
            groups.append(number + row)  # no more groups than images: numbers of two data sets are different
            row, column = row + len(own), place[1].stop
        grouped = any(units.groups is not None for _, units, _ in found)
        return cls("multilabel", labels, logits, np.concatenate(groups).astype(np.int32) if grouped else None)

    @property
    def positive(self) -> Flags:
        """Which images are of each column's class, (n, C)."""
        return positives(self.task, self.labels, self.scores.shape[1])

    @property
    def scores(self) -> Floats:
        """Probabilities, (n, C)."""
        return probabilities(self.task, self.logits)

    def to_bytes(self) -> bytes:
        """As a compressed npz file; empty where that is larger than `LARGEST_BYTES`."""
        buffer = io.BytesIO()
        groups = np.empty(0, np.int32) if self.groups is None else self.groups
        np.savez_compressed(
            buffer, task=np.array(self.task), labels=self.labels, logits=self.logits, groups=groups
        )
        content = buffer.getvalue()
        return content if len(content) <= LARGEST_BYTES else b""

    @classmethod
    def from_bytes(cls, content: bytes) -> ValidationPredictions | None:
        """From what `to_bytes` made; None for anything else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                groups = file["groups"] if len(file["groups"]) else None
                return cls(str(file["task"]), file["labels"], file["logits"], groups)  # type: ignore[arg-type]
        except (BadZipFile, ValueError, KeyError, EOFError, OSError):
            return None


def _log_odds(task: TaskKind, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each class against the others, one column for a binary task: their sigmoid is the probability."""
    z = logits.astype(np.float64)
    if task == "multilabel":
        return z
    if task == "binary":
        return z[:, 1:] - z[:, :1]
    others = [np.logaddexp.reduce(np.delete(z, k, axis=1), axis=1) for k in range(z.shape[1])]
    odds: NDArray[np.float64] = z - np.stack(others, axis=1)
    return odds
