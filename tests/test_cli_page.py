"""docs/cli.md holds: the keys of every `--json`, the exit codes, and that no command is forgotten."""

import io
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

import making
from made_confirmations import made_model, made_result
from medfathom import cli, errors
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.definitions.load import load_definition
from medfathom.export import Exported
from medfathom.models.domain_shift import DomainShift
from medfathom.plan import Forecast
from medfathom.reporting.filled import Report
from medfathom.study.summary import StudySummary
from medfathom.terminal.progress import JsonLines

TEXT = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`.*`) \| (object|lines|list of objects) \| (.*) \|$", re.MULTILINE)


def page() -> dict[str, tuple[set[str], set[str]]]:
    """Command -> its keys, and those that it has under some conditions only (after a semicolon)."""
    found = {}
    for commands, _, keys in ROW.findall(TEXT):
        always, _, sometimes = keys.partition(";")
        for name in re.findall(r"`([^`]+)`", commands):
            found[name] = (set(re.findall(r"`(\w+)`", always)), set(re.findall(r"`(\w+)`", sometimes)))
    return found


PAGE = page()


def holds(command: str, value: dict[str, Any]) -> None:
    always, sometimes = PAGE[command]
    assert always <= set(value) <= always | sometimes, command


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workdir: Path) -> Any:
    """Types a command with `--json`: what it prints."""

    def type_(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["medfathom", *arguments, "--json"])
        with pytest.raises(SystemExit):
            cli.main()
        return json.loads(capsys.readouterr().out)

    return type_


def test_every_command_with_json_is_on_the_page() -> None:
    root = typer.main.get_command(cli.app)
    with_json = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        for full, each in (
            {f"{name} {k}": v for k, v in inner.items()}.items() if inner else [(name, command)]
        ):
            if any("--json" in parameter.opts for parameter in each.params):
                with_json.add(full)
    assert with_json == set(PAGE) - {"show --definition"}


def test_exit_codes() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", TEXT, re.MULTILINE))
    codes = (errors.EXIT_FAILED, errors.EXIT_BAD_INPUT, errors.EXIT_INTERRUPTED)
    assert set(map(int, table)) == {0, *codes}


@pytest.mark.parametrize(
    "words", ["studies", "spaces", "samplers", "schedulers", "budgets", "datasets", "architectures resnet18"]
)
def test_lists(typed: Any, words: str) -> None:
    holds(f"list {words.split(maxsplit=1)[0]}", typed("list", *words.split())[0])


def test_definitions(typed: Any, workdir: Path) -> None:
    holds("show --definition", typed("show", "demo", "--definition"))
    holds("init", typed("init", str(making.npz(workdir)), "--modality", "OCT"))


def test_what_is_printed_of_studies(tmp_path: Path) -> None:
    holds("show", dict.fromkeys(field.name for field in fields(StudySummary)))
    result = made_result(models=(made_model(),))
    summary = ConfirmationSummary(
        study="s", modality="OCT", unfinished=None, openings=(), strata=(result,), missing=(), failures=()
    )
    holds("confirm", summary.to_dict())
    holds("export", Exported(tmp_path, result, made_model(), None, whole_in_timm=True).to_dict())
    holds("report", Report("s", "CLAIM", "", "", "", (), "").to_dict())
    holds("plan", Forecast("s", "cpu", 1, 1, 1, ()).to_dict())
    holds("data shift", DomainShift("resnet18", (), 3).to_dict())


def test_the_lines_of_run() -> None:
    stream = io.StringIO()
    watcher = JsonLines(stream)

    class _Driver:
        budget = 3

    watcher.begin(load_definition("demo"), _Driver(), 2)  # type: ignore[arg-type]
    watcher.epoch(0, 1, 0.5)
    watcher.trial_ends(0, "FAIL", None, "out of memory")
    watcher.note("a note")
    watcher.end()
    known = {
        event: set(re.findall(r"`(\w+)`", keys))
        for event, keys in re.findall(r"`(\w+)`:((?: `\w+`,?)+)", ROW.findall(TEXT)[1][2])
    }
    for line in map(json.loads, stream.getvalue().splitlines()):
        assert set(line) - {"event"} == known.get(line["event"], set())


@pytest.mark.large
def test_data_and_results(typed: Any) -> None:
    small = ["--set", "dataset.n_train=24", "--set", "dataset.n_val=18", "--set", "dataset.n_test=18"]
    holds("data check", typed("data", "check", "demo", *small))
    holds("data prepare", typed("data", "prepare", "demo", *small, "--samples", "s"))
    rows = ["architecture,dataset,modality,auc"]
    rows += [f"{name},d,CXR,0.{80 + k}" for k, name in enumerate(("vgg16", "resnet18", "densenet121"))]
    Path("t.csv").write_text("\n".join(rows))
    holds("analyze", typed("analyze", "--table", "t.csv", "--out", "report"))
