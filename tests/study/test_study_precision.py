"""What a study trains in is decided once."""

from pathlib import Path

import pytest

from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.precision import PRECISION


@pytest.fixture
def driver(workdir: Path) -> Driver:
    with open_study(load_definition("demo", ["sampler=random"]), default_url(), "data") as opened:
        yield opened


def end(driver: Driver, **attributes: str) -> None:
    """A trial that ran its full length."""
    assignment = driver.assign()
    assert assignment
    driver.complete(assignment.number, 0.8, attributes)


def test_nothing_is_settled_before_the_first_trial(driver: Driver) -> None:
    assert driver.settled_precision() is None
    end(driver)
    assert driver.settled_precision() is None


def test_the_first_to_settle_it_decides(driver: Driver) -> None:
    assert driver.settle_precision("float32") == "float32"
    assert driver.settle_precision("bfloat16") == "float32"
    assert driver.study.user_attrs[PRECISION] == "float32"


def test_a_study_of_an_earlier_version_keeps_to_what_it_trained_in(driver: Driver) -> None:
    for compute_type in ("float32", "bfloat16", "bfloat16"):
        end(driver, compute_type=compute_type)
    assert PRECISION not in driver.study.user_attrs
    assert driver.settled_precision() == "bfloat16"
    assert driver.settle_precision("float32") == "bfloat16"
    assert driver.study.user_attrs[PRECISION] == "bfloat16"
