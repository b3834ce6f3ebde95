"""`medfathom validate` in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from medfathom.errors import EXIT_BAD_INPUT, InputError
from medfathom.terminal.output import complain
from medfathom.validate import validate_study


def print_validity(studies: Sequence[str], overrides: Sequence[str], storage: str | None = None) -> int:
    """Check each study and print what would run, or the first thing that is wrong. The exit code."""
    failures = 0
    for name in studies:
        try:
            valid = validate_study(name, overrides, storage=storage)
        except InputError as error:
            failures += 1
            complain(str(error))
        else:
            print(f"{name}: valid; {valid.strata} strata, {valid.trials} trials")  # noqa: T201
            print(*(f"  {note}\n" for note in valid.notes), sep="", end="")  # noqa: T201
    return EXIT_BAD_INPUT if failures else 0
