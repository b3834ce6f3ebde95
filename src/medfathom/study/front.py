"""The front of a study with two objectives: the finished trials that no other beats in AUC and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial

from medfathom.definitions.config import Cost, StudyConfig
from medfathom.errors import RunError
from medfathom.study.choice import completed
from medfathom.study.record import auc_of, record_of

COSTS: dict[Cost, str] = {
    "n_params": "parameters",
    "macs": "multiply-accumulates for one image",
    "latency_ms": "milliseconds for one image",
}


@dataclass(frozen=True)
class FrontTrial:
    """A finished trial: its validation AUC with the 95 % interval, and its cost."""

    number: int
    auc: float
    auc_ci_low: float | None
    auc_ci_high: float | None
    cost: float
    stratum: str


@dataclass(frozen=True)
class Front:
    """The trials of a front, cheapest first, the other finished ones, and what their cost is."""

    cost: Cost
    trials: Sequence[FrontTrial]
    beaten: Sequence[FrontTrial]

    @property
    def finished(self) -> int:
        """How many trials have finished."""
        return len(self.trials) + len(self.beaten)


def objective_values(
    config: StudyConfig, number: int, value: float, attributes: Mapping[str, object]
) -> list[float]:
    """What a finished trial reached, an objective after the other. Raises RunError without the cost."""
    cost = config.objectives.cost
    if cost is None:
        return [value]
    paid = attributes.get(cost)
    if not isinstance(paid, int | float):
        raise RunError(f"trial {number}: its record has no {cost}, which is an objective of the study")
    return [value, float(paid)]


def front_of(study: Study, trials: Sequence[FrozenTrial]) -> Front | None:
    """The front; None: AUC is the only objective, or no trial is complete.

    Args:
        study: of the trials.
        trials: with the user attributes of `study.summary.SHOWN` at least.
    """
    cost: Cost | None = study.user_attrs.get("definition", {}).get("objectives", {}).get("cost")
    done = completed(trials, "auc") if cost else []
    if cost is None or not done:
        return None
    cheapest: list[FrozenTrial] = []
    beaten: list[FrozenTrial] = []
    # The highest AUC first, of equal ones the cheapest: a trial is beaten by one before it at no more cost.
    for trial in sorted(done, key=lambda t: (-(auc_of(t) or 0.0), _cost(t), t.number)):
        better = all(_cost(trial) < _cost(other) for other in cheapest)
        (cheapest if better else beaten).append(trial)
    return Front(cost, *([_front_trial(t) for t in reversed(part)] for part in (cheapest, beaten)))


def _cost(trial: FrozenTrial) -> float:
    return float(trial.values[1])


def _front_trial(trial: FrozenTrial) -> FrontTrial:
    record = record_of(trial)
    return FrontTrial(
        number=trial.number,
        auc=auc_of(trial) or 0.0,
        auc_ci_low=record.auc_ci_low,
        auc_ci_high=record.auc_ci_high,
        cost=_cost(trial),
        stratum=record.stratum or "",
    )


def front_sentence(front: Front) -> str:
    """Which trials are on the front, and what that is worth."""
    listed = "; ".join(f"trial {t.number} (AUC {t.auc:.4f}, {t.cost:,.4g})" for t in front.trials)
    return (
        f"Best trials by AUC and cost ({COSTS[front.cost]}), cheapest first: {listed}. For each of them, "
        f"none of the {front.finished} finished trials has the same validation AUC or more at less cost. "
        "These are point estimates: neighbours in this list may not differ in AUC."
    )
