"""The rules by which the best of several models is chosen. Also how thresholds are chosen.

Imports nothing: definitions read it.
"""

from __future__ import annotations

from typing import Literal

By = Literal["auc", "log_loss", "auc_then_log_loss"]
"""`auc`: the highest AUC; of equal ones the least log loss. `log_loss`: the least log loss; of equal ones the
highest AUC. `auc_then_log_loss`: the least log loss among those within `MARGIN` of the highest AUC."""

MARGIN = 0.005
"""AUC. Wider ones, up to 0.03, choose no better (`benchmarks/results/choice.md`)."""

RULES: dict[By, str] = {
    "auc": "the highest validation AUC",
    "log_loss": "the lowest validation log loss",
    "auc_then_log_loss": f"the lowest validation log loss within {MARGIN:g} of the highest AUC",
}
"""Each rule in words."""


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
