"""The only module that opens Optuna storage: create, resume, refuse, set aside, read.

The Optuna study is the only truth about a study's trials; `ledger.py` is one run's hold on it.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
import sqlalchemy as sa
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom import leases
from medfathom.definitions import StudyConfig
from medfathom.errors import RunError, StorageError, cause_of, did_you_mean
from medfathom.ledger import Ledger
from medfathom.storage_url import parsed, shown, sqlite_file
from medfathom.trial_rows import Storage, read_trials

SCHEMA = 1
"""Version of what medfathom writes into a study; a study of a newer one is refused."""
SQLITE_TIMEOUT_S = 60.0

optuna.logging.set_verbosity(optuna.logging.WARNING)


def root() -> Path:
    """The folder of all that studies produce: `storage/` in the working folder, or MEDFATHOM_STORAGE."""
    return Path(os.environ.get("MEDFATHOM_STORAGE", "storage"))


def default_url() -> str:
    """SQLite under `root`."""
    return f"sqlite:///{root() / 'medfathom.db'}"


class _SyncedStorage(Storage):
    """On SQLite: what belongs to a checkpoint is on the disk as long as the checkpoint may be there.

    After a power cut a trial whose end was lost would begin anew, its checkpoint gone; and the number of one
    whose beginning was lost would be given to another, which would take its checkpoint. So the log is synced
    at a trial's first report, and at its end: two waits for the disk, not one for each of its thirty commits.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any], file: Path) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._log = Path(f"{file.resolve()}-wal")
        self._reported: set[int] = set()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        if trial_id not in self._reported:
            self._sync()
            self._reported.add(trial_id)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._sync()
        return changed

    def _sync(self) -> None:
        try:
            descriptor = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:  # a file system that allows no such log: then SQLite syncs every commit
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise RunError(f"{self._log}: cannot be synced ({error.strerror}); is its disk well?") from None
        finally:
            os.close(descriptor)


def connect(url: str, *, create: bool) -> RDBStorage:
    """Open an Optuna storage.

    Args:
        url: SQLAlchemy's form.
        create: whether it is to be written; a SQLite file may then be created.

    Raises:
        StorageError: in one line, for a URL that is none, a file that is absent or no database, no answer,
            or, to create, a database that runs cannot share.
    """
    file = sqlite_file(url)
    if file is not None:
        if not create and not file.is_file():
            raise StorageError(f"{file}: no such storage; `medfathom run STUDY` creates it")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine_kwargs: dict[str, Any] = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
    else:
        if create:
            _check_lockable(url)
        engine_kwargs = {"pool_pre_ping": True}
    # Whoever only reads has no end at which to let go of connections: each lives for one question.
    engine_kwargs |= {"poolclass": sa.QueuePool, "pool_size": 2} if create else {"poolclass": sa.NullPool}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Two drivers that begin at once would both create the tables.
            with leases.one_driver_at_a_time(sa.create_engine(url, poolclass=sa.NullPool)):
                if file is not None and create:
                    storage: RDBStorage = _SyncedStorage(url, engine_kwargs, file)
                else:
                    storage = Storage(url, engine_kwargs=engine_kwargs)
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = cause_of(error)
        raise StorageError(f"{shown(url)}: cannot be opened ({reason})") from None
    if file is not None and create:
        _make_commits_cheap(storage.engine)
    return storage


def _check_lockable(url: str) -> None:
    """On another server two drivers could both take the last trial of a budget, or each other's trials."""
    name = parsed(url).get_backend_name()
    if name not in ("sqlite", "postgresql"):
        raise StorageError(
            f"--storage {shown(url)}: runs are kept in SQLite and PostgreSQL, not in {name}; "
            "such as sqlite:///file.db or postgresql+psycopg://user@host/database"
        )


def check_url(url: str) -> None:
    """Raise StorageError for a URL that is none, or a server that does not answer, or that runs cannot share;
    creates no file."""
    if sqlite_file(url) is None:
        close(connect(url, create=True))


def _make_commits_cheap(engine: sa.Engine) -> None:
    """Write-ahead log, synced before it is moved into the file, and by `_SyncedStorage`: readers never block
    the run, a crash of the machine at worst loses the last commits and never the file."""

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


