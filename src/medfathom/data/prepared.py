"""A data set as it lies on disk once prepared: what training, analysis and export read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfathom.data.sources.base import SHOWN_IGNORED, Ignored, Problem, told
from medfathom.errors import DataError, HeldOutError
from medfathom.files import write_atomically
from medfathom.metrics.cases import Cases, cases_of, combine_logits
from medfathom.metrics.classification import TaskKind, positive_class
from medfathom.text import command, number_of
from medfathom.units import Combine, Unit

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")

FACTS_FILE = "prepared.json"
"""Written last: a folder that has it is complete."""


@dataclass(frozen=True)
class Split:
    """The images of one split, in the source's order.

    Attributes:
        images: memory-mapped, uint8 or uint16, (n, image_size, image_size, channels).
        labels: int64 (n,), the class index, for binary and multiclass; uint8 (n, K), 0, 1 or
            `metrics.unknown.UNKNOWN`, for multilabel.
        groups: the patient or slide of each image, (n,), text; None where the source does not know it.
        names: file name or row of each image, as the source calls it.
        cases: the case (volume, slide) of each image, (n,), text; None where each image is judged by itself.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None
    names: Sequence[str]
    cases: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def clusters(self) -> NDArray[Any] | None:
        """What no split divides: the patient of each image, else its case; None where neither is known."""
        return self.cases if self.groups is None else self.groups

    @cached_property
    def units(self) -> Units:
        """What has a label and is judged: the images, or the cases."""
        if self.cases is None:
            return Units(self.labels, self.groups, list(self.names))
        found = cases_of(self.cases)
        groups = None if self.groups is None else self.groups[found.first]
        return Units(self.labels[found.first], groups, found.names.tolist(), found)

    def part(self, rows: NDArray[np.int64]) -> Split:
        """Some of the images, read into memory."""
        return Split(
            images=self.images[rows],
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            names=[self.names[row] for row in rows],
            cases=None if self.cases is None else self.cases[rows],
        )


@dataclass(frozen=True)
class Units:
    """What a split is judged by: its images, or its cases.

    Attributes:
        labels: as in `Split`, of the m units.
        groups: the patient of each unit, (m,), text; None where the source does not know it.
        names: of the images or cases.
        cases: which images belong to which case; None: each image is a unit.
    """

    labels: NDArray[Any]
    groups: NDArray[Any] | None
    names: Sequence[str]
    cases: Cases | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def logits(self, task: TaskKind, of_images: NDArray[np.floating], how: Combine) -> NDArray[np.floating]:
        """Logits of the units (m, outputs) from those of the images; see `combine_logits`."""
        return of_images if self.cases is None else combine_logits(task, of_images, self.cases.member, how)


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set. Small and picklable: memory maps are opened when a split is asked for.

    Attributes:
        folder: where the arrays and the manifest lie.
        fingerprint: SHA-256 over images, labels, groups and splits, hexadecimal.
        image_size: side of the square images, pixels.
        channels: 1 or 3.
        sizes: images per split, with `test` (its number of images gives nothing away).
        unit: what has one label and is judged.
        cases: cases per split; None where the unit is the image.
    """

    folder: Path
    fingerprint: str
    modality: str
    task: TaskKind
    class_names: tuple[str, ...]
    image_size: int
    channels: int
    sizes: dict[str, int]
    unit: Unit = "image"
    cases: dict[str, int] | None = None

    @property
    def positive(self) -> str | None:
        """The class that the metrics of two classes are about; None for other tasks."""
        return positive_class(self.task, self.class_names)

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
class JointData(PreparedData):
    """Several prepared data sets that one network is trained on: see `data.joint`.

    `class_names` are those of all, `NAME: CLASS`. `task` is what they are together: an image of one data set
    says nothing of the classes of the others, as an image with several labels of which some are not known.

    Attributes:
        names: of the data sets.
        parts: the data sets, each prepared by itself.
    """

    names: tuple[str, ...] = ()
    parts: tuple[PreparedData, ...] = ()

    def split(self, name: Literal["train", "val"]) -> Split:
        """The images of all data sets, one data set after the other.

        Labels are int64 (n, 1 + K): the place of the data set, then its own labels (K is the most that any
        data set has; the others are filled up with zeros).
        """
        own = [part.split(name) for part in self.parts]
        width = max(_as_columns(split.labels).shape[1] for split in own)
        labels = np.zeros((sum(map(len, own)), 1 + width), dtype=np.int64)
        start = 0
        for place, split in enumerate(own):
            columns = _as_columns(split.labels)
            labels[start : start + len(split), 0] = place
            labels[start : start + len(split), 1 : 1 + columns.shape[1]] = columns
            start += len(split)
        pairs = zip(self.names, own, strict=True)
        names = [f"{part}: {each}" for part, split in pairs for each in split.names]
        images = np.load(array_file(self.folder, name, "images"), mmap_mode="r", allow_pickle=False)
        return Split(images, labels, None, names)


def _as_columns(labels: NDArray[Any]) -> NDArray[Any]:
    return labels[:, None] if labels.ndim == 1 else labels


def parts_of(data: PreparedData) -> tuple[PreparedData, ...]:
    """The data sets of a study, one or several."""
    return data.parts if isinstance(data, JointData) else (data,)


def names_of(data: PreparedData) -> tuple[str, ...]:
    """What they are called where there are several; of one it is empty."""
    return data.names if isinstance(data, JointData) else ("",)


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
        ignored: files and rows that do not belong to the data set.
        notes: what its reader should know, a line each.
        given: splits that the source gave, the others being drawn; None: an older version prepared the data.
    """

    data: PreparedData
    left_out: Sequence[Problem] = ()
    leaks: Leaks = Leaks()
    dropped: Sequence[Problem] = ()
    ignored: Sequence[Ignored] = ()
    notes: Sequence[str] = ()
    given: Sequence[str] | None = None

    def lines(self) -> list[str]:
        """What the data set's reader should know, besides leaks."""
        return told_of(self.data.positive, self.left_out, self.ignored, self.notes)


