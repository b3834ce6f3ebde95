"""A data set as it lies on disk once prepared: what training, analysis and export read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.errors import DataError, HeldOutError
from medfathom.files import write_atomically
from medfathom.metrics.classification import TaskKind

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")

FACTS_FILE = "prepared.json"
"""Written last: a folder that has it is whole."""


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
        sizes: images per split, `test` too (a count is no peek).
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


def write_facts(data: PreparedData, **more: Any) -> None:
    """Write what makes a folder a prepared data set."""
    facts = {key: value for key, value in asdict(data).items() if key != "folder"}
    write_atomically(data.folder / FACTS_FILE, json.dumps({**facts, **more}, indent=1))


def read_facts(folder: Path) -> tuple[PreparedData, dict[str, Any]]:
    """The prepared data set in a folder, and everything its facts file says."""
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        own = {key: facts[key] for key in PreparedData.__dataclass_fields__ if key != "folder"}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: the prepared data set is damaged ({error}); delete the folder") from None
    own["class_names"] = tuple(own["class_names"])
    return PreparedData(folder=folder, **own), facts
