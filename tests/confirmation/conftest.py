"""A small search to be confirmed, and its data."""

from pathlib import Path

import pytest

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.files import home


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return load_definition(
        "demo",
        [
            "sampler=random",
            "space.architecture.role='scientific'",
            "space.architecture.choices=['tf_efficientnet_lite0', 'tf_efficientnet_lite1']",
            "space.init.value='imagenet'",
            "space.unfreeze_depth.role='scientific'",
            "space.unfreeze_depth.low=0",
            "space.unfreeze_depth.high=1",
            "budget.trials=8",
            "budget.epochs=2",
            "dataset.image_size=32",
            "dataset.n_train=24",
            "dataset.n_val=12",
            "dataset.n_test=12",
        ],
    )


@pytest.fixture
def data(config: StudyConfig) -> PreparedData:
    return prepare(config.dataset, home() / "cache")
