"""What driver and workers tell each other. Imports no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfathom.definitions.config import StudyConfig
from medfathom.errors import MedfathomError, OtherDataError, OutOfMemoryError

Work = Callable[["Plan", Mapping[str, Any]], Iterator[dict[str, Any]]]


METRIC, TIME = "auc", "epoch"


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know of the study. It prepares data itself, on its own node."""

    config: StudyConfig
    storage: Path
    """The driver's storage folder; a node may have its own (see `scheduling.worker.node_storage`)."""
    threads: int
    device: str
    folder: Path
    """The driver's working folder: relative paths of the definition start there (Tune changes a worker's)."""
    fingerprint: str
    """Of the study's data: a worker trains on no other."""
    work: Work | None = None
    """What turns an assignment into results; None: train. Tests and benchmarks give their own."""


def failure_result(error: Exception) -> dict[str, Any]:
    """A trial's failure as a result: its reason in one line."""
    text = str(error) if isinstance(error, MedfathomError) else f"{type(error).__name__}: {error}"
    return {
        "failure": " ".join(text.split()),
        "memory": isinstance(error, MemoryError | OutOfMemoryError),
        "other_data": isinstance(error, OtherDataError),
        "finished": False,
        "done": True,
    }
