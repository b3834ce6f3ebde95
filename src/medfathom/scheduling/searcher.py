"""Optuna's ask and tell, through the driver, as a Tune searcher.

It must never raise (that would end the whole fit): what goes wrong in it halts the run and is raised after.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ray.tune.search import Searcher

from medfathom.errors import RunError
from medfathom.scheduling.cluster import Slots
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.gpu_shares import MeasuredShares
from medfathom.scheduling.halt import Halt
from medfathom.scheduling.messages import METRIC, TIME
from medfathom.scheduling.trainable import HARD_LIMIT
from medfathom.study.driver import Assignment, Driver
from medfathom.study.watcher import Watcher


class AskTell(Unsaved, Searcher):  # type: ignore[misc]
    """Hands Tune the driver's trials and writes down what comes of them."""

    def __init__(self, driver: Driver, watcher: Watcher, halt: Halt, slots: Slots) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._driver = driver
        self._watcher = watcher
        self._halt = halt
        self._slots = slots
        self._adopted = driver.adopt()
        self._numbers: dict[str, int] = {}
        self._latest: dict[int, dict[str, Any]] = {}
        self._begun: dict[str, tuple[Assignment, float]] = {}
        self._alone: set[int] = set()
        self._shares = MeasuredShares()
        self._held: dict[int, float] = {}
        if slots.measured_gpus:
            for params, attributes in driver.ended_on_gpus():
                self._shares.learn(params, attributes)
        self.lost: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial: one left by an earlier run first."""
        config: dict[str, Any] | str | None = self._halt.or_halt(
            lambda: self._suggest(trial_id), otherwise=Searcher.FINISHED
        )
        return config

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._halt.reason:
            return str(Searcher.FINISHED)
        if not self._room():
            return None
        assignment = self._adopted.pop(0) if self._adopted else self._driver.assign()
        if assignment is None:
            return self._none_left()
        self._numbers[trial_id] = assignment.number
        self._begun[trial_id] = (assignment, time.monotonic())
        self._watcher.trial_begins(assignment)
        return self._gpus(assignment) | {
            "number": assignment.number,
            "alone": assignment.number in self._alone,
            "seed": assignment.seed,
            "stratum": assignment.stratum,
            "params": assignment.params.model_dump_json(),
            "checkpoint": self._driver.checkpoint_name(assignment.number),
            "running": self._driver.running() if self._slots.nodes > 1 else None,
            "reported": {str(epoch): auc for epoch, auc in assignment.reported.items()},
        }

    def _room(self) -> bool:
        """Whether one more trial would find a place: else it would be asked for long before it runs."""
        gpus = self._slots.measured_gpus
        free = not gpus or sum(self._held.values()) + self._shares.smallest() <= gpus + 1e-9
        return free and len(self._numbers) < self._slots.concurrent

    def _gpus(self, assignment: Assignment) -> dict[str, float]:
        """A trial's share of a GPU, where it goes by measured memory."""
        if not self._slots.measured_gpus:
            return {}
        alone = assignment.number in self._alone
        self._held[assignment.number] = 1.0 if alone else self._shares.share(assignment.params)
        return {"gpus": self._held[assignment.number]}

    def _none_left(self) -> str | None:
        """Nothing new to begin: finished, or waiting for trials in hand (another driver's too) to end."""
        if self._driver.done():
            return str(Searcher.FINISHED)
        if not self._numbers:
            self._adopted = self._driver.adopt()
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write down an epoch (the last one comes with `on_trial_complete`)."""
        self._halt.or_halt(lambda: self._note(trial_id, result), otherwise=None)

    def _note(self, trial_id: str, result: dict[str, Any]) -> None:
        number = self._numbers[trial_id]
        if METRIC in result:
            self._latest[number] = json.loads(result["attributes"])
            epoch, auc = int(result[TIME]), float(result[METRIC])
            self._driver.report(number, epoch, auc)
            self._watcher.epoch(number, epoch, auc)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the trial in its true state; one that a halt interrupted stays RUNNING, to be gone on with."""
        self._halt.or_halt(lambda: self._complete(trial_id, result, error), otherwise=None)

    def _complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        if trial_id not in self._numbers:
            return
        if result:
            self._note(trial_id, result)
        number = self._numbers.pop(trial_id)
        assignment, begun = self._begun.pop(trial_id)
        self._held.pop(number, None)
        if result and result.get("memory") and number not in self._alone:
            self._alone.add(number)
            self._adopted.append(assignment)
            self._watcher.note(f"trial {number}: {result['failure']}; trying once more, alone on its device")
            return
        if result and result.get("other_data"):
            raise RunError(f"trial {number}: {result['failure']}")  # it stays, to be gone on with
        attributes = self._latest.pop(number, {})
        self._shares.learn(assignment.params, attributes)
        if error or (result and "failure" in result):
            reason = (result or {}).get("failure") or self._reason_lost(trial_id, begun)
            if self._driver.fail(number, reason, attributes):
                self._watcher.trial_ends(number, "FAIL", None, reason)
        elif result and result["finished"]:
            auc = float(result[METRIC])
            if self._driver.complete(number, auc, attributes):
                self._watcher.trial_ends(number, "COMPLETE", auc, "")
        elif result and not self._halt.reason:
            reason = f"stopped by {self._driver.config.scheduler.name} at epoch {result[TIME]}"
            if self._driver.prune(number, attributes, reason):
                self._watcher.trial_ends(number, "PRUNED", float(result[METRIC]), reason)

    def _reason_lost(self, trial_id: str, begun: float) -> str:
        minutes = self._driver.config.budget.trial_minutes
        if minutes is not None and time.monotonic() - begun > minutes * 60 * HARD_LIMIT:
            return f"out of time: an epoch hung beyond budget.trial_minutes = {minutes:g}"
        return self.lost.get(trial_id, "the worker was lost")

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the driver is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
