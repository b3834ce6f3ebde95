"""`medfathom export-runs`: the trials of a study as runs of MLflow or TensorBoard."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.space import Value
from medfathom.errors import InputError
from medfathom.study.connection import default_url
from medfathom.study.hyperparameters import Hyperparameters
from medfathom.study.read import read_study
from medfathom.study.record import auc_of
from medfathom.study.summary import WITHDRAWN, once

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from torch.utils.tensorboard import SummaryWriter

CURVE = "epoch_auc"
"""Name of the validation AUC after each epoch."""

MLFLOW_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "RUNNING": "RUNNING"}

LONGEST_TEXT = 250
"""Characters; lists and tables of a trial are not exported, nor is prose."""


@dataclass(frozen=True)
class ExportedRuns:
    """What was exported.

    Attributes:
        place: the folder or file that was written.
        runs: how many trials have become runs.
        left_out: trials that have not begun, or were withdrawn.
        look: the command that shows them.
    """

    place: Path
    runs: int
    left_out: int
    look: str


@dataclass(frozen=True)
class TrialRun:
    """A trial as trackers of experiments have it.

    Attributes:
        name: `trial 3`.
        state: Optuna's.
        begun, ended: seconds since 1970; `ended` is None while it runs.
        params: hyperparameter -> value, those that the study holds fixed too.
        metrics: every number that the trial left, its AUC as `auc`.
        curve: epoch, from 1 -> validation AUC.
        texts: what it left besides: stratum, reason of its end, device, …
    """

    name: str
    state: str
    begun: float
    ended: float | None
    params: dict[str, Value]
    metrics: dict[str, float]
    curve: dict[int, float]
    texts: dict[str, str]
    curve_name: str


def export_runs(
    name: str,
    *,
    mlflow: Path | None = None,
    tensorboard: Path | None = None,
    storage: str | None = None,
) -> ExportedRuns:
    """Write the trials of a study for MLflow or TensorBoard: parameters, metrics, a curve for each.

    Args:
        name: of a study; `NAME (confirmed)` has the trainings of `confirm`, with their test metrics.
        mlflow: a folder for an MLflow database, which may have other studies already.
        tensorboard: a folder for TensorBoard; a folder for the study is made in it.
        storage: an Optuna storage URL.

    Raises:
        InputError: not one of both is given, the extra is not installed, the study is there already.
    """
    study = read_study(storage or default_url(), name)
    runs, left_out = runs_of(study)
    if (mlflow is None) == (tensorboard is None):
        raise InputError(f"export-runs {name}: give --mlflow DIR or --tensorboard DIR")
    write = _to_mlflow if tensorboard is None else _to_tensorboard
    place, look = write(mlflow or tensorboard or Path(), name, runs)
    return ExportedRuns(place, len(runs), left_out, look)


def runs_of(study: Study) -> tuple[list[TrialRun], int]:
    """The trials that have begun, and how many have not, or were withdrawn.

    Of a cross-validation a trial whose later folds ran as another trial is no run; the other stands for it.
    """
    trials = once(study.get_trials(deepcopy=False))
    begun = [t for t in trials if t.state != TrialState.WAITING and WITHDRAWN not in t.user_attrs]
    named = Hyperparameters(study)
    return [_run(trial, named.of(trial)) for trial in begun], len(trials) - len(begun)


def _run(trial: FrozenTrial, params: dict[str, Value]) -> TrialRun:
    known = {key: value for key, value in trial.user_attrs.items() if key not in params}
    numbers = {
        key: float(value)
        for key, value in known.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    auc = auc_of(trial)
    return TrialRun(
        name=f"trial {trial.number}",
        state=trial.state.name,
        begun=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        params=params,
        metrics=numbers if auc is None else {**numbers, "auc": auc},
        curve=dict(sorted(trial.intermediate_values.items())),
        texts={
            key: value
            for key, value in known.items()
            if isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT
        },
        curve_name=CURVE if known.get("objective_value") is None else "epoch_objective_value",
    )


def _to_mlflow(folder: Path, study: str, runs: Sequence[TrialRun]) -> tuple[Path, str]:
    """An experiment of the study's name, in the folder's database."""
    # MLflow tells its makers about its use, and every reader about its tables; neither is asked for.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient  # noqa: PLC0415  an extra
    except ImportError:
        raise InputError("--mlflow needs MLflow: install medfathom[mlflow]") from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    if client.get_experiment_by_name(study) is not None:
        raise InputError(f"{folder}: has an experiment {study!r} already; name another folder")
    place = (folder.absolute() / "artifacts").as_uri()
    experiment = client.create_experiment(study, artifact_location=place)
    for run in runs:
        _one_to_mlflow(client, experiment, run)
    shown = f"sqlite:///{folder / 'mlflow.db'}"
    return folder / "mlflow.db", shlex.join(["mlflow", "ui", "--backend-store-uri", shown])


def _one_to_mlflow(client: MlflowClient, experiment: str, run: TrialRun) -> None:
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

    begun = round(1000 * run.begun)
    at = begun if run.ended is None else round(1000 * run.ended)
    key = client.create_run(experiment, start_time=begun, run_name=run.name).info.run_id
    metrics = [Metric(name, value, at, 0) for name, value in run.metrics.items()]
    metrics += [Metric(run.curve_name, value, at, epoch) for epoch, value in run.curve.items()]
    params = [Param(name, str(value)) for name, value in run.params.items()]
    tags = [RunTag(name, value) for name, value in run.texts.items()]
    for batch in _in_parts(metrics):
        client.log_batch(key, metrics=batch)
    client.log_batch(key, params=params, tags=tags)
    if run.ended is not None:
        client.set_terminated(key, MLFLOW_STATUS[run.state], end_time=at)


def _in_parts(metrics: Sequence[Metric], size: int = 500) -> Iterator[Sequence[Metric]]:
    """MLflow takes at most a thousand at once."""
    yield from (metrics[k : k + size] for k in range(0, len(metrics), size))


def _to_tensorboard(folder: Path, study: str, runs: Sequence[TrialRun]) -> tuple[Path, str]:
    """A folder for the study, in it one for each trial."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an extra
    except ImportError:
        raise InputError("--tensorboard needs TensorBoard: install medfathom[tensorboard]") from None
    place = folder / study
    if place.exists():
        raise InputError(f"{place} already exists; give another folder")
    for run in runs:
        _one_to_tensorboard(SummaryWriter, place / run.name.replace(" ", "-"), run)
    return place, shlex.join(["tensorboard", "--logdir", str(folder)])


def _one_to_tensorboard(writer_of: Callable[[str], SummaryWriter], place: Path, run: TrialRun) -> None:
    at = run.begun if run.ended is None else run.ended
    with writer_of(str(place)) as writer:
        for epoch, value in run.curve.items():
            writer.add_scalar(run.curve_name, value, epoch, walltime=at)
        for name, text in {"state": run.state, **run.texts}.items():
            writer.add_text(name, text, walltime=at)
        # Beside its own summary it writes each metric once, in the same folder.
        writer.add_hparams(run.params, run.metrics, run_name=".", global_step=0)
