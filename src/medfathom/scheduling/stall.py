"""Workers that do not come, workers that cannot be made, and workers that are lost with their node."""

from __future__ import annotations

import pickle
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import Order, of_the_environment, said_last

NO_WORKER_S = 300.0
"""So long, in seconds, a fit waits for a worker while none of its trials runs."""
MOST_UNMADE = 3
"""So many workers of a node may fail while they are made, without one that reports an epoch in between."""
LONGEST_PAUSE_S = 16.0
"""Seconds. Ray takes up to 25 s to notice that a node is gone; until then it places trials on it again."""


class NoWorkerError(Exception):
    """Ray gave no worker to any trial of a fit."""


class Stall(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends a fit in which trials wait for workers and none runs, so that a new fit can ask again.

    Ray can lose count of its CPUs when workers are killed. A trial that needs the whole device (one that ran
    out of memory beside others) would then wait for ever. A Ray of our own is started anew (`Cluster`).
    """

    def __init__(self) -> None:
        self._since = time.monotonic()

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Tune calls this several times a second.

        Raises:
            NoWorkerError: trials have waited for `NO_WORKER_S` and none ran.
        """
        states = {trial.status for trial in trials}
        if "RUNNING" in states or "PENDING" not in states:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > NO_WORKER_S:
            raise NoWorkerError(f"no worker came for {NO_WORKER_S:g} s")


class Recoveries(Unsaved, tune.Callback):  # type: ignore[misc]
    """Tells which trial lost its worker, before another one goes on with it.

    On a cluster that others started it waits as well: without the pauses (2, 4, 8, 16 s) all tries of a trial
    can be lost with one node.
    """

    def __init__(self, tell: Callable[[str], None], *, pauses: bool) -> None:
        self._tell = tell
        self._pauses = pauses

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Tune calls this when it is about to begin a lost trial again."""
        order: Order = trial.config["order"]
        if not order.over:
            self._tell(f"trial {order.assignment.number} lost its worker; another worker goes on with it")
        if self._pauses:
            time.sleep(min(2.0**trial.num_failures, LONGEST_PAUSE_S))


class Unmade(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends a run where workers raise while they are made: no trial can ever begin there.

    It is no fault of a trial: `StratifiedScheduler` leaves each to be run anew.
    """

    def __init__(self) -> None:
        self._failed: Counter[str] = Counter()

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A worker of this node works."""
        self._failed.pop(result["node_ip"], None)

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Where Tune is about to begin a lost trial again; else it calls `on_trial_error`."""
        self.on_trial_error(iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Count the workers of each node.

        Raises:
            NodeError: a node makes none.
        """
        if (error := error_of(trial)) and raised_while_made(error):
            address = _address_in(str(error))
            self._failed[address] += 1
            if self._failed[address] >= MOST_UNMADE:
                raise of_the_environment(_name_of(address), str(error).splitlines()[-1])


def error_of(trial: Any) -> BaseException | None:
    """By which Tune's trial lost its worker; None: Ray gives no reason.

    Not `get_pickled_error`: that looks where Tune copies the file to, later or never.
    """
    file = trial.pickled_error_file
    if file is None or not Path(file).is_file():
        return None
    error: BaseException = pickle.loads(Path(file).read_bytes())  # noqa: S301  written by this process
    return error


def raised_while_made(error: BaseException | None) -> bool:
    """Whether a worker was lost because its own code raised before it took a trial."""
    return isinstance(error, RayActorError) and error.actor_init_failed


def why_lost(error: BaseException) -> str:
    """In words: Ray's own are a page, with ids and ports."""
    if raised_while_made(error) or not isinstance(error, RayActorError):
        return said_last(error)
    return "its process was killed or crashed, or its node is gone; memory may have run out"


def _address_in(text: str) -> str:
    """Of the node that Ray's message names; empty: it names none."""
    found = re.search(r"\bip=([^,)\s]+)", text)
    return found[1] if found else ""


def _name_of(address: str) -> str:
    names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in ray.nodes()}
    return str(names.get(address, address))
