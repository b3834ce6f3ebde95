"""Facts of an architecture, and the catalog of them that ships with medfathom. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("catalog.json")
"""The catalog, written by `python -m medfathom.models.catalog_build`."""


@dataclass(frozen=True)
class ArchitectureFacts:
    """An architecture as timm ships it, with its own classifier, at its native size.

    Attributes:
        name: its timm name.
        family: timm's module.
        n_params: number of parameters.
        depth: weighted layers (conv, linear) on the longest path from input to logits.
        macs: multiply-accumulates for one image.
        native_size: side in pixels of the images that its usual weights were trained on.
        smallest_size: side in pixels of the smallest image that it takes.
        size_step: pixels; it takes images whose side is a multiple of this step.
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
        """The nearest sides that it takes: the next smaller one, if there is one, and the next larger one."""
        below = size // self.size_step * self.size_step
        around = [s for s in (below, below + self.size_step) if s >= self.smallest_size]
        return around or [self.smallest_size]


@dataclass(frozen=True)
class Pretrained:
    """One set of pretrained weights.

    Attributes:
        tag: timm's name of the set.
        hub: repository on the Hugging Face hub, if it is there.
        hub_file: the file in the repository; None for timm's usual name.
        file: the file's name in torch's cache.
        url: where to download it; None where the hub has it.
    """

    tag: str
    hub: str | None = None
    hub_file: str | None = None
    file: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Entry:
    """The catalog's entry of an architecture.

    Attributes:
        facts: sizes and names.
        pretrained: its sets of weights, the usual one first.
        groups: modules and tensors of each of the five layer groups.
    """

    facts: ArchitectureFacts
    pretrained: tuple[Pretrained, ...]
    groups: tuple[tuple[str, ...], ...]


def shipped() -> list[ArchitectureFacts]:
    """The architectures of the catalog, sorted by family, then by number of parameters."""
    return [entry.facts for entry in _table().values()]


def find_shipped(name: str) -> Entry | None:
    """The catalog's entry of an architecture; None where it has none."""
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
