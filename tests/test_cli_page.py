"""What `--json` prints is as its schema says, and docs/cli.md has its keys, and exit codes."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main

import making
from json_holds import holds
from made_confirmations import made_model, made_result
from medfathom import cli, errors
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.export import Exported
from medfathom.forecast import Forecast, KindForecast, Measured
from medfathom.models.domain_shift import DomainShift, LayerShift
from medfathom.reporting.filled import FilledItem, Report
from medfathom.reporting.record import Fact
from medfathom.terminal.progress import JsonLines
from medfathom.terminal.schemas import PRINTED, json_schema, keys_of
from medfathom.trial.kinds import Kind

TEXT = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")


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
    assert with_json == set(PRINTED) - {"show --definition", "plan --analysis", "data check STUDY OTHER"}


def test_the_page_has_the_keys_of_the_schemas() -> None:
    rows = []
    for command, printed in PRINTED.items():
        schema = json_schema(command)
        shape = "lines" if printed.lines else "list of objects" if "items" in schema else "object"
        keys = "; ".join(f"`{part}`" for part in keys_of(schema).split("; "))
        rows.append(f"| `{command}` | {shape} | {keys} |")
    assert "\n".join(rows) in TEXT, "docs/cli.md has another table; this is it:\n" + "\n".join(rows)


@pytest.mark.parametrize("command", PRINTED)
def test_schemas_are_schemas(command: str) -> None:
    schema = json_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in schema["$defs"].values():
        assert set(part.get("required", ())) <= set(part.get("properties", part.get("required", ())))


def test_a_wrong_value_does_not_hold() -> None:
    right = [{"name": "demo", "about": "a demo", "file": "demo.toml"}]
    holds("list studies", right)
    for wrong in ([right[0] | {"file": 1}], [right[0] | {"more": 1}], [{"name": "demo"}], right[0]):
        with pytest.raises(jsonschema.ValidationError):
            holds("list studies", wrong)


def test_exit_codes() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", TEXT, re.MULTILINE))
    codes = (errors.EXIT_FAILED, errors.EXIT_BAD_INPUT, errors.EXIT_INTERRUPTED)
    assert set(map(int, table)) == {0, *codes}


@pytest.mark.parametrize(
    "words", ["studies", "spaces", "samplers", "schedulers", "budgets", "datasets", "architectures resnet18"]
)
def test_lists(typed: Any, words: str) -> None:
    holds(f"list {words.split(maxsplit=1)[0]}", typed("list", *words.split()))


def test_schemas_are_printed(typed: Any) -> None:
    found = typed("list", "schemas")
    holds("list schemas", found)
    assert [row["command"] for row in found] == list(PRINTED)
    assert typed("list", "schemas", "data", "check") == json_schema("data check")


def test_a_command_without_json_is_refused(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["medfathom", "list", "schemas", "confrim"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "did you mean 'confirm'" in capsys.readouterr().err


def test_definitions(typed: Any, workdir: Path) -> None:
    holds("show --definition", typed("show", "demo", "--definition"))
    holds("init", typed("init", str(making.npz(workdir)), "--modality", "OCT"))


def test_what_is_printed_of_studies(tmp_path: Path) -> None:
    result = made_result(models=(made_model(),))
    summary = ConfirmationSummary(
        study="s", modality="OCT", unfinished=None, openings=(), strata=(result,), missing=(), failures=()
    )
    holds("confirm", summary.to_dict())
    holds("export", Exported(tmp_path, result, made_model(), None, whole_in_timm=True).to_dict())
    item = FilledItem("1", "Data", "How many images?", (Fact("60", "the study"),), ())
    holds("report", Report("s", "CLAIM", "", "", "", (item,), "").to_dict())
    holds("data shift", [DomainShift("resnet18", (LayerShift("bn", 4, 0.1),), 3).to_dict()])


def test_a_forecast() -> None:
    kind = Kind(TrialParams(architecture="resnet18"), ("imagenet",), 3)
    measured = Measured(1.0, 2.0, 0.0, "once", None, 1, 1, (1.0, 2.0))
    kinds = (KindForecast(kind, measured), KindForecast(kind, "out of memory", estimated=True))
    found = Forecast("s", "cpu", 1, 1, 1, kinds).to_dict()
    holds("plan", found)
    assert found["kinds"][1]["failure"] == "out of memory"


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
    for line in map(json.loads, stream.getvalue().splitlines()):
        holds("run", line)


@pytest.mark.large
def test_data_and_results(typed: Any) -> None:
    small = ["--set", "dataset.n_train=24", "--set", "dataset.n_val=18", "--set", "dataset.n_test=18"]
    holds("data check", typed("data", "check", "demo", *small))
    holds("data prepare", typed("data", "prepare", "demo", *small, "--samples", "s"))
    rows = ["architecture,dataset,modality,auc"]
    rows += [f"{name},d,CXR,0.{80 + k}" for k, name in enumerate(("vgg16", "resnet18", "densenet121"))]
    Path("t.csv").write_text("\n".join(rows))
    holds("analyze", typed("analyze", "--table", "t.csv", "--out", "report"))
    holds("plan --analysis", typed("plan", "--analysis", "--table", "t.csv"))
