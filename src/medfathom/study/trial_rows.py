"""All trials of a study from its database, by plain queries.

Optuna reads trials as mapped objects, each with its forty attributes: for `medfathom show` on 5,000 trials
that takes 6.3 s and 494 MiB, plain queries of what is shown 1.1 s and 105 MiB (two cores, SQLite). A driver
reads all trials under way again several times a trial: with 64 workers that was half of its work.
`study.storage` writes a trial in the same way.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from pydantic_core import from_json

Named = dict[str, Any]
"""Parameters or attributes of a trial, by name: whatever JSON can say."""

ROWS_AT_ONCE = 5_000
_SPECIAL = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}


MOST_BY_ID = 5_000
"""Of so many trials the rows are asked for by the trials' ids; of more, all rows are gone through."""


def read_trials(
    engine: sa.Engine,
    study_id: int,
    attributes: Collection[str] | None = None,
    *,
    newer_than: int = -1,
    also: Collection[int] = (),
) -> list[FrozenTrial]:
    """A study's trials in order; all of them are equal to what Optuna gives.

    Args:
        engine: of the storage.
        study_id: Optuna's.
        attributes: only these user attributes are read, and neither dates, parameters and intermediate
            values nor Optuna's own attributes; None: all.
        newer_than: only trials with a higher id are read, -1: all of the study;
        also: and the study's trials with these ids.
    """
    brief = attributes is not None
    with engine.connect() as connection:
        parts = _Parts(connection, study_id)
        # Before what belongs to them: a trial that ends meanwhile is then read as running, and read again.
        heads = parts.heads(newer_than, also, with_dates=not brief)
        if newer_than > -1 and len(heads) <= MOST_BY_ID:
            parts.trials = [trial for trial, *_ in heads]
        return parts.trials_of(heads, attributes)


def read_trial(engine: sa.Engine, trial_id: int) -> FrozenTrial:
    """One trial, as Optuna gives it; raises KeyError where there is none."""
    with engine.connect() as connection:
        found = connection.execute(_head(), {"trial": trial_id}).one_or_none()
        if found is None:
            raise KeyError(models.NOT_FOUND_MSG)
        study_id, *_ = found
        parts = _Parts(connection, study_id)
        parts.trials = [trial_id]
        return parts.trials_of([_dated(found[1:])], None)[0]


Head = tuple[int, int, TrialState, datetime | None, datetime | None]
"""A trial's id, number, state, and when it began and ended."""


def _dated(row: Sequence[Any]) -> Head:
    trial, number, state, start, end = row
    return trial, number, state, local_time(start), local_time(end)


class _Parts:
    """The tables of one study's trials.

    Attributes:
        trials: ids of those that are read; None: all.
    """

    def __init__(self, connection: sa.Connection, study_id: int) -> None:
        self._connection = connection
        self._study_id = study_id
        self.trials: list[int] | None = None

    def _rows(self, query: sa.Select[Any], **values: Any) -> Iterator[Any]:
        """Numbers and texts as the database gives them: of 20,000 trials there are a million rows."""
        if self.trials is not None:
            query, values = _of_trials(query), {**values, "trials": self.trials}
        cursor = self._connection.execute(query, {"study": self._study_id, **values}).cursor
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from rows

    def trials_of(self, heads: Sequence[Head], names: Collection[str] | None) -> list[FrozenTrial]:
        """Whole trials; or, where user attributes are named, no more than these, states and values."""
        brief = names is not None
        params, distributions = ({}, {}) if brief else self.params()
        values = self.values()
        steps = {} if brief else self.steps()
        user = self.attributes(models.TrialUserAttributeModel, names)
        system = {} if brief else self.attributes(models.TrialSystemAttributeModel, None)
        return [
            FrozenTrial(
                number=number,
                state=state,
                value=None,
                values=[values[trial][i] for i in sorted(values[trial])] if trial in values else None,
                datetime_start=start,
                datetime_complete=end,
                params=params.get(trial, {}),
                distributions=distributions.get(trial, {}),
                user_attrs=user.get(trial, {}),
                system_attrs=system.get(trial, {}),
                intermediate_values=steps.get(trial, {}),
                trial_id=trial,
            )
            for trial, number, state, start, end in heads
        ]

    def heads(self, newer_than: int, also: Collection[int], *, with_dates: bool) -> list[Head]:
        query, values = _heads(with_dates=with_dates, some=newer_than > -1), {"study": self._study_id}
        some = {"newer_than": newer_than, "also": list(also)} if newer_than > -1 else {}
        rows = self._connection.execute(query, {**values, **some})  # dates and states as SQLAlchemy's types
        return [_dated(row) for row in rows]

    def params(self) -> tuple[dict[int, Named], dict[int, dict[str, BaseDistribution]]]:
        params: dict[int, Named] = defaultdict(dict)
        distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        for trial, name, value, form in self._rows(_params()):
            distribution = _distribution(form)
            distributions[trial][name] = distribution
            params[trial][name] = distribution.to_external_repr(value)
        return params, distributions

    def values(self) -> dict[int, dict[int, float]]:
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for trial, objective, value, kind in self._rows(_values()):
            found[trial][objective] = _SPECIAL.get(kind, value)
        return found

    def steps(self) -> dict[int, dict[int, float]]:
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for trial, step, value, kind in self._rows(_steps()):
            found[trial][step] = _SPECIAL.get(kind, value)
        return found

    def attributes(self, model: Any, names: Collection[str] | None) -> dict[int, Named]:
        """One JSON object a trial, put together by the database: half the time of one row an attribute."""
        query = _attributes(model, self._connection.dialect.name, named=names is not None)
        rows = self._rows(query) if names is None else self._rows(query, names=list(names))
        return {trial: _object("{" + text + "}") for trial, text in rows}


