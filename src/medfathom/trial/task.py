"""Everything of a trial but its parameters, and what makes a checkpoint the trial's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.space import TrialParams

INFERENCE_BATCH = 64
"""Images at once where no gradient is needed: more gains little."""


@dataclass(frozen=True)
class TrialTask:
    """Everything of a trial but its parameters."""

    data: PreparedData
    training: TrainingConfig
    max_epochs: int
    seed: int
    cache_dir: Path
    checkpoint: Path | None
    device: str
    """`cpu`, `cuda:0`, …"""
    threads: int
    """CPU threads that the trial may use."""
    depths: frozenset[int] = frozenset()
    """Unfreeze depths of the study's trials: features are kept with an eye to them."""
    measures_latency: bool = False
    """Whether the time for one image is measured after the last epoch."""


def identity_of(params: TrialParams, task: TrialTask) -> dict[str, object]:
    """What makes a checkpoint this trial's."""
    return {
        "parameters": params.model_dump(mode="json"),
        "seed": task.seed,
        "max_epochs": task.max_epochs,
        "data": task.data.fingerprint,
    }
