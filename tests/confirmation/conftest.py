"""A small search to be confirmed, and its data."""

from pathlib import Path

import pytest

from made_confirmations import small_search
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.files import home


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return small_search()


@pytest.fixture
def data(config: StudyConfig) -> PreparedData:
    return prepare(config.dataset, home() / "cache")
