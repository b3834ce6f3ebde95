"""Transfer strategies: which parts of a network are trained, and when; and what a strategy means nothing for.

`trial.strategy` does what is said here.
"""

from __future__ import annotations

from typing import Literal

Strategy = Literal["fixed", "lp-ft", "gradual", "surgical", "l2-sp", "bitfit", "lora"]

DEFAULT: Strategy = "fixed"

MEANINGS: dict[str, str] = {
    "fixed": "the last groups and the head, from the first epoch to the last",
    "lp-ft": "the head alone until its loss settles, then the last groups too (Kumar et al. 2022)",
    "gradual": "the head first, then one group more at a time from the last one down (Howard and Ruder 2018)",
    "surgical": "the first groups and the head; the last groups stay (Lee et al. 2023)",
    "l2-sp": "as fixed, the groups' weights pulled to where they started (Li et al. 2018)",
    "bitfit": "biases and norms of the last groups, and the head (Ben Zaken et al. 2022)",
    "lora": "low-rank adapters beside the layers of the last groups, and the head (Hu et al. 2022)",
}
"""What is trained, in a few words."""

STEPWISE = ("lp-ft", "gradual")
"""Strategies that open a network while they train."""

DRAWN = ("random", "imagenet-stats")
"""Inits whose weights are drawn: nothing in them was learnt."""

COST_AS_FIXED = ("fixed", *STEPWISE, "l2-sp")
"""Strategies whose epochs take as long as those of `fixed`, or less."""

FEWEST_EPOCHS = 2
"""That a stepwise strategy needs: the head alone, then all."""

ALL_GROUPS = 5


def costs_like(strategy: str) -> str:
    """The strategy by which the cost of this one is measured."""
    return DEFAULT if strategy in COST_AS_FIXED else strategy


def groups_behind(strategy: str, unfreeze_depth: int) -> int:
    """How many groups a gradient passes: those that are trained, and those behind them."""
    return ALL_GROUPS if strategy == "surgical" else unfreeze_depth


def unfrozen(depth: object, strategy: str | None) -> str:
    """What is trained, for a cell of a table: `3`, or `3 gradual`; without a strategy it is `fixed`."""
    return str(depth) if strategy in (None, DEFAULT) else f"{depth} {strategy}"


def refusal(strategy: str, unfreeze_depth: int, init: str) -> str | None:
    """Why a strategy means nothing for a depth or an init, in a few words; None: it means something."""
    if strategy == DEFAULT:
        return None
    if unfreeze_depth == 0:
        return "no layer group is trained, so it would be the same as fixed with the head alone"
    if strategy == "surgical" and unfreeze_depth == ALL_GROUPS:
        return "all layer groups are trained, so it would be the same as fixed with everything trained"
    if strategy == "surgical" and init in DRAWN:
        return "the groups that are not trained would be random, after groups that change"
    if strategy == "l2-sp" and init in DRAWN:
        return "weights would be pulled to random values"
    return None
