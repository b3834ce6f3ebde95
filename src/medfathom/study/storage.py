"""Optuna's storage, with plain statements for what a driver does with every trial.

Optuna goes through mapped objects: to begin a trial, to report five epochs and to end it took half of the
driver's time (benchmarks/results/overhead.md). What is stored is the same, and so are the errors, but for a
database that does not answer: SQLAlchemy's own error is raised (see `study.patience`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite

from medfathom.study.trial_rows import MOST_BY_ID, Named, local_time, read_trial, read_trials

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)

Change = Callable[[sa.Connection], None]
"""Something to be written, in an open transaction."""

_TRIALS: Any = models.TrialModel.__table__
_PARAMS: Any = models.TrialParamModel.__table__
_VALUES: Any = models.TrialValueModel.__table__
_STEPS: Any = models.TrialIntermediateValueModel.__table__
_ATTRIBUTES: Any = models.TrialUserAttributeModel.__table__


class Storage(RDBStorage):
    """A database of studies: SQLite or PostgreSQL."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._held: list[Change] | None = None
        self._read: set[int] | None = None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """What Optuna's cache asks for: the whole study at first, then what is new or was under way."""
        if self._read is not None:
            if study_id in self._read:
                return []
            self._read.add(study_id)
        if states is not None or len(included_trial_ids) > MOST_BY_ID:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return read_trials(self.engine, study_id, newer_than=trial_id_greater_than, also=included_trial_ids)

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """Read a study's trials once in the block: after that Optuna's cache is as new as it needs to be.

        To draw a trial Optuna asks for all trials three times; with 64 of them under way that was a third of
        the driver's work.
        """
        self._read = set()
        try:
            yield
        finally:
            self._read = None

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial."""
        return read_trial(self.engine, trial_id)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Take down a trial's value at a step; the last one counts."""
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(
            intermediate_value
        )
        row = {"trial": trial_id, "at": step, "stored": stored, "kind": kind}
        with self.engine.begin() as connection:
            taken = connection.execute(_report(self.engine.dialect.name), row)
            if not taken.rowcount:
                self._check_updatable(connection, trial_id)

    @contextmanager
    def together(self, do: Callable[[Callable[[], None]], None]) -> Iterator[None]:
        """Hold back a trial's parameters and attributes, and write them in one transaction after the block.

        Args:
            do: is given what writes them, and calls it until it succeeds (see `study.patience`).
        """
        held: list[Change] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        do(lambda: self._write(held))

    def _write(self, changes: Sequence[Change]) -> None:
        with self.engine.begin() as connection:
            for change in changes:
                change(connection)

    def _soon(self, change: Change) -> None:
        """Write now, or with what else is held back."""
        if self._held is None:
            self._write([change])
        else:
            self._held.append(change)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """What Optuna's cache calls."""
        if template_trial is not None:
            return super()._create_new_trial(study_id, template_trial)
        now = datetime.now(UTC).replace(tzinfo=None)
        with self.engine.begin() as connection:
            # Others wait here (on a server) until this one's number is given.
            if connection.execute(_study(), {"study": study_id}).scalar() is None:
                raise KeyError(models.NOT_FOUND_MSG)
            row = {"study_id": study_id, "state": TrialState.RUNNING, "datetime_start": now}
            trial_id = connection.execute(sa.insert(_TRIALS), row).inserted_primary_key[0]  # type: ignore[index]
            number = connection.execute(_n_before(), {"study": study_id, "trial": trial_id}).scalar_one()
            connection.execute(_numbered(), {"trial": trial_id, "its": number})
        return FrozenTrial(
            trial_id=trial_id,
            number=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=local_time(now),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """What Optuna's cache calls; it knows the parameter's distribution from the second trial on."""
        if previous_distribution is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, None)
            return
        check_distribution_compatibility(previous_distribution, distribution)
        row = {
            "trial": trial_id,
            "name": param_name,
            "stored": param_value_internal,
            "form": distribution_to_json(distribution),
        }

        def put(connection: sa.Connection) -> None:
            if not connection.execute(_param(self.engine.dialect.name), row).rowcount:
                self._check_updatable(connection, trial_id)

        self._soon(put)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Begin or end a trial. False: it does not wait any more, so it cannot be begun."""
        now = datetime.now(UTC).replace(tzinfo=None)
        changes: Named = {"state": state}
        if state == TrialState.RUNNING:
            changes["datetime_start"] = now
        elif state.is_finished():
            changes["datetime_complete"] = now
        before = (TrialState.WAITING,) if state == TrialState.RUNNING else UNFINISHED
        mine = (_TRIALS.c.trial_id == trial_id) & _TRIALS.c.state.in_(before)
        with self.engine.begin() as connection:
            if not connection.execute(sa.update(_TRIALS).where(mine).values(changes)).rowcount:
                self._check_updatable(connection, trial_id)
                return False
            if values:
                stored = [models.TrialValueModel.value_to_stored_repr(value) for value in values]
                connection.execute(sa.delete(_VALUES).where(_VALUES.c.trial_id == trial_id))
                connection.execute(
                    sa.insert(_VALUES),
                    [
                        {"trial_id": trial_id, "objective": i, "value": value, "value_type": kind}
                        for i, (value, kind) in enumerate(stored)
                    ],
                )
        return True

    def write_attributes(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Write user attributes of a running trial, all in one transaction; of one that has ended nothing.

        Raises:
            ValueError: one of them is not a number, or infinite; nothing is written.
        """
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value, allow_nan=False)}
            for key, value in attributes.items()
        ]

        def put(connection: sa.Connection) -> None:
            if connection.execute(_state(), {"trial": trial_id}).scalar() == TrialState.RUNNING:
                connection.execute(_forget(), {"trial": trial_id, "keys": list(attributes)})
                connection.execute(sa.insert(_ATTRIBUTES), rows)

        self._soon(put)

    def _check_updatable(self, connection: sa.Connection, trial_id: int) -> None:
        """Raise Optuna's errors: KeyError where there is no such trial, another where it has ended."""
        state = connection.execute(_state(), {"trial": trial_id}).scalar()
        if state is None:
            raise KeyError(models.NOT_FOUND_MSG)
        self.check_trial_is_updatable(trial_id, state)


