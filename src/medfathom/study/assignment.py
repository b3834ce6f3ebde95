"""A trial as the driver hands it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import TrialParams
from medfathom.trial.record import FoldScore


@dataclass(frozen=True)
class Assignment:
    """A trial to run.

    `reported` holds the epochs that the storage knows already. A `protected` trial is not stopped early.
    """

    number: int
    params: TrialParams
    stratum: str
    seed: int
    reported: Mapping[int, float] = field(default_factory=dict)
    protected: bool = False
    scored: Sequence[FoldScore] = ()
    """Of a trial that goes on with an earlier one: what that reached on the first folds."""

    def trainings(self, config: StudyConfig) -> int:
        """How many trainings the trial may have: one, or those of all later folds."""
        return config.dataset.splits.trainings - len(self.scored) if self.scored else 1


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's own seed: the same for the same study seed and trial number."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])
