"""`medfathom confirm` in a terminal: what is told while it runs, and what it found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from medfathom.confirmation.find import MISTAKES
from medfathom.confirmation.words import (
    best_sentence,
    calibration_rows,
    chance_warning,
    datasets_sentence,
    front_words,
    gap_words,
    judged_on,
    objective_sentence,
    opened,
    per_image,
    sentence,
)
from medfathom.definitions.load import study_name
from medfathom.errors import EXIT_FAILED, EXIT_INTERRUPTED
from medfathom.study.watcher import Watcher
from medfathom.terminal.output import print_json, print_text
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import command, short_strata, stratum_words

if TYPE_CHECKING:
    from medfathom.confirmation.choice import MissingStratum
    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.results import ConfirmationSummary, Interval, StratumResult
    from medfathom.evaluation.subgroups import Subgroups

MISSING_SHOWN = 3
"""More strata than this with the same reason are counted."""

COLUMNS = (
    Column("stratum", left=True, shorten=short_strata),
    Column("seeds", minor=5),
    Column("search AUC", minor=4),
    Column("val AUC", minor=2),
    Column("test AUC"),
    Column("95 % interval"),
    Column("seed sd", minor=3),
    Column("sampling", minor=6),
    Column("optimism", minor=1),
)


def confirm_and_tell(
    study: str,
    *,
    seeds: int = 3,
    top: int | None = None,
    trials: Sequence[int] = (),
    by: str = "",
    ensemble: int | None = None,
    keep_ensemble: bool = False,
    views: bool = False,
    keep_views: bool = False,
    storage: str | None = None,
    address: str | None = None,
    as_json: bool = False,
) -> int:
    """Confirm a study as `confirm_study` does; tell what happens, and print what was found.

    Returns:
        The exit code.
    """
    from medfathom.confirm import confirm_study  # noqa: PLC0415
    from medfathom.terminal.log import logged  # noqa: PLC0415
    from medfathom.terminal.progress import watcher_for_people  # noqa: PLC0415

    with logged(Watcher() if as_json else watcher_for_people(), "confirm") as log:
        done = confirm_study(
            study_name(study),
            seeds=seeds,
            top=top,
            trials=trials,
            by=by,
            ensemble=ensemble,
            keep_ensemble=keep_ensemble,
            views=views,
            keep_views=keep_views,
            storage=storage,
            address=address,
            watcher=log,
        )
    if as_json:
        subgroups = {"subgroups": asdict(done.subgroups)} if done.subgroups else {}
        ensembles = {"ensemble": done.ensemble.model_dump(mode="json")} if done.ensemble else {}
        flips = {"views": done.views.model_dump(mode="json")} if done.views else {}
        print_json(done.summary.to_dict() | subgroups | ensembles | flips)
    else:
        print_text(confirmation_text(done.summary))
        if done.subgroups:
            print_text(_subgroups(done.subgroups))
        if done.ensemble:
            print_text(_ensemble(done.ensemble, study))
        if done.views:
            from medfathom.confirmation.views import views_lines  # noqa: PLC0415  imports pandas

            print_text(Group(Text(), *map(Text, views_lines(done.views))))
        if (page := _mistakes(done.summary)) is not None:
            first = " (its first seed)" if len(done.summary.strata[0].models) > 1 else ""
            print(f"Mistakes of the best configuration{first}: {page}", file=sys.stderr)  # noqa: T201
    if done.halted:
        print(f"Ended early: {done.halted}. The same command continues.", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED if done.halted == "interrupted" else EXIT_FAILED
    return EXIT_FAILED if done.summary.failures else 0


def _mistakes(summary: ConfirmationSummary) -> Path | None:
    """The page of the model whose pictures are drawn; None: none was written."""
    if not summary.strata:
        return None
    page = summary.strata[0].models[0].folder / MISTAKES
    return page if page.is_file() else None


def _subgroups(found: Subgroups) -> RenderableType:
    from medfathom.evaluation.words import subgroup_lines, subgroup_table  # noqa: PLC0415
    from medfathom.terminal.evaluation import subgroups_as_table  # noqa: PLC0415

    head = Text("\nSubgroups of the test split, by the best model", "bold")
    return Group(head, subgroups_as_table(subgroup_table(found)), *map(Text, subgroup_lines(found)))


def _ensemble(found: Ensemble, study: str) -> RenderableType:
    from medfathom.confirmation.ensemble import ensemble_lines  # noqa: PLC0415  imports pandas

    lines = ["", *ensemble_lines(found)]
    if found.kept:
        lines.append(f"To write it: {command('export', study, '--ensemble', '--out', 'model')}")
    return Group(*map(Text, lines))


def confirmation_text(summary: ConfirmationSummary) -> RenderableType:
    """All of a summary."""
    head = Text(summary.study, "bold")
    head.append(f"  {summary.modality}, confirmed on {judged_on(summary)}", "not bold")
    parts: list[RenderableType] = [head]
    if summary.strata and (warning := chance_warning(summary.strata[0])):
        parts.append(
            Text(
                f"{stratum_words(summary.strata[0].stratum)}, the best on validation. {warning}",
                "bold red",
            )
        )
    if summary.positive is not None:
        parts.append(Text(f"Positive class: {summary.positive}"))
    if summary.strata:
        parts += [Text(), _table(summary.strata), Text(), *_sentences(summary)]
    if summary.strata and (rows := calibration_rows(summary.strata[0])):
        parts += [Text(), _calibrations(rows), Text()]
    if summary.efficiency:
        parts += [Text(line) for line in front_words(summary.efficiency)]
    if summary.unfinished:
        parts.append(Text(sentence(summary.unfinished), "yellow"))
    parts.append(Text(opened(summary.openings), "dim"))
    if summary.missing:
        parts += [Text(), Text("Missing", "bold yellow")]
        parts += [Text(line) for line in _missing(summary.missing)]
    if summary.failures:
        parts += [Text(), Text("Failures (confirm again to retry)", "bold red")]
        parts += [Text(f"{stratum_words(f.stratum)}, seed {f.seed}: {f.reason}") for f in summary.failures]
    return Group(*parts)


def _table(strata: Sequence[StratumResult]) -> FittedTable:
    table = FittedTable(COLUMNS)
    for result in strata:
        table.add_row(
            result.stratum if result.chosen else f"{result.stratum} (trial {result.search_trial})",
            str(len(result.models)),
            f"{result.search_auc:.4f}",
            f"{result.val_auc:.4f}",
            Text(f"{result.test_auc:.4f}", "bold"),
            _interval(result.ci),
            f"{result.seed_sd:.4f}" if result.seed_sd is not None else "",
            _interval(result.sampling_ci),
            f"{result.optimism:+.4f}",
        )
    return table


def _calibrations(rows: Sequence[Sequence[str]]) -> FittedTable:
    head, *below = rows
    table = FittedTable([Column(name, left=place == 0) for place, name in enumerate(head)])
    for row in below:
        table.add_row(*row)
    return table


def _interval(ends: Interval) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _sentences(summary: ConfirmationSummary) -> list[Text]:
    strata, best = summary.strata, summary.strata[0]
    optimism = sum(result.optimism for result in strata) / len(strata)
    return [
        Text(best_sentence(best)),
        *map(Text, filter(None, (datasets_sentence(best), objective_sentence(best, summary.objective)))),
        *[Text(line) for line in [per_image(best)] if line],
        *map(Text, gap_words(best)),
        Text(
            f"On average the search AUCs were {optimism:.4f} above the test AUCs: they were optimistic by "
            "that much."
            if optimism >= 0
            else f"On average the search AUCs were {-optimism:.4f} below the test AUCs."
        ),
        Text(
            "seed sd: standard deviation between trainings on the same data. sampling: 95 % interval of the "
            "same networks on another test split.",
            "dim",
        ),
    ]


def _missing(missing: Sequence[MissingStratum]) -> list[str]:
    """A line for each stratum, or for each reason that many share (`--json` has all of them)."""
    by_reason: dict[str, list[str]] = {}
    for each in missing:
        by_reason.setdefault(each.reason, []).append(stratum_words(each.stratum))
    lines = []
    for reason, strata in by_reason.items():
        if len(strata) > MISSING_SHOWN:
            lines.append(f"{len(strata)} strata, {strata[0]} first: {reason}")
        else:
            lines += [f"{stratum}: {reason}" for stratum in strata]
    return lines
