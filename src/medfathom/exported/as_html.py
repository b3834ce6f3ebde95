"""A model and its predictions as a notebook shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.definitions.strategies import unfrozen
from medfathom.html import lines, piece, table

if TYPE_CHECKING:
    from medfathom.exported.predictions import Predictions
    from medfathom.models.folder import ModelConfig

SHOWN = 20
"""Rows of predictions that are shown; a table of thousands is no look."""


def model_html(config: ModelConfig) -> str:
    """What a model is, was trained on, and takes."""
    classes = ", ".join(config.class_names)
    positive = "" if config.positive is None else f" (positive: {config.positive})"
    depth = unfrozen(config.unfreeze_depth, config.strategy)
    rows = [
        [
            "network",
            f"{config.architecture}, init {config.init}, unfreeze depth {depth}",
        ],
        ["classes", classes + positive],
        ["judges", f"each {config.unit}"],
        ["takes", f"{config.image_size} x {config.image_size} pixels, {config.channels} channels"],
        ["trained on", f"{config.dataset} ({config.modality})"],
        ["from", config.origin],
    ]
    return piece("A trained network", table(["", ""], rows))


def predictions_html(found: Predictions) -> str:
    """The first rows, and how many more there are; what was skipped or converted."""
    rows = [list(row.values()) for row in found.rows()[:SHOWN]]
    more = len(found) - len(rows)
    told = [
        f"{more} more; `rows()` has all." if more else "",
        *(f"Not read: {name}: {why}" for name, why in found.unreadable.items()),
        *found.remarks,
    ]
    return piece("Class probabilities", table(found.columns, rows), lines(told))
