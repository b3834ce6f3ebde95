"""What a driver writes by plain statements is what Optuna would have written, on both databases."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from medfathom.study.connection import close
from medfathom.study.storage import Storage

FORMS = {
    "architecture": CategoricalDistribution(["vgg16", "resnet50"]),
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
}
ENDS = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
trial = st.integers(0, 3)
number = st.floats(allow_nan=False)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create")),
        st.tuples(st.just("report"), trial, st.integers(0, 3), st.floats()),
        st.tuples(st.just("parameter"), trial, st.sampled_from(sorted(FORMS))),
        st.tuples(st.just("begin"), trial),
        st.tuples(st.just("enqueue")),
        st.tuples(st.just("end"), trial, st.sampled_from(ENDS), st.lists(number, max_size=2)),
    ),
    max_size=25,
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RDBStorage, Storage]]:
    """Optuna's and ours of one database: what they write stands in two studies."""
    server = request.param == "postgresql"
    url = request.getfixturevalue("postgresql") if server else f"sqlite:///{tmp_path / 'x.db'}"
    both = RDBStorage(url), Storage(url)
    yield both
    for storage in both:
        close(storage)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=steps)
@pytest.mark.large
def test_equal_to_what_optuna_writes(
    made: list[tuple[Any, ...]], storages: tuple[RDBStorage, Storage]
) -> None:
    found = [written(storage, made) for storage in storages]
    assert found[0] == found[1]


def written(plain: RDBStorage, made: Sequence[tuple[Any, ...]]) -> list[object]:
    """What became of each step, and the study's trials as Optuna reads them."""
    study = optuna.create_study(storage=plain, directions=["maximize", "maximize"])
    storage, study_id = study._storage, study._study_id
    told: list[object] = []
    for what, *rest in made:
        try:
            told.append(done(study, storage, what, rest))
        except (IndexError, ValueError, UpdateFinishedTrialError) as error:
            told.append(type(error))
    trials = RDBStorage._get_trials(plain, study_id, None, set(), -1)
    told += [
        (
            t.number,
            t.state,
            t.values,
            t.params,
            t.distributions,
            {k: "nan" if math.isnan(v) else v for k, v in t.intermediate_values.items()},
            t.datetime_start is None,
            t.datetime_complete is None,
        )
        for t in trials
    ]
    return told


def done(study: optuna.Study, storage: BaseStorage, what: str, rest: Sequence[Any]) -> object:
    if what == "enqueue":
        study.enqueue_trial({"learning_rate": 0.01})
        return None
    if what == "create":
        return study.ask().number
    number, *values = rest
    trial_id = study.get_trials(deepcopy=False)[number]._trial_id
    match what, values:
        case "report", [step, value]:
            return storage.set_trial_intermediate_value(trial_id, step, value)
        case "parameter", [name]:
            value = {"architecture": 1, "learning_rate": 0.02}[name]
            return storage.set_trial_param(trial_id, name, value, FORMS[name])
        case "begin", []:
            return storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        case "end", [state, reached]:
            return storage.set_trial_state_values(trial_id, state, reached or None)
    raise AssertionError(what)


def test_a_trial_that_is_not_there(storages: tuple[RDBStorage, Storage]) -> None:
    for storage in storages:
        with pytest.raises(KeyError):
            storage.get_trial(99)
        with pytest.raises(KeyError):
            storage.set_trial_intermediate_value(99, 1, 0.5)
        with pytest.raises(KeyError):
            storage.set_trial_state_values(99, TrialState.COMPLETE, [0.5])
        with pytest.raises(KeyError):
            storage.create_new_trial(99)


def test_another_distribution_of_a_parameter_is_refused(storages: tuple[RDBStorage, Storage]) -> None:
    for storage in storages:
        study = optuna.create_study(storage=storage)
        for _ in range(2):  # Optuna's cache knows the distribution from the second trial on
            study.ask(FORMS)
        with pytest.raises(ValueError, match="distribution"):
            study.ask({"learning_rate": CategoricalDistribution([0.1, 0.2])})


def test_what_belongs_together_is_one_transaction(storages: tuple[RDBStorage, Storage]) -> None:
    _, storage = storages
    study = optuna.create_study(storage=storage)
    study.ask(FORMS)
    new = study.ask()
    commits = [0]
    sa.event.listen(storage.engine, "commit", lambda _: commits.__setitem__(0, commits[0] + 1))
    with storage.together(lambda write: write()):
        new.suggest_categorical("architecture", ["vgg16", "resnet50"])
        new.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        storage.write_attributes(new._trial_id, {"seed": 3})
        assert storage.get_trial(new._trial_id).params == {}
    whole = storage.get_trial(new._trial_id)
    assert (whole.params, whole.user_attrs) == (new.params, {"seed": 3})
    assert commits == [1]


def test_nothing_is_written_of_a_block_that_fails(storages: tuple[RDBStorage, Storage]) -> None:
    _, storage = storages
    study = optuna.create_study(storage=storage)
    study.ask(FORMS)
    new = study.ask()
    with pytest.raises(RuntimeError, match="no more"), storage.together(lambda write: write()):  # noqa: PT012
        new.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        raise RuntimeError("no more")
    assert storage.get_trial(new._trial_id).params == {}
    storage.write_attributes(new._trial_id, {"seed": 3})  # at once again
    assert storage.get_trial(new._trial_id).user_attrs == {"seed": 3}


def test_writing_is_tried_again_as_a_whole(storages: tuple[RDBStorage, Storage]) -> None:
    _, storage = storages
    study = optuna.create_study(storage=storage)
    study.ask(FORMS)
    new = study.ask()

    def twice(write: Any) -> None:
        write()  # its answer is lost
        write()

    with storage.together(twice):
        new.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        storage.write_attributes(new._trial_id, {"seed": 3})
    whole = storage.get_trial(new._trial_id)
    assert (whole.params, whole.user_attrs) == (new.params, {"seed": 3})


def test_a_study_is_read_once_in_a_block(storages: tuple[RDBStorage, Storage]) -> None:
    plain, storage = storages
    study = optuna.create_study(storage=storage, study_name="one")
    elsewhere = optuna.load_study(study_name="one", storage=plain)
    study.ask(FORMS)
    with storage.reading_once():
        assert len(study.trials) == 1
        elsewhere.ask(FORMS)
        own = study.ask(FORMS)
        assert [t.number for t in study.trials] == [0, own.number]
    assert len(study.trials) == 3
    assert study.trials[own.number].params == own.params
