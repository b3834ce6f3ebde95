"""Which precision a study trains in. It is decided once: AUCs of two precisions are not compared."""

from __future__ import annotations

from statistics import mode
from typing import Literal

from optuna.study import Study

from medfathom.study.record import record_of

Precision = Literal["float32", "bfloat16"]

PRECISION = "precision"
"""Attribute of a study: what it trains in."""


def settled_precision(study: Study) -> Precision | None:
    """What the study trains in; None: nothing is decided.

    Earlier versions did not write it down: then it is what most of the finished trials trained in.
    """
    written = study.user_attrs.get(PRECISION)
    if written is not None:
        return _precision(written)
    ended = (record_of(t) for t in study.get_trials(deepcopy=False) if t.state.is_finished())
    used = [record.compute_type for record in ended if record.compute_type is not None]
    return _precision(mode(used)) if used else None


def settle_precision(study: Study, wanted: Precision) -> Precision:
    """Write down what the study trains in: what is settled already, else `wanted`."""
    precision = settled_precision(study) or wanted
    if study.user_attrs.get(PRECISION) != precision:
        study.set_user_attr(PRECISION, precision)
    return precision


def _precision(text: str) -> Precision:
    return "bfloat16" if text == "bfloat16" else "float32"
