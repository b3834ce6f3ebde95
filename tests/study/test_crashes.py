"""A run that dies at any of its commits, on SQLite and PostgreSQL, is gone on with as if it had not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medfathom.study.connection import default_url

CRASHES = Path(__file__).parents[1] / "crashes.py"


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
@pytest.mark.slow
def test_whatever_commit_a_run_dies_at(workdir: Path, server: bool, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgresql") if server else default_url()
    script = [sys.executable, str(CRASHES), url, "2", "5"]
    ran = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    crashes = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [crash["died"] for crash in crashes] == [99] * (len(crashes) - 1) + [0]
    assert len(crashes) > 8
    for crash in crashes:
        trials, at = crash["trials"], f"killed at commit {crash['commit']}"
        assert [t["number"] for t in trials] == [0, 1, 2, 3], at
        assert [t["state"] for t in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"], at
        assert len({str(t["params"]) for t in trials}) == 4, at
        for trial in trials:
            assert trial["steps"] == [1, 2][: trial["attributes"]["epochs"]], at
            assert trial["attributes"]["stop_reason"], at
        # A driver that dies between asking and naming the stratum leaves a trial that others cannot count
        # while its lease lasts.
        assert len({t["attributes"]["stratum"] for t in trials}) >= 4 - server, at
