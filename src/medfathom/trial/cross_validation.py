"""A trial on several folds: the same hyperparameters and seed, a network for each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfathom.data.folds import Folds
from medfathom.data.prepared import PreparedData, Split
from medfathom.metrics.calibration import calibrated
from medfathom.metrics.classification import positives
from medfathom.metrics.cross_validated import FoldAuc, fold_auc, mean_auc
from medfathom.trial.record import FoldScore, SplitMetrics
from medfathom.units import Combine


@dataclass(frozen=True)
class RunningFold:
    """The fold that a trial is at.

    Attributes:
        folds: of the study.
        before: what the trial's earlier folds gave, in order.
    """

    folds: Folds
    before: Sequence[FoldScore]

    @property
    def train(self) -> NDArray[np.int64]:
        """Rows of the pool to train on."""
        return self.folds[len(self.before)].train

    @property
    def val(self) -> NDArray[np.int64]:
        """Rows of the pool to judge on."""
        return self.folds[len(self.before)].val

    def judged(self, data: PreparedData, split: Split, logits: NDArray[np.floating], how: Combine) -> FoldAuc:
        """The AUC of this fold.

        Args:
            data: of the study.
            split: the fold's images to judge on.
            logits: of these images.
            how: the predictions of a case's images become one.
        """
        units = split.units
        values = calibrated(data.task, units.logits(data.task, logits, how), 1.0)
        own = self.folds.unit[self.val]
        unit = own if units.cases is None else own[units.cases.first]
        return fold_auc(positives(data.task, units.labels, values.shape[1]), values, unit)

    def together(self, latest: FoldScore, metrics: SplitMetrics) -> SplitMetrics:
        """The metrics of all folds so far: the first fold's own; of several only the AUC is told."""
        if not self.before:
            return metrics
        scores = [*self.before, latest]
        auc, low, high = mean_auc([score.judged for score in scores], self.folds.n_folds)
        losses = [score.log_loss for score in scores if score.log_loss is not None]
        return SplitMetrics(
            auc=auc,
            auc_ci_low=low,
            auc_ci_high=high,
            log_loss=None if len(losses) < len(scores) else float(np.mean(losses)),
            auc_interval=f"cross-validated: mean of {len(scores)} folds, DeLong, logit",
            positive=metrics.positive,
        )
