"""What is shown of a run, in each form."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.watcher import Watcher
from medfathom.terminal.progress import JsonLines, LiveTable, PlainLines
from medfathom.text import clock, spark


def play(watcher: Watcher) -> None:
    """A run of three trials: complete, pruned, failed."""
    config = load_definition("demo", ["sampler=random", "budget.trials=4"])
    with open_study(config, default_url(), "data") as driver:
        watcher.begin(config, driver, 2)
        ended = (("COMPLETE", 0.83, ""), ("PRUNED", 0.6, "stopped by asha"), ("FAIL", None, "out of memory"))
        for state, auc, reason in ended:
            assignment = driver.assign()
            assert assignment
            watcher.trial_begins(assignment)
            watcher.epoch(assignment.number, 1, 0.6)
            if state == "COMPLETE":
                watcher.epoch(assignment.number, 2, 0.83)
            watcher.trial_ends(assignment.number, state, auc, reason)  # type: ignore[arg-type]
        watcher.note("a note")
        watcher.end()


def test_plain_lines(workdir: Path) -> None:
    stream = io.StringIO()
    play(PlainLines(Console(file=stream, width=300)))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert "COMPLETE" in lines[0]
    assert "AUC 0.8300 at epoch 2/5" in lines[0]
    assert "out of memory" in lines[2]
    assert lines[3] == "a note"
    assert lines[4].startswith("3 of 4 trials (1 complete, 1 pruned, 1 fail) · highest AUC 0.8300 (trial 0)")


def test_json_lines(workdir: Path) -> None:
    stream = io.StringIO()
    play(JsonLines(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [e["event"] for e in events][:4] == ["begin", "trial_begins", "epoch", "epoch"]
    assert events[0]["trials"] == 4
    assert [e["state"] for e in events if e["event"] == "trial_ends"] == ["COMPLETE", "PRUNED", "FAIL"]


def test_live_table(workdir: Path) -> None:
    stream = io.StringIO()
    table = LiveTable(Console(file=stream, width=200, force_terminal=True))
    play(table)
    still = Console(width=200, file=io.StringIO(), record=True)
    still.print(table.render())
    text = still.export_text()
    for word in ("COMPLETE", "PRUNED", "FAIL", "0.8300", "2/5", "out of memory", "3 of 4 trials", "left"):
        assert word in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (3599.4, "59m59s"), (7800, "2h10m")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_spark_is_clipped_to_its_scale() -> None:
    assert spark([0.0, 0.5, 1.0, 2.0]) == "▁▁██"
