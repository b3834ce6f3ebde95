"""Typed results -> the JSON values of `analysis.json`: the one place where they become dictionaries.

A field of a dataclass becomes a key of the same name, in the order of the fields. Its metadata may say
otherwise: `field(metadata=FLAT)`, and likewise for the others.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

FLAT = {"json": "flat"}
"""The value's own keys stand in the field's place; those of a mapping begin with the field's name."""

OPTIONAL = {"json": "optional"}
"""No key where the value is None."""

HIDDEN = {"json": "hidden"}
"""Never a key."""


def plain(value: Any) -> Any:
    """As JSON can have it: numpy's numbers become Python's, and what is not finite becomes None."""
    if is_dataclass(value):
        return _object(value)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _object(value: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for each in fields(value):
        inner, how = getattr(value, each.name), each.metadata.get("json")
        if how == "hidden" or (how == "optional" and inner is None):
            continue
        if how == "flat":
            start = f"{each.name}_" if isinstance(inner, dict) else ""
            found |= {f"{start}{key}": item for key, item in plain(inner).items()}
        else:
            found[each.name] = plain(inner)
    return found
