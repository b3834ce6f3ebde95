"""How Optuna's storage knows a study and its trials: private to Optuna, so each is read in one place."""

from __future__ import annotations

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial


def trial_id_of(trial: FrozenTrial | Trial) -> int:
    """A trial's key in its storage, over all studies; its number counts within its study."""
    return trial._trial_id


def study_id_of(study: Study) -> int:
    """A study's key in its storage."""
    return study._study_id


def storage_of(study: Study) -> BaseStorage:
    """The storage that a study was loaded from."""
    return study._storage


def whole(study: Study, trial: FrozenTrial) -> FrozenTrial:
    """A trial of which only some was read, with all that its storage has."""
    return storage_of(study).get_trial(trial_id_of(trial))
