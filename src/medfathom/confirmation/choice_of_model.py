"""Which confirmed configuration is exported, or evaluated elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.confirmation.choice import complete_trial
from medfathom.confirmation.find import find_confirmation
from medfathom.errors import InputError, StorageError
from medfathom.text import command

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.confirmation.results import StratumResult


def choose_configuration(study: Study, trial: str, within: float) -> StratumResult:
    """The confirmed configuration that `--trial` means; `within` as in `export.export_model`."""
    from medfathom.confirmation.summary import summarize_confirmation  # noqa: PLC0415  imports pandas

    name = study.study_name
    number = int(trial) if trial.isdigit() else None
    if number is not None:
        complete_trial(study, number)
    elif trial not in ("best", "smallest-within"):
        raise InputError(f"--trial {trial}: expected best, smallest-within, or the number of a trial")
    strata = summarize_confirmation(study, find_confirmation(study)).strata
    if not strata:
        raise StorageError(f"study {name!r}: no confirmed model yet; `{command('confirm', name)}` makes them")
    if number is not None:
        for result in strata:
            if result.search_trial == number:
                return result
        raise StorageError(
            f"study {name!r}: trial {number} has no trained weights, as it was not confirmed; "
            f"`{command('confirm', name, '--trial', number)}` trains it"
        )
    if trial == "best":
        return strata[0]
    highest = max(result.val_auc for result in strata)
    near = [result for result in strata if result.val_auc >= highest - within]
    return min(near, key=lambda result: (result.n_params, -result.val_auc))
