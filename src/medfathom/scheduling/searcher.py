"""Optuna's ask and tell, through the driver, as a Tune searcher.

It must never raise (that would end the whole fit): what goes wrong in it halts the run and is raised after.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from medfathom.errors import RunError
from medfathom.scheduling.cluster import Slots
from medfathom.scheduling.describe import describe_lost
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.halt import Halt
from medfathom.scheduling.messages import (
    METRIC,
    Beside,
    EpochNews,
    Failure,
    Lost,
    Order,
    RunSettings,
    from_tune,
)
from medfathom.scheduling.trainable import HARD_LIMIT
from medfathom.study.assignment import Assignment
from medfathom.study.between_folds import reason as reason_to_stop
from medfathom.study.driver import Driver
from medfathom.study.watcher import Watcher
from medfathom.trial.alike import MOST_BESIDE, alike, can_fit_beside
from medfathom.trial.gpu_shares import MeasuredShares


class AskTell(Unsaved, Searcher):  # type: ignore[misc]
    """Hands Tune the driver's trials and writes down what comes of them."""

    def __init__(
        self, driver: Driver, watcher: Watcher, halt: Halt, slots: Callable[[], Slots], settings: RunSettings
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._driver = driver
        self._watcher = watcher
        self._halt = halt
        self._slots = slots
        self._settings = settings
        self._adopted = driver.adopt()
        self._numbers: dict[str, int] = {}
        self._latest: dict[int, EpochNews] = {}
        self._begun: dict[str, tuple[Order, float]] = {}
        self._alone: set[int] = set()
        self._beside: dict[int, list[Assignment]] = {}
        self._had_company: set[int] = set()
        self._later: list[Assignment] = []
        self._resting: dict[str, str] = {}
        self._refused: defaultdict[int, set[str]] = defaultdict(set)
        self._told: set[tuple[str, str]] = set()
        self._shares = MeasuredShares()
        self._held: dict[int, float] = {}
        if slots().measured_gpus:
            for params, attributes in driver.ended_on_gpus():
                self._shares.learn(params, attributes)
        self.lost: dict[str, Lost] = {}

    def suggest(self, trial_id: str) -> dict[str, Order] | str | None:
        """The next trial: one left by an earlier run first."""
        config: dict[str, Order] | str | None = self._halt.or_halt(
            lambda: self._suggest(trial_id), otherwise=Searcher.FINISHED
        )
        return config

    def _suggest(self, trial_id: str) -> dict[str, Order] | str | None:
        if self._halt.stop_all():  # also where the last run ended for a reason that still holds
            return str(Searcher.FINISHED)
        if not self._room():
            return None
        assignment = self._next()
        if assignment is None:
            return self._none_left()
        self._numbers[trial_id] = assignment.number
        order = self._order(assignment)
        self._begun[trial_id] = (order, time.monotonic())
        self._watcher.trial_begins(assignment)
        return {"order": order}

    def _next(self) -> Assignment | None:
        if self._adopted:
            return self._adopted.pop(0)
        assignment = self._driver.assign()
        return self._later.pop(0) if assignment is None and self._later else assignment

    def _order(self, assignment: Assignment) -> Order:
        name = self._driver.checkpoint_name
        return Order(
            assignment,
            checkpoint=name(assignment.number),
            unfinished=tuple(self._driver.unfinished()) if len(self._slots().nodes) > 1 else None,
            alone=assignment.number in self._alone,
            refused=self._refused_by(assignment.number),
            gpus=self._hold_gpus(assignment) if self._slots().measured_gpus else None,
            beside=tuple(Beside(other, name(other.number)) for other in self._company(assignment)),
        )

    def _company(self, first: Assignment) -> list[Assignment]:
        """Trials that wait, and are fitted beside one that begins; they are held meanwhile.

        Not on several nodes: their checkpoints would lie where they may not go on.
        """
        one_training = can_fit_beside(self._driver.config) and len(self._slots().nodes) == 1
        if not one_training or not self._fits_beside(first, first):
            return []
        company = [other for other in self._adopted if self._fits_beside(first, other)][:MOST_BESIDE]
        if not first.reported:
            company += self._driver.take_alike(first, MOST_BESIDE - len(company))
        self._adopted = [other for other in self._adopted if other not in company]
        self._beside[first.number] = company
        self._had_company.update(other.number for other in company)
        return company

    def _fits_beside(self, first: Assignment, other: Assignment) -> bool:
        as_far = len(first.reported) == len(other.reported)
        free = other.number not in self._alone | self._had_company
        return as_far and free and alike(first.params, other.params)

    def _let_go_of_company(self, number: int) -> None:
        """Each of the trials beside one may go on in its own turn.

        In a confirmation after the rest of the queue: the first seeds of all configurations come first.
        """
        company = self._beside.pop(number, [])
        if self._driver.queue_only:
            self._later += company
        else:
            self._adopted += company

    def _room(self) -> bool:
        """Whether another trial can start now: one that was asked for earlier would only wait."""
        gpus = self._slots().measured_gpus
        free = not gpus or sum(self._held.values()) + self._shares.smallest() <= gpus + 1e-9
        return free and len(self._numbers) < max(1, self._slots().concurrent - len(self._resting))

    def _hold_gpus(self, assignment: Assignment) -> float:
        """A trial's share of a GPU, by measured memory; held until the trial ends."""
        alone = assignment.number in self._alone
        self._held[assignment.number] = 1.0 if alone else self._shares.share(assignment.params)
        return self._held[assignment.number]

    def _none_left(self) -> str | None:
        """Nothing new to begin: finished, or waiting for trials in hand (another driver's too) to end."""
        if self._driver.done():
            return str(Searcher.FINISHED)
        if not self._numbers:
            self._adopted = self._driver.adopt()
        return None

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Write down an epoch (the last one comes with `on_trial_complete`)."""
        self._halt.or_halt(lambda: self._result(trial_id, from_tune(result)), otherwise=None)

    def _result(self, trial_id: str, news: EpochNews | Failure | None) -> None:
        if trial_id not in self._numbers:  # of a worker that rests
            return
        if isinstance(news, Failure):
            self._send_on(trial_id, news)
        else:
            self._note(self._numbers[trial_id], news)

    def _send_on(self, trial_id: str, failure: Failure) -> None:
        """Give a trial to another node than the one that cannot take part.

        Another worker of the same node may take it first, and refuses it as well.

        Raises:
            RunError: every node refuses it, or every node rests and no trial is at work.
        """
        number = self._numbers.pop(trial_id)
        order, _ = self._begun.pop(trial_id)
        self._held.pop(number, None)
        self._let_go_of_company(number)
        self._adopted.append(order.assignment)
        self._resting[trial_id] = failure.node
        self._refused[number].add(failure.node)
        able = {node.id for node in self._slots().able}
        if self._refused_by(number) >= able or (set(self._resting.values()) >= able and not self._numbers):
            raise _of_the_node(number, failure)
        if (failure.node, failure.reason) not in self._told:
            self._told.add((failure.node, failure.reason))
            self._watcher.note(f"{failure.reason}; its trials go to the other nodes")

    def _refused_by(self, number: int) -> frozenset[str]:
        """The nodes that refused a trial and still rest: after that they are tried again."""
        return frozenset(self._refused[number] & set(self._resting.values()))

    def _note(self, number: int, news: EpochNews | Failure | None) -> None:
        if isinstance(news, EpochNews):
            self._latest[number] = news
            self._driver.report(number, news.epoch, news.value)
            self._watcher.epoch(number, news.epoch, news.value)
            if news.epoch >= self._driver.config.budget.epochs - 1:
                self._let_go_of_company(number)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the trial in its true state; one that a halt interrupted stays RUNNING (see `end_in_hand`)."""
        self._halt.or_halt(lambda: self._complete(trial_id, from_tune(result), error), otherwise=None)

    def _complete(self, trial_id: str, news: EpochNews | Failure | None, error: bool) -> None:
        self._resting.pop(trial_id, None)
        if trial_id not in self._numbers:
            return
        number = self._numbers.pop(trial_id)
        self._let_go_of_company(number)
        self._note(number, news)
        order, begun = self._begun.pop(trial_id)
        self._held.pop(number, None)
        trainings = order.assignment.trainings(self._driver.config)
        if error and not isinstance(news, Failure):
            lost = self.lost.get(trial_id, Lost())
            if not lost.began:
                self._adopted.append(order.assignment)
                return
            news = Failure(self._reason_lost(lost, begun, trainings))
        if isinstance(news, Failure) and news.memory and number not in self._alone:
            self._try_alone(order.assignment, news)
            return
        if isinstance(news, Failure) and news.mend:
            raise _of_the_node(number, news)  # the trial stays, to be gone on with
        latest = self._latest.pop(number, None)
        known = latest.attributes if latest is not None else {}
        self._shares.learn(order.assignment.params, known)
        if isinstance(news, Failure):
            if error and latest is None:
                news = replace(news, identity=describe_lost(self._settings, order))
            self._fail(number, news, known)
        elif news is not None and (news.finished or not self._halt.reason):
            self._end(number, news)
        elif latest is not None:
            self._latest[number] = latest  # a halt interrupted it

    def _try_alone(self, assignment: Assignment, failure: Failure) -> None:
        self._alone.add(assignment.number)
        self._adopted.append(assignment)
        self._watcher.note(
            f"trial {assignment.number}: {failure.reason}; trying once more, alone on its device"
        )

    def _fail(self, number: int, failure: Failure, known: Mapping[str, object]) -> None:
        identity = failure.identity.attributes() if failure.identity is not None else {}
        if self._driver.fail(number, failure.reason, {**identity, **known}):
            self._watcher.trial_ends(number, "FAIL", None, failure.reason)

    def _end(self, number: int, last: EpochNews) -> None:
        if last.parcel is not None:
            try:
                last.parcel.unpack()
            except OSError as error:
                reason = f"its model cannot be written to {last.parcel.folder} ({error.strerror or error})"
                self._fail(number, Failure(reason), last.attributes)
                return
        if last.finished:
            if self._driver.complete(number, last.value, last.attributes, last.validation):
                self._watcher.trial_ends(number, "COMPLETE", last.value, "")
        else:
            config = self._driver.config
            trainings, scheduler = config.dataset.splits.trainings, config.scheduler.name
            reason = reason_to_stop(last.epoch, config.budget.epochs, trainings, scheduler)
            if self._driver.prune(number, last.attributes, reason):
                self._watcher.trial_ends(number, "PRUNED", last.value, reason)

    def end_in_hand(self) -> None:
        """The budget leaves no more for the trials that a halt interrupted, or an earlier run left."""
        known = {number: news.attributes for number, news in self._latest.items()}
        ended = self._driver.stop_in_hand(known, self._halt.reason)
        if ended:
            self._watcher.note(f"{len(ended)} running trials were stopped: {self._halt.reason}")

    def _reason_lost(self, lost: Lost, begun: float, trainings: int) -> str:
        minutes = self._driver.config.budget.trial_minutes
        if minutes is not None and time.monotonic() - begun > minutes * 60 * trainings * HARD_LIMIT:
            return f"out of time: an epoch hung beyond budget.trial_minutes = {minutes:g}"
        return lost.reason

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the driver is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def _of_the_node(number: int, failure: Failure) -> RunError:
    return RunError(f"trial {number}: {failure.reason}; {failure.mend}")
