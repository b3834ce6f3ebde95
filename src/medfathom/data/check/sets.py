"""`data check A B`: which images several data sets share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import numpy as np

from medfathom.data.check.across import SEES, near_across, small
from medfathom.data.check.all_splits import AllSplits
from medfathom.data.copies import exact_copies
from medfathom.data.prepare import prepare
from medfathom.definitions.dataset import DatasetConfig

Progress = Callable[[str, int, int], None]
"""As in `check`."""

SHOWN = 5
"""Pairs that a terminal names."""


@dataclass(frozen=True)
class SharedImage:
    """An image of one set, and its copy in the other, as the sources call them.

    Attributes:
        first, second: names.
        splits, labels: of both.
        similarity: correlation of details, in [0, 1]; 1 for exact copies.
        exact: whether files or prepared pixels are the same.
    """

    first: str
    second: str
    splits: tuple[str, str]
    labels: tuple[str, str]
    similarity: float
    exact: bool


@dataclass(frozen=True)
class SharedBy:
    """What two sets share.

    Attributes:
        names: of the sets.
        sizes: images of each, without constant ones.
        with_copy: images of each that have a copy in the other.
        pairs: the copies.
        threshold, typical: of near copies, see `NearCopies`.
    """

    names: tuple[str, str]
    sizes: tuple[int, int]
    with_copy: tuple[int, int]
    pairs: Sequence[SharedImage]
    threshold: float
    typical: float

    @property
    def exact(self) -> int:
        """Pairs of exact copies."""
        return sum(pair.exact for pair in self.pairs)

    @property
    def same_label(self) -> int:
        """Pairs whose classes have the same name, upper and lower case being the same."""
        return sum(a.lower() == b.lower() for a, b in (pair.labels for pair in self.pairs))

    def by_splits(self) -> dict[tuple[str, str], int]:
        """(Split of the first set, of the second) -> pairs, most first."""
        return dict(Counter(pair.splits for pair in self.pairs).most_common())

    def lines(self) -> list[str]:
        """What was found, in sentences."""
        a, b = self.names
        if not self.pairs:
            return [f"{a} and {b}: no copies found among {self.sizes[0]} and {self.sizes[1]} images."]
        shares = "; ".join(
            f"{count} of {size} images of {own} ({count / size:.0%}) are in {other}"
            for own, other, count, size in zip((a, b), (b, a), self.with_copy, self.sizes, strict=True)
        )
        where = ", ".join(f"{n} of {one} in {other}" for (one, other), n in self.by_splits().items())
        lines = [
            f"{a} and {b}: {shares}.",
            f"{len(self.pairs)} pairs, {self.exact} exact; the class has the same name in {self.same_label}; "
            f"by split ({a} in {b}): {where}.",
        ]
        lines += [
            f"{p.first} ({p.splits[0]}, {p.labels[0]}) is {p.second} ({p.splits[1]}, {p.labels[1]})"
            f"{', exactly' if p.exact else f', similarity {p.similarity:.3f}'}"
            for p in self.pairs[:SHOWN]
        ]
        more = len(self.pairs) - SHOWN
        return [*lines, f"and {more} more, which --json lists"] if more > 0 else lines

    def to_dict(self) -> dict[str, object]:
        """JSON form."""
        return asdict(self) | {"exact": self.exact, "same_label": self.same_label}


class SharedJson(TypedDict):
    """What several data sets share, two by two; `sees` says which copies are found."""

    ok: bool
    sees: str
    sets: list[dict[str, object]]


@dataclass(frozen=True)
class SharedReport:
    """What several sets share, two by two."""

    found: Sequence[SharedBy]

    @property
    def exit_code(self) -> int:
        """1 where any image is in two sets, else 0."""
        return int(any(each.pairs for each in self.found))

    def to_dict(self) -> SharedJson:
        """JSON form."""
        pairs = [each.to_dict() for each in self.found]
        return {"ok": self.exit_code == 0, "sees": SEES, "sets": pairs}


def check_sets(
    sets: Sequence[tuple[str, DatasetConfig]], cache_dir: Path, progress: Progress | None = None
) -> SharedReport:
    """Look for images that are in several data sets, in all splits.

    Args:
        sets: name and `[dataset]` table of each, two or more.
        cache_dir: as for `prepare`.
        progress: see `Progress`.

    Raises:
        DataError: a data set cannot be used at all.
    """
    tell = progress or (lambda step, done, total: None)
    opened = []
    for name, config in sets:
        lenient = config.model_copy(update={"on_bad_image": "skip"})
        data = prepare(lenient, cache_dir, progress=lambda done, total: tell("prepare", done, total))
        opened.append((name, AllSplits(data)))
    return SharedReport([_shared(first, second, tell) for first, second in combinations(opened, 2)])


def _shared(first: tuple[str, AllSplits], second: tuple[str, AllSplits], tell: Progress) -> SharedBy:
    both = (first[1], second[1])
    rows = [np.flatnonzero(each.manifest.constant == 0).tolist() for each in both]
    own, other = (small(each.image(row) for row in kept) for each, kept in zip(both, rows, strict=True))
    step = f"{first[0]} and {second[0]}"
    near = near_across(own, other, lambda done, total: tell(step, done, total))
    scores = {(rows[0][pair.first], rows[1][pair.second]): pair.similarity for pair in near.pairs}
    exact = set(_exact(*both))
    pairs = [
        _described(both, pair, scores.get(pair, 1.0), pair in exact) for pair in sorted({*scores, *exact})
    ]
    with_copy = tuple(len({pair[side] for pair in {*scores, *exact}}) for side in (0, 1))
    return SharedBy(
        names=(first[0], second[0]),
        sizes=(len(rows[0]), len(rows[1])),
        with_copy=(with_copy[0], with_copy[1]),
        pairs=pairs,
        threshold=near.threshold,
        typical=near.typical,
    )


def _exact(first: AllSplits, second: AllSplits) -> Iterator[tuple[int, int]]:
    """Rows of both sets with the same file or the same prepared pixels."""
    n = len(first.manifest)
    (files, pixels, constant), others = first.manifest.hashes, second.manifest.hashes
    for members in exact_copies([*files, *others[0]], [*pixels, *others[1]], [*constant, *others[2]]):
        own, other = ([row for row in members if (row < n) == inside] for inside in (True, False))
        yield from ((a, b - n) for a in own for b in other)


def _described(
    both: tuple[AllSplits, AllSplits], pair: tuple[int, int], score: float, exact: bool
) -> SharedImage:
    one, other = (each.describe(row) for each, row in zip(both, pair, strict=True))
    return SharedImage(
        first=one.name,
        second=other.name,
        splits=(one.split, other.split),
        labels=(one.label, other.label),
        similarity=1.0 if exact else round(score, 3),
        exact=exact,
    )
