"""The rules by which the best of several models is chosen, how thresholds are, and what a search looks for.

Imports nothing: definitions read it.
"""

from __future__ import annotations

from typing import Literal

By = Literal["auc", "log_loss", "auc_then_log_loss"]
"""`auc`: the highest AUC; of equal ones the least log loss. `log_loss`: the least log loss; of equal ones the
highest AUC. `auc_then_log_loss`: the least log loss among those within `MARGIN` of the highest AUC."""

Rule = Literal[By, "objective"]
"""`objective`: the best value of the study's objective; of equal ones the least log loss."""

MARGIN = 0.005
"""AUC. Wider ones, up to 0.03, choose no better (`benchmarks/results/choice.md`)."""

RULES: dict[Rule, str] = {
    "auc": "the highest validation AUC",
    "log_loss": "the lowest validation log loss",
    "auc_then_log_loss": f"the lowest validation log loss within {MARGIN:g} of the highest AUC",
    "objective": "the best validation value of the study's objective",
}
"""Each rule in words."""

OBJECTIVES = {"auc": "AUC", "unit_auc": "AUC", "auprc": "AUPRC", "log_loss": "log loss"}
"""What a search may look for, and what it is called."""

AT_SPECIFICITY = "sensitivity_at_specificity:"
"""What an objective begins with that is the sensitivity at a specificity; that follows, between 0 and 1."""


def wanted_specificity(objective: str) -> float | None:
    """The specificity in `sensitivity_at_specificity:0.9`; None: it is another objective, or no number."""
    if not objective.startswith(AT_SPECIFICITY):
        return None
    try:
        return float(objective.removeprefix(AT_SPECIFICITY))
    except ValueError:
        return None


def objective_title(objective: str) -> str:
    """What an objective is called.

    >>> objective_title("sensitivity_at_specificity:0.90")
    'sensitivity at specificity 0.9'
    """
    wanted = wanted_specificity(objective)
    return OBJECTIVES[objective] if wanted is None else f"sensitivity at specificity {wanted:g}"


def is_auc(objective: str) -> bool:
    """Whether a search looks for the AUC: per unit where cases are judged, as `auc` always is."""
    return objective in ("auc", "unit_auc")


def is_loss(objective: str) -> bool:
    """Whether less of an objective is better."""
    return objective == "log_loss"


ThresholdRule = Literal["youden"] | dict[Literal["sensitivity", "specificity"], float]
"""How a threshold is chosen on validation: `youden` has the greatest sensitivity + specificity;
`{"sensitivity": 0.95}` is the highest threshold that reaches this sensitivity."""


def threshold_words(rule: ThresholdRule) -> str:
    """A rule in words.

    >>> threshold_words({"sensitivity": 0.95})
    'a sensitivity of 0.95'
    """
    if rule == "youden":
        return "Youden's J"
    ((kind, wanted),) = rule.items()
    return f"a {kind} of {wanted:g}"


CHANCE = 0.5


def includes_chance(auc_ci_low: float | None) -> bool:
    """Whether an AUC's interval includes .5, which guessing reaches, or lies below it."""
    return auc_ci_low is not None and auc_ci_low <= CHANCE


CalibrationKind = Literal["temperature", "isotonic", "venn_abers"]
"""How probabilities are calibrated on validation."""

CALIBRATIONS: dict[CalibrationKind, str] = {
    "temperature": "temperature scaling",
    "isotonic": "isotonic regression",
    "venn_abers": "Venn-Abers",
}
"""Each in words."""
