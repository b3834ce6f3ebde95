"""`medfathom run` in a terminal: what is told while a study runs, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from medfathom.definitions.config import BudgetConfig
from medfathom.definitions.load import load_definition, names
from medfathom.errors import EXIT_INTERRUPTED, RunError
from medfathom.text import command


def run_and_tell(
    study: str,
    overrides: Sequence[str],
    *,
    trials: int | None = None,
    minutes: float | None = None,
    storage: str | None = None,
    address: str | None = None,
    fresh: bool = False,
    modality: str | None = None,
    as_json: bool = False,
) -> int:
    """Run a study, tell what happens, and say what can be done next.

    Args:
        study: a TOML file, the name of one, or a place of data.
        overrides: `key=value` pairs.
        trials: the budget's trials; None: the definition's.
        minutes: the budget's minutes; None: the definition's.
        storage: an Optuna storage URL.
        address: of a Ray cluster.
        fresh: begin anew.
        modality: of a place of data.
        as_json: JSON lines instead of a live table.

    Returns:
        The exit code.

    Raises:
        RunError: the study is at its end, and no trial is complete.
    """
    sets = [*overrides]
    sets += [f"budget.trials={trials}"] if trials is not None else []
    sets += [f"budget.minutes={minutes!r}"] if minutes is not None else []
    study, said = _definition(study, modality)
    config = load_definition(study, sets)
    from medfathom.run import run_study  # noqa: PLC0415  imports Optuna
    from medfathom.study.choice import choice_sentences  # noqa: PLC0415
    from medfathom.study.front import front_sentence  # noqa: PLC0415
    from medfathom.terminal.log import logged  # noqa: PLC0415
    from medfathom.terminal.progress import JsonLines, watcher_for_people  # noqa: PLC0415

    watcher = JsonLines(sys.stdout) if as_json else watcher_for_people()
    with logged(watcher, "run") as log:
        for line in said:
            log.note(line)
        outcome = run_study(study, sets, storage=storage, address=address, fresh=fresh, watcher=log)
    for line in choice_sentences(outcome.choice) if outcome.choice else []:
        watcher.note(line)
    if outcome.front:
        watcher.note(front_sentence(outcome.front))
    if outcome.halted:
        more = _raised(config.budget, outcome.halted)
        watcher.note(f"Ended early: {outcome.halted}. To continue: {_again(study, [*sets, *more])}")
        return EXIT_INTERRUPTED if outcome.halted == "interrupted" else 0
    if outcome.counts.complete == 0:
        see = command("show", config.name)
        raise RunError(f"study {config.name!r}: no trial completed; see `{see}`")
    then = (("show", config.name), ("dashboard",), ("confirm", config.name))
    watcher.note("\n  ".join(["Next:", *(command(*words) for words in then)]))
    return 0


def _definition(study: str, modality: str | None) -> tuple[str, list[str]]:
    """The definition to run, which is written first where a place of data is named; and what to say of it."""
    from medfathom.data.guess import is_place  # noqa: PLC0415
    from medfathom.own_data import definition_for, refuse_other_modality  # noqa: PLC0415

    if study.endswith(".toml") or study in names("study_defs") or not is_place(study):
        refuse_other_modality(study, modality)
        return study, []
    from medfathom.terminal.init import written_text  # noqa: PLC0415

    path, written = definition_for(Path(study), modality)
    if written is None:
        return str(path), [f"definition: {path}"]
    return str(path), [written_text(written)]


def _raised(budget: BudgetConfig, halted: str) -> list[str]:
    """What has to be raised before the same command goes on: twice of what ended the run."""
    limits = {"patience": budget.patience, "device_hours": budget.device_hours}
    return [f"budget.{key}={2 * n:g}" for key, n in limits.items() if n and f"(budget.{key})" in halted]


def _again(study: str, sets: Sequence[str]) -> str:
    """The same command, without the password of a `resources.checkpoint_url`: logs keep what is printed."""
    from medfathom.urls import shown  # noqa: PLC0415  imports SQLAlchemy

    told = [shown(text) if "://" in text else text for text in sets]
    words = [word for text in told for word in ("--set", text)]
    return command("run", study, *words)
