"""What is known of an architecture, and the table of it that travels with the program. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("catalog.json")
"""Written by `python -m medfathom.models.catalog_build`."""


@dataclass(frozen=True)
class ArchitectureFacts:
    """An architecture as timm ships it, with its own classifier, at its native size.

    Attributes:
        family: timm's module.
        depth: weighted layers (conv, linear) on the longest path from input to logits.
        macs: multiply-accumulates for one image.
        native_size: side in pixels of the images that its usual weights were trained on.
        smallest_size, size_step: it takes images whose side is a multiple of the step, from the smallest on.
        pretrained_tags: timm's names of its sets of pretrained weights, the usual one first.
    """

    name: str
    family: str
    n_params: int
    depth: int
    macs: int
    native_size: int
    smallest_size: int
    size_step: int
    pretrained_tags: tuple[str, ...]

    def takes(self, size: int) -> bool:
        """Whether it takes images of this side."""
        return size >= self.smallest_size and size % self.size_step == 0

    def nearest_sizes(self, size: int) -> list[int]:
        """The nearest sides that it takes: below, if there is one, and above."""
        below = size // self.size_step * self.size_step
        around = [s for s in (below, below + self.size_step) if s >= self.smallest_size]
        return around or [self.smallest_size]


@dataclass(frozen=True)
class Pretrained:
    """One set of pretrained weights.

    Attributes:
        tag: timm's name of it.
        hub: repository on the Hugging Face hub.
        hub_file: the file there; None for timm's usual name.
        file: what timm's own download is called in torch's cache.
        url: where to download them from; None where the hub has them.
    """

    tag: str
    hub: str | None = None
    hub_file: str | None = None
    file: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Entry:
    """All that is known of an architecture.

    Attributes:
        pretrained: its sets of weights, the usual one first.
        groups: modules and tensors of each of the five layer groups.
    """

    facts: ArchitectureFacts
    pretrained: tuple[Pretrained, ...]
    groups: tuple[tuple[str, ...], ...]


def shipped() -> list[ArchitectureFacts]:
    """Every architecture of the table: by family, then by number of parameters."""
    return [entry.facts for entry in _table().values()]


def find_shipped(name: str) -> Entry | None:
    """The table's entry, if it has one."""
    return _table().get(name)


@cache
def _table() -> dict[str, Entry]:
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else []
    return {row["facts"]["name"]: _from_json(row) for row in rows}


def _from_json(row: dict[str, Any]) -> Entry:
    facts = {**row["facts"], "pretrained_tags": tuple(row["facts"]["pretrained_tags"])}
    return Entry(
        ArchitectureFacts(**facts),
        tuple(Pretrained(**p) for p in row["pretrained"]),
        tuple(tuple(group) for group in row["groups"]),
    )
