"""Hypothesis strategies for labels and scores."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def labelled_columns(
    draw: st.DrawFn, max_images: int = 60, max_columns: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, C) with both classes in every column, and scores (n, C) with many ties or none."""
    n = draw(st.integers(4, max_images))
    n_columns = draw(st.integers(1, max_columns))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    digits = draw(st.sampled_from([0, 1, 8]))
    labels = random.integers(0, 2, (n, n_columns)).astype(bool)
    labels[0], labels[1] = True, False
    signal = draw(st.sampled_from([0.0, 0.5, 3.0]))
    scores = np.round(random.normal(size=(n, n_columns)) + signal * labels, digits)
    return labels, scores
