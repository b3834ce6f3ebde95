"""What goes with an objective that is not the AUC, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.definitions.joint import JointDataset
from medfathom.errors import did_you_mean
from medfathom.metrics.rules import AT_SPECIFICITY, OBJECTIVES, is_auc, wanted_specificity

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig

EXAMPLE = f"{AT_SPECIFICITY}0.9"


def known_objective(objective: str) -> str:
    """The objective as it is given. Raises ValueError where there is none of that name."""
    wanted = wanted_specificity(objective)
    if objective.startswith(AT_SPECIFICITY):
        if wanted is None or not 0 < wanted < 1:
            raise ValueError(f"after the colon give a specificity between 0 and 1, such as {EXAMPLE}")
    elif objective not in OBJECTIVES:
        raise ValueError(f"no such objective; {did_you_mean(objective, [*OBJECTIVES, EXAMPLE])}")
    return objective


def refusal(config: StudyConfig) -> str | None:
    """Why a definition's objective does not go with the rest of it, in one line; None: it does."""
    asked = f'objective = "{config.objective}"'
    if config.objective == "unit_auc" and getattr(config.dataset, "unit", "image") == "image":
        return (
            f'{asked} needs cases: give dataset.unit = "case", "volume" or "slide" (sources folder and csv), '
            'or objective = "auc", which is per image'
        )
    if is_auc(config.objective):
        return None
    why = _what_does_not_go_with_it(config)
    return None if why is None else f"{asked} cannot be combined with {why}"


def _what_does_not_go_with_it(config: StudyConfig) -> str | None:
    """The first key that knows only AUC, with the reason and the way out; None: there is none."""
    cost, by = config.objectives.cost, config.choice.by
    reasons = (
        (
            config.goal == "compare",
            'goal = "compare": its questions are about AUC, and AUC says when a stratum is settled; give '
            'goal = "best"',
        ),
        (
            config.sampler.name == "gain",
            'sampler.name = "gain", which learns from AUCs of other studies; give sampler = "tpe"',
        ),
        (
            config.scheduler.name == "curve",
            'scheduler.name = "curve", which forecasts AUCs; give scheduler = "asha" or "median"',
        ),
        (cost is not None, f'objectives.cost = "{cost}": its front is of AUC and cost; leave one out'),
        (
            config.dataset.splits.folds is not None,
            "dataset.splits.folds: folds are averaged, and given an interval, for AUC alone; leave it out",
        ),
        (
            isinstance(config.dataset, JointDataset),
            "[[datasets]], whose AUCs are averaged; give one data set",
        ),
        (
            config.choice != type(config.choice)(),
            f'choice.by = "{by}": the best trial is that with the best objective; leave [choice] out',
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)
