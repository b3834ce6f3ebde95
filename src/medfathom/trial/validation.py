"""What a finished trial says of validation images: kept, so that trials can be compared image by image."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import Units
from medfathom.metrics.auc import Flags, Floats
from medfathom.metrics.classification import TaskKind, positives
from medfathom.metrics.probabilities import probabilities

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
