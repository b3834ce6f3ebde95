"""User attributes of a running trial, all in one transaction: Optuna writes each in its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState

_TRIALS = sa.table("trials", sa.column("trial_id"), sa.column("state"))
_TABLE = sa.table("trial_user_attributes", *map(sa.column, ("trial_id", "key", "value_json")))


def write_attributes(engine: sa.Engine, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Write user attributes of a trial; of one that has ended nothing."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value, allow_nan=False)}
        for key, value in attributes.items()
    ]
    state = sa.select(sa.cast(_TRIALS.c.state, sa.String)).where(_TRIALS.c.trial_id == trial_id)
    with engine.begin() as connection:
        if connection.execute(state).scalar() != TrialState.RUNNING.name:
            return
        mine = (_TABLE.c.trial_id == trial_id) & _TABLE.c.key.in_(list(attributes))
        connection.execute(sa.delete(_TABLE).where(mine))
        connection.execute(sa.insert(_TABLE), rows)
