"""Tables in narrow and wide windows and in pipes: names stay whole, numbers are never cut."""

import io
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from rich.table import Table

from made_confirmations import made_model, made_result
from medfathom.definitions.load import load_definition
from medfathom.forecast import Cost, forecast
from medfathom.scheduling.cluster import Node, slots_from
from medfathom.study.summary import TrialSummary
from medfathom.terminal import confirmation, show
from medfathom.terminal.forecast import forecast_text
from medfathom.terminal.output import print_text
from medfathom.terminal.progress import live_columns, short_architectures
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import short_strata, without_shared_prefix
from medfathom.trial.kinds import kinds_of

STRATA = [
    f"architecture=tf_efficientnet_lite{k} init={init} unfreeze_depth={k + 1}"
    for k, init in enumerate(("imagenet", "random", "imagenet-stats"))
]
SHORT = ["lite0 · imagenet · depth 1", "lite1 · random · depth 2", "lite2 · imagenet-stats · depth 3"]


def printed(table: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def confirmed() -> FittedTable:
    model = made_model()
    return confirmation._table([made_result(stratum=name, models=(model,), seed_sd=0.01) for name in STRATA])


@pytest.mark.parametrize("width", [80, 100, 120])
def test_confirmed_strata_have_their_names_in_one_line(width: int) -> None:
    lines = printed(confirmed(), width)
    assert all(len(line.rstrip()) <= width for line in lines)
    for name, line in zip(SHORT, lines[1:], strict=False):
        assert line.startswith(f"{name} ")
        assert "0.8000" in line
        assert "0.700 to 0.900" in line
    left_out = lines[-1].startswith("Not shown in this width: ")
    assert left_out == (width < 120)


def test_nothing_is_cut_in_a_pipe() -> None:
    lines = printed(confirmed(), 1000)
    assert [line.split("  ")[0].strip() for line in lines[1:]] == STRATA
    assert all(column.title in lines[0] for column in confirmation.COLUMNS)
    assert len(lines) == 4


def test_no_line_is_padded_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(box=None)
    table.add_row("note", "short")
    table.add_row("warning", "a finding that is longer than 80 columns: " + "x" * 80)
    print_text(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]
    assert [line.split()[0] for line in lines if line] == ["note", "warning"]
    assert lines[-1].endswith("x" * 80)


@pytest.mark.parametrize("objective", ["auc", "log_loss", "sensitivity_at_specificity:0.9"])
@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_best_trials_and_strata_of_show(width: int, objective: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(TrialSummary))
    some = {
        "auc": 0.9,
        "init": "imagenet",
        "unfreeze_depth": 3,
        "auc_ci_low": 0.85,
        "auc_ci_high": 0.95,
        "log_loss": 0.4,
        "objective_value": 0.7,
        "n_params": 4_000_000,
        "train_seconds": 70.0,
        "params": {"learning_rate": 1e-3},
    }
    best = [
        TrialSummary(**nothing | some | {"number": k, "architecture": f"tf_efficientnet_lite{k}"})
        for k in range(3)
    ]
    lines = printed(show._best_table(best, objective), width)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert ("objective" in lines[0]) == objective.startswith("sensitivity")
    assert all(f" lite{k} " in lines[k + 1] or f"tf_efficientnet_lite{k} " in lines[k + 1] for k in range(3))


def test_live_columns_do_not_jump() -> None:
    config = load_definition("demo")
    names = short_architectures(config)
    assert set(names.values()) == {"lite0", "lite1", "lite2"}
    columns = live_columns(config, names)
    few, many = FittedTable(columns), FittedTable(columns)
    few.add_row("0", "RUNNING", "lite0", "random", "0", "1e-3", "0/5", "", "", "0s")
    many.add_row("12", "COMPLETE", "lite2", "imagenet", "5", "3.1e-03", "5/5", "0.9876", "▁▂▃▄▅", "59m59s")
    for width in (60, 80, 100, 120):
        assert printed(few, width)[0].rstrip() == printed(many, width)[0].rstrip()


@given(st.lists(st.from_regex(r"[a-z]{1,3}(_[a-z0-9]{1,3}){0,3}", fullmatch=True), min_size=1, max_size=6))
def test_names_without_their_shared_prefix_stay_different(names: list[str]) -> None:
    short = without_shared_prefix(names)
    assert len(set(short)) == len(set(names))
    assert all(name.endswith(end) and end for name, end in zip(names, short, strict=True))


def test_short_strata_keep_other_keys_and_notes() -> None:
    assert short_strata(["architecture=vgg11 head_hidden=8 (trial 3)"]) == ["vgg11 · head_hidden 8 (trial 3)"]
    assert short_strata(["init=file:my weights.pth"]) == ["file:my weights.pth"]


@given(st.integers(10, 200), st.lists(st.text("ab_ ·", min_size=1, max_size=30), min_size=1, max_size=4))
def test_numbers_are_never_cut(width: int, names: list[str]) -> None:
    table = FittedTable(
        [Column("n", left=True, shorten=without_shared_prefix), Column("x"), Column("y", minor=1)]
    )
    for name in names:
        table.add_row(name, "0.9876", "0.1234")
    text = "\n".join(printed(table, width))
    if width >= 20:
        assert text.count("0.9876") == len(names)
    assert text.count("0.1234") in (0, len(names))


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_forecast_keeps_its_names(columns: int) -> None:
    config = load_definition("demo")
    kinds = kinds_of(config)
    cost = Cost(2.0, 0.01, 0.002, 0.005, 4, 10**9, None)
    found = forecast(config, kinds, {0: cost}, {"train": 240, "val": 180}, slots_from(config, [Node(2)]))
    console = Console(width=columns)
    with console.capture() as capture:
        console.print(forecast_text(found))
    lines = capture.get().splitlines()
    assert all(len(line) <= columns for line in lines)
    rows = [line for line in lines if "lite" in line]
    assert len(rows) == len(kinds)
    assert all(" imagenet " in row or " random " in row for row in rows)
    assert "35 of 36 kinds of trials were not measured" in capture.get().replace("\n", " ")
