"""What is in two splits though it belongs in one, and makes a validation or test AUC too good.

Exact copies of images (the same file, or the same pixels once prepared), patients and slides; `leakage` has
near copies. Preparation counts them, from the manifest alone; `run`, `confirm` and the model card say it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from medfathom.data.prepared import SPLIT_NAMES, PreparedData, read_facts
from medfathom.text import command

if TYPE_CHECKING:
    from medfathom.data.manifest import Manifest

LEAKAGE = "leakage"
"""What `leakage_note` said, in a prepared data set's facts (as counts) and in a study's attributes."""


def exact_copies(manifest: Manifest) -> list[list[int]]:
    """Sets of two rows or more with the same file or the same prepared pixels, each rising."""
    sets = _Sets(len(manifest))
    for column in (manifest.sha256, manifest.pixels_sha256):
        first: dict[str, int] = {}
        for row, digest in enumerate(column.tolist()):
            sets.join(first.setdefault(digest, row), row)
    return [members for members in sets.members() if len(members) > 1]


def groups_across(groups: NDArray[Any], splits: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Group -> split -> images, of groups that are in more than one split. Unknown groups ("") are none."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group, split in zip(groups.tolist(), splits.tolist(), strict=True):
        if group:
            found[group][split] += 1
    return {group: dict(counts) for group, counts in found.items() if len(counts) > 1}


def count_leaks(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Between which splits ("train and test") there are how many images with exact copies, and groups."""
    copies = ({str(manifest.split[row]) for row in rows} for rows in exact_copies(manifest))
    return {
        "images": _by_splits(copies),
        "groups": _by_splits(groups_across(manifest.group, manifest.split).values()),
    }


def _by_splits(found: Iterable[Iterable[str]]) -> dict[str, int]:
    words = (" and ".join(name for name in SPLIT_NAMES if name in splits) for splits in map(set, found))
    return dict(Counter(word for word in words if " and " in word).most_common())


def leakage_note(data: PreparedData, study: str) -> str:
    """One line for whoever reads this data set's AUCs; empty where nothing is in two splits.

    Args:
        data: as `prepare` gave it.
        study: its definition, for the command that lists everything.
    """
    leaks = read_facts(data.folder)[1][LEAKAGE]
    said = [
        f"{sum(places.values())} {what} in several splits ({_places(places)})"
        for what, places in (
            ("images have exact copies", leaks["images"]),
            ("patients or slides are", leaks["groups"]),
        )
        if places
    ]
    if not said:
        return ""
    found = ", and ".join(said)
    what_to_do = f"`{command('data', 'check', study)}` lists them"
    return f"Leakage: {found}: AUCs look better than they are; {what_to_do}"


def _places(places: dict[str, int]) -> str:
    return ", ".join(f"{count} in {splits}" for splits, count in places.items())


class _Sets:
    """Disjoint sets of rows."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def join(self, first: int, second: int) -> None:
        """Make two rows' sets one."""
        self._parent[self._root(second)] = self._root(first)

    def members(self) -> list[list[int]]:
        """All sets, rows rising."""
        found: dict[int, list[int]] = defaultdict(list)
        for row in range(len(self._parent)):
            found[self._root(row)].append(row)
        return list(found.values())

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row
