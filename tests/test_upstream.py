"""The private parts of other libraries that medfathom uses: what fails here first after an upgrade.

Each test names who uses the part, and why a public one does not do.
"""

import inspect
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import torch
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.study._tell import _tell_with_warning
from optuna.trial import FrozenTrial, TrialState
from torch import fx, nn

from medfathom.dashboard.notes import save_note
from medfathom.study.ids import storage_of, study_id_of, trial_id_of

SPACE = {"learning_rate": FloatDistribution(1e-5, 1e-1, log=True)}


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return RDBStorage(f"sqlite:///{tmp_path / 'x.db'}")


@pytest.fixture
def study(storage: RDBStorage) -> Study:
    return optuna.create_study(storage=storage, study_name="one", direction="maximize")


def parameters(function: Any) -> list[str]:
    """Names of a function's parameters."""
    return list(inspect.signature(function).parameters)


def test_optuna_ids(study: Study, storage: RDBStorage) -> None:
    """study/ids.py: leases, notes and plain queries name trials as the database does."""
    asked = study.ask(SPACE)
    assert study_id_of(study) == storage.get_study_id_from_name("one")
    expected = storage.get_trial_id_from_study_id_trial_number(study_id_of(study), asked.number)
    assert trial_id_of(asked) == trial_id_of(study.trials[0]) == expected
    assert storage_of(study).get_trial(expected).params == asked.params


def test_optuna_samplers_ask_the_study_for_its_trials(study: Study) -> None:
    """study/sampling.py: a stratum's sampler sees a study whose `_get_trials` gives the stratum's alone."""
    assert parameters(Study._get_trials) == ["self", "deepcopy", "states", "use_cache"]
    asked_for: list[bool] = []

    def none_of_them(deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        asked_for.append(True)
        return []

    study._get_trials = none_of_them  # type: ignore[method-assign]
    optuna.samplers.TPESampler(seed=0).infer_relative_search_space(study, optuna.trial.create_trial(value=0))
    assert asked_for


def test_optuna_samplers_note_what_they_did_in_the_studys_attributes(study: Study) -> None:
    """study/sampling.py: a stratum's sampler sees a study whose `_storage` keeps these notes apart."""
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        sampler = optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False)
    space = {"rate": optuna.distributions.FloatDistribution(0, 1)}
    sampler.sample_relative(study, optuna.trial.create_trial(value=0), space)
    noted = study._storage.get_study_system_attrs(study_id_of(study))
    assert any("qmc" in key for key in noted)


def test_optuna_storage_reads_a_study_through_one_method() -> None:
    """study/storage.py: large studies are read by plain queries in its place."""
    given = ["self", "study_id", "states", "included_trial_ids", "trial_id_greater_than"]
    assert parameters(RDBStorage._get_trials) == given


def test_optuna_storage_begins_a_trial_and_writes_its_parameters_through_one_method_each() -> None:
    """study/storage.py: plain statements in their place; tests/study/test_plain_statements.py compares."""
    assert parameters(RDBStorage._create_new_trial) == ["self", "study_id", "template_trial"]
    given = ["self", "trial_id", "param_name", "param_value_internal", "distribution"]
    assert parameters(RDBStorage._set_trial_param) == [*given, "previous_distribution"]


def test_optuna_tells_a_trial_as_the_study_does(study: Study) -> None:
    """study/driver.py ends trials with what `Study.tell` calls, which reads the trial once more."""
    assert "_tell_with_warning(" in inspect.getsource(Study.tell)
    trial = study.ask()
    trial.report(0.6, 1)
    told = _tell_with_warning(study, trial.number, None, TrialState.PRUNED, skip_if_finished=True)
    assert told == (TrialState.PRUNED, [0.6], None)
    assert study.trials[-1].values == [0.6]
    again = _tell_with_warning(study, trial.number, [0.9], TrialState.COMPLETE, skip_if_finished=True)
    assert again == told


def test_optuna_tables(study: Study, storage: RDBStorage) -> None:
    """study/trial_rows.py reads them, study/storage.py writes them, and
    study/growth.py a living study's parameters: Optuna has no way to give trials another distribution."""
    tables = {
        "trials": {"trial_id", "study_id", "number", "state", "datetime_start", "datetime_complete"},
        "trial_params": {"trial_id", "param_id", "param_name", "param_value", "distribution_json"},
        "trial_values": {"trial_id", "objective", "value", "value_type"},
        "trial_intermediate_values": {
            "trial_id",
            "trial_intermediate_value_id",
            "step",
            "intermediate_value",
            "intermediate_value_type",
        },
        "trial_user_attributes": {"trial_id", "key", "value_json"},
        "trial_system_attributes": {"trial_id", "key", "value_json"},
        "study_user_attributes": {"study_id", "key", "value_json"},
    }
    inspector = sa.inspect(storage.engine)
    for table, columns in tables.items():
        assert columns <= {column["name"] for column in inspector.get_columns(table)}, table
    study.ask(SPACE).set_user_attr("depth", [50])
    with storage.engine.connect() as connection:
        state, text = connection.execute(
            sa.text("select state, value_json from trials join trial_user_attributes using (trial_id)")
        ).one()
    assert (state, text) == ("RUNNING", "[50]")
    study.enqueue_trial({"learning_rate": 0.01})
    assert study.trials[-1].system_attrs["fixed_params"] == {"learning_rate": 0.01}


@pytest.mark.parametrize("length", [10, 2045, 5000])
def test_optuna_dashboard_reads_our_notes(study: Study, length: int) -> None:
    """dashboard/notes.py writes optuna-dashboard's own form: to import that package takes seconds."""
    from optuna_dashboard import get_note  # noqa: PLC0415

    asked = study.ask(SPACE)
    save_note(study, "x" * 6000)
    save_note(study, "é" * length)
    save_note(study, "é" * length, study.trials[0])
    assert get_note(study) == "é" * length
    assert get_note(asked) == "é" * length


def test_ray_takes_a_folder_for_its_files() -> None:
    """scheduling/cluster.py: `ray.init(_temp_dir=…)`, which Ray documents under "experimental"."""
    import ray  # noqa: PLC0415

    assert "_temp_dir" in inspect.getsource(ray.init)


def test_torch_flattens_nested_arguments() -> None:
    """models/graph/measure.py: `tree_leaves` has no public name."""
    from torch.utils._pytree import tree_leaves  # noqa: PLC0415

    assert tree_leaves(({"a": [1, (2,)]}, 3)) == [1, 2, 3]


def test_torch_names_the_constants_of_a_graph() -> None:
    """models/graph/tracing.py takes them off the network again: fx puts them on it."""

    class Plus(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.tensor([1.0, 2.0])

    network = Plus()
    graph = fx.Tracer().trace(network)
    (name,) = [node.target for node in graph.nodes if node.op == "get_attr"]
    assert name == "_tensor_constant0"
    assert hasattr(network, name)


def test_oct_converter_reads_topcon_with_what_numpy_took_away() -> None:
    """data/oct_files.py: `fda.np` and `fda.print` are replaced; once this fails, they need not be."""
    fda = pytest.importorskip("oct_converter.readers.fda")
    source = inspect.getsource(fda)
    assert "np.fromstring(" in source
    assert "print(" in source
    made = inspect.signature(fda.OCTVolumeWithMetaData.__init__).parameters
    assert {"volume", "patient_id", "first_name", "surname", "laterality"} <= set(made)
