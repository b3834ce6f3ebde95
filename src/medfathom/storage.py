"""The only module that opens Optuna storage: create, resume, heal, records.

The Optuna study is the only truth about a study's trials. `Ledger` is one run's hold on it: it hands out
trials, takes down what they report, and ends each in the state the contract names.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
import sqlalchemy as sa
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions import StudyConfig
from medfathom.errors import RunError, StorageError, did_you_mean
from medfathom.sampling import StratumSampler, grid_size, make_sampler
from medfathom.spaces import TrialParams, label, stratum_of, suggest

SCHEMA = 1
"""Version of what medfathom writes into a study; a study of a newer one is refused."""
SQLITE_TIMEOUT_S = 60.0
OUTAGE_S = 600.0
"""How long a run waits for a storage that does not answer before it gives up."""
OUTAGE_POLL_S = 1.0

optuna.logging.set_verbosity(optuna.logging.WARNING)
T = TypeVar("T")


def root() -> Path:
    """The folder of all that studies produce: `storage/` in the working folder, or MEDFATHOM_STORAGE."""
    return Path(os.environ.get("MEDFATHOM_STORAGE", "storage"))


def default_url() -> str:
    """SQLite under `root`."""
    return f"sqlite:///{root() / 'medfathom.db'}"


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases."""
    parsed = sa.make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def shown(url: str) -> str:
    """The URL without its password."""
    return sa.make_url(url).render_as_string(hide_password=True)


def connect(url: str, *, create: bool) -> RDBStorage:
    """Open an Optuna storage.

    Args:
        url: SQLAlchemy's form.
        create: whether a SQLite file may be created.

    Raises:
        StorageError: in one line, for a URL that is none, a file that is absent or no database, no answer.
    """
    try:
        file = sqlite_file(url)
    except sa.exc.ArgumentError:
        raise StorageError(f"--storage {url}: not a database URL; such as sqlite:///file.db") from None
    if file is not None:
        if not create and not file.is_file():
            raise StorageError(f"{file}: no such storage; `medfathom run STUDY` creates it")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine_kwargs: dict[str, Any] = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
    else:
        engine_kwargs = {"pool_pre_ping": True, "pool_size": 2}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(url, engine_kwargs=engine_kwargs)
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(f"{shown(url)}: cannot be opened ({reason})") from None
    if file is not None and create:
        _make_commits_cheap(storage.engine)
    return storage


def _make_commits_cheap(engine: sa.Engine) -> None:
    """Write-ahead log, synced at checkpoints: readers never block the run, a crash of the machine at worst
    loses the last commits and never the file."""

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


@dataclass(frozen=True)
class Assignment:
    """A trial to run: `reported` holds the epochs that the storage knows already."""

    number: int
    params: TrialParams
    stratum: str
    seed: int
    reported: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Trials of a study by state."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0

    @property
    def finished(self) -> int:
        """Trials that ended, however."""
        return self.complete + self.pruned + self.failed


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's own seed: the same for the same study seed and trial number."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


