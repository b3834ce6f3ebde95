"""Which trials can have their heads fitted side by side, by their parameters. Imports no torch."""

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import JointDataset
from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import DRAWN

SHARED = frozenset(
    ("architecture", "init", "image_size", "head_pooling", "augmentation", "train_fraction", "batch_size")
) | {"optimizer"}
"""What must be equal: of the features, of the number of updates, and the optimizer. All else may differ."""

MOST_BESIDE = 15
"""So many trials are fitted beside one, at most: after each epoch all of them are judged, one by one."""


def trains_one_layer(params: TrialParams) -> bool:
    """Whether only a linear classifier is trained, over features that other trials have too."""
    return (
        params.unfreeze_depth == 0
        and params.strategy == "fixed"
        and params.head_hidden == 0
        and params.combine != "attention"
        and params.init not in DRAWN
    )


def alike(one: TrialParams, other: TrialParams) -> bool:
    """Whether both train one layer over the same features, in as many updates."""
    both = trains_one_layer(one) and trains_one_layer(other)
    return both and one.model_dump(include=set(SHARED)) == other.model_dump(include=set(SHARED))


def can_fit_beside(config: StudyConfig) -> bool:
    """Whether trials of a study can be fitted side by side: of one data set, one training, several epochs.

    Not where each has a limit of time: one would pay for the others.
    """
    one = not isinstance(config.dataset, JointDataset) and config.dataset.splits.trainings == 1
    return one and config.budget.epochs > 1 and config.budget.trial_minutes is None
