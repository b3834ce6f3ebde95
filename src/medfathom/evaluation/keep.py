"""Where an evaluation is kept: in the exported folder, its card, and the study that the model comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from medfathom.confirmation.decisions import decision_tables
from medfathom.dashboard.notes import EVALUATIONS, save_note, study_note
from medfathom.errors import ExportedModelError, InputError
from medfathom.evaluation.results import Evaluation, JsonObject, metric
from medfathom.evaluation.words import (
    TITLES,
    calibration_line,
    fell,
    judged_on,
    left_out,
    looked_for,
    recalibration_lines,
    shown,
    subgroup_lines,
    subgroup_table,
    warnings_of,
)
from medfathom.files import write_atomically
from medfathom.models.folder import CARD_FILE, EVALUATIONS_FILE, write_manifest
from medfathom.text import harmless, markdown_table, number_of, printable

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.study import Study

    from medfathom.evaluation.models import JudgedModel

HEADING = "## On other data"
"""Where the card's section begins; it is the last one."""


def keep(judged: JudgedModel, found: Evaluation) -> None:
    """Keep an evaluation; one of the same name is replaced.

    Raises:
        InputError: the model's folder cannot be written.
    """
    try:
        _in_folder(judged.folder, found, exported=judged.exported)
    except OSError as error:
        raise InputError(
            f"{judged.folder}: the evaluation cannot be saved there ({error.strerror}); copy the folder to a "
            "place that can be written, then evaluate the copy"
        ) from None
    if judged.study is not None:
        _in_study(judged.study, found)


def travelling(found: Evaluation) -> JsonObject:
    """JSON form without names of files and rows: a model folder travels."""
    return found.to_dict() | {"unreadable": len(found.unreadable)}


def _in_folder(folder: Path, found: Evaluation, *, exported: bool) -> None:
    file = folder / EVALUATIONS_FILE
    known = _read(file)
    known[found.name] = travelling(found) | {"card": section(found)}
    write_atomically(file, json.dumps(known, indent=1, allow_nan=False) + "\n")
    card = folder / CARD_FILE
    if card.exists():
        before = card.read_text(encoding="utf-8").partition(f"\n{HEADING}\n")[0].rstrip()
        parts = "\n\n".join(str(each["card"]) for each in known.values())
        write_atomically(card, f"{before}\n\n{HEADING}\n\n{parts}\n")
    if exported:
        write_manifest(folder)


def _read(file: Path) -> dict[str, JsonObject]:
    """Earlier evaluations of a model, by name. Raises ExportedModelError where the file is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if all(isinstance(each["card"], str) for each in content.values()):
            return dict(content)
        reason = "no card"
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        reason = printable(str(error))[:100]
    raise ExportedModelError(f"{file}: damaged ({reason}); move it away, then evaluate again")


def _in_study(study: Study, found: Evaluation) -> None:
    known = dict(study.user_attrs.get(EVALUATIONS, {}))
    known[found.name] = travelling(found) | {"sentence": f"{found.model}: {fell(found)}"}
    study.set_user_attr(EVALUATIONS, known)
    save_note(study, study_note(study, study.get_trials(deepcopy=False)))


def section(found: Evaluation) -> str:
    """The evaluation in the model's card, Markdown."""
    rows = [
        f"| {title} | {shown(metric(found.internal, name))} | "
        f"{shown(found.intervals.get(name) or metric(found.metrics, name))} | "
        f"{shown(found.drop[name]) if name in found.drop else ''} |"
        for name, title in TITLES
        if metric(found.metrics, name).value is not None
    ]
    lines = [
        f"### {found.name} ({found.when})",
        "",
        *(f"**{warning}**\n" for warning in warnings_of(found)),
        f"{judged_on(found)}. {looked_for(found)} {fell(found)}",
        "",
        "| metric | own test split | these data | drop |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        *(f"- calibration of {calibration_line(line)}" for line in found.calibration),
        *(f"- {line}" for line in _without_names(found)),
        *(f"- {line}" for line in recalibration_lines(found)),
        "",
        *markdown_table(subgroup_table(found.subgroups)),
        *(f"- {line}" for line in subgroup_lines(found.subgroups)),
        "",
        *decision_tables(found.decisions, found.unit),
    ]
    return harmless("\n".join(lines))


def _without_names(found: Evaluation) -> list[str]:
    if not found.unreadable:
        return left_out(found)
    lines = [line for line in left_out(found) if "cannot be used" not in line]
    return [*lines, f"Left out: {number_of(len(found.unreadable), 'image')} cannot be used."]
