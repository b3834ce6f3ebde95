"""Trials read by plain queries are those that Optuna reads."""

import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from medfathom.study.connection import close
from medfathom.study.storage import Storage
from medfathom.study.trial_rows import read_trials

FORMS = {
    "architecture": CategoricalDistribution(["vgg16", "resnet50"]),
    "unfreeze_depth": IntDistribution(0, 5),
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "class_weights": CategoricalDistribution([True, False]),
}
number = st.floats(allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def trials(draw: st.DrawFn) -> FrozenTrial:
    state = draw(
        st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
    )
    params = {
        "architecture": draw(st.sampled_from(["vgg16", "resnet50"])),
        "unfreeze_depth": draw(st.integers(0, 5)),
        "learning_rate": draw(st.floats(1e-5, 1e-1)),
        "class_weights": draw(st.booleans()),
    }
    kept = draw(st.sets(st.sampled_from(sorted(params))))
    return create_trial(
        state=state,
        value=draw(number) if state == TrialState.COMPLETE else None,
        params={k: params[k] for k in params if k in kept},
        distributions={k: FORMS[k] for k in params if k in kept},
        user_attrs=draw(st.dictionaries(st.text("abc", min_size=1, max_size=3), json_values, max_size=3)),
        system_attrs=draw(st.dictionaries(st.just("key"), json_values, max_size=1)),
        intermediate_values=draw(st.dictionaries(st.integers(0, 9), st.floats(), max_size=3)),
    )


@settings(max_examples=15, deadline=None)
@given(made=st.lists(trials(), max_size=4), newer_than=st.integers(1, 9), also=st.sets(st.integers(1, 9)))
@pytest.mark.large
def test_equal_to_optunas(
    made: list[FrozenTrial], newer_than: int, also: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('rows') / 'x.db'}"
    plain, ours = RDBStorage(url), Storage(url)
    other = optuna.create_study(storage=plain, study_name="other")
    study = optuna.create_study(storage=plain, study_name="one")
    for trial in made:
        other.add_trial(trial)
        study.add_trial(trial)
    expected = RDBStorage._get_trials(plain, study._study_id, None, set(), -1)
    found = ours._get_trials(study._study_id, None, set(), -1)
    assert [_facts(t) for t in found] == [_facts(t) for t in expected]
    # The ids of both studies alternate: 1, 3, 5, 7 are those of the other one.
    expected_new = RDBStorage._get_trials(plain, study._study_id, None, also, newer_than)
    found_new = ours._get_trials(study._study_id, None, also, newer_than)
    assert [_facts(t) for t in found_new] == [_facts(t) for t in expected_new]
    brief = read_trials(ours.engine, study._study_id, ["a"])
    assert [t.user_attrs for t in brief] == [
        {k: v for k, v in t.user_attrs.items() if k == "a"} for t in expected
    ]
    close(plain)
    close(ours)


def _facts(trial: FrozenTrial) -> list[object]:
    steps = {k: "nan" if math.isnan(v) else v for k, v in trial.intermediate_values.items()}
    return [{k: v for k, v in vars(trial).items() if k != "intermediate_values"}, steps]


def test_many_new_trials_are_read_without_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfathom.study.trial_rows.MOST_BY_ID", 2)
    storage = Storage(f"sqlite:///{tmp_path / 'x.db'}")
    study = optuna.create_study(storage=storage)
    for auc in (0.6, 0.7, 0.8, 0.9):
        study.tell(study.ask(FORMS), auc)
    few, many = storage._get_trials(1, None, {1}, 3), storage._get_trials(1, None, {1}, 1)
    assert [t.value for t in few] == [0.6, 0.9]
    assert [t.value for t in many] == [0.6, 0.7, 0.8, 0.9]
    assert all(len(t.params) == len(FORMS) for t in few + many)
    close(storage)


def test_a_study_is_read_through_it(tmp_path: Path) -> None:
    storage = Storage(f"sqlite:///{tmp_path / 'x.db'}")
    study = optuna.create_study(storage=storage, direction="maximize")
    for auc in (0.6, 0.8):
        trial = study.ask(FORMS)
        trial.set_user_attr("auc", auc)
        study.tell(trial, auc)
    again = optuna.load_study(study_name=study.study_name, storage=storage)
    assert [t.value for t in again.trials] == [0.6, 0.8]
    assert again.best_trial.user_attrs == {"auc": 0.8}
    close(storage)
