"""One run's hold on a study: trials handed out, reports taken down, each ended in its true state."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import TrialParams, label, stratum_of, suggest
from medfathom.errors import RunError, cause_of
from medfathom.study.sampling import StratumSampler, make_sampler
from medfathom.study.sharing import Leases, one_driver_at_a_time
from medfathom.study.summary import Counts, count_states
from medfathom.text import command
from medfathom.trial.remote_checkpoints import RemoteCheckpoints

OUTAGE_S = 600.0
"""How long a run waits for a storage that does not answer before it gives up."""


OUTAGE_POLL_S = 1.0


SHARED_POLL_S = 1.0
"""How often a driver with nothing to do asks what the others have done."""


T = TypeVar("T")


@dataclass(frozen=True)
class Assignment:
    """A trial to run: `reported` holds the epochs that the storage knows already."""

    number: int
    params: TrialParams
    stratum: str
    seed: int
    reported: Mapping[int, float] = field(default_factory=dict)


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's own seed: the same for the same study seed and trial number."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


class Recorder(Protocol):
    """Keeps pictures and notes of trials. Called twice where the storage did not answer."""

    def before_end(self, trial_id: int, state: TrialState, value: float | None) -> None:
        """A trial is about to end in this state, all its attributes written."""

    def after_end(self, trial_id: int) -> None:
        """It has ended."""

    def close(self) -> None:
        """The run is over."""


class Driver:
    """A study's trials, as one driver deals with them. Used from the driver's main thread alone.

    With `leases` other drivers may work on the same study; without, this one is alone.
    """

    def __init__(
        self,
        study: Study,
        storage: RDBStorage,
        config: StudyConfig,
        *,
        checkpoints: Path,
        wait: Callable[[str], None],
        leases: Leases | None = None,
        file: Path | None = None,
    ) -> None:
        """`file`: the database, where it is one file (SQLite)."""
        self.study = study
        self.config = config
        self._rdb = storage
        self._checkpoints = checkpoints
        self._wait = wait
        self._leases = leases
        self._file = file
        self._file_id = _file_id(file)
        url = config.resources.checkpoint_url
        self._remote = RemoteCheckpoints(url) if url is not None else None
        self._open: dict[int, int] = {}
        self._known: dict[int, set[int]] = {}
        past = self.trials()
        self._finished = count_states(past).finished
        self._per_stratum = Counter(map(_stratum, past))
        self._looked = self._renewed = time.monotonic()
        sampler = make_sampler(config.sampler, config.space, self._sampler_seed(len(past)))
        divided = config.goal == "compare" and config.sampler.name != "grid"  # a grid has the strata in it
        self._strata = config.space.strata() if divided else []
        self._stratum_sampler = StratumSampler(sampler, config.space) if self._strata else None
        study.sampler = self._stratum_sampler or sampler
        self.recorder: Recorder | None = None
        self.budget = trials_of(config)

    def _sampler_seed(self, n_past: int) -> int:
        """Another one for each start, and for each of several drivers: else proposals would come twice.

        A grid is gone through in one order.
        """
        if self.config.sampler.name == "grid":
            return self.config.seed
        if self._leases is None:
            return trial_seed(self.config.seed, 10**6 + n_past)
        return trial_seed(self.config.seed, int(self._leases.owner, 16))

    def checkpoint_name(self, number: int) -> str:
        """A trial's checkpoint, under the folder of checkpoints of whatever node runs it."""
        return f"{self._checkpoints.name}/trial-{number:05d}.pt"

    def checkpoint(self, number: int) -> Path:
        """A trial's checkpoint on this machine; it goes when the trial ends."""
        return self._checkpoints.parent / self.checkpoint_name(number)

    def adopt(self) -> list[Assignment]:
        """Trials that are RUNNING in nobody's hands, to go on with under their own numbers."""
        with self.apart():  # else a trial could be taken between its driver's asking for it and claiming it
            left = self.trials(TrialState.RUNNING)
            mine = [t for t in left if t.number not in self._open and self._take_over(t)]
        return [self._resumed(trial) for trial in mine]

    def _take_over(self, left: FrozenTrial) -> bool:
        """Claim a trial; not one that its driver ended since it was listed."""
        trial_id = left._trial_id
        leases = self._leases
        if leases is None:
            return True
        if not self._claim(trial_id):
            return False
        if self._patiently(lambda: self._rdb.get_trial(trial_id)).state == TrialState.RUNNING:
            return True
        self._patiently(lambda: leases.release([trial_id]))
        return False

    def _resumed(self, left: FrozenTrial) -> Assignment:
        """A trial to go on with. Its run may have died before all of its parameters were written."""
        if self._stratum_sampler is not None:
            self._stratum_sampler.stratum = self._neediest_stratum(left.params)
        trial = self._patiently(lambda: optuna.trial.Trial(self.study, left._trial_id))
        assignment = self._assignment(trial, left.intermediate_values)
        if "stratum" not in left.user_attrs:
            self._per_stratum[assignment.stratum] += 1
        return assignment

    def done(self) -> bool:
        """Whether the budget of trials is spent and all of them have ended."""
        self._look()
        return self._finished >= self.budget

    def assign(self) -> Assignment | None:
        """Ask for a new trial; None when all that the budget allows are begun."""
        with self.apart():
            begun = self._finished + len(self._open)
            if self._leases is not None:
                counts = self.counts()
                begun = counts.finished + counts.running
            if begun >= self.budget:
                return None
            if self._stratum_sampler is not None:
                self._stratum_sampler.stratum = self._neediest_stratum()
            trial = self._patiently(self.study.ask)
            if not self._claim(trial._trial_id):
                raise RunError(f"trial {trial.number}: another driver claimed it as it was begun; run again")
        assignment = self._assignment(trial, {})
        self._per_stratum[assignment.stratum] += 1
        return assignment

    def _assignment(self, trial: optuna.trial.Trial, reported: Mapping[int, float]) -> Assignment:
        params = self._patiently(lambda: suggest(trial, self.config.space))
        stratum = stratum_of(params, self.config.space)
        # `confirm` gives its trials their seeds; a resumed trial has its own already.
        seed = int(trial.user_attrs.get("seed", trial_seed(self.config.seed, trial.number)))
        self._open[trial.number] = trial._trial_id
        self._known[trial.number] = set(reported)
        self.annotate(
            trial.number,
            {
                "architecture": params.architecture,
                "init": params.init,
                "unfreeze_depth": params.unfreeze_depth,
                "stratum": stratum,
                "seed": seed,
                "max_epochs": self.config.budget.epochs,
                "definition_hash": self.config.definition_hash,
            },
        )
        return Assignment(trial.number, params, stratum, seed, dict(reported))

    def _neediest_stratum(self, known: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """The first of the strata with the fewest trials, however they ended.

        Were failed ones not counted, a stratum that always fails would take the whole budget. `known` are
        parameters that a trial has already: only strata that they leave open are considered.
        """
        sampler = self._stratum_sampler
        open_strata = [s for s in self._strata if sampler is None or sampler.fits(s, known)]
        if self._leases is not None:
            self._per_stratum = Counter(map(_stratum, self.trials()))
        return min(open_strata, key=lambda s: self._per_stratum[label(s)])

    def report(self, number: int, epoch: int, auc: float) -> None:
        """Take down an epoch's validation AUC; a second report of an epoch changes nothing."""
        trial_id = self._open.get(number)
        if trial_id is None:
            return
        if epoch not in self._known[number]:
            try:
                self._patiently(lambda: self._rdb.set_trial_intermediate_value(trial_id, epoch, auc))
            except UpdateFinishedTrialError:  # another driver took it over, and has ended it
                self._open.pop(number)
                return
            self._known[number].add(epoch)

    def annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Write user attributes of a trial, all in one transaction; of one that has ended nothing."""
        trial_id = self._open[number]
        trials = sa.table("trials", sa.column("trial_id"), sa.column("state"))
        state = sa.select(sa.cast(trials.c.state, sa.String)).where(trials.c.trial_id == trial_id)
        table = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value, allow_nan=False)}
            for key, value in attributes.items()
        ]

        def write() -> None:
            with self._rdb.engine.begin() as connection:
                if connection.execute(state).scalar() != TrialState.RUNNING.name:
                    return
                mine = (table.c.trial_id == trial_id) & table.c.key.in_(list(attributes))
                connection.execute(sa.delete(table).where(mine))
                connection.execute(sa.insert(table), rows)

        if rows:
            self._patiently(write)

    def complete(self, number: int, auc: float, attributes: Mapping[str, Any]) -> bool:
        """End a trial that ran its full length. False: another driver has taken it over, it is not ours."""
        return self._end(
            number, TrialState.COMPLETE, auc, {**attributes, "stop_reason": "ran its full length"}
        )

    def prune(self, number: int, attributes: Mapping[str, Any], reason: str) -> bool:
        """End a trial that the scheduler stopped. False: see `complete`."""
        return self._end(number, TrialState.PRUNED, None, {**attributes, "stop_reason": reason})

    def fail(self, number: int, reason: str, attributes: Mapping[str, Any]) -> bool:
        """End a trial that raised, was lost, or ran out of time or memory. False: see `complete`."""
        return self._end(number, TrialState.FAIL, None, {**attributes, "stop_reason": reason})

    def _end(
        self, number: int, state: TrialState, value: float | None, attributes: Mapping[str, Any]
    ) -> bool:
        if self._lost(number):
            return False
        self.annotate(number, attributes)
        recorder, trial_id = self.recorder, self._open[number]
        if recorder is not None:  # artifacts cannot be added to a finished trial
            self._patiently(lambda: recorder.before_end(trial_id, state, value))
        self._patiently(lambda: self.study.tell(number, value, state=state, skip_if_finished=True))
        self._open.pop(number)
        self._finished += 1
        if self._leases is not None:
            leases = self._leases
            self._patiently(lambda: leases.release([trial_id]))
        self.checkpoint(number).unlink(missing_ok=True)
        if self._remote is not None:
            try:
                self._remote.remove(self.checkpoint_name(number))
            except OSError as error:
                self._wait(f"a checkpoint of trial {number} stays behind ({error})")
        if recorder is not None:
            self._patiently(lambda: recorder.after_end(trial_id))
        return True

    def close_records(self) -> None:
        """Let the recorder write what it held back."""
        if self.recorder is not None:
            self._patiently(self.recorder.close)

    def running(self) -> list[int]:
        """Numbers of all trials that are under way, other drivers' too."""
        return [t.number for t in self.trials(TrialState.RUNNING)]

    def _lost(self, number: int) -> bool:
        """Whether another driver took the trial over while this one was held up; it is then the other's."""
        self.renew(force=True)
        return number not in self._open

    def renew(self, *, force: bool = False) -> None:
        """Hold on to the trials in hand; to be called often, it writes only now and then."""
        leases = self._leases
        if leases is None or not self._open:
            return
        if force or time.monotonic() - self._renewed > leases.seconds / 3:
            kept = self._patiently(lambda: leases.renew(self._open.values()))
            self._open = {number: trial_id for number, trial_id in self._open.items() if trial_id in kept}
            self._renewed = time.monotonic()

    def release(self) -> None:
        """Let go of what is not ended: the next run, or another driver, goes on with it at once."""
        if self._leases is not None and self._open:
            try:
                self._leases.release(self._open.values())
            except sa.exc.OperationalError as error:
                reason = cause_of(error)
                self._wait(f"trials in hand stay held for {self._leases.seconds:.0f} s ({reason})")
        self._open.clear()

    def ended_on_gpus(self) -> list[tuple[TrialParams, Mapping[str, Any]]]:
        """Parameters and records of ended trials whose device's memory is known."""
        ended = [t for t in self.trials() if t.state.is_finished() and "device_memory_bytes" in t.user_attrs]
        return [(suggest(t, self.config.space), t.user_attrs) for t in ended]

    def counts(self) -> Counts:
        """Trials by state."""
        return count_states(self.trials())

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials (or those in the given states), not to be changed."""
        return self._patiently(lambda: self.study.get_trials(deepcopy=False, states=states or None))

    def _claim(self, trial_id: int) -> bool:
        leases = self._leases
        return leases is None or self._patiently(lambda: leases.claim(trial_id))

    def _look(self) -> None:
        """Count again what other drivers may have ended, but not at every question."""
        if self._leases is not None and time.monotonic() - self._looked > SHARED_POLL_S:
            self._finished = self.counts().finished
            self._looked = time.monotonic()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Other drivers wait: so that two do not both take the last trial of a budget. Not to be nested."""
        if self._leases is None:
            yield
            return
        with ExitStack() as stack:
            self._patiently(lambda: stack.enter_context(one_driver_at_a_time(self._rdb.engine)))
            yield

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it; while the storage does not answer, say so and try again."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            if _file_id(self._file) != self._file_id:  # SQLite would go on writing into a file without a name
                raise RunError(
                    f"{self._file}: the storage is gone (moved, deleted or replaced); put it back, then "
                    f"`{command('run')}` again goes on"
                )
            try:
                return action()
            except (StorageInternalError, sa.exc.OperationalError) as error:
                reason = cause_of(error)
                if time.monotonic() > deadline:
                    where = self._rdb.engine.url.render_as_string(hide_password=True)
                    raise RunError(
                        f"{where}: the storage has not answered for {OUTAGE_S:.0f} s ({reason}); "
                        f"`{command('run')}` again goes on once it does"
                    ) from None
                self._wait(f"waiting for the storage ({reason})")
                time.sleep(OUTAGE_POLL_S)


def _file_id(file: Path | None) -> int | None:
    return file.stat().st_ino if file is not None and file.exists() else None


def _stratum(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("stratum", ""))
