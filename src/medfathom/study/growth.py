"""A living study: its trials go on in a space that became wider.

Optuna refuses another list of choices under a parameter's name, and its multivariate TPE drops a parameter
whose range changed between trials. So the trials are rewritten as the wider space asks for them: the same
values, under its distributions, and in its strata.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import Params, SpaceConfig, TrialParams, label, stratum_of, suggest
from medfathom.study.ids import trial_id_of
from medfathom.study.storage import Storage
from medfathom.study.summary import GOES_ON_FROM
from medfathom.study.trial_rows import read_trials

EARLIER = "earlier_spaces"
"""Attribute of a study: the spaces that it had before, in order, each with the number of trials begun till
then. The order in which a grid is gone through follows from them."""

_FIXED = "fixed_params"
"""Where Optuna keeps the parameters of a trial that waits (`enqueue_trial`)."""

_PARAMS = sa.table(
    "trial_params", *map(sa.column, ("trial_id", "param_name", "param_value", "distribution_json"))
)
_OF_TRIALS, _SYSTEM = (
    sa.table(name, *map(sa.column, ("trial_id", "key", "value_json")))
    for name in ("trial_user_attributes", "trial_system_attributes")
)
_OF_STUDY = sa.table("study_user_attributes", *map(sa.column, ("study_id", "key", "value_json")))


def earlier_spaces(study: Study) -> list[tuple[SpaceConfig, int]]:
    """The spaces that a study had before, and how many trials had been begun when each became wider."""
    known = study.user_attrs.get(EARLIER, ())
    return [(SpaceConfig.model_validate(each["space"]), each["trials"]) for each in known]


def params_in(space: SpaceConfig, given: Mapping[str, Any]) -> TrialParams | None:
    """A trial's parameters from Optuna's; None: some are missing, the trial was not yet drawn whole."""
    try:
        return suggest(FixedTrial(dict(given)), space)
    except ValueError:
        return None


def queued_params(waiting: FrozenTrial, space: SpaceConfig) -> TrialParams | None:
    """The parameters of a trial of the queue; None: some of them will be drawn when it begins."""
    return params_in(space, waiting.system_attrs.get(_FIXED, {}))


def asked(params: TrialParams, space: SpaceConfig) -> tuple[Params, Mapping[str, BaseDistribution]]:
    """What Optuna knows of a trial with these parameters in a space: values and distributions by name."""
    given = {name: getattr(params, name) for name in space.dimensions}
    joint = space.joint
    if joint:
        same = (c for c in space.allowed_combinations() if all(c[name] == given[name] for name in joint))
        given["+".join(joint)] = label(next(same))
    trial = FixedTrial(given)
    suggest(trial, space)
    return trial.params, trial.distributions


def moved(given: Mapping[str, Any], before: SpaceConfig, after: SpaceConfig) -> Params:
    """Optuna's parameters of a trial, as a wider space names them."""
    return asked(suggest(FixedTrial(dict(given)), before), after)[0]


def grow(
    storage: Storage,
    study_id: int,
    before: SpaceConfig,
    config: StudyConfig,
    attributes: Mapping[str, Any],
) -> list[FrozenTrial]:
    """Rewrite a study's trials for a wider space, and the study's attributes: all of it, or nothing.

    To be called while nobody is at work on the study.

    Args:
        storage: of the study.
        study_id: Optuna's.
        before: the space that its trials were drawn from; all of it is in the new one.
        config: the definition with the new space.
        attributes: of the study, to be replaced.

    Returns:
        The trials as they were.
    """
    trials = read_trials(storage.engine, study_id)
    whole = {trial_id_of(t): params_in(before, t.params) for t in trials}
    ids = list(whole)
    with storage.engine.begin() as connection:
        for chunk in _chunks(ids):
            connection.execute(sa.delete(_PARAMS).where(_PARAMS.c.trial_id.in_(chunk)))
            rows = [row for i in chunk for row in _rows(i, whole[i], config.space)]
            if rows:
                connection.execute(sa.insert(_PARAMS), rows)
        for trial in trials:
            params = whole[trial_id_of(trial)]
            if params is not None and "stratum" in trial.user_attrs:
                _replace(connection, trial_id_of(trial), "stratum", stratum_of(params, config.space))
            elif trial.state == TrialState.WAITING:
                _ask_anew(connection, trial, before, config.space)
        keys = list(attributes)
        mine = (_OF_STUDY.c.study_id == study_id) & _OF_STUDY.c.key.in_(keys)
        connection.execute(sa.delete(_OF_STUDY).where(mine))
        new = [{"study_id": study_id, "key": k, "value_json": json.dumps(attributes[k])} for k in keys]
        connection.execute(sa.insert(_OF_STUDY), new)
    return trials


def _chunks(ids: Sequence[int], size: int = 500) -> Iterator[Sequence[int]]:
    """SQLite takes a bounded number of values in one statement."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _rows(trial_id: int, params: TrialParams | None, space: SpaceConfig) -> list[dict[str, object]]:
    """A trial's parameters as the database holds them; none of a trial that was not drawn whole."""
    if params is None:
        return []
    values, distributions = asked(params, space)
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(distributions[name]),
        }
        for name, value in values.items()
    ]


def _replace(connection: sa.Connection, trial_id: int, key: str, value: str) -> None:
    mine = (_OF_TRIALS.c.trial_id == trial_id) & (_OF_TRIALS.c.key == key)
    connection.execute(sa.update(_OF_TRIALS).where(mine).values(value_json=json.dumps(value)))


def _ask_anew(connection: sa.Connection, trial: FrozenTrial, before: SpaceConfig, space: SpaceConfig) -> None:
    """A trial that waits (a confirmation's) keeps its parameters, under the names of the new space."""
    params = params_in(before, trial.system_attrs.get(_FIXED, {}))
    if params is None:
        return
    mine = (_SYSTEM.c.trial_id == trial_id_of(trial)) & (_SYSTEM.c.key == _FIXED)
    fixed = json.dumps(asked(params, space)[0])
    connection.execute(sa.update(_SYSTEM).where(mine).values(value_json=fixed))
    if "stratum" in trial.user_attrs:
        _replace(connection, trial_id_of(trial), "stratum", stratum_of(params, space))


def told(before: SpaceConfig, config: StudyConfig, trials: Sequence[FrozenTrial], news: Sequence[str]) -> str:
    """What is new in a study that goes on, in one line."""
    known = {label(stratum) for stratum in before.strata()}
    new = len(config.space.strata()) - len(known)
    strata = [f"{new} new strata" if new > 1 else "one new stratum"] if new > 0 else []
    line = f"study {config.name!r} goes on with its {len(trials)} trials; new: {'; '.join([*news, *strata])}"
    wanted = _wanted_trials(config, trials, new)
    budget = trials_of(config)
    if budget >= wanted:
        return line
    return f"{line}; budget.trials = {config.budget.trials} is too few for them: give {wanted} or more"


def _wanted_trials(config: StudyConfig, trials: Sequence[FrozenTrial], new: int) -> int:
    """Trials of the whole study with which what is new gets any; under `compare` as many as other strata."""
    firsts = [t for t in trials if GOES_ON_FROM not in t.user_attrs]
    if config.goal != "compare" or config.sampler.name == "grid":
        return len(firsts) + 1
    begun = Counter(t.user_attrs.get("stratum", "") for t in firsts)
    return len(firsts) + new * max(begun.values(), default=1)
