"""`medfathom show` in a terminal: a study's state, best trials, strata, failures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from medfathom.definitions.load import study_name
from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import unfrozen
from medfathom.metrics.rules import is_auc, is_loss, objective_title
from medfathom.study.choice import choice_sentences
from medfathom.study.connection import default_url
from medfathom.study.front import COSTS, Front, front_sentence
from medfathom.study.read import brief_trials, read_study
from medfathom.study.summary import SHOWN, StratumSummary, StudySummary, TrialSummary, summarize_study
from medfathom.study.tuning import Tuning, tuning_sentences
from medfathom.terminal.output import print_json, print_text
from medfathom.terminal.progress import STYLE, heading
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import clock, short_strata, without_shared_prefix

DEFAULT_RATE = TrialParams.model_fields["learning_rate"].default


def print_study(study: str, storage: str | None, *, as_json: bool) -> None:
    """Print the summary of a study in the storage; `study` is its name, or its definition's file."""
    url = storage or default_url()
    found = read_study(url, study_name(study))
    summary = summarize_study(found, brief_trials(url, found, SHOWN))
    if as_json:
        print_json(summary.to_dict())
    else:
        print_text(study_text(summary))


def study_text(summary: StudySummary) -> RenderableType:
    """The summary as text for a terminal."""
    states = Text("  ").join(
        Text(f"{n} {state}", style=STYLE[state]) for state, n in summary.states.by_state().items() if n
    )
    head = Text(summary.study, style="bold")
    what = f"goal {summary.goal}, objective {summary.objective}, budget {summary.budget} trials"
    head.append(f"  {summary.modality}, {what}", "not bold")
    parts: list[RenderableType] = [head, Text(summary.question, style="italic"), states]
    if summary.choice:
        parts += [Text(), *map(Text, choice_sentences(summary.choice))]
    if summary.front:
        parts += [Text(), Text("Front", style="bold"), _front_table(summary.front)]
        parts.append(Text(front_sentence(summary.front)))
    if summary.best:
        unit = summary.best[0].unit
        folds = len(summary.best[0].fold_aucs or ())
        mean = f", mean of {folds} folds" if folds else ""
        mean += f", mean of {len(summary.best[0].datasets)} data sets" if summary.best[0].datasets else ""
        of = "AUC" if is_auc(summary.objective) else f"{objective_title(summary.objective)} and AUC"
        title = f"Best trials (validation {of}{f' per {unit}' if unit else ''}{mean})"
        parts += [Text(), Text(title, style="bold"), _best_table(summary.best, summary.objective)]
    if len(summary.strata) > 1:
        parts += [Text(), Text("Strata", style="bold"), _strata_table(summary.strata)]
        found = {row.stratum: row.tuning for row in summary.strata if row.tuning}
        parts += map(Text, tuning_sentences(found))
    if summary.failures:
        parts += [Text(), Text("Failures", style="bold red")]
        parts += [Text(f"{f.trials} × {f.reason}") for f in summary.failures]
    return Group(*parts)


SHORTEN = {"architecture": without_shared_prefix, "stratum": short_strata}
MINOR = (
    "failed",
    "time",
    "pruned",
    "params",
    "rate",
    "complete",
    "log loss",
    "per image",
    "tuning",
    "95 % interval",
)
"""Columns that a narrow window leaves out, the first one first."""


def _table(*columns: str) -> FittedTable:
    minor = {name: len(MINOR) - i for i, name in enumerate(MINOR)}
    return FittedTable(
        [Column(name, name in ("init", *SHORTEN), minor.get(name, 0), SHORTEN.get(name)) for name in columns]
    )


def _best_table(best: Sequence[TrialSummary], objective: str) -> FittedTable:
    # The log loss has its column already.
    other = [] if is_auc(objective) or is_loss(objective) else [heading(objective)]
    per_image = ["per image"] if any(row.image_auc is not None for row in best) else []
    folds = ["folds"] if any(row.fold_aucs for row in best) else []
    columns = ["architecture", "init", "unfreeze", "rate", "params", "time"]
    datasets = list(best[0].datasets or ())
    told = [*other, "AUC", "95 % interval", *datasets, *folds, "log loss", *per_image]
    table = _table("trial", *told, *columns)
    for row in best:
        low, high = row.auc_ci_low, row.auc_ci_high
        rate = row.params.get("learning_rate", DEFAULT_RATE)
        table.add_row(
            str(row.number),
            *["" if row.objective_value is None else f"{row.objective_value:.4f}" for _ in other],
            f"{row.auc:.4f}",
            f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "",
            *["" if (auc := (row.datasets or {}).get(name)) is None else f"{auc:.4f}" for name in datasets],
            *[
                f"{min(row.fold_aucs):.3f} to {max(row.fold_aucs):.3f}" if row.fold_aucs else ""
                for _ in folds
            ],
            "" if row.log_loss is None else f"{row.log_loss:.4f}",
            *["" if row.image_auc is None else f"{row.image_auc:.4f}" for _ in per_image],
            str(row.architecture),
            str(row.init),
            unfrozen(row.unfreeze_depth, row.strategy),
            f"{rate:.1e}",
            f"{row.n_params / 1e6:.1f} M" if row.n_params else "",
            clock(row.train_seconds) if row.train_seconds is not None else "",
        )
    return table


def _front_table(front: Front) -> FittedTable:
    table = _table("trial", "AUC", "95 % interval", COSTS[front.cost], "stratum")
    for row in front.trials:
        known = row.auc_ci_low is not None and row.auc_ci_high is not None
        interval = f"{row.auc_ci_low:.3f} to {row.auc_ci_high:.3f}" if known else ""
        table.add_row(str(row.number), f"{row.auc:.4f}", interval, f"{row.cost:,.4g}", row.stratum)
    return table


def _strata_table(strata: Sequence[StratumSummary]) -> FittedTable:
    tuned = [row.tuning for row in strata if row.tuning]
    among = tuned[0].among if tuned else 0  # of no trial nothing is expected
    tuning = ["tuning"] if tuned else []
    columns = [f"expected best of {among}", "95 % interval", *tuning] if among else tuning
    table = _table("stratum", "best AUC", "complete", "pruned", "failed", *columns)
    for row in strata:
        best = f"{row.best_auc:.4f}" if row.best_auc is not None else "none complete"
        counts = (str(n) for n in (row.complete, row.pruned, row.failed))
        cells = _tuning_cells(row.tuning)[-len(columns) :] if row.tuning else ()
        table.add_row(row.stratum, best, *counts, *cells)
    return table


def _tuning_cells(tuning: Tuning) -> tuple[str, str, str]:
    """Expected best at equal budget, its interval, and whether more trials would bring more."""
    expected = "" if tuning.expected is None else f"{tuning.expected:.4f}"
    known = tuning.low is not None and tuning.high is not None
    interval = f"{tuning.low:.3f} to {tuning.high:.3f}" if known else ""
    return expected, interval, "settled" if tuning.settled else "open"
