"""What `medfathom data check` writes to a terminal."""

from pathlib import Path

from rich.console import Console

from medfathom.data.check.check import CheckReport
from medfathom.data.check.findings import Finding
from medfathom.data.check.near_copies import NearCopies
from medfathom.data.check.shortcuts import Shortcut
from medfathom.data.prepared import PreparedData
from medfathom.terminal.data import check_text


def test_names_with_brackets_are_shown_as_they_are() -> None:
    data = PreparedData(Path("d"), "0" * 64, "CXR", "binary", ("a", "b"), 32, 1, {"train": 2})
    findings = [
        Finding("error", "unusable", "1 images or rows cannot be used: set[red]/x[/red].png: damaged")
    ]
    shortcuts = [Shortcut("file and image size", 0.8123, 0.701, 0.912, 40)]
    report = CheckReport(data, findings, [], shortcuts, NearCopies([], 0.9, 0.5), 1.0)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(check_text(report, Path("reports/a-data.html")))
    text = capture.get()
    assert "set[red]/x[/red].png: damaged" in text
    assert "file and image size: AUC 0.812 [0.701, 0.912] (0.5 is chance)" in text
    assert "Page: reports/a-data.html" in text
