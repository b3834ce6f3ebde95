"""A data set as it lies on disk once prepared: what training, analysis and export read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import Problem
from medfathom.errors import DataError, HeldOutError
from medfathom.files import write_atomically
from medfathom.metrics.classification import TaskKind

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")

FACTS_FILE = "prepared.json"
"""Written last: a folder that has it is complete."""


@dataclass(frozen=True)
class Split:
    """The images of one split, in the source's order.

    Attributes:
        images: memory-mapped, uint8 or uint16, (n, image_size, image_size, channels).
        labels: int64 (n,), the class index, for binary and multiclass; uint8 (n, K), 0 or 1, for multilabel.
        groups: the patient or slide of each image, (n,), text; None where the source does not know it.
        names: file name or row of each image, as the source calls it.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set. Small and picklable: memory maps are opened when a split is asked for.

    Attributes:
        folder: where the arrays and the manifest lie.
        fingerprint: SHA-256 over images, labels, groups and splits, hexadecimal.
        image_size: side of the square images, pixels.
        channels: 1 or 3.
        sizes: images per split, with `test` (its number of images gives nothing away).
    """

    folder: Path
    fingerprint: str
    modality: str
    task: TaskKind
    class_names: tuple[str, ...]
    image_size: int
    channels: int
    sizes: dict[str, int]

    def split(self, name: Literal["train", "val"]) -> Split:
        """The training or the validation split.

        Raises:
            HeldOutError: for `test`, which `heldout.open_test` alone opens.
        """
        if name not in ("train", "val"):
            raise HeldOutError(
                f"split {name!r}: only train and val can be read; `confirm` opens the test split"
            )
        return load_split(self.folder, name)

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {**asdict(self), "folder": str(self.folder), "class_names": list(self.class_names)}


@dataclass(frozen=True)
class Leaks:
    """What is in several splits, counted by splits ("train and test").

    Attributes:
        images: sets of exact copies.
        groups: patients or slides.
        near: pairs of near copies; None: they were not looked for.
    """

    images: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    near: dict[str, int] | None = None


@dataclass(frozen=True)
class Facts:
    """What preparation found out.

    Attributes:
        data: what was prepared.
        left_out: files or rows that cannot be used.
        leaks: what is in several splits.
        dropped: copies of other images that `drop_copies` left out.
    """

    data: PreparedData
    left_out: Sequence[Problem] = ()
    leaks: Leaks = Leaks()
    dropped: Sequence[Problem] = ()


def array_file(folder: Path, split: str, what: str) -> Path:
    """Where one array of a split lies: `what` is images, labels or groups."""
    return folder / f"{split}_{what}.npy"


def names_file(folder: Path, split: str) -> Path:
    """Where the names of a split's images lie."""
    return folder / f"{split}_names.json"


def load_split(folder: Path, name: SplitName) -> Split:
    """Open one split's memory maps. For the test split go through `heldout.open_test`."""
    groups = array_file(folder, name, "groups")
    try:
        return Split(
            images=np.load(array_file(folder, name, "images"), mmap_mode="r", allow_pickle=False),
            labels=np.load(array_file(folder, name, "labels"), allow_pickle=False),
            groups=np.load(groups, allow_pickle=False) if groups.exists() else None,
            names=json.loads(names_file(folder, name).read_text(encoding="utf-8")),
        )
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: the prepared data set is damaged ({error}); delete the folder") from None


def write_facts(facts: Facts) -> None:
    """Write the file that makes a folder a prepared data set."""
    content = {key: value for key, value in facts.data.to_dict().items() if key != "folder"}
    content |= {
        "left_out": [asdict(problem) for problem in facts.left_out],
        "dropped": [asdict(problem) for problem in facts.dropped],
        "leakage": asdict(facts.leaks),
    }
    write_atomically(facts.data.folder / FACTS_FILE, json.dumps(content, indent=1))


def read_facts(folder: Path) -> Facts:
    """Read what `write_facts` wrote.

    Raises:
        DataError: the file is absent or damaged.
    """
    try:
        content = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        own = {key: content[key] for key in PreparedData.__dataclass_fields__ if key != "folder"}
        own["class_names"] = tuple(own["class_names"])
        left_out, dropped = (
            [Problem(**problem) for problem in content[key]] for key in ("left_out", "dropped")
        )
        return Facts(PreparedData(folder=folder, **own), left_out, Leaks(**content["leakage"]), dropped)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: the prepared data set is damaged ({error}); delete the folder") from None
