"""What may predict AUC: a predictor is a column of the results, a scale, and words for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Floats
from medfathom.errors import ResultsError, did_you_mean


@dataclass(frozen=True)
class Scale:
    """A scale on which slopes are fitted.

    Attributes:
        transform: from the column's values to the scale; a logarithm's are all positive.
        inverse: back.
        step: one unit of the scale, in a word.
        times: what one unit of the scale does to the column's value; empty where it adds 1.
    """

    transform: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    step: str
    times: str = ""


LOG10 = Scale(np.log10, partial(np.power, 10.0), "tenfold", "ten times")
LOG2 = Scale(np.log2, partial(np.power, 2.0), "doubling", "twice")
LINEAR = Scale(np.asarray, np.asarray, "unit")
SCALES = {"log10": LOG10, "log2": LOG2, "linear": LINEAR}


@dataclass(frozen=True)
class Predictor:
    """A property of architectures that may go with AUC.

    Attributes:
        name: its key in `analysis.json`.
        column: of the results.
        scale: on which the slope is fitted.
        noun: what it is called in a sentence.
        quantity: what there is more of when it grows.
        axis: the name of its axis in a picture.
        alternatives: other measures of the same thing, looked at beside it.
        held_fixed: names of predictors that could lend it their effect: each is held fixed once.
        of_weights: it is known of pretrained weights, not of architectures: only pretrained rows take
            part, and two sets of weights of one architecture are two networks of one family.
        level: the contrast of this value of a column of words against all others; empty for numbers.
    """

    name: str
    column: str
    scale: Scale
    noun: str
    quantity: str
    axis: str
    alternatives: tuple[Predictor, ...] = ()
    held_fixed: tuple[str, ...] = ()
    of_weights: bool = False
    level: str = ""

    @property
    def unit(self) -> str:
        """One unit of the scale: the slope is in AUC per this."""
        return f"{self.scale.step} of {self.quantity}"

    @property
    def change(self) -> str:
        """What one unit of the scale means, in a sentence."""
        if self.scale.times:
            return f"for {self.scale.times} the {self.quantity}"
        return f"for each {self.scale.step} of {self.quantity}"

    def values(self, table: pd.DataFrame) -> Floats:
        """The column on the scale, shape (rows,); NaN where it is not known."""
        raw = table[self.column].to_numpy(float)
        known = np.where(raw > 0, raw, np.nan) if self.scale.times else raw
        return np.asarray(self.scale.transform(known), dtype=float)

    def shown(self, value: float) -> str:
        """A value of the column, for reading."""
        if self.level:
            return self.level if value > 0.5 else f"not {self.level}"
        for size, letter in ((1e9, "G"), (1e6, "M")):
            if abs(value) >= size:
                return f"{value / size:.3g} {letter}"
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


TRAINABLE = Predictor(
    "log10_trainable_params",
    "n_trainable_params",
    LOG10,
    "trainable parameter count",
    "trainable parameters",
    "trainable parameters",
    (),
    ("log2_depth",),
)
MACS = Predictor(
    "log10_macs",
    "macs",
    LOG10,
    "multiply-accumulate count",
    "multiply-accumulates",
    "multiply-accumulates",
    (),
    ("log2_depth",),
)
PARAMETERS = Predictor(
    "log10_params",
    "n_params",
    LOG10,
    "parameter count",
    "parameters",
    "parameters",
    (TRAINABLE, MACS),
    ("log2_depth",),
)
DEPTH = Predictor(
    "log2_depth", "depth", LOG2, "depth", "depth", "depth (weighted layers)", (), ("log10_params",)
)
IMAGENET = Predictor(
    "imagenet_top1",
    "imagenet_top1",
    Scale(np.asarray, np.asarray, "percentage point"),
    "ImageNet accuracy",
    "ImageNet top-1 accuracy",
    "ImageNet top-1 accuracy (%)",
    of_weights=True,
)
YEAR = Predictor(
    "year",
    "year",
    Scale(np.asarray, np.asarray, "year"),
    "year of publication",
    "publication date",
    "year",
    (),
    ("log10_params",),
)
ATTENTION = Predictor(
    "attention",
    "attention",
    LINEAR,
    "being built around attention",
    "attention",
    "attention",
    (),
    ("log10_params",),
    level="attention",
)

PREDICTORS = {predictor.name: predictor for predictor in (PARAMETERS, DEPTH)}
"""Those that a verdict is reached on without being asked for, by name."""

BUILT_IN = {
    predictor.column: predictor
    for predictor in (PARAMETERS, DEPTH, MACS, TRAINABLE, IMAGENET, YEAR, ATTENTION)
}
"""Those that are known by a column's name."""


def parse_predictor(text: str, columns: Sequence[str]) -> Predictor:
    """A predictor as it is asked for: COLUMN, COLUMN:SCALE, or COLUMN=VALUE (this value against all others).

    Raises:
        ResultsError: no such column or scale.
    """
    column, equals, level = text.partition("=")
    column, _, scale = column.partition(":") if not equals else (column, "", "")
    if scale and scale not in SCALES:
        raise ResultsError(f"--predictor {text}: unknown scale {scale!r}; {did_you_mean(scale, SCALES)}")
    if column not in {*columns, *BUILT_IN}:
        raise ResultsError(
            f"--predictor {text}: no column {column!r}; {did_you_mean(column, {*columns, *BUILT_IN})}"
        )
    if equals:
        words = f"{column} {level}"
        return Predictor(text, text, LINEAR, words, words, words, level=level)
    built_in = BUILT_IN.get(column)
    if built_in is not None and (not scale or SCALES[scale].times == built_in.scale.times):
        return built_in
    name = f"{column}:{scale}" if scale else column
    held = tuple(p for p in PREDICTORS if PREDICTORS[p].column != column)
    return Predictor(name, column, SCALES[scale or "linear"], column, column, column, (), held)
