"""Hints: a command as the user can paste it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.text import ADDRESS_GIVEN, STORAGE_GIVEN, command, printable


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH; not under `uv run`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    return tmp_path


def install(folder: Path) -> None:
    program = folder / "medfathom"
    program.write_text("")
    program.chmod(0o755)


def test_a_program_on_path_is_named_plainly(path: Path) -> None:
    install(path)
    assert command("show", "demo") == "medfathom show demo"


def test_under_uv_the_command_is_run_by_uv(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path)
    monkeypatch.setenv("UV", "/somewhere/uv")
    assert command("show", "demo") == "uv run medfathom show demo"


def test_a_program_that_is_not_on_path_is_run_by_uv(path: Path) -> None:
    assert command("show", "demo") == "uv run medfathom show demo"


def test_a_program_started_as_a_module_is_started_so_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(path)
    monkeypatch.setattr("sys.argv", ["/somewhere/medfathom/__main__.py", "run"])
    monkeypatch.setattr("sys.orig_argv", ["python3.11", "-m", "medfathom", "run"])
    assert command("show", "demo") == "python3.11 -m medfathom show demo"


def test_words_are_quoted_for_the_shell(path: Path) -> None:
    install(path)
    assert command("run", Path("my study.toml"), "--set", "space.init.choices=['random']") == (
        """medfathom run 'my study.toml' --set 'space.init.choices=['"'"'random'"'"']'"""
    )


def test_a_given_storage_goes_on_without_its_password(path: Path) -> None:
    install(path)
    token = STORAGE_GIVEN.set("postgresql+psycopg://bob:s3cret@db/x")
    try:
        assert command("confirm", "demo") == (
            "medfathom confirm demo --storage 'postgresql+psycopg://bob:***@db/x'"
        )
        assert command("data", "check", "demo") == "medfathom data check demo"  # takes no --storage
        assert command("--help") == "medfathom --help"
    finally:
        STORAGE_GIVEN.reset(token)


def test_a_given_address_goes_to_commands_that_take_it(path: Path) -> None:
    install(path)
    token = ADDRESS_GIVEN.set("ray://head:10001")
    try:
        assert command("confirm", "demo") == "medfathom confirm demo --address ray://head:10001"
        assert command("show", "demo") == "medfathom show demo"
    finally:
        ADDRESS_GIVEN.reset(token)


@given(st.binary(max_size=30))
def test_any_file_name_is_one_line_of_utf8(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert len(shown.encode("utf-8").splitlines()) <= 1
    assert printable(shown) == shown


def test_printable_names_stay_as_they_are() -> None:
    for name in ("Größe 1.png", "شعاع\u200c.png", "a\\b.png", "a\u202fb.png"):
        assert printable(name) == name
    assert printable("Gr\udcf6\udcdfe\n\t\x1b.png") == r"Gr\xf6\xdfe\n\t\x1b.png"
