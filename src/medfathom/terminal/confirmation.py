"""A confirmation, and what is exported of it, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.confirmation.words import front_words, opened, sentence, what_varies

if TYPE_CHECKING:
    from medfathom.confirmation.choice import MissingStratum
    from medfathom.confirmation.results import ConfirmationSummary, Interval, StratumResult
    from medfathom.export import Exported

MISSING_SHOWN = 3
"""More strata than this with the same reason are counted."""

TITLES = (
    "stratum",
    "seeds",
    "search AUC",
    "val AUC",
    "test AUC",
    "95 % interval",
    "seed sd",
    "sampling",
    "optimism",
)


def confirmation_text(summary: ConfirmationSummary) -> RenderableType:
    """All of a summary."""
    head = Text(summary.study, "bold")
    head.append(f"  {summary.modality}, confirmed on {summary.n_test or 0} test images", "not bold")
    parts: list[RenderableType] = [head]
    if summary.strata:
        parts += [Text(), _table(summary.strata), Text(), *_sentences(summary.strata)]
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
        parts += [Text(f"{f.stratum}, seed {f.seed}: {f.reason}") for f in summary.failures]
    return Group(*parts)


def _table(strata: Sequence[StratumResult]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in TITLES:
        table.add_column(title, justify="left" if title == "stratum" else "right", no_wrap=title != "stratum")
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


def _interval(ends: Interval) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _sentences(strata: Sequence[StratumResult]) -> list[Text]:
    best = strata[0]
    optimism = sum(result.optimism for result in strata) / len(strata)
    return [
        Text(
            f"Best by validation: {best.stratum}, test AUC {best.test_auc:.4f} "
            f"(95 % interval {_interval(best.ci)}, {what_varies(best)})."
        ),
        Text(
            f"On average the search's best validation AUCs were {optimism:.4f} above the test AUCs: "
            "they were optimistic by that much."
            if optimism >= 0
            else f"On average the search's best validation AUCs were {-optimism:.4f} below the test AUCs."
        ),
        Text(
            "seed sd: between trainings on the same data. sampling: the same networks on other test images.",
            "dim",
        ),
    ]


def _missing(missing: Sequence[MissingStratum]) -> list[str]:
    """A line for each stratum, or for each reason that many share (`--json` has all of them)."""
    by_reason: dict[str, list[str]] = {}
    for each in missing:
        by_reason.setdefault(each.reason, []).append(each.stratum)
    lines = []
    for reason, strata in by_reason.items():
        if len(strata) > MISSING_SHOWN:
            lines.append(f"{len(strata)} strata, {strata[0]} first: {reason}")
        else:
            lines += [f"{stratum}: {reason}" for stratum in strata]
    return lines


def export_text(done: Exported) -> str:
    """What was exported, and the next command."""
    configuration, model = done.configuration, done.model
    checked = "" if done.onnx_difference is None else f", ONNX equal to {done.onnx_difference:.0e}"
    return (
        f"{done.folder}: {configuration.architecture}, {configuration.stratum} "
        f"(search trial {configuration.search_trial}, seed {model.seed}), "
        f"{configuration.n_params / 1e6:.1f} M parameters, test AUC {model.test_auc:.4f}{checked}\n"
        f"Next: medfathom predict {done.folder} IMAGES…"
    )
