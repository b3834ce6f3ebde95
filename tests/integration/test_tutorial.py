"""The commands of the tutorials that work without the demo's study run as they are printed."""

from pathlib import Path

import pytest

from pages import run_as_printed, story


@pytest.mark.slow
def test_the_pages_on_other_data_run_as_printed(checkout: Path) -> None:
    said = run_as_printed(story(of_the_demo=False), checkout)
    assert "4 of 4 trials" in said
    assert (checkout / "report" / "report.html").is_file()
