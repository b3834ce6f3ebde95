"""`medfathom data check` and `data prepare` in a terminal: a progress bar, then the findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.data.check.check import CheckReport, check_data
from medfathom.data.check.page import write_page
from medfathom.data.leakage import leakage_note
from medfathom.data.prepare import prepare
from medfathom.data.prepared import read_facts
from medfathom.data.samples import write_samples
from medfathom.data.sources.base import Ignored, Problem
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import the_one
from medfathom.definitions.load import load_definition
from medfathom.errors import InputError
from medfathom.files import home
from medfathom.terminal.bar import step_bar
from medfathom.terminal.log import logged_steps, telling
from medfathom.terminal.output import print_json, print_text

TOLD = ("positive", "left_out", "ignored", "notes", "leakage")
"""Facts that are told in words to people."""

STYLE = {"error": "red", "warning": "yellow", "note": "dim"}


class PreparedJson(TypedDict):
    """A prepared data set.

    Attributes:
        folder: where it lies.
        fingerprint: SHA-256 over images, labels, groups and splits.
        image_size: side of the square images, pixels.
        sizes: split -> images.
        unit: what has one label and is judged.
        cases: split -> cases; null: the unit is the image.
        positive: the positive class of two; null for other tasks.
        left_out: images or rows that cannot be used.
        ignored: files or rows that do not belong to the data set.
        notes: what the source noticed.
        leakage: images or patients in several splits, in one line; null: none.
        samples: sample images that were written.
    """

    folder: str
    fingerprint: str
    modality: str
    task: str
    class_names: list[str]
    image_size: int
    channels: int
    sizes: dict[str, int]
    unit: str
    cases: dict[str, int] | None
    positive: str | None
    left_out: list[Annotated[dict[str, object], Problem]]
    ignored: list[Annotated[dict[str, object], Ignored]]
    notes: list[str]
    leakage: str | None
    samples: NotRequired[list[str]]


def print_check(study: str, overrides: Sequence[str], *, page: Path | None, as_json: bool) -> int:
    """Check a study's data set, write the page, print the findings. The exit code, as the report has it."""
    report, written = check_with_page(load_definition(study, overrides), page, show_progress=not as_json)
    if as_json:
        print_json(report.to_dict())
    else:
        print_text(check_text(report, written))
    return report.exit_code


def print_shared(references: Sequence[str], overrides: Sequence[str], *, as_json: bool) -> int:
    """Look for images that several data sets share, and print them. The exit code, as the report has it."""
    from medfathom.data.check.across import SEES  # noqa: PLC0415  SciPy
    from medfathom.data.check.sets import check_sets  # noqa: PLC0415

    configs = [load_definition(reference, overrides) for reference in references]
    names = [config.name for config in configs]
    if again := [name for name in names if names.count(name) > 1]:
        raise InputError(f"data check: two data sets have the name {again[0]!r}; give each its own name")
    sets = [(config.name, the_one(config.dataset, "data check")) for config in configs]
    with step_bar(shown=not as_json) as tell:
        report = check_sets(sets, home() / "cache", tell)
    if as_json:
        print_json(report.to_dict())
        return report.exit_code
    lines = [line for found in report.found for line in found.lines()]
    print_text(Group(*map(Text, lines), Text(f"{SEES}.", style="dim")))
    return report.exit_code


def print_prepared(study: str, overrides: Sequence[str], *, samples: Path | None, as_json: bool) -> None:
    """Prepare a study's data set, write samples where a folder is given, print what the data set is."""
    config = load_definition(study, overrides)
    facts = prepare_now(config, study, samples=samples, show_progress=not as_json)
    if as_json:
        print_json(facts)
    else:
        told = read_facts(Path(str(facts["folder"]))).lines()
        told += [str(facts["leakage"])] if facts["leakage"] else []
        shown = [f"{key}: {value}" for key, value in facts.items() if key not in TOLD and value is not None]
        print("\n".join([*shown, *told]))  # noqa: T201


def check_with_page(
    config: StudyConfig, out: Path | None, *, show_progress: bool
) -> tuple[CheckReport, Path]:
    """Check a study's data set and write the page.

    Returns:
        What was found, and the page's file.

    Raises:
        DataError: the data set cannot be used at all.
    """
    from medfathom.models.look import look  # noqa: PLC0415  torch

    dataset = the_one(config.dataset, "data check")
    page = out or home() / "reports" / f"{config.name}-data.html"
    with logged_steps("data-check", config.name, config) as step, step_bar(shown=show_progress) as tell:
        told = telling(step, tell)
        report = check_data(dataset, home() / "cache", seed=config.seed, progress=told, look=look)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(report, page, title=config.name, seed=config.seed)
    return report, page


def prepare_now(
    config: StudyConfig, reference: str, *, samples: Path | None = None, show_progress: bool
) -> PreparedJson:
    """Prepare a study's data set, and write samples into a folder where one is given.

    Args:
        config: the definition.
        reference: its file or name, as the user gave it: hints name it.
        samples: a folder for sample images.
        show_progress: whether a bar is drawn.

    Returns:
        What the data set is, in plain values.
    """
    dataset = the_one(config.dataset, "data prepare")
    with logged_steps("data-prepare", config.name, config) as step, step_bar(shown=show_progress) as tell:
        told = telling(step, tell)
        data = prepare(
            dataset,
            home() / "cache",
            progress=lambda done, total: told("prepare", done, total),
            looked=lambda done, total: told("tissue", done, total),
        )
    written = [] if samples is None else write_samples(data, samples)
    facts = read_facts(data.folder)
    content = {
        **data.to_dict(),
        "positive": data.positive,
        "left_out": [asdict(problem) for problem in facts.left_out],
        "ignored": [asdict(ignored) for ignored in facts.ignored],
        "notes": list(facts.notes),
        "leakage": leakage_note(data, config.dataset, reference) or None,
        **({"samples": [str(file) for file in written]} if written else {}),
    }
    return cast("PreparedJson", content)


def check_text(report: CheckReport, page: Path) -> RenderableType:
    """What it comes to, what to do, and the findings, worst first, as text for a terminal."""
    verdict = report.verdict
    first = [Text(verdict.sentence, style="bold red" if report.exit_code else "bold")]
    first += [Text(f"To do: {line}.") for line in verdict.to_do]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "check", "finding"):
        table.add_column(title, no_wrap=title != "finding")
    for severity, name, message in report.rows():
        # As Text: rich would take a [name] in brackets for a style.
        table.add_row(Text(severity, style=STYLE[severity]), name, Text(message))
    for s in report.shortcuts:
        interval = f"AUC {s.auc:.3f} [{s.ci_low:.3f}, {s.ci_high:.3f}] (0.5 is chance)"
        table.add_row(Text("tested", style="dim"), "shortcut", Text(f"{s.predictor}: {interval}"))
    return Group(*first, Text(), table, Text(f"Page: {page}"))
