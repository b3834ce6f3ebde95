"""The commands of README.md and of the tutorials run as they are printed, in a copy of the working folder.

Those that need the demo's study; tests/integration/test_tutorial.py has the others.
"""

import re
from pathlib import Path

import pytest

from pages import BLOCK, NOT_RUN, PAGES, blocks, run_as_printed, story, text_of, without_comment


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


@pytest.mark.slow
def test_the_pages_on_the_demo_run_as_printed(checkout: Path) -> None:
    said = run_as_printed(story(of_the_demo=True), checkout)
    assert "16 of 16 trials" in said
    assert "Next:\n  uv run medfathom show demo\n" in said
    assert (checkout / "storage" / "reports" / "demo" / "analysis.json").is_file()
