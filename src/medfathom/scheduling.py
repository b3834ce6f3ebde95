"""The only module that imports Ray: searcher, schedulers, trainable, cluster.

The Optuna study, through the ledger, is the only truth: each start is a fresh Tune run, Tune's own
checkpoints and restore are not used. The searcher must never raise (that would end the whole fit): what goes
wrong in it halts the run and is raised after the fit.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read by Ray when it is imported: no usage statistics, no packing of the working folder under `uv run`, no
# log walls, no memory monitor (its OutOfMemoryError ends a whole fit), no result files, failures without a
# metric.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "3600",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
}.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import (  # noqa: E402
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher  # noqa: E402

from medfathom.definitions import SchedulerConfig, StudyConfig  # noqa: E402
from medfathom.errors import MedfathomError, RunError  # noqa: E402
from medfathom.ledger import Ledger, completed  # noqa: E402
from medfathom.progress import Watcher  # noqa: E402

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Work = Callable[["Plan", Mapping[str, Any]], Iterator[dict[str, Any]]]

METRIC, TIME = "auc", "epoch"
OBJECT_STORE_BYTES = 128 * 1024**2
WORKER_RETRIES = 2
"""How often a trial whose worker died goes on in another one."""
HYPERBAND_BRACKETS = 3
TEMP_PREFIX = "mf-"


@dataclass(frozen=True)
class Slots:
    """What one trial takes, and how many run at once."""

    cpus_per_trial: int
    gpus_per_trial: float
    concurrent: int


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know of the study. It prepares data itself, on its own node."""

    config: StudyConfig
    cache_dir: Path
    threads: int
    device: str
    work: Work | None = None
    """What turns an assignment into results; None: train. Tests and benchmarks give their own."""


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in a worker: a step is an epoch.

    A failure inside a trial is a result like any other, so that its reason reaches the ledger.
    """

    def setup(self, config: dict[str, Any], plan: Plan | None = None) -> None:
        """Keep what the first step needs; nothing may fail here, Ray would not retry it."""
        self._plan = plan
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the work happens in `step`."""
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._assignment = config
        self._results: Iterator[dict[str, Any]] | None = None

    def step(self) -> dict[str, Any]:
        """One epoch's result, or the reason why there is none."""
        try:
            if self._results is None:
                self._results = self._begin()
            return next(self._results)
        except Exception as error:  # noqa: BLE001  whatever a trial raises is its own failure, with its reason
            return failure_result(error)

    def _begin(self) -> Iterator[dict[str, Any]]:
        if self._plan is None:
            raise RunError("the worker was given no plan")
        if self._plan.work is not None:
            return self._plan.work(self._plan, self._assignment)
        from medfathom.worker import results  # noqa: PLC0415  imports torch, in the worker only

        return results(self._plan, self._assignment)

    def cleanup(self) -> None:
        """Let go of the network and its memory."""
        self._results = None


def failure_result(error: Exception) -> dict[str, Any]:
    """A trial's failure as a result: its reason in one line."""
    text = str(error) if isinstance(error, MedfathomError) else f"{type(error).__name__}: {error}"
    return {"failure": " ".join(text.split()), "finished": False, "done": True}


