"""What the documents say can be typed: every command is one that the program has, run through uv."""

import re
from pathlib import Path

import pytest

from medfathom.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    file
    for place in ("*.md", "docs/*.md", "search/*.md", "study_defs/*")
    for file in REPOSITORY.glob(place)
    if file.name != "CHANGELOG.md"
)
COMMANDS = {
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback
}
GROUPS = {str(group.name): group.typer_instance for group in app.registered_groups}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_command_is_run_by_uv(document: Path) -> None:
    """A fresh clone has no `medfathom` on PATH."""
    names = "|".join([*COMMANDS, *GROUPS])
    plain = re.compile(rf"(?<!uv run )(?<![\w.-])medfathom (?={names}|--)")
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if plain.search(line)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_command_exists(document: Path) -> None:
    typed = re.findall(r"uv run medfathom ([a-z-]+)(?: ([a-z]+))?", document.read_text(encoding="utf-8"))
    for name, second in typed:
        assert name in COMMANDS | set(GROUPS) or name.startswith("--")
        if name in GROUPS and second:
            assert second in {command.name for command in GROUPS[name].registered_commands}
