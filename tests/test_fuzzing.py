"""Every reader of strangers' files takes a damaged one or refuses it in one line: a few examples of each."""

import random
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import fuzzing
from fuzzing import READERS
from medfathom.data.sources.npz import Archive
from medfathom.errors import DataError


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


def test_an_array_whose_header_never_ends_is_refused(tmp_path: Path) -> None:
    """NumPy reads a header as Python's text; found by benchmarks/fuzzing.py, seed 7."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 4\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("train_images.npy", content)
    with pytest.raises(DataError, match=r"array train_images is damaged"):
        Archive(tmp_path / "x.npz").head("train_images")
