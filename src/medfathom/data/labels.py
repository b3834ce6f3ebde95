"""From the labels a source has to class indices, every unusable one named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medfathom.data.prepared import TaskKind
from medfathom.data.sources.base import Problem


def from_numbers(
    values: np.ndarray,
    names: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    multilabel: bool | None = None,
) -> tuple[np.ndarray, TaskKind, tuple[str, ...], np.ndarray, list[Problem]]:
    """Read numeric labels.

    Args:
        values: (n,) or (n, 1) class numbers, or (n, K) zeros and ones, of any numeric type.
        names: what to call each row in a problem.
        class_names: known classes; without them the numbers found name the classes.
        multilabel: whether rows of K numbers are K labels; None: they are when K > 1.

    Returns:
        The labels of all rows (those of bad rows mean nothing), the task, the class names, which rows are
        good (bool, (n,)), and a problem for each that is not.
    """
    columns = values.reshape(len(values), -1)
    finite = (
        np.isfinite(columns).all(axis=1) if columns.dtype.kind == "f" else np.ones(len(columns), dtype=bool)
    )
    whole = np.zeros(columns.shape, dtype=np.int64)
    whole[finite] = columns[finite].astype(np.int64)
    good = finite & (whole == columns).all(axis=1)
    if multilabel or (multilabel is None and columns.shape[1] > 1):
        good &= ((whole == 0) | (whole == 1)).all(axis=1)
        found = tuple(class_names or map(str, range(columns.shape[1])))
        rule = "must be 0 or 1"
        labels, task = whole.astype(np.uint8), "multilabel"
    else:
        good &= whole[:, 0] >= 0
        if class_names is None:
            known = np.unique(whole[good, 0])
            found = tuple(str(value) for value in known)
            labels = np.searchsorted(known, whole[:, 0]).astype(np.int64)
        else:
            found = tuple(class_names)
            good &= whole[:, 0] < len(found)
            labels = whole[:, 0]
        rule = (
            f"must be a whole number from 0 to {len(found) - 1}"
            if class_names
            else "must be a whole number >= 0"
        )
        task = "binary" if len(found) == 2 else "multiclass"
    problems = [
        Problem(
            names[row], f"label {columns[row].tolist() if task == 'multilabel' else columns[row, 0]} {rule}"
        )
        for row in np.flatnonzero(~good)
    ]
    return labels, task, found, good, problems
