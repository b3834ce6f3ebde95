"""Checks before anything is spent that go by this machine, or not."""

import os
from pathlib import Path

import pytest

from medfathom.checks import check
from medfathom.definitions import StudyConfig, load_study
from medfathom.errors import DefinitionError


@pytest.fixture
def greedy(workdir: Path) -> StudyConfig:
    """A study that takes more CPUs for a trial than this machine has."""
    return load_study("demo", [f"resources.cpus_per_trial={(os.cpu_count() or 1) + 1}"])


def test_a_trial_fits_this_machine(greedy: StudyConfig) -> None:
    with pytest.raises(DefinitionError, match=r"resources\.cpus_per_trial = \d+, but this machine has \d+"):
        check(greedy)


def test_a_clusters_nodes_may_be_larger(greedy: StudyConfig) -> None:
    """The driver of a large cluster may be a small login node."""
    assert check(greedy, "10.0.0.7:6379") == check(load_study("demo", []))
