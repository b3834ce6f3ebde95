"""A search replayed on recorded trials: our own sampler and early stopping, a virtual clock, workers."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState
from tables import Recorded, Table

from medfathom.definitions.config import BudgetConfig, SchedulerConfig, StudyConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.space import TrialParams, stratum_of, suggest
from medfathom.study.policy.sampler import GainPerSecond
from medfathom.study.stopping import Stopping

FAILED_SECONDS = 1.0


@dataclass(frozen=True)
class Point:
    """A finished trial: when it ended (seconds of the virtual clock), and what it reached."""

    at: float
    auc: float
    loss: float
    test_auc: float


@dataclass
class Replay:
    """One study on one table.

    Attributes:
        table: the recorded trials.
        sampler: proposes trials.
        scheduler: stops them.
        workers: trials that run at once.
        until: the virtual clock's end, in seconds.
    """

    table: Table
    sampler: BaseSampler
    scheduler: SchedulerConfig
    workers: int
    until: float
    points: list[Point] = field(default_factory=list)
    asked: int = 0

    def run(self) -> list[Point]:
        """Run to the end of the clock. Returns the trials that ran their full length, in order of time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._run()
        return self.points

    def _run(self) -> None:
        study = optuna.create_study(direction="maximize", sampler=self.sampler)
        stopping = Stopping(_config(self.table, self.scheduler), [])
        features: set[tuple[str, str]] = set()
        queue: list[tuple[float, int, int]] = []
        open_trials: dict[int, tuple[Trial, TrialParams, Recorded]] = {}
        most = 3 * len(self.table.trials)

        def begin(now: float) -> None:
            if self.asked >= most:
                return
            trial = study.ask()
            self.asked += 1
            params = suggest(trial, self.table.space)
            found = self.table.find(params)
            if found is None:
                study.tell(trial, state=TrialState.FAIL)
                begin(now + FAILED_SECONDS)
                return
            for name in ("architecture", "init", "unfreeze_depth"):
                trial.set_user_attr(name, getattr(params, name))
            shared = (params.architecture, params.init)
            built = self.table.shared_seconds(params) if shared not in features else 0.0
            features.update([shared] if found.shares else [])
            start = (built if found.shares else found.built_seconds) + found.seconds[0]
            open_trials[trial.number] = (trial, params, found)
            heapq.heappush(queue, (now + start, trial.number, 1))

        for _ in range(self.workers):
            begin(0.0)
        while queue:
            now, number, epoch = heapq.heappop(queue)
            if now > self.until:
                return
            trial, params, found = open_trials[number]
            auc = found.aucs[epoch - 1]
            trial.report(auc, epoch)
            last = epoch == self.table.epochs
            stops = stopping.stops(stratum_of(params, self.table.space), number, epoch, auc)
            if not last and not (stops and not _protected(self.sampler, trial)):
                heapq.heappush(queue, (now + found.seconds[epoch], number, epoch + 1))
                continue
            trial.set_user_attr("epochs", epoch)
            trial.set_user_attr("train_seconds", sum(found.seconds[:epoch]))
            if last:
                study.tell(trial, auc)
                self.points.append(Point(now, auc, found.losses[-1], found.test_auc))
            else:
                study.tell(trial, state=TrialState.PRUNED)
            begin(now)


def _protected(sampler: BaseSampler, trial: Trial) -> bool:
    return isinstance(sampler, GainPerSecond) and sampler.protects(trial.params)


def _config(table: Table, scheduler: SchedulerConfig) -> StudyConfig:
    """A definition as far as early stopping reads it."""
    return StudyConfig.model_construct(
        goal="best",
        scheduler=scheduler,
        budget=BudgetConfig(trials=1, epochs=table.epochs),
        space=table.space,
        dataset=NpzDataset.model_construct(),
    )


MakeSampler = Callable[[Table, int], BaseSampler]
