"""Help, version, quiet, completion and the log file: what every command has."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import optuna
import pytest
import typer
import typer.main

from medfathom import __version__, cli
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError, RunError
from medfathom.files import home
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.watcher import Watcher
from medfathom.terminal.log import logged, logged_steps, telling
from medfathom.terminal.options import (
    complete_architecture,
    complete_run_study,
    complete_set,
    complete_study,
    complete_trial,
)
from medfathom.terminal.progress import watcher_for_people
from medfathom.text import QUIET

ROOT = typer.main.get_command(cli.app)


def commands(
    command: click.Command = ROOT, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from commands(inner, (*words, name))
        else:
            yield (*words, name), inner


@pytest.mark.parametrize(
    ("words", "command"), list(commands()), ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_the_example_of_each_command_can_be_typed(words: tuple[str, ...], command: click.Command) -> None:
    start = f"**Example:** `medfathom {' '.join(words)}"
    assert command.epilog is not None
    assert command.epilog.startswith(start)
    arguments = command.epilog.removeprefix(start).removesuffix("`").split()
    command.make_context(" ".join(words), arguments)


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["medfathom", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"medfathom {__version__}\n"


@pytest.mark.parametrize("arguments", [("-q", "list", "studies"), ("list", "studies", "--quiet")])
def test_quiet_may_stand_anywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert typed(monkeypatch, *arguments) == 0
    assert "demo" in capsys.readouterr().out
    assert QUIET.get()
    assert type(watcher_for_people()) is Watcher
    assert typed(monkeypatch, "list", "studies") == 0
    assert not QUIET.get()


def test_names_are_completed(workdir: Path) -> None:
    Path("dem.toml").touch()
    assert complete_study("dem") == ["dem.toml", "demo"]
    assert "resnet18" in complete_architecture("resnet1")
    assert complete_architecture("nosuch") == []


def test_what_was_run_is_completed(workdir: Path) -> None:
    assert complete_run_study("other") == []
    assert complete_set("space=li") == ["space=lite"]
    config = load_definition("demo", ["sampler=random", "name=other"])
    with open_study(config, default_url(), "data") as driver:
        number = driver.assign()
        assert number is not None
        driver.study.add_trial(optuna.trial.create_trial(value=0.8))
    assert complete_run_study("other") == ["other"]
    context = typer.Context(typer.main.get_command(cli.app))
    context.params["study"] = "other"
    assert complete_trial(context, "") == ["1"]
    assert complete_trial(context, "2") == []


def _fails_early() -> None:
    with logged(Watcher(), "run") as log:
        log.note("something to know")
        raise RunError("the storage does not answer")


def test_bad_input_leaves_no_log(workdir: Path) -> None:
    with pytest.raises(RunError):
        _fails_early()
    assert list(workdir.iterdir()) == []


def test_an_end_before_the_beginning_names_no_log(workdir: Path) -> None:
    """Interrupted while Ray starts: `Log: None` was said."""
    told: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            told.append(text)

    with logged(Listening(), "run") as log:
        log.end()
    assert told == []


def test_a_run_leaves_a_log(workdir: Path) -> None:
    told: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            told.append(text)

    config = load_definition("demo", ["sampler=random"])
    with open_study(config, default_url(), "data") as driver, logged(Listening(), "run") as log:
        log.note("positive class: 'ill'")
        log.begin(config, driver, 2)
        assignment = driver.assign()
        assert assignment is not None
        log.trial_begins(assignment)
        log.epoch(0, 1, 0.75)
        log.trial_ends(0, "FAIL", None, "out of memory")
        log.end()
    (file,) = (home() / "logs").iterdir()
    assert told == ["positive class: 'ill'", f"Log: {file}"]
    lines = [line.partition(" ")[2] for line in file.read_text().splitlines()]
    assert "positive class: 'ill'" not in lines  # told before the run begins: about the data
    assert lines[0] == "run demo"
    assert f"medfathom {__version__}, torch " in lines[2]
    assert " CPUs, " in lines[3]
    assert '| name = "demo"' in lines
    first = next(i for i, line in enumerate(lines) if line.startswith("begin: 2 trials at once, budget 16"))
    assert lines[first + 1].startswith("trial 0 begins: {'architecture': ")
    assert lines[first + 2 :] == [
        "trial 0 epoch 1: validation AUC 0.750000",
        "trial 0 FAIL: no AUC; out of memory",
        "end",
    ]


def test_a_log_can_be_sent(workdir: Path) -> None:
    """Nothing of file names, patients and passwords: neither in what is told, nor in an error about data."""
    config = load_definition(
        "demo", ["resources.checkpoint_url=memory://me:se@cret@host/x", "sampler=random"]
    )

    def run() -> None:
        with open_study(config, default_url(), "data") as driver, logged(Watcher(), "run") as log:
            log.note("2 copies were left out, the first Doe_Jane/1.png")
            log.begin(config, driver, 1)
            log.note("checkpoints: no answer from s3://me:se@cret@host/x")
            raise DataError("Doe_Jane/1.png (line 3): truncated")

    with pytest.raises(DataError):
        run()
    text = "".join(file.read_text() for file in (home() / "logs").iterdir())
    assert "no answer from s3://me:***@host/x" in text
    assert 'checkpoint_url = "memory://me:***@host/x"' in text
    assert "error: about the data" in text
    assert "Doe" not in text
    assert "cret" not in text


def test_the_log_of_a_long_command_tells_its_steps(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_definition("demo")
    with logged_steps("data-prepare", "demo", config) as step:
        tell = telling(step, lambda *_: None)
        for done in (1, 2, 3):
            tell("prepare", done, 3)
    (file,) = (home() / "logs").glob("data-prepare-demo-*.log")
    lines = [line.partition(" ")[2] for line in file.read_text().splitlines()]
    assert lines[-3:] == ["prepare: 3", "prepare: done", "end"]
    assert capsys.readouterr().err == f"Log: {file}\n"
    with logged_steps("plan", "demo", config):
        pass  # nothing was begun
    assert not list((home() / "logs").glob("plan-*"))


def test_preparing_data_leaves_a_log(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["medfathom", "data", "prepare", "demo", "--set", "dataset.image_size=32"]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    (file,) = (home() / "logs").glob("data-prepare-demo-*.log")
    assert "prepare: done" in file.read_text()
