"""What is known of architectures without building them. Importing this costs no torch.

The table beside this file is written by `python -m medfathom.models.catalog_build`; a test compares it with
freshly measured values.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medfathom.errors import ModelError, did_you_mean

TABLE = Path(__file__).with_name("catalog.csv")


@dataclass(frozen=True)
class ArchitectureFacts:
    """An architecture as timm ships it: at its native size, with its 1000-class head.

    Attributes:
        name: timm's name.
        family: timm's module.
        n_params: parameters.
        depth: weighted layers on the longest path.
        macs: multiply-accumulates for one image.
        native_size: image side in pixels of its default weights.
        smallest_size: the smallest side of those tried that it can take.
        pretrained_tags: sets of weights that timm names for it.
    """

    name: str
    family: str
    n_params: int
    depth: int
    macs: int
    native_size: int
    smallest_size: int
    pretrained_tags: tuple[str, ...]


@cache
def _table() -> dict[str, ArchitectureFacts]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {
            row["name"]: ArchitectureFacts(
                name=row["name"],
                family=row["family"],
                n_params=int(row["n_params"]),
                depth=int(row["depth"]),
                macs=int(row["macs"]),
                native_size=int(row["native_size"]),
                smallest_size=int(row["smallest_size"]),
                pretrained_tags=tuple(row["pretrained_tags"].split()),
            )
            for row in csv.DictReader(file)
        }


def shipped() -> list[ArchitectureFacts]:
    """Every architecture of the shipped table, in its order."""
    return list(_table().values())


def lookup(name: str) -> ArchitectureFacts:
    """What is known of an architecture; one that is not in the table is built, without numbers, and measured.

    Raises:
        ModelError: timm knows no such architecture; with the nearest names.
    """
    if name in _table():
        return _table()[name]
    from medfathom.models.catalog_build import describe, known_names  # noqa: PLC0415  imports torch and timm

    names = known_names()
    if name not in names:
        raise ModelError(f"unknown architecture {name!r}; {did_you_mean(name, names)}")
    return describe(name)


def check_architecture(name: str, image_size: int) -> None:
    """Raise ModelError for an architecture that is unknown, or that cannot take images of this size."""
    facts = lookup(name)
    if image_size < facts.smallest_size:
        raise ModelError(
            f"{name} cannot take {image_size} px images: the smallest it can is {facts.smallest_size} px; "
            "raise dataset.image_size"
        )
