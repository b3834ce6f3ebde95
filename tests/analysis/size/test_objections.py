"""Each kind of data that made a verdict wrong, on the smallest input that showed it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze
from medfathom.analysis.size.association import Association

SIZES = np.array([5e6, 8e6, 1.2e7, 2e7, 3e7, 5e7, 9e7, 1.4e8])
X = np.log10(SIZES) - np.log10(SIZES).mean()
NOISE = np.array([1, -1, 0.5, -0.5, -1, 1, -0.5, 0.5]) * 1e-4


def table(*values: np.ndarray, depth: np.ndarray | None = None) -> pd.DataFrame:
    """One data set for each list of AUCs of eight networks, each its own family."""
    layers = np.array([30, 60, 20, 50, 25, 70, 40, 35]) if depth is None else depth
    parts = [
        pd.DataFrame(
            {
                "architecture": [f"net-{i}" for i in range(8)],
                "family": [f"family-{i}" for i in range(8)],
                "dataset": f"d{k}",
                "modality": "CXR",
                "auc": auc,
                "n_params": SIZES,
                "depth": layers,
            }
        )
        for k, auc in enumerate(values)
    ]
    return pd.concat(parts, ignore_index=True)


def answer(frame: pd.DataFrame, predictor: str = "log10_params", margin: float = 0.01) -> Association:
    found = analyze(frame, margin=margin).modalities["CXR"].predictors[predictor]
    assert isinstance(found, Association)
    return found


def test_a_clear_slope_is_a_direction() -> None:
    assert answer(table(0.85 + 0.04 * X + NOISE)).verdict == "increases"


def test_two_data_sets_that_disagree_are_not_negligible() -> None:
    """+.040 and -.041 per tenfold were negligible."""
    found = answer(table(0.85 + 0.040 * X + NOISE, 0.85 - 0.041 * X - NOISE))
    assert found.verdict == "inconclusive"
    assert found.heterogeneity is not None
    assert found.heterogeneity.p_value is not None
    assert found.heterogeneity.p_value < 0.001


def test_the_margin_is_over_the_range() -> None:
    """.008 per tenfold is within .01, but .0116 over the range is not."""
    found = answer(table(0.85 + 0.008 * X + NOISE))
    assert found.effect == pytest.approx(0.008 * np.ptp(X), abs=3e-4)
    assert found.verdict == "increases"
    assert answer(table(0.85 + 0.008 * X + NOISE), margin=0.02).verdict == "negligible"


def test_an_inverted_u_is_not_negligible() -> None:
    found = answer(table(0.9 - 0.08 * (X**2 - (X**2).mean()) + NOISE))
    assert found.verdict == "inconclusive"
    assert found.diagnostics.curve is not None
    assert found.diagnostics.curve.reach > 0.01


def test_the_largest_network_failing_is_no_direction() -> None:
    auc = 0.85 + 30 * NOISE
    auc[-1] -= 0.15
    assert answer(table(auc)).verdict == "inconclusive"


def test_a_predictor_that_another_explains_is_no_direction() -> None:
    """Only parameters act, depth goes with them."""
    depth = np.round(2 ** (5.5 - 2 * X + np.array([0.3, -0.4, 0.2, 0.3, -0.3, -0.2, 0.4, -0.3])))
    frame = table(0.85 + 0.05 * X + NOISE, depth=depth)
    found = answer(frame, "log2_depth")
    assert found.p_holm < 0.05
    assert found.verdict == "inconclusive"
    assert "parameter count held fixed" in found.reason
    assert answer(frame).verdict == "increases"
