"""What may predict AUC: a predictor is a column of the results, a scale, and words for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Floats


@dataclass(frozen=True)
class Scale:
    """A scale on which slopes are fitted.

    Attributes:
        transform: from the column's values, all positive, to the scale.
        inverse: back.
        step: one unit of the scale, in a word.
        times: what one unit of the scale does to the column's value.
    """

    transform: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    step: str
    times: str


LOG10 = Scale(np.log10, partial(np.power, 10.0), "tenfold", "ten times")
LOG2 = Scale(np.log2, partial(np.power, 2.0), "doubling", "twice")


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
    """

    name: str
    column: str
    scale: Scale
    noun: str
    quantity: str
    axis: str
    alternatives: tuple[Predictor, ...] = ()

    @property
    def unit(self) -> str:
        """One unit of the scale: the slope is in AUC per this."""
        return f"{self.scale.step} of {self.quantity}"

    @property
    def change(self) -> str:
        """What one unit of the scale means, in a sentence."""
        return f"for {self.scale.times} the {self.quantity}"

    def values(self, table: pd.DataFrame) -> Floats:
        """The column on the scale, shape (rows,); NaN where it is not known."""
        raw = table[self.column].to_numpy(float)
        return np.asarray(self.scale.transform(np.where(raw > 0, raw, np.nan)), dtype=float)


TRAINABLE = Predictor(
    "log10_trainable_params",
    "n_trainable_params",
    LOG10,
    "trainable parameter count",
    "trainable parameters",
    "trainable parameters",
)
MACS = Predictor(
    "log10_macs", "macs", LOG10, "multiply-accumulate count", "multiply-accumulates", "multiply-accumulates"
)
PARAMETERS = Predictor(
    "log10_params", "n_params", LOG10, "parameter count", "parameters", "parameters", (TRAINABLE, MACS)
)
DEPTH = Predictor("log2_depth", "depth", LOG2, "depth", "depth", "depth (weighted layers)")

PREDICTORS = {predictor.name: predictor for predictor in (PARAMETERS, DEPTH)}
"""Those that a verdict is reached on, by name."""
