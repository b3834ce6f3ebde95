"""The training loss as a sum over images: accumulated parts of a batch give the whole batch's gradient."""

from __future__ import annotations

from collections.abc import Sequence

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
        self.multilabel = task == "multilabel"
        self.masked = self.multilabel and bool((labels == UNKNOWN).any())
        self.smoothing = smoothing
        self.n_outputs = n_outputs
        self.weights: Tensor | None = None
        if weighted and self.multilabel:
            present, absent = (labels == 1).float().sum(dim=0), (labels == 0).float().sum(dim=0)
            self.weights = torch.where(present > 0, absent / present, 1.0)
        elif weighted:
            counts = torch.bincount(labels, minlength=n_outputs).float()
            self.weights = torch.where(counts > 0, len(labels) / (n_outputs * counts), 0.0)

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed over the batch; a multilabel image's loss is the mean over its labels."""
        logits = logits.float()
        if self.multilabel:
            known = (targets != UNKNOWN).float() if self.masked else None
            smooth = targets.float().clamp(max=1) * (1 - self.smoothing) + self.smoothing / 2
            each = functional.binary_cross_entropy_with_logits(
                logits, smooth, weight=known, pos_weight=self.weights, reduction="sum"
            )
            return each / logits.shape[1]
        return functional.cross_entropy(
            logits, targets, weight=self.weights, label_smoothing=self.smoothing, reduction="sum"
        )

    def weight(self, targets: Tensor) -> Tensor | float:
        """What the sum over a batch is divided by: its images, their class weights, or known labels / K."""
        if self.masked:
            # At least one label, so that a batch of which nothing is known has the loss 0.
            return (targets != UNKNOWN).sum().clamp(min=1) / targets.shape[1]
        if self.weights is None or self.multilabel:
            return float(len(targets))
        return self.weights[targets].sum()


class StackedLoss:
    """The losses of K trials of one task at once; see `Loss`. Smoothing and weights may differ."""

    def __init__(self, losses: Sequence[Loss], device: torch.device) -> None:
        """On the device of the logits."""
        first = losses[0]
        self._multilabel, self._n_outputs = first.multilabel, first.n_outputs
        self._masked = any(loss.masked for loss in losses)
        even = torch.ones(first.n_outputs, device=device)
        weights = [even if loss.weights is None else loss.weights for loss in losses]
        self._weights = torch.stack(weights).unsqueeze(1)
        self._smoothing = torch.tensor([loss.smoothing for loss in losses], device=device).view(-1, 1, 1)

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each trial's mean over its batch, (K,).

        Args:
            logits: (K, n, outputs).
            targets: (K, n); multilabel (K, n, outputs).
        """
        logits = logits.float()
        if self._multilabel:
            return self._of_labels(logits, targets)
        of_classes = -functional.log_softmax(logits, dim=-1) * self._weights
        own = targets.unsqueeze(-1)
        smoothing = self._smoothing.flatten()
        total = (1 - smoothing) * of_classes.gather(-1, own).sum((1, 2))
        total = total + smoothing / self._n_outputs * of_classes.sum((1, 2))
        return total / self._weights.expand_as(logits).gather(-1, own).sum((1, 2))

    def _of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = (targets != UNKNOWN).float() if self._masked else torch.ones_like(logits)
        smooth = targets.float().clamp(max=1) * (1 - self._smoothing) + self._smoothing / 2
        each = functional.binary_cross_entropy_with_logits(
            logits, smooth, weight=known, pos_weight=self._weights, reduction="none"
        )
        return each.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
