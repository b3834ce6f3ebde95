"""A small search to be reported."""

from pathlib import Path

import pytest

from made_confirmations import small_search
from medfathom.definitions.config import StudyConfig


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return small_search()
