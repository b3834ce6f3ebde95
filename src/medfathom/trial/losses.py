"""The training loss as a sum over images: accumulated parts of a batch give the whole batch's gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medfathom.metrics.classification import TaskKind
from medfathom.metrics.unknown import UNKNOWN


class Loss:
    """Cross entropy (one softmax) or binary cross entropy (multilabel), smoothed and weighted as asked.

    `Loss.sum(logits, targets) / Loss.weight(targets)` is a batch's mean loss. Multilabel: the mean over the
    labels that are known; a label of an image that is not (`UNKNOWN`) has no part in it.
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
        self._masked = self._multilabel and bool((labels == UNKNOWN).any())
        self._smoothing = smoothing
        self._weights: Tensor | None = None
        if weighted and self._multilabel:
            present, absent = (labels == 1).float().sum(dim=0), (labels == 0).float().sum(dim=0)
            self._weights = torch.where(present > 0, absent / present, 1.0)
        elif weighted:
            counts = torch.bincount(labels, minlength=n_outputs).float()
            self._weights = torch.where(counts > 0, len(labels) / (n_outputs * counts), 0.0)

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed over the batch; a multilabel image's loss is the mean over its labels."""
        logits = logits.float()
        if self._multilabel:
            known = (targets != UNKNOWN).float() if self._masked else None
            smooth = targets.float().clamp(max=1) * (1 - self._smoothing) + self._smoothing / 2
            each = functional.binary_cross_entropy_with_logits(
                logits, smooth, weight=known, pos_weight=self._weights, reduction="sum"
            )
            return each / logits.shape[1]
        return functional.cross_entropy(
            logits, targets, weight=self._weights, label_smoothing=self._smoothing, reduction="sum"
        )

    def weight(self, targets: Tensor) -> Tensor | float:
        """What the sum over a batch is divided by: its images, their class weights, or known labels / K."""
        if self._masked:
            # At least one label, so that a batch of which nothing is known has the loss 0.
            return (targets != UNKNOWN).sum().clamp(min=1) / targets.shape[1]
        if self._weights is None or self._multilabel:
            return float(len(targets))
        return self._weights[targets].sum()
