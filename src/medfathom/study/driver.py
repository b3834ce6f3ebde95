"""One run's hold on a study: trials handed out, reports taken down, each ended in its true state."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.study._tell import _tell_with_warning
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import TrialParams, Value, label, stratum_of, suggest
from medfathom.errors import RunError, cause_of
from medfathom.metrics.rules import is_auc
from medfathom.study.assignment import Assignment, trial_seed
from medfathom.study.finalists import decided, next_finalist
from medfathom.study.front import objective_values
from medfathom.study.growth import earlier_spaces, queued_params
from medfathom.study.ids import trial_id_of
from medfathom.study.patience import UNANSWERED, Patience
from medfathom.study.policy.sampler import GainPerSecond
from medfathom.study.policy.warm_start import warm_start
from medfathom.study.precision import Precision, settle_precision, settled_precision
from medfathom.study.predictions import keep_predictions
from medfathom.study.record import record_of
from medfathom.study.recorder import Recorder
from medfathom.study.sampling import StratumSampler, make_sampler
from medfathom.study.sharing import LEASE_S, Ownership
from medfathom.study.storage import Storage
from medfathom.study.summary import GOES_ON_FROM, WITHDRAWN, Counts, count_states
from medfathom.study.tuning import settled_strata, settles
from medfathom.trial.alike import alike
from medfathom.trial.record import FoldScore
from medfathom.trial.remote_checkpoints import RemoteCheckpoints


class Driver:
    """A study's trials, as one driver deals with them. Used from the driver's main thread alone.

    Which trials are its own, and which another driver's, `ownership` knows.
    """

    def __init__(
        self,
        study: Study,
        storage: Storage,
        config: StudyConfig,
        ownership: Ownership,
        *,
        checkpoints: Path,
        tell: Callable[[str], None],
        file: Path | None = None,
    ) -> None:
        """`file`: the database, where it is one file (SQLite). `tell` gets what goes wrong, in words."""
        self.study = study
        self.config = config
        self.budget = trials_of(config)
        self.queue_only = False
        """Whether trials are only taken from the queue, to its end, whoever adds to it: a confirmation's."""
        self.others_at_work = False  # whether another driver had the study open when this one opened it
        self.recorder: Recorder | None = None
        self._rdb = storage
        self._ownership = ownership
        self._checkpoints = checkpoints
        self._tell = tell
        self._patiently = Patience(storage, file, tell)
        url = config.resources.checkpoint_url
        self._remote = RemoteCheckpoints(url) if url is not None else None
        self._open: dict[int, int] = {}
        self._known: dict[int, set[int]] = {}
        self._settled: dict[tuple[str, int], bool] = {}
        warm = self._patiently(lambda: warm_start(config, storage))
        sampler = make_sampler(
            config.sampler,
            config.space,
            self._sampler_seed(),
            earlier_spaces(study),
            epochs=config.budget.epochs,
            warm=warm,
        )
        self.warm_start = warm.line()
        """What is taken over from other studies, in words."""
        divided = config.goal == "compare" and config.sampler.name != "grid"  # a grid has the strata in it
        self._stratum_sampler = StratumSampler(sampler, config.space) if divided else None
        study.sampler = self._stratum_sampler or sampler

    def _sampler_seed(self) -> int:
        """Another one for each start, and for each of several drivers: else proposals would come twice."""
        if self.config.sampler.name == "grid":  # which is gone through in one order
            return self.config.seed
        return trial_seed(self.config.seed, self._ownership.start_number(len(self.trials())))

    def checkpoint_name(self, number: int) -> str:
        """A trial's checkpoint, under the folder of checkpoints of whatever node runs it."""
        return f"{self._checkpoints.name}/trial-{number:05d}.pt"

    def checkpoint(self, number: int) -> Path:
        """A trial's checkpoint on this machine; it goes when the trial ends."""
        return self._checkpoints.parent / self.checkpoint_name(number)

    def adopt(self) -> list[Assignment]:
        """Trials that are RUNNING in nobody's hands, to go on with under their own numbers."""
        with self.exclusively():  # else a trial could be taken between its driver's asking and claiming it
            left = self.trials(TrialState.RUNNING)
            mine = [t for t in left if t.number not in self._open and self._take_over(t)]
        return [self._resumed(trial) for trial in mine]

    def _take_over(self, left: FrozenTrial) -> bool:
        """Claim a trial; not one that its driver ended since it was listed."""
        if not self._claim(left):
            return False
        if self._patiently(lambda: self._rdb.get_trial(trial_id_of(left))).state == TrialState.RUNNING:
            return True
        self._patiently(lambda: self._ownership.release([trial_id_of(left)]))
        return False

    def _resumed(self, left: FrozenTrial) -> Assignment:
        """A trial to go on with. Its run may have died before all of its parameters were written."""
        self._choose_stratum(left.params, self.trials())
        trial = self._patiently(lambda: optuna.trial.Trial(self.study, trial_id_of(left)))
        return self._assignment(trial, decided(self.config, left))

    def assign(self) -> Assignment | None:
        """Ask for a new trial; None when all that the budget allows are begun."""
        with self._rdb.reading_once():
            with self.exclusively():
                trials = self.trials()
                all_begun = self._all_begun(trials)
                finalist = next_finalist(self.config, trials, all_begun=all_begun)
                if finalist is None and all_begun:
                    return None
                if finalist is not None:
                    self._patiently(partial(self._enqueue_finalist, finalist))
                self._choose_stratum({} if finalist is None else finalist.params, trials)
                trial = self._patiently(self.study.ask)
                if not self._claim(trial):
                    raise RunError(f"trial {trial.number}: another driver took it at that moment; run again")
            return self._assignment(trial, {})

    def take_alike(self, first: Assignment, most: int) -> list[Assignment]:
        """Take at most so many trials out of the queue: those alike one that begins, see `trial.alike`."""
        with self.exclusively():
            queue = [(t, queued_params(t, self.config.space)) for t in self.trials(TrialState.WAITING)]
            found = [t for t, params in queue if params is not None and alike(first.params, params)]
            begun = [t for t in found[:most] if self._begin(t)]
        return [self._resumed(trial) for trial in begun]

    def _begin(self, waiting: FrozenTrial) -> bool:
        """Begin a trial of the queue. False: another driver was faster."""
        change = partial(self._rdb.set_trial_state_values, trial_id_of(waiting), TrialState.RUNNING)
        return self._patiently(change) and self._claim(waiting)

    def _all_begun(self, trials: list[FrozenTrial]) -> bool:
        """Whether the queue, the budget or the strata leave no new trial to begin."""
        if self.queue_only:
            return not any(t.state == TrialState.WAITING for t in trials)
        counts = count_states(trials)
        return counts.finished + counts.running >= self.budget or not self._open_strata(trials)

    def _enqueue_finalist(self, first: FrozenTrial) -> None:
        """Let the next trial be asked for be the one that goes on with another's later folds."""
        if self.trials(TrialState.WAITING):  # a driver died between this and asking for it
            return
        attributes = {
            GOES_ON_FROM: first.number,
            "seed": first.user_attrs["seed"],
            "stratum": first.user_attrs["stratum"],
        }
        self.study.enqueue_trial(first.params, user_attrs=attributes)

    def _assignment(self, trial: optuna.trial.Trial, reported: Mapping[int, float]) -> Assignment:
        with self._rdb.together(self._patiently):
            params = self._patiently(lambda: suggest(trial, self.config.space))
            stratum = stratum_of(params, self.config.space)
            # `confirm` gives its trials their seeds; a resumed trial has its own already.
            seed = int(trial.user_attrs.get("seed", trial_seed(self.config.seed, trial.number)))
            self._open[trial.number] = trial_id_of(trial)
            self._known[trial.number] = set(reported)
            scored: Sequence[FoldScore] = ()
            if GOES_ON_FROM in trial.user_attrs:
                first = self.trials()[trial.user_attrs[GOES_ON_FROM]]
                scored = record_of(first).folds or ()
                reported = {**first.intermediate_values, **reported}
                for epoch, value in first.intermediate_values.items():
                    self.report(trial.number, epoch, value)
            self.annotate(
                trial.number,
                {
                    **params.model_dump(include={"architecture", "init", "unfreeze_depth", "strategy"}),
                    "stratum": stratum,
                    "seed": seed,
                    "max_epochs": self.config.budget.epochs * self.config.dataset.splits.trainings,
                    "definition_hash": self.config.definition_hash,
                },
            )
        sampler = self.study.sampler
        protected = isinstance(sampler, GainPerSecond) and sampler.protects(trial.params)
        return Assignment(trial.number, params, stratum, seed, dict(reported), protected, scored)

    def _choose_stratum(self, known: Mapping[str, Any], trials: list[FrozenTrial]) -> None:
        """Tell the sampler the first of the strata with the fewest trials, however they ended.

        Were failed ones not counted, a stratum that always fails would take the whole budget. `known` are
        parameters that a trial has already: only strata that they leave open are considered.
        """
        sampler = self._stratum_sampler
        if sampler is None:
            return
        firsts = [t for t in trials if not {GOES_ON_FROM, WITHDRAWN} & t.user_attrs.keys()]
        begun = Counter(t.user_attrs.get("stratum", "") for t in firsts)
        # A trial to go on with may be of a stratum that is settled by now.
        strata = self.config.space.strata() if known else self._open_strata(trials)
        sampler.stratum = min((s for s in strata if sampler.fits(s, known)), key=lambda s: begun[label(s)])

    def _open_strata(self, trials: list[FrozenTrial]) -> list[dict[str, Value]]:
        """Strata that may get more trials: all but those tuned to within noise, see `study.tuning`."""
        strata = self.config.space.strata()
        if not settles(self.config):
            return strata
        settled = settled_strata(trials, self.config.choice.by, self._settled)
        return [s for s in strata if label(s) not in settled]

    def report(self, number: int, epoch: int, value: float) -> None:
        """Take down an epoch's value of the objective; a second report of an epoch changes nothing."""
        trial_id = self._open.get(number)
        if trial_id is None or epoch in self._known[number]:
            return
        try:
            self._patiently(lambda: self._rdb.set_trial_intermediate_value(trial_id, epoch, value))
        except UpdateFinishedTrialError:  # another driver took it over, and has ended it
            self._open.pop(number)
        else:
            self._known[number].add(epoch)

    def annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Write user attributes of a trial, all in one transaction; of one that has ended nothing."""
        trial_id = self._open[number]
        if attributes:
            self._patiently(lambda: self._rdb.write_attributes(trial_id, attributes))

    def complete(
        self, number: int, value: float, attributes: Mapping[str, Any], validation: bytes = b""
    ) -> bool:
        """End a trial that ran its full length; its validation predictions are kept in the home folder.

        Args:
            number: of the trial.
            value: what it reached of the study's objective.
            attributes: its record.
            validation: see `trial.validation`.

        Returns:
            False: another driver has taken it over, it is not ours.
        """
        try:
            keep_predictions(self.study, number, validation)
        except OSError as error:  # a full disk must not cost the trial
            self._tell(
                f"validation predictions of trial {number} cannot be saved ({error.strerror or error})"
            )
        values = objective_values(self.config, number, value, attributes)
        attributes = {**attributes, "stop_reason": "ran its full length"}
        return self._end(number, TrialState.COMPLETE, values, attributes)

    def prune(self, number: int, attributes: Mapping[str, Any], reason: str) -> bool:
        """End a trial that the scheduler stopped. False: see `complete`."""
        return self._end(number, TrialState.PRUNED, None, {**attributes, "stop_reason": reason})

    def fail(self, number: int, reason: str, attributes: Mapping[str, Any]) -> bool:
        """End a trial that raised, was lost, or ran out of time or memory. False: see `complete`."""
        return self._end(number, TrialState.FAIL, None, {**attributes, "stop_reason": reason})

    def _end(
        self, number: int, state: TrialState, values: list[float] | None, attributes: Mapping[str, Any]
    ) -> bool:
        if self._lost(number):
            return False
        self.annotate(number, attributes)
        recorder, trial_id = self.recorder, self._open[number]
        if recorder is not None:  # artifacts cannot be added to a finished trial
            self._patiently(lambda: recorder.before_end(number))
        # `Study.tell` reads the trial once more, to give it back.
        self._patiently(lambda: _tell_with_warning(self.study, number, values, state, skip_if_finished=True))
        self._open.pop(number)
        self._patiently(lambda: self._ownership.release([trial_id]))
        self._remove_checkpoint(number)
        if recorder is not None:
            self._patiently(lambda: recorder.after_end(number))
        return True

    def close_records(self) -> None:
        """Let the recorder write what it held back."""
        if self.recorder is not None:
            self._patiently(self.recorder.close)

    def _lost(self, number: int) -> bool:
        """Whether another driver took the trial over while this one was held up; it is then the other's."""
        self.renew(force=True)
        return number not in self._open

    def _remove_checkpoint(self, number: int) -> None:
        self.checkpoint(number).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint(number).with_suffix(""), ignore_errors=True)  # a model in the making
        if self._remote is not None:
            try:
                self._remote.remove(self.checkpoint_name(number))
            except OSError as error:
                self._tell(f"a checkpoint of trial {number} was not deleted ({error})")

    def renew(self, *, force: bool = False) -> None:
        """Hold on to the trials in hand, and forget those that others took over. To be called often."""
        kept = self._patiently(lambda: self._ownership.renew(self._open.values(), force=force))
        self._open = {number: trial_id for number, trial_id in self._open.items() if trial_id in kept}

    def release(self) -> None:
        """Let go of what is not ended: the next run, or another driver, goes on with it at once."""
        try:
            self._ownership.release(self._open.values())
        except UNANSWERED as error:
            reason = cause_of(error)
            self._tell(
                f"other runs can continue the trials of this run only after {LEASE_S:.0f} s ({reason})"
            )
        self._open.clear()

    def done(self) -> bool:
        """Whether all trials have ended that the budget allows, the strata need, and later folds are due."""
        trials = self.trials()
        if self.queue_only:
            return all(t.state.is_finished() for t in trials)
        counts = count_states(trials)
        if counts.finished < self.budget and (counts.running or self._open_strata(trials)):
            return False
        return next_finalist(self.config, trials, all_begun=True) is None

    def stop_in_hand(self, known: Mapping[int, Mapping[str, Any]], why: str) -> list[int]:
        """End the trials in hand that no run will go on with; returns their numbers.

        One that has reported an epoch was stopped early there; one that has not counts as nothing.

        Args:
            known: the records of their latest epochs.
            why: what leaves no more for them.
        """
        numbers = list(self._open)
        for number in numbers:
            trial = self.trials()[number]
            reached = max(trial.intermediate_values, default=0)
            if not reached:
                self.fail(number, why, {WITHDRAWN: True})
                continue
            name = "auc" if is_auc(self.config.objective) else "objective_value"
            last = {"epochs": reached, name: trial.intermediate_values[reached]}
            self.prune(number, known.get(number, last), f"stopped at epoch {reached}: {why}")
        return numbers

    def unfinished(self) -> list[int]:
        """Numbers of all trials that are under way or wait, other drivers' too."""
        return [t.number for t in self.trials(TrialState.RUNNING, TrialState.WAITING)]

    def ended_on_gpus(self) -> list[tuple[TrialParams, Mapping[str, Any]]]:
        """Parameters and records of ended trials whose device's memory is known."""
        ended = [t for t in self.trials() if t.state.is_finished() and "device_memory_bytes" in t.user_attrs]
        return [(suggest(t, self.config.space), t.user_attrs) for t in ended]

    def settled_precision(self) -> Precision | None:
        """What the study trains in; None: nothing is decided."""
        return self._patiently(lambda: settled_precision(self.study))

    def settle_precision(self, wanted: Precision) -> Precision:
        """Write down what the study trains in, unless that is settled; returns what is."""
        with self.exclusively():
            return self._patiently(lambda: settle_precision(self.study, wanted))

    def counts(self) -> Counts:
        """Trials by state."""
        return count_states(self.trials())

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials (or those in the given states), not to be changed."""
        return self._patiently(lambda: self.study.get_trials(deepcopy=False, states=states or None))

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep other drivers waiting: two must not both take the last trial of a budget. Do not nest it."""
        with ExitStack() as stack:
            self._patiently(lambda: stack.enter_context(self._ownership.exclusively()))
            yield

    def _claim(self, trial: FrozenTrial | optuna.trial.Trial) -> bool:
        return self._patiently(lambda: self._ownership.claim(trial_id_of(trial)))
