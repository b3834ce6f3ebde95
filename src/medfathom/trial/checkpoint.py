"""A trial's checkpoint: one small file, replaced whole after every epoch.

It holds what is trained (not the frozen prefix), the optimizer, and every record so far, as text. A file that
is torn or foreign is not trusted: it reads as no checkpoint.
"""

from __future__ import annotations

import io
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medfathom.files import write_atomically
from medfathom.trial.record import TrialRecord

_MAGIC = b"medfathom-checkpoint-2\n"
"""The number rises with the form. A trial whose checkpoint has an older one begins anew."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch."""

    identity: Mapping[str, object]
    """What the trial is: its parameters, seed, length and data. JSON values."""
    history: list[TrialRecord]
    """One record for each epoch so far."""
    micro_batch: int
    """Images of a batch worked on at once: fewer than the batch where memory ran out."""
    train_seconds: float
    network: Mapping[str, Tensor]
    """What is trained of the network."""
    optimizer: dict[str, Any]
    """The optimizer's `state_dict`."""
    validation: bytes = b""
    """After the last epoch: what the trial says of the validation images, see `trial.validation`."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace a trial's checkpoint: a kill or a power cut leaves the old one or the new."""
    header = {
        "identity": checkpoint.identity,
        "history": [record.attributes() for record in checkpoint.history],
        "micro_batch": checkpoint.micro_batch,
        "train_seconds": checkpoint.train_seconds,
        "validation": b64encode(checkpoint.validation).decode(),
    }
    buffer = io.BytesIO()
    torch.save({"network": dict(checkpoint.network), "optimizer": checkpoint.optimizer}, buffer)
    text = json.dumps(header).encode()
    tensors = buffer.getbuffer()
    checksum = zlib.crc32(tensors, zlib.crc32(text))
    sizes = f"{len(text)} {len(tensors)} {checksum}\n".encode()
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines((_MAGIC, sizes, text, tensors))

    write_atomically(path, write)


def _read(path: Path) -> tuple[dict[str, Any], bytes] | None:
    """Header and tensors' bytes; None for a file that is absent, torn or something else."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head, _, rest = content.removeprefix(_MAGIC).partition(b"\n")
    try:
        text_size, tensors_size, checksum = (int(part) for part in head.split())
    except ValueError:
        return None
    whole = (
        content.startswith(_MAGIC) and len(rest) == text_size + tensors_size and zlib.crc32(rest) == checksum
    )
    return (json.loads(rest[:text_size]), rest[text_size:]) if whole else None


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """The checkpoint, its tensors on the device; None where there is none to trust."""
    parts = _read(path)
    if parts is None:
        return None
    header, tensors = parts
    state = torch.load(io.BytesIO(tensors), map_location=device, weights_only=True)
    history = [TrialRecord.of(record) for record in header["history"]]
    return Checkpoint(
        header["identity"],
        history,
        header["micro_batch"],
        header["train_seconds"],
        state["network"],
        state["optimizer"],
        b64decode(header.get("validation", "")),
    )


def load_history(path: Path, identity: Mapping[str, object] | None = None) -> list[TrialRecord]:
    """The records of the epochs that a checkpoint holds; empty where there is none to trust.

    With `identity` another trial's checkpoint is none either.
    """
    parts = _read(path)
    if parts is None or (identity is not None and parts[0]["identity"] != identity):
        return []
    return [TrialRecord.of(record) for record in parts[0]["history"]]


def load_validation(path: Path) -> bytes:
    """The validation predictions that a finished trial's checkpoint holds; empty where there are none."""
    parts = _read(path)
    return b"" if parts is None else b64decode(parts[0].get("validation", ""))
