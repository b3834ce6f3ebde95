from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from medfathom.trial.checkpoint import Checkpoint, load_checkpoint, load_history, save_checkpoint
from medfathom.trial.record import TrialRecord

CPU = torch.device("cpu")
RECORD = TrialRecord(epochs=1, auc=0.1 + 0.2, versions={"torch": "2"}, per_class={"a": {"auc": 0.5}})


def checkpoint(value: float = 1.0) -> Checkpoint:
    network = {"head.weight": torch.full((2, 3), value)}
    return Checkpoint({"seed": 3}, [RECORD], 8, 1.5, network, {"state": {0: {"step": value}}})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "trial.ckpt"
    save_checkpoint(path, checkpoint())
    loaded = load_checkpoint(path, CPU)
    assert loaded is not None
    assert (loaded.identity, loaded.history) == ({"seed": 3}, [RECORD])
    assert (loaded.micro_batch, loaded.train_seconds) == (8, 1.5)
    assert loaded.optimizer == {"state": {0: {"step": 1.0}}}
    assert torch.equal(loaded.network["head.weight"], torch.ones(2, 3))
    assert load_history(path) == [RECORD]


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent", CPU) is None
    assert load_history(tmp_path / "absent") == []


def test_any_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "trial.ckpt"
    save_checkpoint(path, checkpoint())
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 97)]
    damaged += [whole[:n] + bytes([whole[n] ^ 64]) + whole[n + 1 :] for n in range(0, len(whole), 41)]
    damaged += [whole + b"\0", b"PK\x03\x04 something else"]
    for content in damaged:
        path.write_bytes(content)
        assert load_checkpoint(path, CPU) is None
        assert load_history(path) == []


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trial.ckpt"
    synced: dict[int, int] = {}
    fsync, replace = os.fsync, Path.replace
    renamed: list[os.stat_result] = []

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def rename(self: Path, target: Path) -> Path:
        renamed.append(self.stat())
        assert synced == {s.st_ino: s.st_size for s in renamed}
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(Path, "replace", rename)
    save_checkpoint(path, checkpoint())
    assert [s.st_size for s in renamed] == [path.stat().st_size]


def test_a_failed_write_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trial.ckpt"
    save_checkpoint(path, checkpoint(1.0))

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(path, checkpoint(2.0))
    loaded = load_checkpoint(path, CPU)
    assert loaded is not None
    assert float(loaded.network["head.weight"][0, 0]) == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["trial.ckpt"]
