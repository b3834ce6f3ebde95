"""Sentences about a confirmation that terminal, card and report share. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medfathom.confirmation.results import COSTS, Efficiency, ModelCost, StratumResult

if TYPE_CHECKING:
    from medfathom.confirmation.openings import Opening

CAUTION = (
    "The fronts use point estimates on the test split and ignore their intervals. "
    "They describe these models; do not choose a model by them"
)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def what_varies(result: StratumResult) -> str:
    """What a configuration's interval accounts for."""
    if len(result.models) > 1:
        return "over test images and seeds"
    return "over test images, for this one seed only"


def opened(openings: Sequence[Opening]) -> str:
    """How often the test split was opened, in words."""
    if not openings:
        return "The test split has not been opened."
    times = "once" if len(openings) == 1 else f"{len(openings)} times"
    when = ", ".join(f"{o.when} for {len(o.models)} models" for o in openings)
    return f"The test split was opened {times}: {when}."


def front_words(found: Efficiency) -> list[str]:
    """What fronts are worth; then a line for each kind of cost: who is on its front, cheapest first."""
    lines = [f"{CAUTION}."]
    for kind, title in COSTS.items():
        front = "; ".join(f"{_named(m)} ({m.costs[kind]:,.4g}, AUC {m.auc:.4f})" for m in found.front(kind))
        lines.append(f"AUC against {title}: {front}")
    return lines


def _named(model: ModelCost) -> str:
    if model.architecture in model.stratum:
        return model.stratum
    return f"{model.architecture} {model.stratum}".strip()
