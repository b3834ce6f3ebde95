"""What is known of architectures without building them: a table that travels with the program.

Nothing here imports torch or timm, unless an architecture is asked for that the table does not have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medfathom.errors import ModelError

TABLE = Path(__file__).with_name("catalog.json")
"""Written by `python -m medfathom.models.catalog_build`."""


@dataclass(frozen=True)
class SizeRule:
    """The image sides in pixels that an architecture takes: multiples of `step`, from `smallest` on."""

    smallest: int
    step: int

    def takes(self, size: int) -> bool:
        """Whether an image of this side can be taken."""
        return size >= self.smallest and size % self.step == 0

    def nearest(self, size: int) -> list[int]:
        """The nearest sides that can be taken: below (if there is one) and above."""
        below = size // self.step * self.step
        return [s for s in (below, below + self.step) if s >= self.smallest] or [self.smallest]

    def __str__(self) -> str:
        what = "any size" if self.step == 1 else f"multiples of {self.step} px"
        return f"{what} from {self.smallest} px on"


@dataclass(frozen=True)
class Pretrained:
    """One set of pretrained weights.

    Attributes:
        tag: timm's name for it; "" where there is but one without a name.
        hub: repository on the Hugging Face hub.
        hub_file: the file there; None for timm's usual name.
        file: what timm's own download is called in torch's cache.
    """

    tag: str
    hub: str | None = None
    hub_file: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class ArchitectureFacts:
    """An architecture as timm ships it, with its own classifier, at its native size.

    Attributes:
        family: timm's module.
        depth: weighted layers (conv, linear) on the longest path from input to logits.
        macs: multiply-accumulates for one image.
        native_size: side in pixels of the images that its usual weights were trained on.
        pretrained: sets of weights, the usual one first.
        sizes: image sizes it can take.
        groups: modules and tensors of each of the five layer groups.
    """

    name: str
    family: str
    n_params: int
    depth: int
    macs: int
    native_size: int
    pretrained: tuple[Pretrained, ...]
    sizes: SizeRule
    groups: tuple[tuple[str, ...], ...]

    @property
    def pretrained_tags(self) -> list[str]:
        """Names of its sets of pretrained weights, the usual one first."""
        return [p.tag for p in self.pretrained]


def shipped() -> list[ArchitectureFacts]:
    """Every architecture of the table, in its order: by family, then by number of parameters."""
    return list(_table().values())


def lookup(name: str) -> ArchitectureFacts:
    """Facts of any timm architecture: from the table, else measured without downloading anything.

    Raises:
        ModelError: timm has no such architecture (with the nearest names), or it cannot be traced or cut.
    """
    return find_shipped(name) or _measured(name)


def find_shipped(name: str) -> ArchitectureFacts | None:
    """The table's row, if it has one."""
    return _table().get(name)


def check_architecture(name: str, image_size: int) -> None:
    """Raise ModelError unless the architecture is known and takes images of this side."""
    sizes = lookup(name).sizes
    if not sizes.takes(image_size):
        near = " or ".join(str(s) for s in sizes.nearest(image_size))
        raise ModelError(
            f"{name} cannot take {image_size} px images: it takes {sizes}; the nearest is {near}"
        )


@cache
def _table() -> dict[str, ArchitectureFacts]:
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else []
    return {row["name"]: from_json(row) for row in rows}


def from_json(row: dict[str, Any]) -> ArchitectureFacts:
    """A row of the table."""
    return ArchitectureFacts(
        **{
            **row,
            "pretrained": tuple(Pretrained(**p) for p in row["pretrained"]),
            "sizes": SizeRule(**row["sizes"]),
            "groups": tuple(tuple(group) for group in row["groups"]),
        }
    )


@cache
def _measured(name: str) -> ArchitectureFacts:
    from medfathom.models.catalog_build import measure_architecture  # noqa: PLC0415 - imports torch and timm

    return measure_architecture(name)
