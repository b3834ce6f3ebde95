"""Trials as runs of MLflow and TensorBoard, read back by these themselves."""

import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from medfathom.errors import InputError
from medfathom.export_runs import export_runs


def trial(state: TrialState, auc: float | None, curve: dict[int, float]) -> FrozenTrial:
    return create_trial(
        state=state,
        value=auc,
        params={"learning_rate": 0.01},
        distributions={"learning_rate": FloatDistribution(1e-4, 0.1)},
        user_attrs={"stratum": "architecture=vgg16", "n_params": 7, "fold_aucs": [0.1], "calibrated": True},
        intermediate_values=curve,
    )


@pytest.fixture
def storage(workdir: Path) -> str:
    url = "sqlite:///x.db"
    study = optuna.create_study(storage=url, study_name="one", direction="maximize")
    study.set_user_attr("definition", {"space": {"dimensions": {"batch_size": {"value": 8}}}})
    study.add_trial(trial(TrialState.COMPLETE, 0.8, {1: 0.6, 2: 0.8}))
    study.add_trial(trial(TrialState.FAIL, None, {}))
    study.enqueue_trial({"learning_rate": 0.05})
    return url


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflow(storage: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    done = export_runs("one", mlflow=Path("runs"), storage=storage)
    assert (done.runs, done.left_out) == (2, 1)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{Path('runs').absolute() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("one")
    first, second = sorted(
        client.search_runs([experiment.experiment_id]), key=lambda run: str(run.info.run_name)
    )
    assert (first.info.run_name, first.info.status) == ("trial 0", "FINISHED")
    assert (second.info.run_name, second.info.status) == ("trial 1", "FAILED")
    assert first.data.params == {"learning_rate": "0.01", "batch_size": "8"}
    assert first.data.metrics == {"auc": 0.8, "n_params": 7.0, "epoch_auc": 0.8}
    assert first.data.tags["stratum"] == "architecture=vgg16"
    curve = client.get_metric_history(first.info.run_id, "epoch_auc")
    assert {point.step: point.value for point in curve} == {1: 0.6, 2: 0.8}
    with pytest.raises(InputError, match="has an experiment 'one' already"):
        export_runs("one", mlflow=Path("runs"), storage=storage)


def test_tensorboard(storage: str) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = export_runs("one", tensorboard=Path("runs"), storage=storage)
    assert (done.place, done.runs) == (Path("runs/one"), 2)
    found = accumulator.EventAccumulator("runs/one/trial-0")
    found.Reload()
    assert {e.step: e.value for e in found.Scalars("epoch_auc")} == pytest.approx({1: 0.6, 2: 0.8})
    assert [e.value for e in found.Scalars("auc")] == pytest.approx([0.8])
    assert "_hparams_/session_start_info" in found.summary_metadata
    with pytest.raises(InputError, match="already exists"):
        export_runs("one", tensorboard=Path("runs"), storage=storage)


@pytest.mark.parametrize(
    ("option", "blocked"), [("mlflow", "mlflow"), ("tensorboard", "torch.utils.tensorboard")]
)
def test_without_the_extra(storage: str, monkeypatch: pytest.MonkeyPatch, option: str, blocked: str) -> None:
    monkeypatch.setitem(sys.modules, blocked, None)
    with pytest.raises(InputError, match=rf"install medfathom\[{option}\]"):
        export_runs("one", storage=storage, **{option: Path("runs")})  # type: ignore[arg-type]


def test_one_of_both_is_given(storage: str) -> None:
    with pytest.raises(InputError, match="give --mlflow DIR or --tensorboard DIR"):
        export_runs("one", storage=storage)


def test_the_command_that_shows_them_can_be_typed(storage: str) -> None:
    pytest.importorskip("tensorboard")
    assert export_runs("one", tensorboard=Path("my runs"), storage=storage).look == (
        "tensorboard --logdir 'my runs'"
    )
