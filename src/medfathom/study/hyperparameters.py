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
        self._joint, self._together = _drawn_together(content)

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


def _drawn_together(content: object) -> tuple[str, Mapping[object, Params]]:
    """The name of the parameter for dimensions that are drawn together; what each value stands for."""
    try:
        space = SpaceConfig.model_validate(content)
    except ValidationError:  # none is known, or a newer medfathom wrote it
        return "", {}
    return "+".join(space.joint), {label(c): c for c in space.allowed_combinations()} if space.joint else {}