class Unsaved:
    """Tune pickles what it is given, to restore runs; here the ledger is the truth: nothing is kept."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class AskTell(Unsaved, Searcher):  # type: ignore[misc]
    """Hands Tune the ledger's trials and writes down what comes of them."""

    def __init__(self, ledger: Ledger, watcher: Watcher, halt: Halt, slots: Slots) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._ledger = ledger
        self._watcher = watcher
        self._halt = halt
        self._slots = slots
        self._adopted = ledger.adopt()
        self._numbers: dict[str, int] = {}
        self._latest: dict[int, dict[str, Any]] = {}
        self.lost: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial: one left by an earlier run first."""
        config: dict[str, Any] | str | None = self._halt.guard(
            lambda: self._suggest(trial_id), otherwise=Searcher.FINISHED
        )
        return config

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._halt.reason:
            return str(Searcher.FINISHED)
        if len(self._numbers) >= self._slots.concurrent:
            return None
        assignment = self._adopted.pop(0) if self._adopted else self._ledger.assign()
        if assignment is None:
            return self._none_left()
        self._numbers[trial_id] = assignment.number
        self._watcher.trial_begins(assignment)
        return {
            "number": assignment.number,
            "seed": assignment.seed,
            "stratum": assignment.stratum,
            "params": assignment.params.model_dump_json(),
            "checkpoint": str(self._ledger.checkpoint(assignment.number).absolute()),
            "reported": {str(epoch): auc for epoch, auc in assignment.reported.items()},
        }

    def _none_left(self) -> str | None:
        """Nothing new to begin: finished, or waiting for trials in hand (another driver's too) to end."""
        if self._ledger.done():
            return str(Searcher.FINISHED)
        if not self._numbers:
            self._adopted = self._ledger.adopt()
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write down an epoch (the last one comes with `on_trial_complete`)."""
        self._halt.guard(lambda: self._note(trial_id, result), otherwise=None)

    def _note(self, trial_id: str, result: dict[str, Any]) -> None:
        number = self._numbers[trial_id]
        if METRIC in result:
            self._latest[number] = json.loads(result["attributes"])
            epoch, auc = int(result[TIME]), float(result[METRIC])
            self._ledger.report(number, epoch, auc)
            self._watcher.epoch(number, epoch, auc)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the trial in its true state; one that a halt interrupted stays RUNNING, to be gone on with."""
        self._halt.guard(lambda: self._complete(trial_id, result, error), otherwise=None)

    def _complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        if trial_id not in self._numbers:
            return
        if result:
            self._note(trial_id, result)
        number = self._numbers.pop(trial_id)
        attributes = self._latest.pop(number, {})
        if error or (result and "failure" in result):
            reason = (result or {}).get("failure") or self.lost.get(trial_id, "the worker was lost")
            self._ledger.fail(number, reason, attributes)
            self._watcher.trial_ends(number, "FAIL", None, reason)
        elif result and result["finished"]:
            self._ledger.complete(number, float(result[METRIC]), attributes)
            self._watcher.trial_ends(number, "COMPLETE", float(result[METRIC]), "")
        elif result and not self._halt.reason:
            reason = f"stopped by {self._ledger.config.scheduler.name} at epoch {result[TIME]}"
            self._ledger.prune(number, attributes, reason)
            self._watcher.trial_ends(number, "PRUNED", float(result[METRIC]), reason)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Halt(Unsaved, tune.Stopper):  # type: ignore[misc]
    """Why the run ends before its budget of trials: an interrupt, time, no improvement, an error."""

    def __init__(self, config: StudyConfig, ledger: Ledger) -> None:
        self.reason = ""
        self.error: Exception | None = None
        self._ledger = ledger
        self._budget = config.budget
        self._deadline = time.monotonic() + (config.budget.minutes or float("inf")) * 60
        self._seen = -1

    def guard(self, action: Callable[[], Any], otherwise: Any) -> Any:
        """Do it; an error halts the run instead of passing through Ray."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001  raised again after the fit
            self.error = self.error or error
            self.reason = self.reason or str(error)
            return otherwise

    def interrupt(self, *_: Any) -> None:
        """Signal handler: end the run now."""
        self.reason = self.reason or "interrupted"

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped from here."""
        return False

    def stop_all(self) -> bool:
        """Whether the run ends now. Tune asks after every event."""
        self.guard(self._ledger.renew, otherwise=None)
        if not self.reason and time.monotonic() > self._deadline:
            self.reason = f"{self._budget.minutes:g} minutes are over"
        if not self.reason:
            self.guard(self._check_trials, otherwise=None)
        return bool(self.reason)

    def _check_trials(self) -> None:
        if self._budget.patience is None and self._budget.device_hours is None:
            return
        ended = [t for t in self._ledger.trials() if t.state.is_finished()]
        if len(ended) == self._seen:
            return
        self._seen = len(ended)
        hours = sum(t.user_attrs.get("train_seconds", 0.0) for t in ended) / 3600
        if self._budget.device_hours is not None and hours >= self._budget.device_hours:
            self.reason = f"{self._budget.device_hours:g} device-hours are spent"
        elif self._budget.patience is not None and since_best(ended) >= self._budget.patience:
            self.reason = f"no better AUC in {self._budget.patience} trials"


def since_best(ended: list[FrozenTrial]) -> int:
    """How many trials ended after the best complete one; 0 when none is complete."""
    best = next(iter(completed(ended)), None)
    if best is None:
        return 0
    return sum(
        t.datetime_complete > best.datetime_complete
        for t in ended
        if t.datetime_complete is not None and best.datetime_complete is not None
    )


class StratifiedScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """One early-stopping rule per stratum under `goal = "compare"`, one for all under `"best"`.

    It begins by replaying what earlier runs saw; an adopted trial brings its own past along.
    """

    def __init__(self, config: StudyConfig, searcher: AskTell, past: list[FrozenTrial]) -> None:
        super().__init__()
        self._config = config
        self._searcher = searcher
        self._rules: dict[tuple[str, int], TrialScheduler] = {}
        for trial in past:
            self._replay_finished(trial)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The metric is fixed."""
        return True

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return METRIC

    def _rule(self, trial: Any) -> Any:
        stratum = trial.config["stratum"] if self._config.goal == "compare" else ""
        hyperband = self._config.scheduler.name == "hyperband"
        bracket = int(trial.config["number"]) % HYPERBAND_BRACKETS if hyperband else 0
        key = (stratum, bracket)
        if key not in self._rules:
            self._rules[key] = make_rule(self._config.scheduler, self._config.budget.epochs, bracket)
        return self._rules[key]

    def _replay_finished(self, trial: FrozenTrial) -> None:
        config = {"number": trial.number, "stratum": trial.user_attrs.get("stratum", "")}
        stand_in = PastTrial(f"past-{trial.number}", config)
        rule = self._rule(stand_in)
        rule.on_trial_add(None, stand_in)
        results = [{TIME: e, METRIC: auc} for e, auc in sorted(trial.intermediate_values.items())]
        for result in results[:-1]:
            rule.on_trial_result(NoOtherTrials(), stand_in, result)
        rule.on_trial_complete(None, stand_in, results[-1] if results else {})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add it to its stratum's rule, with what is known of it already."""
        rule = self._rule(trial)
        rule.on_trial_add(tune_controller, trial)
        for epoch, auc in sorted((int(e), a) for e, a in trial.config["reported"].items()):
            rule.on_trial_result(NoOtherTrials(), trial, {TIME: epoch, METRIC: auc})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision; a rule that would make a trial wait lets it go on."""
        decision = self._rule(trial).on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.STOP if decision == TrialScheduler.STOP else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let the rule remember the last result."""
        self._rule(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Let the rule forget a trial that never ran."""
        self._rule(trial).on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the reason for the ledger: the searcher is only told that there was an error."""
        error = trial.get_pickled_error()
        name = type(error).__name__
        self._searcher.lost[trial.trial_id] = (
            f"the worker was lost ({name})" if error else "the worker was lost"
        )
        self._rule(trial).on_trial_error(tune_controller, trial)

    def debug_string(self) -> str:
        """What Tune may print."""
        return f"{len(self._rules)} rules"


@dataclass(frozen=True)
class PastTrial:
    """Stands for a finished trial when a rule is taught what earlier runs saw."""

    trial_id: str
    config: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.trial_id)


class NoOtherTrials:
    """Stands for Tune's controller during a replay: nothing waits for a slot."""

    def get_live_trials(self) -> list[Any]:
        """None."""
        return []


def make_rule(config: SchedulerConfig, max_epochs: int, bracket: int) -> TrialScheduler:
    """A fresh early-stopping rule.

    Hyperband here is its asynchronous form: brackets of successive halving that begin to stop trials ever
    later, trials dealt to them in turn (Tune's synchronous one needs trials paused and checkpointed by Tune).
    """
    if config.name == "none":
        return FIFOScheduler()
    if config.name == "median":
        return MedianStoppingRule(
            time_attr=TIME, metric=METRIC, mode="max", grace_period=config.grace_epochs, hard_stop=True
        )
    grace = min(config.grace_epochs * config.reduction_factor**bracket, max_epochs)
    return AsyncHyperBandScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="max",
        max_t=max_epochs,
        grace_period=grace,
        reduction_factor=config.reduction_factor,
        brackets=1,
        stop_last_trials=False,
    )


