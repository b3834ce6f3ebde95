"""What deciding by a model is worth: net benefit, and predictive values where the disease is rarer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medfathom.metrics.auc import Flags
from medfathom.metrics.influences import Floats
from medfathom.metrics.operating import DECISION_THRESHOLDS, PREVALENCES, net_benefit, predictive_values
from medfathom.metrics.rules import threshold_words
from medfathom.metrics.unknown import is_absent, is_present

if TYPE_CHECKING:
    from medfathom.confirmation.results import ConfirmedModel
    from medfathom.models.folder import ModelConfig
    from medfathom.trial.record import SplitMetrics


@dataclass(frozen=True)
class Decision:
    """What deciding about one class is worth.

    Attributes:
        name: of the class.
        thresholds: probabilities from which on one would treat.
        by_model, everybody: net benefit there per image (or case) of treating by the model, of treating
            everybody; treating nobody has 0.
        prevalences: at which predictive values are given; the first is the data's own.
        ppv, npv: there, by the sensitivity and specificity of the carried threshold; None: undefined.
    """

    name: str
    thresholds: Sequence[float]
    by_model: Sequence[float]
    everybody: Sequence[float]
    prevalences: Sequence[float]
    ppv: Sequence[float | None]
    npv: Sequence[float | None]


def decisions(
    flags: Flags, probabilities: Floats, names: Sequence[str], thresholds: Sequence[float | None]
) -> list[Decision]:
    """Of each class that has a threshold and images of both kinds.

    Args:
        flags: which images are of each class, (n, C).
        probabilities: calibrated, (n, C).
        names: of the classes.
        thresholds: of each; none for a model that predicts the likeliest class.
    """
    found = []
    for c, (name, threshold) in enumerate(zip(names, thresholds, strict=False)):
        positive, negative = is_present(flags[:, c]), is_absent(flags[:, c])
        if threshold is None or not (positive.any() and negative.any()):
            continue
        called = probabilities[:, c] >= threshold
        own = float(positive.sum() / (positive | negative).sum())
        at = (own, *PREVALENCES)
        values = predictive_values(float(called[positive].mean()), float((~called)[negative].mean()), at)
        by_model, everybody = net_benefit(flags[:, c], probabilities[:, c], DECISION_THRESHOLDS)
        ppv, npv = ([v if np.isfinite(v) else None for v in each.tolist()] for each in values)
        found.append(Decision(name, DECISION_THRESHOLDS, by_model.tolist(), everybody.tolist(), at, ppv, npv))
    return found


def decision_tables(found: Sequence[Decision], unit: str = "image") -> list[str]:
    """Both tables of each class, Markdown; `unit`: what is judged."""
    lines: list[str] = []
    for each in found:
        columns = [" | ".join(f"{value:g}" for value in each.thresholds), " --- |" * len(each.thresholds)]
        lines += [
            f"Net benefit per {unit} of treating {each.name} at or above a probability (treating nobody: 0):",
            "",
            f"| probability | {columns[0]} |",
            f"| --- |{columns[1]}",
            *(
                f"| {who} | {' | '.join(f'{value:.3f}' for value in values)} |"
                for who, values in (("by the model", each.by_model), ("everybody", each.everybody))
            ),
            "",
            f"Predictive values for {each.name} at other prevalences, with the same sensitivity and "
            "specificity:",
            "",
            f"| prevalence | {' | '.join(_shares(each.prevalences))} |",
            f"| --- |{' --- |' * len(each.prevalences)}",
            f"| PPV | {' | '.join(map(_share, each.ppv))} |",
            f"| NPV | {' | '.join(map(_share, each.npv))} |",
            "",
        ]
    return lines


def _shares(prevalences: Sequence[float]) -> list[str]:
    own, *others = prevalences
    return [f"{own:.3f} (these data)", *(f"{value:g}" for value in others)]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def decision_words(config: ModelConfig, model: ConfirmedModel) -> str:
    """What was reached where a sensitivity or specificity was wanted, and the tables; empty: unknown."""
    from medfathom.confirmation.find import predictions_file  # noqa: PLC0415
    from medfathom.confirmation.predictions import read_predictions  # noqa: PLC0415  imports pandas

    text = _reached(config, model)
    file = predictions_file(model.folder, "test")
    if config.task == "multiclass" or not file.is_file():
        return text
    found = read_predictions(file)
    tables = decision_tables(
        decisions(found.positive, found.probabilities, found.class_names, config.thresholds), config.unit
    )
    return "\n\n".join([text, *(["\n".join(tables)] if tables else [])])


def _reached(config: ModelConfig, model: ConfirmedModel) -> str:
    if config.threshold_rule == "youden" or model.validation is None:
        return ""
    ((kind, _),) = config.threshold_rule.items()
    val, low = _of(model.validation, kind)
    test, test_low = _of(model.test, kind)
    return (
        f"\nAsked for: {threshold_words(config.threshold_rule)}. Reached on validation: {val} (lower end of "
        f"the 95 % interval {low}); on test: {test} (lower end {test_low})."
    )


def _of(metrics: SplitMetrics, kind: str) -> tuple[str, str]:
    return _share(getattr(metrics, kind)), _share(getattr(metrics, f"{kind}_ci_low"))
