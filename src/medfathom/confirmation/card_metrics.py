"""The metrics of a model card: validation beside test, with intervals; what calibration gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medfathom.confirmation.words import by_groups, calibration_rows
from medfathom.metrics.rules import CALIBRATIONS
from medfathom.text import markdown_table
from medfathom.trial.record import METRIC_TITLES

if TYPE_CHECKING:
    from medfathom.confirmation.results import ConfirmedModel, StratumResult
    from medfathom.models.folder import ModelConfig

SHOWN = tuple(pair for pair in METRIC_TITLES if pair[0] != "log_loss")
"""Metrics of the table, with their titles."""


def metrics_table(model: ConfirmedModel) -> str:
    """A row for each metric, and how the intervals were computed; Markdown."""
    lines = ["| metric | validation | test | 95 % interval (test) |", "| --- | --- | --- | --- |"]
    test = model.test.model_dump()
    val = (model.validation or model.record).model_dump()
    for name, title in SHOWN:
        if test[name] is not None:
            # An older version measured these two before the temperature was fitted: not comparable.
            old = model.validation is None and name in ("brier_loss", "calibration_error")
            before = None if old else val[name]
            shown = "" if before is None else f"{before:.4f}"
            lines.append(f"| {title} | {shown} | {test[name]:.4f} | {_interval(test, name)} |")
    for name, values in (model.test.per_class or {}).items():
        if "auc" in values:
            known = f" ({values['n_known']:.0f} with a known label)" if "n_known" in values else ""
            lines.append(f"| AUC of {name}{known} | | {values['auc']:.4f} | {_interval(values, 'auc')} |")
    how = f"AUC intervals: {model.test.auc_interval or 'DeLong'}. Other intervals: Wilson"
    if by_groups(model):
        how += ", with the effective number of images or cases (Rao and Scott, Biometrics 1992)"
        how += " and Student's quantile"
    return "\n".join([*lines, "", how + "."])


def _interval(values: Mapping[str, float | None], name: str) -> str:
    low, high = values.get(f"{name}_ci_low"), values.get(f"{name}_ci_high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def calibration_text(config: ModelConfig) -> str:
    """How logits become probabilities."""
    if config.calibration == "temperature":
        function = "the sigmoid" if config.task == "multilabel" else "the softmax"
        return (
            f"Probabilities are {function} of the logits divided by the temperature\n"
            f"{config.temperature:.4f}, which was fitted on the validation split."
        )
    shared = ", then divided by their sum" if config.task == "multiclass" else ""
    return (
        f"Probabilities are calibrated by {CALIBRATIONS[config.calibration]} on the validation split: "
        f"the log-odds of each\nclass separately{shared}. Metrics on validation are therefore optimistic."
    )


def calibration_table(configuration: StratumResult) -> str:
    """What each way of calibration is worth; Markdown. Empty: not known."""
    rows = calibration_rows(configuration)
    if not rows:
        return ""
    why = "By cross-validation on the validation split, mean over seeds; lower is better in all columns:"
    return "\n".join(["", why, "", *markdown_table(rows), ""])
