"""Every reader of strangers' files takes a damaged one or refuses it in one line: a few examples of each."""

import io
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from pyarrow import parquet

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


class NeedsMore:
    """Calls a function that checkpoints may call, with too few arguments."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return torch._utils._rebuild_tensor_v2, (1,)


def checkpoint_with_a_wrong_call() -> bytes:
    content = io.BytesIO()
    torch.save({"a": NeedsMore()}, content)
    return content.getvalue()


def array_whose_header_never_ends() -> bytes:
    """NumPy reads a header as Python's text."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 4\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("train_images.npy", "train_labels.npy"):
            start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            archive.writestr(name, start + header + bytes(48))
    return content.getvalue()


def parquet_text_that_is_none() -> bytes:
    ends, text = pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xf0\x28")
    content = io.BytesIO()
    parquet.write_table(pa.table({"path": pa.StringArray.from_buffers(1, ends, text)}), content)
    return content.getvalue()


def manifest_with_a_name_that_no_file_can_have() -> bytes:
    return b"%s  %s\n" % (b"0" * 64, b"m" * 300) + fuzzing.valid("model-manifest")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("npz", array_whose_header_never_ends),
        ("parquet", parquet_text_that_is_none),
        ("checkpoint", checkpoint_with_a_wrong_call),
        ("model-manifest", manifest_with_a_name_that_no_file_can_have),
    ],
)
def test_what_the_long_form_found_is_refused(kind: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    """By benchmarks/fuzzing.py --seed 7."""
    assert not fuzzing.survives(READERS[kind], tmp_path, make())
