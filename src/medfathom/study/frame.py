"""A study's trials as a table, for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.study.choice import log_loss_of
from medfathom.study.connection import default_url
from medfathom.study.hyperparameters import Hyperparameters
from medfathom.study.read import read_study
from medfathom.study.record import auc_of, record_of
from medfathom.study.summary import WITHDRAWN, once

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import FrozenTrial

MEASURED = (
    "auc_ci_low",
    "auc_ci_high",
    "n_params",
    "n_trainable_params",
    "depth",
    "macs",
    "epochs",
    "train_seconds",
)
"""What a trial's record is asked for, besides its state, AUC and log loss."""


def trials(study: str, *, storage: str | None = None) -> pd.DataFrame:
    """A study's trials, a row for each: what was tried and what it reached on the validation split.

        medfathom.trials("demo").query("state == 'COMPLETE'").plot.scatter("n_params", "auc")

    Of a cross-validation: a trial whose later folds ran as another trial has no row; the other stands for it.
    A trial that a run withdrew before its first epoch has none either: it counts as nothing.

    Args:
        study: its name; `NAME (confirmed)` has the trials of `confirm`.
        storage: an Optuna storage URL; SQLite under storage/ when none is given.

    Returns:
        Indexed by trial number: `state` (COMPLETE, PRUNED, FAIL, RUNNING, WAITING), `auc` (validation, the
        last epoch's), its 95 % interval `auc_ci_low` and `auc_ci_high`, `objective_value` where the study
        looks for something else, `log_loss`, each hyperparameter that the definition names (those it fixes
        too), `n_params`, `n_trainable_params`, `depth` (weighted layers), `macs` (of one image), `epochs`,
        `train_seconds`, `stratum`, `stop_reason`, `begun` and `ended` (local time). Empty where unknown.

    Raises:
        StorageError: no such storage or study.
    """
    import pandas as pd  # noqa: PLC0415  takes half a second

    found = read_study(storage or default_url(), study)
    named = Hyperparameters(found)
    kept = [t for t in once(found.get_trials(deepcopy=False)) if WITHDRAWN not in t.user_attrs]
    frame = pd.DataFrame([_row(trial, named) for trial in kept])
    return frame.set_index("trial") if len(frame) else frame


def _row(trial: FrozenTrial, named: Hyperparameters) -> dict[str, object]:
    record = record_of(trial)
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "auc": auc_of(trial),
        **({} if record.objective_value is None else {"objective_value": record.objective_value}),
        "log_loss": log_loss_of(trial),
        **named.of(trial),
        **{name: getattr(record, name) for name in MEASURED},
        "stratum": trial.user_attrs.get("stratum"),
        "stop_reason": trial.user_attrs.get("stop_reason"),
        "begun": trial.datetime_start,
        "ended": trial.datetime_complete,
    }
