"""The training loss as a sum over images: accumulated parts of a batch give the whole batch's gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medfathom.metrics.classification import TaskKind


class Loss:
    """Cross entropy (one softmax) or binary cross entropy (multilabel), smoothed and weighted as asked.

    `Loss.sum(logits, targets) / Loss.weight(targets)` is a batch's mean loss.
    """

    def __init__(
        self,
        task: TaskKind,
        labels: Tensor,
        n_outputs: int,
        *,
        smoothing: float = 0.0,
        weighted: bool = False,
    ) -> None:
        """Class weights follow from the training labels: n / (K n_k), or a label's negatives / positives."""
        self._multilabel = task == "multilabel"
        self._smoothing = smoothing
        self._weights: Tensor | None = None
        if weighted and self._multilabel:
            present = labels.float().sum(dim=0)
            self._weights = torch.where(present > 0, (len(labels) - present) / present, 1.0)
        elif weighted:
            counts = torch.bincount(labels, minlength=n_outputs).float()
            self._weights = torch.where(counts > 0, len(labels) / (n_outputs * counts), 0.0)

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed over the batch; a multilabel image's loss is the mean over its labels."""
        logits = logits.float()
        if self._multilabel:
            smooth = targets.float() * (1 - self._smoothing) + self._smoothing / 2
            each = functional.binary_cross_entropy_with_logits(
                logits, smooth, pos_weight=self._weights, reduction="sum"
            )
            return each / logits.shape[1]
        return functional.cross_entropy(
            logits, targets, weight=self._weights, label_smoothing=self._smoothing, reduction="sum"
        )

    def weight(self, targets: Tensor) -> Tensor | float:
        """What the sum over a batch is divided by: its images, or their class weights."""
        if self._weights is None or self._multilabel:
            return float(len(targets))
        return self._weights[targets].sum()
