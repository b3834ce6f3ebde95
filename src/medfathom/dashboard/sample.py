"""The page of a large study: a fair sample of its trials.

optuna-dashboard sends a page all trials with all that is known of each, and draws a curve for each. Of 4,000
trials that takes 5 s; of 20,000 nothing was drawn after five minutes (benchmarks/results/storage.md).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from medfathom.study.ids import trial_id_of
from medfathom.study.storage import Storage
from medfathom.study.trial_rows import read_trials

LARGE = 2_000
"""A study of more trials is shown as a sample."""
SHOWN = 250
"""So many trials at most, but for those that run and the best."""


@dataclass(frozen=True)
class Sample:
    """Which trials of a study are shown: one in `every` by their numbers, and all that come later."""

    n_trials: int
    """Of the study, when it was first asked for."""
    every: int
    last_id: int
    """The highest id at that time; 0: there were none."""
    ids: frozenset[int]
    """Of those up to then that are shown: the running and the best ones among them."""


class SampledStorage(Storage):
    """A storage that gives a sample of a large study, chosen when it is first asked for.

    It stays the same for as long as this object lives: the page asks for what comes after the trials that
    it has, by their count.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._samples: dict[tuple[int, str], Sample] = {}
        self._choosing = Lock()

    @override
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if trial_id_greater_than > -1:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        sample = self.sample(study_id)
        shown = read_trials(self.engine, study_id, newer_than=sample.last_id, also=sample.ids)
        return shown if states is None else [t for t in shown if t.state in states]

    def sample(self, study_id: int) -> Sample:
        """What is shown of a study."""
        # A study that is deleted and begun anew may get the same id: SQLite gives them again.
        study = study_id, str(self.get_study_user_attrs(study_id).get("uid", ""))
        with self._choosing:
            if study not in self._samples:
                trials = read_trials(self.engine, study_id, attributes=())
                self._samples[study] = sample_of(trials, self.get_study_directions(study_id))
            return self._samples[study]


def sample_of(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> Sample:
    """A sample that does not go by what trials reached, but for the best ones, so that plots of it are fair.

    Args:
        trials: of a study, in the order of their ids; no more of them is needed than number, state, values.
        directions: of its objectives.
    """
    every = 1 if len(trials) <= LARGE else -(-len(trials) // SHOWN)
    in_turn = {trial_id_of(t) for t in trials if t.number % every == 0 or not t.state.is_finished()}
    best = {trial_id_of(t) for t in unbeaten(trials, directions)}
    last_id = max((trial_id_of(t) for t in trials), default=0)
    return Sample(len(trials), every, last_id, frozenset(in_turn | best))


def unbeaten(trials: Iterable[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The complete trials that no other beats or equals in all objectives (of equal ones the first)."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]

    def costs(trial: FrozenTrial) -> list[float]:
        return [sign * value for sign, value in zip(signs, trial.values, strict=True)]

    found: list[FrozenTrial] = []
    for trial in sorted((t for t in trials if t.state == TrialState.COMPLETE), key=costs):
        own = costs(trial)
        if not any(all(a <= b for a, b in zip(costs(other), own, strict=True)) for other in found):
            found.append(trial)
    return found
