"""`medfathom evaluate` in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.terminal.bar import step_bar
from medfathom.terminal.log import logged_steps, telling
from medfathom.terminal.output import print_json, print_text
from medfathom.text import spark

if TYPE_CHECKING:
    from medfathom.confirmation.decisions import Decision
    from medfathom.evaluation.results import Evaluation, Histogram


def evaluate_and_tell(
    model: str,
    definition: str,
    *,
    recalibrate: int | None,
    by: str,
    split: str | None,
    device: str,
    storage: str | None,
    copies: bool,
    pictures: Path | None,
    as_json: bool,
) -> int:
    """Evaluate a model as `external.evaluate` does, and print what was found. Returns the exit code."""
    from medfathom.external import evaluate  # noqa: PLC0415

    named = f"{Path(model).name}-{Path(definition).stem}"
    with logged_steps("evaluate", named) as step, step_bar(shown=not as_json) as tell:
        found = evaluate(
            model,
            definition,
            recalibrate=recalibrate,
            by=by,
            split=split,
            device=device,
            storage=storage,
            copies=copies,
            pictures=pictures,
            progress=telling(step, tell),
        )
    if as_json:
        print_json(found.to_dict())
    else:
        print_text(evaluation_text(found))
        if pictures is not None:
            print(f"Pictures: {pictures}", file=sys.stderr)  # noqa: T201
        if Path(model).is_dir():
            print(f"Saved in {model} (evaluations.json, README.md)", file=sys.stderr)  # noqa: T201
    return 0


def evaluation_text(found: Evaluation) -> RenderableType:
    """Everything that was found, what must be read first coming first."""
    from medfathom.evaluation import words  # noqa: PLC0415

    head = Text(found.name, "bold")
    head.append(f"  {found.model}", "not bold")
    parts: list[RenderableType] = [head, Text(words.judged_on(found))]
    parts += [Text(line, "bold red") for line in words.warnings_of(found)]
    parts += [Text(line, "yellow") for line in words.left_out(found)]
    parts += [Text(words.looked_for(found), "dim"), Text(), _table(found), Text(), Text(words.fell(found))]
    parts += [
        Text("Calibration", "bold"),
        *(Text(words.calibration_line(line)) for line in found.calibration),
    ]
    if found.recalibrated is not None:
        first, *others = words.recalibration_lines(found)
        parts += [Text(first, "bold"), *map(Text, others)]
    if rows := words.subgroup_table(found.subgroups):
        parts += [subgroups_as_table(rows), *map(Text, words.subgroup_lines(found.subgroups))]
    parts += [_decision(each) for each in found.decisions]
    parts += [Text("Probabilities from 0 to 1", "bold"), *map(_histogram, found.histograms)]
    return Group(*parts, *(Text(remark, "dim") for remark in found.remarks))


def _table(found: Evaluation) -> Table:
    from medfathom.evaluation.results import metric  # noqa: PLC0415
    from medfathom.evaluation.words import TITLES, shown  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "own test split", "these data", "drop"):
        table.add_column(title, no_wrap=True)
    for name, title in TITLES:
        here = found.intervals.get(name) or metric(found.metrics, name)
        if here.value is not None:
            drop = found.drop.get(name)
            table.add_row(
                title, shown(metric(found.internal, name)), shown(here), shown(drop) if drop else ""
            )
    return table


def subgroups_as_table(rows: list[list[str]]) -> Table:
    """Rows of `words.subgroup_table`."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in rows[0]:
        table.add_column(title)
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _decision(found: Decision) -> RenderableType:
    """Predictive values over prevalence; the decision curve is in the card and in `--json`."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=None)
    own, *others = found.prevalences
    table.add_column(f"{found.name} at a prevalence of", no_wrap=True)
    for title in (f"{own:.3f} (these data)", *(f"{value:g}" for value in others)):
        table.add_column(title, justify="right")
    for name, values in (("PPV", found.ppv), ("NPV", found.npv)):
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values))
    return table


def _histogram(found: Histogram) -> Text:
    rows = [
        f"{name:>{len(found.name) + 4}} {spark([count / max(*counts, 1) for count in counts], 0.0, 1.0)}"
        f"  {sum(counts)}"
        for name, counts in ((found.name, found.of_class), (f"not {found.name}", found.others))
    ]
    return Text("\n".join(rows))