# Each statement is put together once: that takes as long as to run it.


@cache
def _study() -> sa.Select[Any]:
    one = models.StudyModel
    return sa.select(one.study_id).where(one.study_id == sa.bindparam("study")).with_for_update()


@cache
def _n_before() -> sa.Select[Any]:
    before = (_TRIALS.c.study_id == sa.bindparam("study")) & (_TRIALS.c.trial_id < sa.bindparam("trial"))
    return sa.select(sa.func.count()).select_from(_TRIALS).where(before)


@cache
def _numbered() -> sa.Update:
    mine = _TRIALS.c.trial_id == sa.bindparam("trial")
    return sa.update(_TRIALS).where(mine).values(number=sa.bindparam("its"))


@cache
def _state() -> sa.Select[Any]:
    return sa.select(_TRIALS.c.state).where(_TRIALS.c.trial_id == sa.bindparam("trial"))


@cache
def _forget() -> sa.Delete:
    keys = _ATTRIBUTES.c.key.in_(sa.bindparam("keys", expanding=True))
    return sa.delete(_ATTRIBUTES).where((_ATTRIBUTES.c.trial_id == sa.bindparam("trial")) & keys)


@cache
def _report(dialect: str) -> Any:
    row = {
        "trial_id": "trial",
        "step": "at",
        "intermediate_value": "stored",
        "intermediate_value_type": "kind",
    }
    put = _of_unfinished(dialect, _STEPS, row)
    new = {name: put.excluded[name] for name in ("intermediate_value", "intermediate_value_type")}
    return put.on_conflict_do_update(index_elements=["trial_id", "step"], set_=new)


@cache
def _param(dialect: str) -> Any:
    row = {"trial_id": "trial", "param_name": "name", "param_value": "stored", "distribution_json": "form"}
    put = _of_unfinished(dialect, _PARAMS, row)
    return put.on_conflict_do_nothing(index_elements=["trial_id", "param_name"])


def _of_unfinished(dialect: str, table: Any, row: Mapping[str, str]) -> Any:
    """Insert one row (columns by their bound names), if the trial has not ended."""
    columns = [sa.bindparam(bound, type_=table.c[name].type) for name, bound in row.items()]
    there = (_TRIALS.c.trial_id == sa.bindparam("trial")) & _TRIALS.c.state.in_(UNFINISHED)
    insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]
    put = insert(table).from_select(list(row), sa.select(*columns).select_from(_TRIALS).where(there))
    return put.execution_options(preserve_rowcount=True)  # of an insertion PostgreSQL's is else not kept