def told_of(
    positive: str | None, left_out: Sequence[Problem], ignored: Sequence[Ignored], notes: Sequence[str]
) -> list[str]:
    """`told`, and after the positive class a line on the images and rows that cannot be used."""
    return [*told(positive, [], []), *_left_out_line(left_out), *told(None, ignored, notes)]


def _left_out_line(problems: Sequence[Problem]) -> list[str]:
    """How many were left out, and the first for each of a few reasons."""
    if not problems:
        return []
    first = list({problem.reason: problem for problem in reversed(problems)}.values())[::-1]
    shown = list(dict.fromkeys([*first, *problems]))[:SHOWN_IGNORED]
    rest = len(problems) - len(shown)
    more = f"; and {rest} more, which `{command('data', 'check')}` lists" if rest else ""
    number = number_of(len(problems), "image or row")
    return [f"left out: {number} that cannot be used: {'; '.join(map(str, shown))}{more}"]


def facts_lines(data: PreparedData) -> list[str]:
    """What a reader of a study's data should know, besides leaks; of several sets each line names one."""
    found = zip(names_of(data), parts_of(data), strict=True)
    return [
        f"{name}: {line}" if name else line
        for name, part in found
        for line in read_facts(part.folder).lines()
    ]


def count_cases(cases: NDArray[np.str_] | None, splits: NDArray[np.str_]) -> dict[str, int] | None:
    """Cases in each split, from the case and the split of each image; None where the unit is the image."""
    if cases is None:
        return None
    return {split: len(np.unique(cases[splits == split])) for split in SPLIT_NAMES}


def array_file(folder: Path, split: str, what: str) -> Path:
    """Where one array of a split lies: `what` is images, labels, groups or cases."""
    return folder / f"{split}_{what}.npy"


def names_file(folder: Path, split: str) -> Path:
    """Where the names of a split's images lie."""
    return folder / f"{split}_names.json"


def read_names(folder: Path, split: str) -> list[str]:
    """The names of a split's images; the test split's tell nothing of its labels."""
    names: list[str] = json.loads(names_file(folder, split).read_text(encoding="utf-8"))
    return names


def load_split(folder: Path, name: SplitName) -> Split:
    """Open one split's memory maps. For the test split go through `heldout.open_test`."""
    try:
        return Split(
            images=np.load(array_file(folder, name, "images"), mmap_mode="r", allow_pickle=False),
            labels=np.load(array_file(folder, name, "labels"), allow_pickle=False),
            groups=_texts(folder, name, "groups"),
            names=json.loads(names_file(folder, name).read_text(encoding="utf-8")),
            cases=_texts(folder, name, "cases"),
        )
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: the prepared data set is damaged ({error}); delete the folder") from None


def _texts(folder: Path, split: str, what: str) -> NDArray[Any] | None:
    """An array that not every data set has."""
    file = array_file(folder, split, what)
    return np.load(file, allow_pickle=False) if file.exists() else None


def write_facts(facts: Facts) -> None:
    """Write the file that makes a folder a prepared data set."""
    content = {key: value for key, value in facts.data.to_dict().items() if key != "folder"}
    content |= {
        "left_out": [asdict(problem) for problem in facts.left_out],
        "dropped": [asdict(problem) for problem in facts.dropped],
        "leakage": asdict(facts.leaks),
        "ignored": [asdict(ignored) for ignored in facts.ignored],
        "notes": list(facts.notes),
        "given": None if facts.given is None else list(facts.given),
    }
    write_atomically(facts.data.folder / FACTS_FILE, json.dumps(content, indent=1))


def read_facts(folder: Path) -> Facts:
    """Read what `write_facts` wrote.

    Raises:
        DataError: the file is absent or damaged.
    """
    try:
        content = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        # Sets that an earlier version prepared know of no cases.
        content = {"unit": "image", "cases": None, **content}
        own = {key: content[key] for key in PreparedData.__dataclass_fields__ if key != "folder"}
        own["class_names"] = tuple(own["class_names"])
        left_out, dropped = (
            [Problem(**problem) for problem in content.get(key, [])] for key in ("left_out", "dropped")
        )
        ignored = [Ignored(**ignored) for ignored in content.get("ignored", [])]
        data, leaks = PreparedData(folder=folder, **own), Leaks(**content["leakage"])
        notes, given = content.get("notes", []), content.get("given")
        return Facts(data, left_out, leaks, dropped, ignored, notes, given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: the prepared data set is damaged ({error}); delete the folder") from None
