"""A study's state, best trials, strata and failures, as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

WITHDRAWN = "withdrawn"
"""Attribute of a trial that was queued and is not asked for any more: it ended, and counts as nothing."""


@dataclass(frozen=True)
class Counts:
    """Trials of a study by state."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0

    @property
    def finished(self) -> int:
        """Trials that ended, however."""
        return self.complete + self.pruned + self.failed


def count_states(trials: list[FrozenTrial]) -> Counts:
    """Trials by state."""
    count = Counter(t.state for t in trials if WITHDRAWN not in t.user_attrs)
    return Counts(
        complete=count[TrialState.COMPLETE],
        pruned=count[TrialState.PRUNED],
        failed=count[TrialState.FAIL],
        running=count[TrialState.RUNNING],
    )


def completed(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that ran their full length, best AUC first (of equals, the earlier).

    Optuna gives a stopped trial its last intermediate value as `value`: never rank by that alone.
    """
    ended = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    return sorted(ended, key=lambda t: (-(t.value or 0.0), t.number))


BEST_SHOWN = 10


SHOWN_OF_A_TRIAL = (
    "architecture",
    "init",
    "unfreeze_depth",
    "auc_ci_low",
    "auc_ci_high",
    "n_params",
    "n_trainable_params",
    "depth",
    "epochs",
    "train_seconds",
)


SHOWN = (*SHOWN_OF_A_TRIAL, "stratum", "stop_reason", WITHDRAWN)


def summarize_study(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """A study in JSON-able values.

    Args:
        study: to summarize.
        trials: its trials, with the user attributes `SHOWN` at least.

    Returns:
        Keys `study question goal modality states best strata failures`. AUC is the validation split's;
        `params` of a trial has what the study holds fixed too.
    """
    trials = list(trials)
    attributes = study.user_attrs
    counts = count_states(trials)
    failures = Counter(t.user_attrs.get("stop_reason", "?") for t in trials if t.state == TrialState.FAIL)
    definition = attributes.get("definition", {})
    return {
        "study": study.study_name,
        "question": attributes.get("question", ""),
        "goal": attributes.get("goal", ""),
        "modality": attributes.get("modality", ""),
        "budget": definition.get("budget", {}).get("trials"),
        "states": {
            "COMPLETE": counts.complete,
            "PRUNED": counts.pruned,
            "FAIL": counts.failed,
            "RUNNING": counts.running,
        },
        "best": [_trial(t, _fixed(definition)) for t in completed(trials)[:BEST_SHOWN]],
        "strata": _strata(trials),
        "failures": [{"reason": reason, "trials": n} for reason, n in failures.most_common()],
    }


def _fixed(definition: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters that are the same in all trials."""
    dimensions = definition.get("space", {}).get("dimensions", {})
    return {name: d["value"] for name, d in dimensions.items() if d.get("value") is not None}


def _trial(trial: FrozenTrial, fixed: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": trial.number,
        "auc": trial.value,
        **{key: trial.user_attrs.get(key) for key in SHOWN_OF_A_TRIAL},
        "params": {**fixed, **trial.params},
    }


def _strata(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Per stratum: trials by state, and the best complete AUC; best first, those without one last."""
    names = sorted({t.user_attrs["stratum"] for t in trials if "stratum" in t.user_attrs})
    rows = []
    for name in names:
        mine = [t for t in trials if t.user_attrs.get("stratum") == name]
        counts = count_states(mine)
        best = next(iter(completed(mine)), None)
        rows.append(
            {
                "stratum": name,
                "complete": counts.complete,
                "pruned": counts.pruned,
                "failed": counts.failed,
                "best_auc": best.value if best else None,
            }
        )
    return sorted(rows, key=lambda r: (-(r["best_auc"] or 0.0), r["stratum"]))
