"""Every combination of a space without continuous ranges, and how many trials a study will have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medfathom.definitions.space import SpaceConfig, label, values_of
from medfathom.errors import DefinitionError

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig


def grid(space: SpaceConfig) -> dict[str, Sequence[Any]]:
    """Optuna parameter name -> its values, for spaces without continuous ranges. Raises DefinitionError."""
    axes: dict[str, Sequence[Any]] = {}
    joint = space.joint
    if joint:
        axes["+".join(joint)] = [label(c) for c in space.allowed_combinations()]
    for name, dimension in space.dimensions.items():
        if name in joint or dimension.value is not None:
            continue
        try:
            axes[name] = values_of(name, dimension)
        except ValueError as error:
            raise DefinitionError(f"space.{name}: sampler 'grid' needs choices; {error}") from None
    return axes


def grid_size(space: SpaceConfig) -> int:
    """How many combinations `grid` has. Raises DefinitionError for a continuous range."""
    return math.prod(len(values) for values in grid(space).values())


def trials_of(config: StudyConfig) -> int:
    """How many trials a study will have: its budget, or a grid's size where that is less."""
    if config.sampler.name == "grid":
        return min(config.budget.trials, grid_size(config.space))
    return config.budget.trials
