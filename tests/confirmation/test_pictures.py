"""Pictures of a confirmed model count what is known, and nothing else."""

from __future__ import annotations

import numpy as np

from made_models import CONFIG
from medfathom.confirmation.pictures import judged, reliability
from medfathom.data.prepared import Split
from medfathom.metrics.unknown import UNKNOWN


def test_reliability_leaves_out_labels_that_nobody_knows() -> None:
    labels = np.array([[1, 0], [0, 1], [1, UNKNOWN], [0, UNKNOWN]], dtype=np.uint8)
    values = np.array([[0.85, 0.15], [0.15, 0.85], [0.85, 0.85], [0.15, 0.15]])
    config = CONFIG.model_copy(update={"task": "multilabel", "class_names": ["fluid", "drusen"]})
    test = Split(np.zeros((4, 2, 2, 1), np.uint8), labels, None, list("abcd"))
    (axes,) = reliability(judged(config, test, values)).axes
    _, *curves = axes.lines
    for curve in curves:
        np.testing.assert_allclose(curve.get_xdata(), [0.15, 0.85])
        np.testing.assert_allclose(curve.get_ydata(), [0, 1])
