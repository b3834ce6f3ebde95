"""What driver and workers tell each other. Imports no Ray."""

from __future__ import annotations

import errno
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medfathom.definitions.config import StudyConfig
from medfathom.errors import MedfathomError, NodeError, OutOfMemoryError
from medfathom.files import write_atomically
from medfathom.study.assignment import Assignment
from medfathom.study.precision import Precision
from medfathom.text import command
from medfathom.trial.record import TrialRecord

OF_THE_NODE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}
"""Errors of a machine, not of a trial: there the next trials would fail too, in seconds, until the budget is
spent."""

METRIC, TIME = "value", "epoch"
"""Keys of a result that Tune and its scheduler read."""
RESTS = "rests"
"""Key of what a worker tells that does not work."""


@dataclass(frozen=True)
class RunSettings:
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
    precision: Precision | None = None
    """What the study trains in; None: nothing is trained, or each node goes by `training.precision`."""
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Init -> architecture -> the folder of the model that it stands for, within the storage folder."""
    offers: Mapping[str, Any] = field(default_factory=dict)
    """On a cluster of others: these folders -> Ray's reference to their files (see `scheduling.sources`)."""
    work: Work | None = None
    """What turns an order into results; None: train. Tests and benchmarks give their own."""


@dataclass(frozen=True)
class Beside:
    """A trial that waits: its head is fitted beside that of one which begins, see `trial.stack`."""

    assignment: Assignment
    checkpoint: str
    """As in `Order`."""


@dataclass(frozen=True)
class Order:
    """One trial, as it is handed to a worker."""

    assignment: Assignment
    checkpoint: str
    """Name of its checkpoint, under the folder of checkpoints of whatever node runs it."""
    unfinished: tuple[int, ...] | None = None
    """Numbers of the trials under way and of those that wait, on a cluster of several nodes; None on one."""
    alone: bool = False
    """Whether it has a device to itself, as after it ran out of memory beside others."""
    refused: frozenset[str] = frozenset()
    """Ray's ids of the nodes that cannot take part and had it before."""
    gpus: float | None = None
    """Its share of a GPU where shares follow measured memory; None: what every trial takes."""
    beside: tuple[Beside, ...] = ()
    """Trials whose heads are fitted beside its own; each gets its own turn later."""
    over: bool = False
    """Whether another worker has the trial by now: who takes this order up again has nothing to do."""


@dataclass
class Parcel:
    """A folder's files on their way from a worker to the driver, which may be on another machine.

    Tune keeps each trial's last result for as long as it runs: `unpack` empties the parcel, so that no model
    stays in memory.
    """

    folder: Path
    """Where they go, on the driver's machine."""
    files: dict[str, bytes]
    """Path below the folder -> content."""

    @classmethod
    def pack(cls, source: Path, folder: Path) -> Parcel:
        """Read all files of a folder, and remove it."""
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        parcel = cls(folder, {path.relative_to(source).as_posix(): path.read_bytes() for path in paths})
        shutil.rmtree(source)
        return parcel

    def unpack(self) -> None:
        """Write the files. Raises OSError where the disk is full or the folder cannot be written to."""
        while self.files:
            name, content = self.files.popitem()
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)


@dataclass(frozen=True)
class EpochResult:
    """An epoch that a worker reports."""

    record: TrialRecord
    extra: Mapping[str, Any]
    """Further user attributes, as JSON values: what `confirm` adds."""
    validation: bytes = b""
    """With a search trial's last epoch: its validation predictions, see `trial.validation`."""
    parcel: Parcel | None = None
    """With a confirmed model's last epoch: the model."""

    def to_tune(self) -> dict[str, Any]:
        """As Tune takes it. The attributes are one string: Ray would flatten and copy a nested table."""
        return {
            METRIC: self.record.value,
            TIME: self.record.epochs,
            "finished": self.record.finished,
            "done": self.record.finished,
            "attributes": json.dumps({**self.record.attributes(), **self.extra}, allow_nan=False),
            "validation": self.validation,
            "parcel": self.parcel,
        }


@dataclass(frozen=True)
class Failure:
    """Why a worker goes on no further."""

    reason: str
    """In one line."""
    memory: bool = False
    """Whether memory ran out: the trial is tried once more, alone on its device."""
    mend: str = ""
    """Where not the trial failed but its node, which cannot take part in the study: what to do about it."""
    node: str = ""
    """Ray's id of that node, where it is one of several: its worker stays and rests (see `Rest`)."""
    identity: TrialRecord | None = None
    """What the trial is, where it failed before its first epoch and could be described."""

    @classmethod
    def of(cls, error: Exception, identity: TrialRecord | None = None) -> Failure:
        """From whatever a trial raised."""
        if isinstance(error, OSError) and error.errno in OF_THE_NODE:
            where = f"{error.filename}: " if error.filename else ""
            error = NodeError(
                f"node {platform.node()}: {where}{error.strerror}",
                f"mend this or take the node out of the cluster, then `{command('run')}` continues",
            )
        if isinstance(error, ImportError):
            error = of_the_environment(platform.node(), f"{type(error).__name__}: {error}")
        if isinstance(error, NodeError):
            return cls(" ".join(error.reason.split()), mend=error.mend, identity=identity)
        text = str(error) if isinstance(error, MedfathomError) else f"{type(error).__name__}: {error}"
        memory = isinstance(error, MemoryError | OutOfMemoryError)
        return cls(" ".join(text.split()), memory, identity=identity)

    def to_tune(self) -> dict[str, Any]:
        """As Tune takes it."""
        return {"failure": self, "finished": False, "done": not self.node}


def of_the_environment(node: str, reason: str) -> NodeError:
    """A node whose Python environment cannot run trials: the next ones would fail there too."""
    return NodeError(
        f"node {node}: no trial can begin there ({reason})",
        "mend its Python environment or take the node out of the cluster, then the same command continues",
    )


@dataclass(frozen=True)
class Rest:
    """A worker keeps its place on a node that cannot take part: Ray would give it to the next trial."""

    over: bool
    """Whether the node is tried again."""

    def to_tune(self) -> dict[str, Any]:
        """As Tune takes it."""
        return {RESTS: True, "finished": False, "done": self.over}


def said_last(error: BaseException) -> str:
    """The error's name and its last line: Ray puts a worker's own exception below its own words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__


@dataclass(frozen=True)
class Lost:
    """A worker that went without a word."""

    reason: str = "the worker was lost"
    """In one line."""
    began: bool = True
    """False: the worker was gone before it took this trial, which is then run anew."""


@dataclass(frozen=True)
class EpochNews:
    """An epoch as it reaches the driver."""

    epoch: int
    value: float
    """Of the study's objective."""
    finished: bool
    attributes: Mapping[str, object]
    validation: bytes = b""
    parcel: Parcel | None = None


def from_tune(result: Mapping[str, Any] | None) -> EpochNews | Failure | None:
    """What `to_tune` made of an epoch or a failure; None: Tune has nothing to tell of the trial."""
    if not result:
        return None
    if METRIC not in result:
        failure: Failure | None = result.get("failure")
        return failure
    attributes = json.loads(result["attributes"])
    return EpochNews(
        int(result[TIME]),
        float(result[METRIC]),
        bool(result["finished"]),
        attributes,
        result.get("validation", b""),
        result.get("parcel"),
    )


Result = EpochResult | Failure
Work = Callable[[RunSettings, Order], Iterator[Result]]