class Ledger:
    """One run's hold on a study. Used from the driver's main thread alone."""

    def __init__(self, study: Study, storage: RDBStorage, config: StudyConfig, wait: Callable[[str], None]):
        self.study = study
        self.config = config
        self._rdb = storage
        self._wait = wait
        self._open: dict[int, int] = {}
        past = len(study.get_trials(deepcopy=False))
        sampler = make_sampler(config.sampler, config.space, trial_seed(config.seed, 10**6 + past))
        self._strata = config.space.strata() if config.goal == "compare" else []
        self._stratum_sampler = StratumSampler(sampler, config.space) if self._strata else None
        study.sampler = self._stratum_sampler or sampler
        self.budget = config.budget.trials
        if config.sampler.name == "grid":
            self.budget = min(self.budget, grid_size(config.space))

    @property
    def checkpoint_dir(self) -> Path:
        """Where this study's checkpoints lie; a study begun anew has another."""
        return root() / "checkpoints" / f"{self.study.study_name}-{self.study.user_attrs['uid']}"

    def checkpoint(self, number: int) -> Path:
        """A trial's checkpoint; it goes when the trial ends."""
        return self.checkpoint_dir / f"trial-{number:05d}.pt"

    def adopt(self) -> list[Assignment]:
        """Trials that an earlier run left RUNNING, to go on with under their own numbers."""
        left = self._patiently(lambda: self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        return [self._assignment(optuna.trial.Trial(self.study, t._trial_id), t) for t in left]

    def assign(self) -> Assignment | None:
        """Ask for a new trial; None when the budget of trials is spent."""
        if self.counts().finished + len(self._open) >= self.budget:
            return None
        if self._stratum_sampler is not None:
            self._stratum_sampler.stratum = self._neediest_stratum()
        trial = self._patiently(self.study.ask)
        return self._assignment(trial, None)

    def _assignment(self, trial: optuna.trial.Trial, known: FrozenTrial | None) -> Assignment:
        params = self._patiently(lambda: suggest(trial, self.config.space))
        stratum = stratum_of(params, self.config.space)
        seed = trial_seed(self.config.seed, trial.number)
        self._open[trial.number] = trial._trial_id
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
        return Assignment(
            trial.number, params, stratum, seed, dict(known.intermediate_values) if known else {}
        )

    def _neediest_stratum(self) -> dict[str, Any]:
        """The first of the strata with the fewest trials; failed ones do not count."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        trials = self._patiently(lambda: self.study.get_trials(deepcopy=False, states=states))
        count = {label(s): 0 for s in self._strata}
        for trial in trials:
            stratum = trial.user_attrs.get("stratum")
            if stratum in count:
                count[stratum] += 1
        return min(self._strata, key=lambda s: count[label(s)])

    def report(self, number: int, epoch: int, auc: float) -> None:
        """Take down an epoch's validation AUC; a second report of an epoch changes nothing."""
        trial_id = self._open[number]
        if epoch not in self._patiently(lambda: self._rdb.get_trial(trial_id)).intermediate_values:
            self._patiently(lambda: self._rdb.set_trial_intermediate_value(trial_id, epoch, auc))

    def annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Write user attributes of a trial that is not finished, all in one transaction."""
        trial_id = self._open[number]
        table = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value, allow_nan=False)}
            for key, value in attributes.items()
        ]

        def write() -> None:
            with self._rdb.engine.begin() as connection:
                mine = (table.c.trial_id == trial_id) & table.c.key.in_(list(attributes))
                connection.execute(sa.delete(table).where(mine))
                connection.execute(sa.insert(table), rows)

        if rows:
            self._patiently(write)

    def complete(self, number: int, auc: float, attributes: Mapping[str, Any]) -> None:
        """End a trial that ran its full length."""
        self._end(number, TrialState.COMPLETE, auc, {**attributes, "stop_reason": "ran its full length"})

    def prune(self, number: int, attributes: Mapping[str, Any], reason: str) -> None:
        """End a trial that the scheduler stopped."""
        self._end(number, TrialState.PRUNED, None, {**attributes, "stop_reason": reason})

    def fail(self, number: int, reason: str, attributes: Mapping[str, Any]) -> None:
        """End a trial that raised, was lost, or ran out of time or memory."""
        self._end(number, TrialState.FAIL, None, {**attributes, "stop_reason": reason})

    def _end(
        self, number: int, state: TrialState, value: float | None, attributes: Mapping[str, Any]
    ) -> None:
        self.annotate(number, attributes)
        self._patiently(lambda: self.study.tell(number, value, state=state, skip_if_finished=True))
        del self._open[number]
        self.checkpoint(number).unlink(missing_ok=True)

    def counts(self) -> Counts:
        """Trials by state."""
        return count_states(self._patiently(lambda: self.study.get_trials(deepcopy=False)))

    def trials(self) -> list[FrozenTrial]:
        """All trials, not to be changed."""
        return self._patiently(lambda: self.study.get_trials(deepcopy=False))

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it; while the storage does not answer, say so and try again."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                return action()
            except (StorageInternalError, sa.exc.OperationalError) as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                if time.monotonic() > deadline:
                    raise RunError(f"the storage has not answered for {OUTAGE_S:.0f} s ({reason})") from None
                self._wait(f"waiting for the storage ({reason})")
                time.sleep(OUTAGE_POLL_S)


def completed(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that ran their full length, best AUC first (of equals, the earlier).

    Optuna gives a stopped trial its last intermediate value as `value`: never rank by that alone.
    """
    ended = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    return sorted(ended, key=lambda t: (-(t.value or 0.0), t.number))


def count_states(trials: list[FrozenTrial]) -> Counts:
    """Trials by state."""
    states = [t.state for t in trials]
    return Counts(
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
    )


@contextmanager
def open_ledger(
    config: StudyConfig,
    url: str,
    fingerprint: str,
    *,
    fresh: bool = False,
    wait: Callable[[str], None] = lambda _: None,
) -> Iterator[Ledger]:
    """Create the study, or resume it, and hold it while the block runs.

    Args:
        config: the definition.
        url: the storage.
        fingerprint: of the prepared data set.
        fresh: set an existing study of this name aside (it stays, renamed) and begin anew.
        wait: told, in words, while the storage does not answer.

    Raises:
        StorageError: the definition or the data changed, another run holds the study, no storage.
    """
    with _only_driver(url, config.name):
        storage = connect(url, create=True)
        try:
            yield Ledger(_open_study(storage, config, fingerprint, fresh), storage, config, wait)
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _only_driver(url: str, name: str) -> Iterator[None]:
    """On SQLite one run at a time; the lock dies with its process."""
    file = sqlite_file(url)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_name(f"{file.name}.{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"{file}: another run of {name!r} holds it; wait for it, or share the work through PostgreSQL"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _open_study(storage: RDBStorage, config: StudyConfig, fingerprint: str, fresh: bool) -> Study:
    known = {s.study_name: s._study_id for s in storage.get_all_studies()}
    if config.name in known and fresh:
        _set_aside(storage, config.name)
    elif config.name in known:
        study = optuna.load_study(study_name=config.name, storage=storage)
        if "definition" in study.user_attrs:  # else: killed between creating it and describing it
            _check_same(study, config, fingerprint)
            return study
    try:
        study = optuna.create_study(
            storage=storage, study_name=config.name, direction="maximize", load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["AUC"])
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=config.name, storage=storage)
    attributes = {
        "schema": SCHEMA,
        "uid": uuid.uuid4().hex[:8],
        "question": config.question,
        "goal": config.goal,
        "modality": config.dataset.modality,
        "dataset_fingerprint": fingerprint,
        "definition_hash": config.definition_hash,
        "identity": config.identity(),
        "definition": config.model_dump(mode="json"),
    }
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    return study


def _set_aside(storage: BaseStorage, name: str) -> None:
    """Give a study another name: what was paid for stays."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    optuna.copy_study(
        from_study_name=name,
        from_storage=storage,
        to_storage=storage,
        to_study_name=f"{name} (until {stamp})",
    )
    optuna.delete_study(study_name=name, storage=storage)


def _check_same(study: Study, config: StudyConfig, fingerprint: str) -> None:
    attributes = study.user_attrs
    anew = "`--fresh` begins anew and keeps the old one under another name"
    if attributes["schema"] > SCHEMA:
        raise StorageError(
            f"study {config.name!r} was made by a newer medfathom (schema {attributes['schema']}); upgrade"
        )
    if attributes["definition_hash"] != config.definition_hash:
        changes = "; ".join(difference(attributes["identity"], config.identity()))
        raise StorageError(f"study {config.name!r} was begun with another definition ({changes}); {anew}")
    if attributes["dataset_fingerprint"] != fingerprint:
        raise StorageError(
            f"study {config.name!r} was begun on other data (fingerprint "
            f"{attributes['dataset_fingerprint'][:12]}, now {fingerprint[:12]}); {anew}"
        )


def difference(before: Any, after: Any, key: str = "") -> list[str]:
    """What changed between two nested tables, as `key: old -> new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(k for k in after if k not in before)]
        inner = (difference(before.get(k), after.get(k), f"{key}.{k}" if key else k) for k in names)
        return [line for lines in inner for line in lines]
    return [] if before == after else [f"{key}: {json.dumps(before)} -> {json.dumps(after)}"]


def load_study(url: str, name: str) -> Study:
    """A study to read. Raises StorageError with the nearest names."""
    storage = connect(url, create=False)
    known = [s.study_name for s in storage.get_all_studies()]
    if name not in known:
        raise StorageError(f"{shown(url)}: no study {name!r}; {did_you_mean(name, known)}")
    return optuna.load_study(study_name=name, storage=storage)


def load_studies(url: str) -> list[Study]:
    """All studies of a storage."""
    storage = connect(url, create=False)
    return [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]


def records(study: Study) -> list[dict[str, Any]]:
    """A study's trials as plain mappings: their user attributes (`auc` among them), `state`, data set."""
    definition = study.user_attrs["definition"]
    dataset = definition["dataset"].get("name") or study.study_name
    common = {"dataset": dataset, "modality": study.user_attrs["modality"], "study": study.study_name}
    return [
        {
            **common,
            **t.user_attrs,
            "number": t.number,
            "state": t.state.name,
            "auc": t.value if t.state == TrialState.COMPLETE else None,
        }
        for t in study.get_trials(deepcopy=False)
    ]
