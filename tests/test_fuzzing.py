"""Every reader of strangers' files takes a damaged one or refuses it in one line: a few examples of each."""

import random
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import fuzzing
from fuzzing import READERS


@pytest.mark.parametrize("kind", READERS)
def test_the_valid_file_is_read(kind: str, tmp_path: Path) -> None:
    assert fuzzing.survives(READERS[kind], tmp_path, fuzzing.valid(kind)) or kind == "model-manifest"


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.filterwarnings("ignore")
@given(draw=fuzzing.damages)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_read(kind: str, tmp_path: Path, draw: random.Random) -> None:
    reader = READERS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzing.survives(reader, tmp_path, fuzzing.damaged(fuzzing.valid(kind), draw))
