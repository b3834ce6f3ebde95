"""Everything of a trial but its parameters, and what makes a checkpoint the trial's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medfathom.data.folds import Folds
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.space import TrialParams
from medfathom.models.weights.lookup import NO_SOURCES, Sources
from medfathom.trial.record import FoldScore

INFERENCE_BATCH = 64
"""Images at once where no gradient is needed: more gains little."""


@dataclass(frozen=True)
class TrialTask:
    """Everything of a trial but its parameters."""

    data: PreparedData
    training: TrainingConfig
    max_epochs: int
    """Of one training."""
    seed: int
    cache_dir: Path
    checkpoint: Path | None
    device: str
    """`cpu`, `cuda:0`, …"""
    threads: int
    """CPU threads that the trial may use."""
    depths: frozenset[int] = frozenset()
    """Unfreeze depths of the study's trials: features are kept with an eye to them."""
    objective: str = "auc"
    """What the study looks for, see `metrics.rules.OBJECTIVES`."""
    measures_latency: bool = False
    """Whether the time for one image is measured after the last epoch."""
    folds: Folds | None = None
    """Of a study that cross-validates."""
    scored: Sequence[FoldScore] = ()
    """What an earlier trial with the same parameters and seed reached on the first folds."""
    sources: Sources = field(default_factory=lambda: NO_SOURCES)
    """The confirmed models of the studies that inits name."""

    @property
    def whole_epochs(self) -> int:
        """Of a complete trial, over all folds."""
        return self.max_epochs * (len(self.folds) if self.folds is not None else 1)


def identity_of(params: TrialParams, task: TrialTask) -> dict[str, object]:
    """What makes a checkpoint this trial's."""
    folds = {} if task.folds is None else {"folds": task.folds.fold.shape[0], "of": task.folds.n_folds}
    return {
        **folds,
        "parameters": params.model_dump(mode="json"),
        "seed": task.seed,
        "max_epochs": task.max_epochs,
        "data": task.data.fingerprint,
    }
