"""The commands of README.md and of the tutorials run as they are printed, in a copy of the working folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

NOT_RUN = {
    "uv run tests/gate.py": "would run this test again",
    "uv run medfathom run demo --storage postgresql+psycopg://user@host/medfathom": "wants a server",
    "uv run medfathom plan oct-scans.toml": "takes minutes; tests/test_plan.py runs it on a small study",
    "uv run medfathom submit demo --slurm --minutes 240 --gpus 1 --cpus 8 --memory 32": "wants Slurm",
    "uv run ray start --head --port 6379": "wants several machines",
    "uv run ray start --address HEAD:6379": "wants several machines",
    "uv run medfathom run demo --address HEAD:6379": "wants several machines",
}
"""Lines that cannot run here, with the reason."""

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"sh": ["bash", "-euo", "pipefail"], "python": ["uv", "run", "python"]}


PAGES = ("README.md", "docs/tutorial.md", "docs/analysis.md", "docs/cluster.md", "docs/python.md")
"""In the order in which they are read; a later page has what the commands of an earlier one left."""


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    """Language and text of every fenced block that is not output; a block that repeats another comes once."""
    return list(dict.fromkeys(block for page in PAGES for block in BLOCK.findall(text_of(page))))


def story(*, of_the_demo: bool) -> list[tuple[str, str]]:
    """The blocks that need the demo's study, or the others: neither needs what the other leaves."""
    return [block for block in blocks() if ("demo" in block[1]) == of_the_demo]


def without_comment(line: str) -> str:
    return line.partition("  #")[0].strip()


def runnable(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if without_comment(line) not in NOT_RUN)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a user has before the first command; `uv run` takes the environment of the tests."""
    folder = tmp_path / "checkout"
    for name in ("study_defs", "search"):
        shutil.copytree(REPOSITORY / name, folder / name)
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\n[ "$1" = run ] || exit 64\nshift\nexport UV="$0"\nexec "$@"\n')
    uv.chmod(0o755)
    places = [str(uv.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    monkeypatch.delenv("MEDFATHOM_STORAGE", raising=False)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_in_a_block_that_runs(page: str) -> None:
    text = text_of(page)
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)[::2]
    assert set(fences) <= {"", "sh", "python"}
    outputs = re.findall(r"^```\n(.*?)^```$", BLOCK.sub("", text), re.MULTILINE | re.DOTALL)
    assert all(not output.startswith("uv run") for output in outputs)


def test_lines_that_do_not_run_here_are_in_the_pages() -> None:
    lines = {without_comment(line) for _, text in blocks() for line in text.splitlines()}
    assert set(NOT_RUN) <= lines


def run_as_printed(blocks: list[tuple[str, str]], checkout: Path) -> str:
    """What the blocks print, one after the other; each line must succeed."""
    said = ""
    for language, text in blocks:
        script = checkout.parent / "script"
        script.write_text(runnable(text))
        done = subprocess.run(
            [*PROGRAMS[language], str(script)],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{runnable(text)}\n{done.stdout}"
        said += done.stdout
    return said


@pytest.mark.slow
def test_the_pages_on_the_demo_run_as_printed(checkout: Path) -> None:
    said = run_as_printed(story(of_the_demo=True), checkout)
    assert "16 of 16 trials" in said
    assert "Next:\n  uv run medfathom show demo\n" in said
    assert (checkout / "storage" / "reports" / "demo" / "analysis.json").is_file()


@pytest.mark.slow
def test_the_pages_on_other_data_run_as_printed(checkout: Path) -> None:
    said = run_as_printed(story(of_the_demo=False), checkout)
    assert "4 of 4 trials" in said
    assert (checkout / "report" / "report.html").is_file()
