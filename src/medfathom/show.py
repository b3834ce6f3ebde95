"""A study's state, best trials, strata and failures: as plain values, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.ledger import WITHDRAWN, completed, count_states
from medfathom.progress import STYLE, clock
from medfathom.spaces import TrialParams

BEST_SHOWN = 10
DEFAULT_RATE = TrialParams.model_fields["learning_rate"].default
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


def summarize(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
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


def render(summary: dict[str, Any]) -> RenderableType:
    """The summary as text for a terminal."""
    states = Text("  ").join(
        Text(f"{n} {state}", style=STYLE[state]) for state, n in summary["states"].items() if n
    )
    head = Text(f"{summary['study']}", style="bold")
    head.append(
        f"  {summary['modality']}, goal {summary['goal']}, budget {summary['budget']} trials", "not bold"
    )
    parts: list[RenderableType] = [head, Text(summary["question"], style="italic"), states]
    if summary["best"]:
        parts += [Text(), Text("Best trials (validation AUC)", style="bold"), _best_table(summary["best"])]
    if len(summary["strata"]) > 1:
        parts += [Text(), Text("Strata", style="bold"), _strata_table(summary["strata"])]
    if summary["failures"]:
        parts += [Text(), Text("Failures", style="bold red")]
        parts += [Text(f"{f['trials']} × {f['reason']}") for f in summary["failures"]]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        left = column in ("architecture", "init", "stratum")
        # In a narrow window names are folded; a number cut short would be another number.
        table.add_column(column, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    return table


def _best_table(best: list[dict[str, Any]]) -> Table:
    table = _table(
        "trial", "AUC", "95 % interval", "architecture", "init", "unfreeze", "rate", "params", "time"
    )
    for row in best:
        low, high = row["auc_ci_low"], row["auc_ci_high"]
        rate = row["params"].get("learning_rate", DEFAULT_RATE)
        table.add_row(
            str(row["number"]),
            f"{row['auc']:.4f}",
            f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "",
            str(row["architecture"]),
            str(row["init"]),
            str(row["unfreeze_depth"]),
            f"{rate:.1e}",
            f"{row['n_params'] / 1e6:.1f} M" if row["n_params"] else "",
            clock(row["train_seconds"]) if row["train_seconds"] is not None else "",
        )
    return table


def _strata_table(strata: list[dict[str, Any]]) -> Table:
    table = _table("stratum", "best AUC", "complete", "pruned", "failed")
    for row in strata:
        best = f"{row['best_auc']:.4f}" if row["best_auc"] is not None else "none complete"
        table.add_row(row["stratum"], best, str(row["complete"]), str(row["pruned"]), str(row["failed"]))
    return table