@contextmanager
def cluster(address: str | None) -> Iterator[Path]:
    """Ray for the length of a run: the cluster at `address`, or one of our own on this machine.

    A process that is connected to Ray already stays so. Yields a private temporary folder with a short name
    (socket paths are limited to about 107 bytes), removed at the end.
    """
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-"))
    own = not ray.is_initialized()
    try:
        if own:
            _connect(address, folder)
        yield folder
    finally:
        if own:
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*-*"):
        owner = folder.name.removeprefix(TEMP_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str | None, folder: Path) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    own: dict[str, Any] = {
        "num_cpus": os.cpu_count(),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": str(folder / "ray"),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **quiet, **({} if address else own))
    except ConnectionError as error:
        raise RunError(f"--address {address}: no Ray cluster answers ({error})") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def slots_for(config: StudyConfig) -> Slots:
    """What one trial takes and how many run at once on the cluster at hand."""
    resources = ray.cluster_resources()
    gpus = float(resources.get("GPU", 0))
    wanted = config.resources.gpus_per_trial
    gpus_per_trial = (1.0 if gpus else 0.0) if wanted == "auto" else float(wanted)
    if gpus_per_trial > gpus:
        raise RunError(f"resources.gpus_per_trial = {gpus_per_trial:g}, but the cluster has {gpus:g}")
    fits = int(resources.get("CPU", 1)) // config.resources.cpus_per_trial
    if gpus_per_trial:
        fits = min(fits, int(gpus / gpus_per_trial))
    if fits < 1:
        raise RunError(
            f"resources.cpus_per_trial = {config.resources.cpus_per_trial}, but the cluster has "
            f"{resources.get('CPU', 0):g} CPUs"
        )
    return Slots(
        config.resources.cpus_per_trial, gpus_per_trial, min(fits, config.resources.concurrent or fits)
    )


def run_trials(
    config: StudyConfig,
    ledger: Ledger,
    watcher: Watcher,
    cache_dir: Path,
    address: str | None = None,
    work: Work | None = None,
) -> str:
    """Run trials until the budget is spent or something halts the run.

    Args:
        config: the definition.
        ledger: the study's trials.
        watcher: is told what happens.
        cache_dir: where each node keeps prepared data and features.
        address: of a Ray cluster; one of our own when none is given.
        work: see `Plan`.

    Returns:
        Why the run halted; empty when the budget is spent.

    Raises:
        RunError: the storage or the cluster failed.
    """
    with cluster(address) as folder:
        slots = slots_for(config)
        watcher.begin(config, ledger, slots.concurrent)
        plan = Plan(
            config,
            cache_dir.absolute(),
            slots.cpus_per_trial,
            "cuda" if slots.gpus_per_trial else "cpu",
            work,
        )
        halt = Halt(config, ledger)
        with _signals(halt):
            _fit(config, ledger, watcher, plan, slots, halt, folder)
    if isinstance(halt.error, MedfathomError):
        raise halt.error
    if halt.error is not None:
        raise RunError(f"the run failed: {halt.error!r}") from halt.error
    return halt.reason


def _fit(
    config: StudyConfig, ledger: Ledger, watcher: Watcher, plan: Plan, slots: Slots, halt: Halt, folder: Path
) -> None:
    past = [t for t in ledger.trials() if t.state.is_finished()]
    searcher = AskTell(ledger, watcher, halt, slots)
    trainable = tune.with_resources(
        tune.with_parameters(TrialActor, plan=plan),
        {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StratifiedScheduler(config, searcher, past),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="fit",
            storage_path=str(folder / "tune"),
            stop=halt,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.fit()


@contextmanager
def _signals(halt: Halt) -> Iterator[None]:
    """SIGINT and SIGTERM halt the run; its trials stay to be gone on with."""
    before = {s: signal.signal(s, halt.interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