@contextmanager
def open_ledger(
    config: StudyConfig,
    url: str,
    fingerprint: str,
    *,
    fresh: bool = False,
    marks: Mapping[str, str] = MappingProxyType({}),
    wait: Callable[[str], None] = lambda _: None,
) -> Iterator[Ledger]:
    """Create the study, or resume it, and hold it while the block runs.

    Args:
        config: the definition.
        url: the storage.
        fingerprint: of the prepared data set.
        fresh: set an existing study of this name aside (it stays, renamed) and begin anew.
        marks: attributes that the study is created with; an existing one with others is set aside.
        wait: told, in words, while the storage does not answer.

    Raises:
        StorageError: the definition or the data changed, another run holds the study, no storage.
    """
    with _only_driver(url, config.name), ExitStack() as opened:
        storage = connect(url, create=True)
        opened.callback(close, storage)
        try:
            mine = None if sqlite_file(url) else leases.Leases(storage.engine, leases.LEASE_S)
            with leases.one_driver_at_a_time(storage.engine):
                if fresh or _marked_otherwise(storage, config.name, marks):
                    _set_aside(storage, config.name, mine)
                study = _open_study(storage, config, fingerprint, marks)
                opened.enter_context(leases.at_work_on(storage.engine, study._study_id))
        except (StorageInternalError, sa.exc.OperationalError) as error:
            reason = cause_of(error)
            raise StorageError(f"{shown(url)}: cannot be written ({reason})") from None
        ledger = Ledger(
            study,
            storage,
            config,
            checkpoints=root() / "checkpoints" / f"{study.study_name}-{study.user_attrs['uid']}",
            wait=wait,
            leases=mine,
            file=sqlite_file(url),
        )
        try:
            yield ledger
        finally:
            ledger.release()


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


def _id_of(storage: BaseStorage, name: str) -> int | None:
    """A study's id; None where there is no study of that name."""
    return {s.study_name: s._study_id for s in storage.get_all_studies()}.get(name)


def _marked_otherwise(storage: RDBStorage, name: str, marks: Mapping[str, str]) -> bool:
    study_id = _id_of(storage, name)
    known = storage.get_study_user_attrs(study_id) if study_id is not None else {}
    return "definition" in known and any(known.get(key) != value for key, value in marks.items())


def _open_study(
    storage: RDBStorage, config: StudyConfig, fingerprint: str, marks: Mapping[str, str]
) -> Study:
    if _id_of(storage, config.name) is not None:
        study = optuna.load_study(study_name=config.name, storage=storage)
        if "definition" in study.user_attrs:  # else: killed between creating it and describing it
            _check_same(study, config, fingerprint)
            _describe(study, config)
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
    for key, value in marks.items():
        study.set_user_attr(key, value)
    study.set_user_attr("schema", SCHEMA)
    study.set_user_attr("uid", uuid.uuid4().hex[:8])
    study.set_user_attr("dataset_fingerprint", fingerprint)
    _describe(study, config)
    return study


def _describe(study: Study, config: StudyConfig) -> None:
    """Write down the definition, and what others read of it, as the latest run has it.

    What is not part of a study's identity may change: texts, the budget's totals, places, resources.
    """
    known = study.user_attrs
    attributes = {
        "question": config.question,
        "goal": config.goal,
        "modality": config.dataset.modality,
        "definition_hash": config.definition_hash,
        "identity": config.identity(),
        "definition": config.model_dump(mode="json"),  # the last: it tells that all are there
    }
    for key, value in attributes.items():
        if known.get(key) != value:
            study.set_user_attr(key, value)


def _set_aside(storage: RDBStorage, name: str, mine: leases.Leases | None) -> None:
    """Give a study another name, where there is one: what was paid for stays.

    Raises StorageError where another run has it open, or holds one of its trials.
    """
    study_id = _id_of(storage, name)
    if study_id is None:
        return
    _check_nobody_is_at_work(storage, name, study_id, mine)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    optuna.copy_study(
        from_study_name=name,
        from_storage=storage,
        to_storage=storage,
        to_study_name=f"{name} (until {stamp})",
    )
    optuna.delete_study(study_name=name, storage=storage)


def _check_nobody_is_at_work(
    storage: RDBStorage, name: str, study_id: int, mine: leases.Leases | None
) -> None:
    why = "another run is at work on it" if leases.anyone_at_work_on(storage.engine, study_id) else ""
    running = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
    held = mine.held_by_others(t._trial_id for t in running) if mine is not None else set()
    numbers = [t.number for t in running if t._trial_id in held]
    if numbers and not why:  # its connections broke, or it died a moment ago
        why = f"trial {numbers[0]} is another run's, or was until less than {leases.LEASE_S:.0f} s ago"
    if why:
        raise StorageError(
            f"study {name!r} cannot be set aside: {why}; wait for its end, or share the work without --fresh"
        )


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
    """All studies of a storage, to read."""
    storage = connect(url, create=False)
    return [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]


def beside(study: Study, name: str) -> Study | None:
    """Another study of the same storage; None: there is none of that name."""
    storage = study._storage
    if _id_of(storage, name) is None:
        return None
    return optuna.load_study(study_name=name, storage=storage)


def brief_trials(url: str, study: Study, attributes: Collection[str]) -> list[FrozenTrial]:
    """A study's trials with only some of their user attributes: for a look at a large study."""
    return read_trials(connect(url, create=False).engine, study._study_id, attributes)


def close(storage: RDBStorage) -> None:
    """Let go of a storage's connections."""
    storage.remove_session()
    storage.engine.dispose()


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
