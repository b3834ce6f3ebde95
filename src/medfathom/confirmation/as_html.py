"""A confirmation as a notebook shows it."""

from __future__ import annotations

from medfathom.confirmation.results import ConfirmationSummary, Interval
from medfathom.confirmation.words import best_sentence, chance_warning, judged_on, opened, sentence
from medfathom.html import lines, piece, table
from medfathom.text import stratum_words

COLUMNS = ("configuration", "seeds", "search AUC", "val AUC", "test AUC", "95 % interval", "optimism")


def confirmation_html(summary: ConfirmationSummary, halted: str) -> str:
    """What was judged, a row for each configuration, and what is missing."""
    title = f"{summary.study}: {summary.modality}, confirmed on {judged_on(summary)}"
    return piece(title, lines(_first(summary)), _table(summary), lines(_last(summary, halted)))


def _first(summary: ConfirmationSummary) -> list[str]:
    if not summary.strata:
        return []
    best = summary.strata[0]
    positive = "" if summary.positive is None else f"Positive class: {summary.positive}"
    return [chance_warning(best), best_sentence(best), positive]


def _table(summary: ConfirmationSummary) -> str:
    rows = [
        [
            stratum_words(each.stratum) + ("" if each.chosen else f" (trial {each.search_trial})"),
            len(each.models),
            each.search_auc,
            each.val_auc,
            each.test_auc,
            _interval(each.ci),
            f"{each.optimism:+.4f}",
        ]
        for each in summary.strata
    ]
    return table(COLUMNS, rows)


def _last(summary: ConfirmationSummary, halted: str) -> list[str]:
    return [
        sentence(summary.unfinished) if summary.unfinished else "",
        opened(summary.openings),
        f"{len(summary.missing)} strata are not confirmed." if summary.missing else "",
        *(f"Failed: {stratum_words(f.stratum)}, seed {f.seed}: {f.reason}" for f in summary.failures),
        f"Ended early: {halted}. The same call continues." if halted else "",
    ]


def _interval(ends: Interval) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"
