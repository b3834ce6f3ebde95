"""Copies among the images of a data set, and what preparation does about them.

A drawn split keeps copies together, like the images of a patient. `drop_copies` leaves all but one out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.near_copies import COPY_RANGE, NearCopies, NearCopy, near_copies
from medfathom.data.images import Pixels
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, Problem
from medfathom.data.workers import Row
from medfathom.files import write_atomically
from medfathom.metrics.unknown import UNKNOWN
from medfathom.text import number_of

NEAR_LIMIT = 10_000
"""Preparation looks for near copies among so many images at most: all pairs of images are compared.
`data check` does it for any number, and `run` and `confirm` then tell what it found."""

FILE = "near_copies.json"
"""In a prepared folder, once near copies were looked for."""


@dataclass(frozen=True)
class Copies:
    """Copies among n images.

    Attributes:
        exact: sets of two or more rows with the same file or the same prepared pixels; rows are sorted.
        near: pairs of rows that are almost the same, without repeats in `exact`; None: not looked for.
    """

    exact: list[list[int]]
    near: NearCopies | None

    def none_left(self) -> Copies:
        """Once all but one of each set were left out, or those of one case."""
        return Copies([], None if self.near is None else replace(self.near, pairs=[]))

    def renamed(self, rows: Sequence[int]) -> Copies:
        """The same copies, where row i is now called `rows[i]`."""
        exact = sorted(sorted(rows[row] for row in members) for members in self.exact)
        return Copies(exact, None if self.near is None else renumbered(self.near, rows))

    def sets(self) -> list[list[int]]:
        """Sets of two or more rows that are copies of one another, exact or near."""
        pairs = [] if self.near is None else [[pair.first, pair.second] for pair in self.near.pairs]
        return together([*self.exact, *pairs])


def exact_copies(
    sha256: Sequence[str], pixels_sha256: Sequence[str], constant: Sequence[int]
) -> list[list[int]]:
    """Sets of two or more rows with the same file or the same prepared pixels; rows are sorted.

    Constant images (1 in `constant`) are none: black slices of two patients are the same, and show nothing.
    """
    return together([*_repeated(sha256, constant), *_repeated(pixels_sha256, constant)])


def _repeated(digests: Sequence[str], constant: Sequence[int]) -> Iterable[list[int]]:
    """The rows of each digest that comes twice or more: few of a million, and only they get lists."""
    first: dict[str, int] = {}
    again: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if constant[row]:
            continue
        if (earlier := first.setdefault(digest, row)) != row:
            again.setdefault(digest, [earlier]).append(row)
    return again.values()


def find_copies(
    rows: Sequence[Row],
    image: Callable[[int], Pixels],
    cases: NDArray[np.str_] | None = None,
    limit: int = NEAR_LIMIT,
) -> Copies:
    """Exact and near copies among decoded images; near ones only among at most `limit` images.

    Args:
        rows: what is known of each image.
        image: gives the prepared image of a row.
        cases: see `find_near`.
        limit: see `NEAR_LIMIT`.
    """
    constant = [row.constant for row in rows]
    exact = exact_copies([row.sha256 for row in rows], [row.pixels_sha256 for row in rows], constant)
    near = find_near(len(rows), exact, constant, image, cases) if len(rows) <= limit else None
    return Copies(exact, near)


def find_near(
    n: int,
    exact: Sequence[Sequence[int]],
    constant: Sequence[int],
    image: Callable[[int], Pixels],
    cases: NDArray[np.str_] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NearCopies:
    """Near copies among n images; of exact copies only the first is compared: they would hide others.

    Args:
        n: number of images.
        exact: sets of exact copies.
        constant: 1 for images that are constant: they are not compared.
        image: gives the prepared image of a row.
        cases: the case of each image, "" for none; images of one case are not compared.
        progress: called with the number of pairs compared and of all.
    """
    again = {row for members in exact for row in members[1:]}
    rows = [row for row in range(n) if row not in again and not constant[row]]
    if not rows:
        return NearCopies([], COPY_RANGE[1], 0.0)
    return renumbered(near_copies(map(image, rows), progress, None if cases is None else cases[rows]), rows)


def renumbered(found: NearCopies, rows: Sequence[int]) -> NearCopies:
    """The same pairs, where row i is now called `rows[i]`."""
    named = sorted((*sorted((rows[p.first], rows[p.second])), p.similarity) for p in found.pairs)
    return replace(found, pairs=[NearCopy(int(a), int(b), similarity) for a, b, similarity in named])


def kept_together(groups: NDArray[Any] | None, sets: Sequence[Sequence[int]], n: int) -> NDArray[np.str_]:
    """A unit for each image, (n,): images of a group, and copies, are of the same one."""
    of_group: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate([] if groups is None else groups.tolist()):
        of_group[group].append(row)
    unit = np.zeros(n, dtype=np.int64)
    for number, members in enumerate(together([*([row] for row in range(n)), *of_group.values(), *sets])):
        unit[members] = number
    return unit.astype(np.str_)


def to_drop(sets: Sequence[Sequence[int]], listing: Listing) -> dict[int, Problem]:
    """All images of each set but one, with the reason.

    The test image stays before the validation image, and that before the training image, so that the test
    stays comparable with what others published; of several the first. A case loses none of its images for a
    copy in itself.
    """
    order = {"test": 0, "val": 1}
    names, cases = listing.names, listing.cases
    dropped = {}
    for members in sets:
        kept = min(members, key=lambda row: (order.get(str(listing.splits[row]), 2), row))
        for row in members:
            if row != kept and (cases is None or cases[row] != cases[kept]):
                other = ", which has another label" if _differ(listing.labels[[row, kept]]) else ""
                dropped[row] = Problem(names[row], f"copy of {names[kept]}{other}")
    return dropped


def contradictions(copies: Copies, listing: Listing) -> str:
    """A line where exact copies have different labels; else ""."""
    sets = [
        [members[0], other]
        for members in copies.exact
        if (other := next((r for r in members if _differ(listing.labels[[members[0], r]])), None)) is not None
    ]
    if not sets:
        return ""
    shown = "; ".join(" and ".join(listing.names[row] for row in pair) for pair in sets[:3])
    have = "has" if len(sets) == 1 else "have"
    found = number_of(len(sets), "set of exact copies")
    return f"{found} {have} different labels: one of them is wrong ({shown})"


def _differ(labels: NDArray[Any]) -> bool:
    """Whether two images have different labels; one that is not known differs from none."""
    first, second = labels
    known = (first != UNKNOWN) & (second != UNKNOWN) if labels.ndim == 2 else True
    return bool(np.any((first != second) & known))


def write_near(folder: Path, found: NearCopies) -> None:
    """Keep the near copies, by their rows in the manifest, with a prepared data set."""
    content = {
        "threshold": found.threshold,
        "typical": found.typical,
        "pairs": [[pair.first, pair.second, pair.similarity] for pair in found.pairs],
    }
    write_atomically(folder / FILE, json.dumps(content))


def read_near(folder: Path) -> NearCopies | None:
    """What `write_near` wrote; None: near copies were not looked for."""
    file = folder / FILE
    if not file.exists():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    pairs = [NearCopy(*pair) for pair in content["pairs"]]
    return NearCopies(pairs, content["threshold"], content["typical"])


def places(sets: Iterable[Iterable[str]]) -> list[str]:
    """For each set of splits with two or more: their names ("train and test")."""
    words = (" and ".join(name for name in SPLIT_NAMES if name in splits) for splits in map(set, sets))
    return [word for word in words if " and " in word]


def together(sets: Sequence[Sequence[int]]) -> list[list[int]]:
    """Disjoint sets: those that have a row in common are one. Rows are sorted."""
    parent = {row: row for members in sets for row in members}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for members in sets:
        for row in members[1:]:
            parent[root(row)] = root(members[0])
    found: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        found[root(row)].append(row)
    return list(found.values())
