"""Sentences about a confirmation that terminal, card and report share. Imports no torch."""

from __future__ import annotations

from typing import Any


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def over(row: dict[str, Any]) -> str:
    """What a configuration's interval is over."""
    if len(row["models"]) > 1:
        return "test images and seeds both drawn anew"
    return "other test images, for this one seed only"


def opened(openings: list[dict[str, Any]]) -> str:
    """How often the test split was opened, in words."""
    if not openings:
        return "The test split has not been opened."
    times = "once" if len(openings) == 1 else f"{len(openings)} times"
    when = ", ".join(f"{o['when']} for {len(o['models'])} models" for o in openings)
    return f"The test split was opened {times}: {when}."


COSTS = {
    "n_params": "parameters",
    "macs": "multiply-accumulates",
    "latency_ms": "time for one image here, ms",
}
"""Key -> what it is; less is better."""


CAUTION = (
    "Fronts are of point estimates on the test split, whatever their intervals: a description, "
    "no ground for choosing a model"
)


def front_words(found: dict[str, Any]) -> list[str]:
    """A line for each cost: who is on the front, cheapest first; and before them what a front is worth."""
    lines = [f"{CAUTION}."]
    for cost, title in COSTS.items():
        front = sorted((m for m in found["models"] if cost in m["front"]), key=lambda m: m[cost])
        named = "; ".join(f"{_named(m)} ({m[cost]:,.4g}, AUC {m['auc']:.4f})" for m in front)
        lines.append(f"AUC against {title}: {named}")
    return lines


def _named(model: dict[str, Any]) -> str:
    stratum, architecture = str(model["stratum"]), str(model["architecture"])
    return stratum if architecture in stratum else f"{architecture} {stratum}".strip()