# Each query is put together once: that takes as long as to ask it.


@cache
def _heads(*, with_dates: bool, some: bool) -> sa.Select[Any]:
    """`some`: those that are newer than an id, and those of other ids."""
    one = models.TrialModel
    dates = (one._datetime_start_utc, one._datetime_complete_utc) if with_dates else (sa.null(), sa.null())
    query = sa.select(one.trial_id, one.number, one.state, *dates).order_by(one.trial_id)
    query = query.where(one.study_id == sa.bindparam("study"))
    if some:
        also = one.trial_id.in_(sa.bindparam("also", expanding=True))
        query = query.where(sa.or_(one.trial_id > sa.bindparam("newer_than"), also))
    return query


@cache
def _head() -> sa.Select[Any]:
    """One trial's, after its study."""
    one = models.TrialModel
    dates = one._datetime_start_utc, one._datetime_complete_utc
    query = sa.select(one.study_id, one.trial_id, one.number, one.state, *dates)
    return query.where(one.trial_id == sa.bindparam("trial"))


def _of_study(model: Any, *columns: Any) -> sa.Select[Any]:
    """What belongs to a study's trials, the trial's id first."""
    query = sa.select(model.trial_id, *columns).join(
        models.TrialModel, models.TrialModel.trial_id == model.trial_id
    )
    return query.where(models.TrialModel.study_id == sa.bindparam("study"))


@cache
def _of_trials(query: sa.Select[Any]) -> sa.Select[Any]:
    """What belongs to some of them."""
    return query.where(query.selected_columns[0].in_(sa.bindparam("trials", expanding=True)))


@cache
def _params() -> sa.Select[Any]:
    one = models.TrialParamModel
    return _of_study(one, one.param_name, one.param_value, one.distribution_json).order_by(one.param_id)


@cache
def _values() -> sa.Select[Any]:
    one = models.TrialValueModel
    return _of_study(one, one.objective, one.value, one.value_type)


@cache
def _steps() -> sa.Select[Any]:
    one = models.TrialIntermediateValueModel
    query = _of_study(one, one.step, one.intermediate_value, one.intermediate_value_type)
    return query.order_by(one.trial_intermediate_value_id)


@cache
def _attributes(model: Any, dialect: str, *, named: bool) -> sa.Select[Any]:
    query = _of_study(model, _members(dialect, model)).group_by(model.trial_id)
    return query.where(model.key.in_(sa.bindparam("names", expanding=True))) if named else query


def _members(dialect: str, model: Any) -> sa.ColumnElement[str]:
    """The `"key": value` pairs of a trial's attributes, one after the other."""
    if dialect == "sqlite":
        return sa.func.group_concat(sa.func.json_quote(model.key).concat(":").concat(model.value_json))
    key = sa.cast(sa.func.to_json(model.key), sa.Text)
    return sa.func.string_agg(key.concat(":").concat(model.value_json), ",")


def _object(text: str) -> Named:
    """Short texts that repeat from trial to trial are kept once."""
    try:
        found: Named = from_json(text, cache_strings="all")
    except ValueError:  # half a surrogate pair, as in the name of a file that is not UTF-8
        found = json.loads(text)
    return found


@cache
def _distribution(form: str) -> BaseDistribution:
    return json_to_distribution(form)


def local_time(utc: datetime | None) -> datetime | None:
    """Optuna stores naive UTC and gives naive local time."""
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
