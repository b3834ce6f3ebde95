"""Hypothesis strategies for labels, groups and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


@dataclass(frozen=True)
class Labelled:
    """Labels of n images, and their groups where they have any."""

    labels: NDArray[Any]
    groups: NDArray[Any] | None


@st.composite
def labelled(draw: st.DrawFn, *, grouped: bool | None = None) -> Labelled:
    """40 to 200 images of 2 to 4 classes, or of 3 labels; in groups of one class each, of mixed ones, or in
    none.
    """
    n, seed = draw(st.integers(40, 200)), draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)
    with_groups = draw(st.booleans()) if grouped is None else grouped
    member = random.integers(0, max(12, n // draw(st.integers(1, 4))), n) if with_groups else np.arange(n)
    if draw(st.booleans()):
        by_group = random.integers(0, 2, (member.max() + 1, 3)).astype(np.uint8)
        labels: NDArray[Any] = (
            by_group[member] if draw(st.booleans()) else random.integers(0, 2, (n, 3)).astype(np.uint8)
        )
    else:
        n_classes = draw(st.integers(2, 4))
        weights = random.dirichlet(np.full(n_classes, 3.0))
        by_group = random.choice(n_classes, member.max() + 1, p=weights)
        labels = by_group[member] if draw(st.booleans()) else random.choice(n_classes, n, p=weights)
        labels = labels.astype(np.int64)
    groups = np.array([f"patient {m}" for m in member]) if with_groups else None
    return Labelled(labels, groups)
