"""A stored trial's hyperparameters by name, as the study's definition calls them.

Optuna knows less, and otherwise: what the definition fixes is no parameter of a trial, and dimensions that
are drawn together (an exclusion names them) are one parameter, whose value is text.
"""

from __future__ import annotations

from collections.abc import Mapping

from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import ValidationError

from medfathom.definitions.space import Params, SpaceConfig, Value, label


class Hyperparameters:
    """Of the trials of one study."""

    def __init__(self, study: Study) -> None:
        """Of a space that is not known here, only what it fixes is."""
        content = study.user_attrs.get("definition", {}).get("space", {})
        dimensions = content.get("dimensions", {})
        self._fixed = {name: d["value"] for name, d in dimensions.items() if d.get("value") is not None}
        space = space_of(study)
        joint = space.joint if space else []
        self._joint = "+".join(joint)
        self._together: Mapping[object, Params] = (
            {label(c): c for c in space.allowed_combinations()} if space and joint else {}
        )

    def drawn(self, trial: FrozenTrial) -> dict[str, Value]:
        """Those that the study varies."""
        params: dict[str, Value] = {}
        for name, value in trial.params.items():
            together = self._together.get(value) if name == self._joint else None
            params.update({name: value} if together is None else together)
        return params

    def of(self, trial: FrozenTrial) -> dict[str, Value]:
        """All that the definition names; what it leaves out has its default."""
        return {**self.drawn(trial), **self._fixed}


def space_of(study: Study) -> SpaceConfig | None:
    """A study's space; None: none is known, or a newer medfathom wrote it."""
    try:
        return SpaceConfig.model_validate(study.user_attrs.get("definition", {}).get("space"))
    except ValidationError:
        return None
