"""`medfathom init` in a terminal, and what `run FOLDER` says of the definition that it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from medfathom.errors import InputError
from medfathom.own_data import Written, write_definition
from medfathom.terminal.output import print_json
from medfathom.text import command
from medfathom.validate import check_source


class WrittenJson(TypedDict):
    """A definition that was written; `guessed` has each key that was guessed, and why it has its value."""

    definition: str
    study: str
    guessed: dict[str, str]


def print_definition_written(
    place: Path, *, out: Path | None, modality: str | None, label: str | None, as_json: bool
) -> None:
    """Write a definition and print what was found and guessed.

    Raises:
        InputError: nothing was written; or the definition is there, but its data set cannot be used as it is.
    """
    from medfathom.definitions.load import load_definition  # noqa: PLC0415

    written = write_definition(place, out=out, modality=modality, label=label)
    try:
        notes = check_source(load_definition(str(written.path)))
    except InputError as error:
        raise InputError(f"{written.path} was written, but its data cannot be used yet: {error}") from None
    if as_json:
        found: WrittenJson = {
            "definition": str(written.path),
            "study": written.name,
            "guessed": written.guessed,
        }
        print_json(found)
        return
    print(written_text(written))  # noqa: T201
    print(*(f"  {note}\n" for note in notes), sep="", end="")  # noqa: T201
    steps = ("validate", "run")
    print("Next:", *(command(step, written.path) for step in steps), sep="\n  ")  # noqa: T201


def written_text(written: Written) -> str:
    """What was found, and every guess with its evidence."""
    guesses = [f"  {key}: {' '.join(why.split())}" for key, why in written.guessed.items()]
    return "\n".join([f"{written.path}: {written.found}", *(["Guessed:", *guesses] if guesses else [])])
