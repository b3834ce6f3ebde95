"""Divide groups among splits so that every class is in every split, near the stratified fractions.

It starts from a drawn division and changes it only where it must: single groups move to another split, always
the move that helps most. Where such moves do not reach a division with every class in every split, an integer
program says whether there is one. It counts groups by the classes that they have, so it stays small.

A *column* is what every split must have: a class, or (of several labels) images with and without each label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# SciPy's optimiser is imported where it is used: training reads this package too.
# ruff: noqa: PLC0415

Counts = NDArray[np.int64]
"""(groups, columns): images of each column in each group."""

Division = NDArray[np.int64]
"""(groups,): the number of the split of each group."""

TOLERANCE = 0.02
"""A drawn division stays as it is where the share of every column in every split is this close to the asked
fraction, or within half of its largest group."""

SECONDS = 20.0
"""The integer program ends after this time."""

OF_ALL = 10.0
"""A deviation of a split's share of all images counts as this many of those of a class: a class of few groups
must not make a split large or small."""

_ABSENT = 1e3
"""Cost of a column that a split lacks: more than all deviations from the fractions together."""


class NoDivisionError(Exception):
    """No division has every column in every split; `proven` where this is certain, not a matter of time."""

    def __init__(self, proven: bool) -> None:
        super().__init__("no division has every column in every split")
        self.proven = proven


@dataclass(frozen=True)
class _Search:
    """What does not change while groups move.

    Attributes:
        has: 0 or 1, (groups, columns): the group has images of the column.
        weight: (groups, columns), the group's share of the column's images, in [0, 1].
        fractions: (splits,), the share of the images that each split is to have; the sum is 1.
    """

    has: NDArray[np.float64]
    weight: NDArray[np.float64]
    fractions: NDArray[np.float64]

    def shares(self, division: Division) -> NDArray[np.float64]:
        """(splits, columns): the share of each column's images that each split has."""
        return self._one_hot(division).T @ self.weight

    def groups(self, division: Division) -> NDArray[np.float64]:
        """(splits, columns): how many groups of each split have the column."""
        return self._one_hot(division).T @ self.has

    def is_settled(self, division: Division) -> bool:
        """Every column is in every split, and no share is far from its fraction."""
        far = np.abs(self.shares(division) - self.fractions[:, None])
        allowed = np.maximum(TOLERANCE, self.weight.max(axis=0) / 2)
        return bool((self.groups(division) > 0).all() and (far <= allowed + 1e-9).all())

    def _one_hot(self, division: Division) -> NDArray[np.float64]:
        return np.eye(len(self.fractions))[division]


def cover(counts: Counts, start: Division, fractions: NDArray[np.float64]) -> Division:
    """A division with every column in every split, as near to `start` as that allows.

    Args:
        counts: columns without any image are not asked for.
        start: a division that was drawn.
        fractions: (splits,), of the images; their sum is 1.

    Raises:
        NoDivisionError: there is none, or none was found in `SECONDS`.
    """
    totals = counts.sum(axis=0)
    # All images are one more column: no split may be empty, and each is to have its fraction of them.
    columns = np.column_stack([counts[:, totals > 0], counts.sum(axis=1)])
    search = _Search((columns > 0).astype(float), columns / columns.sum(axis=0), fractions)
    if (search.has.sum(axis=0) < len(fractions)).any():
        raise NoDivisionError(proven=True)
    division = _moved(search, start)
    if (search.groups(division) == 0).any():
        division = _moved(search, _by_program(search, division))
    return division


def _moved(search: _Search, start: Division) -> Division:
    """The division after the best moves, one after the other."""
    division = start.copy()
    for _ in range(len(division) + 100):
        if search.is_settled(division):
            break
        change = _changes(search, division)
        group, split = np.unravel_index(change.argmin(), change.shape)
        if change[group, split] >= -1e-12:
            break
        division[group] = split
    return division


def _changes(search: _Search, division: Division) -> NDArray[np.float64]:
    """What each move would change in the cost, (groups, splits).

    The cost is the sum of squared deviations of the shares from the fractions, and `_ABSENT` for each column
    that a split lacks.
    """
    rows = np.arange(len(division))
    groups = search.groups(division)
    counted = np.append(np.ones(groups.shape[1] - 1), OF_ALL)
    deviation = search.weight @ (counted * (search.shares(division) - search.fractions[:, None])).T
    own = (search.weight**2 @ counted)[:, None]
    change: NDArray[np.float64] = 2 * (deviation - deviation[rows, division][:, None] + own)
    gained = search.has @ (groups == 0).T
    lost = (search.has @ (groups == 1).T)[rows, division]
    change += _ABSENT * (lost[:, None] - gained)
    change[rows, division] = 0.0
    return change


def _by_program(search: _Search, division: Division) -> Division:
    """The division with every column in every split that moves the fewest groups, by an integer program.

    Its variables are, for each set of columns that some group has and for each split, how many groups with
    these columns the split gets, and by how much this differs from now.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import block_array, eye_array, kron

    kinds, kind = np.unique(search.has, axis=0, return_inverse=True)
    n_kinds, n_splits = len(kinds), len(search.fractions)
    now = np.zeros((n_kinds, n_splits))
    np.add.at(now, (kind, division), 1)
    size, one = n_kinds * n_splits, eye_array(n_kinds * n_splits)
    every = kron(kinds.T, eye_array(n_splits))
    whole = kron(eye_array(n_kinds), np.ones((1, n_splits)))
    low = np.concatenate([np.ones(every.shape[0]), now.sum(axis=1), now.ravel(), -now.ravel()])
    high = np.full(len(low), np.inf)
    high[every.shape[0] : every.shape[0] + n_kinds] = now.sum(axis=1)
    rows = block_array([[every, None], [whole, None], [one, one], [-one, one]], format="csr")
    found = milp(
        np.repeat([0.0, 1.0], size),
        constraints=LinearConstraint(rows, low, high),
        integrality=np.repeat([1, 0], size),
        bounds=Bounds(0, np.inf),
        options={"time_limit": SECONDS},
    )
    if found.x is None:
        raise NoDivisionError(proven=found.status == 2)
    return _dealt(kind, division, np.rint(found.x[:size]).astype(np.int64).reshape(n_kinds, n_splits))


def _dealt(kind: NDArray[np.intp], division: Division, wanted: Counts) -> Division:
    """Move the fewest groups so that each split has `wanted` of each kind, (kinds, splits)."""
    dealt = division.copy()
    for number, counts in enumerate(wanted):
        left, waiting = counts.copy(), []
        for group in np.flatnonzero(kind == number).tolist():
            if left[dealt[group]] > 0:
                left[dealt[group]] -= 1
            else:
                waiting.append(group)
        dealt[waiting] = np.repeat(np.arange(len(left)), left)
    return dealt
