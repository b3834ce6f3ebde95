"""Tensors as a file."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medfathom.models.tensor_file import save_tensors


def test_a_file_that_cannot_be_written_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    """safetensors has an error of its own: a full disk would fail a trial in place of its node."""
    with pytest.raises(OSError, match="No such file or directory") as caught:
        save_tensors(tmp_path / "gone" / "model.safetensors", {"a": torch.zeros(3)})
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "gone" / "model.safetensors")


def test_tensors_come_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"a": torch.arange(3)}, {"format": "pt"})
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
