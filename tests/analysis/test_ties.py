"""Values that are equal but for what arithmetic leaves over are ties, whatever the order of the additions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from made_studies import analyze
from medfathom.analysis.effects import effects_in_dataset, effects_over_datasets
from medfathom.analysis.questions.ranking import kendalls_w, p_by_permutation
from medfathom.analysis.size.association import rank_correlations
from medfathom.analysis.size.permutation import permutation_slope

MILLIONS = np.array([1.682317, 3.100431, 9.561684, 10.922729, 19.560734, 95.125075, 217.035317])


def results(aucs: list[float], datasets: tuple[str, ...] = ("a",)) -> pd.DataFrame:
    """One result of each of seven architectures, of their own families, in each data set."""
    rows = [
        (f"net{i}", d, "CXR", auc, round(1e6 * n), 20 + i, f"f{i}")
        for d in datasets
        for i, (auc, n) in enumerate(zip(aucs, MILLIONS, strict=True))
    ]
    return pd.DataFrame(
        rows, columns=["architecture", "dataset", "modality", "auc", "n_params", "depth", "family"]
    )


def size(aucs: list[float], datasets: tuple[str, ...] = ("a",)) -> dict[str, object]:
    found = analyze(results(aucs, datasets)).to_dict()["modalities"]["CXR"]["predictors"]["log10_params"]
    return dict(found)


def test_tied_architectures_are_tied_in_rank_correlations() -> None:
    aucs = [0.904, 0.899, 0.895, 0.899, 0.899, 0.899, 0.905]
    found = size(aucs)
    assert found["kendall"] == pytest.approx(stats.kendalltau(MILLIONS, aucs).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(MILLIONS, aucs).statistic, abs=1e-12)


def test_equal_architectures_have_no_rank_correlation() -> None:
    found = size([0.913] * 7, ("a", "b"))
    assert (found["spearman"], found["kendall"]) == (None, None)
    assert (found["slope"], found["p_value"], found["ci95"]) == (
        pytest.approx(0, abs=1e-12), 1, pytest.approx([0, 0], abs=1e-12),
    )  # fmt: skip


def test_a_difference_of_a_thousandth_of_a_millionth_is_no_tie() -> None:
    assert rank_correlations(np.arange(3.0), np.array([0.9, 0.9 + 1e-9, 0.9 + 2e-9])).kendall == 1


@pytest.mark.parametrize(
    ("aucs", "p"),
    [
        # The odd one out is the largest: 2 of 5 places lie as far from the middle as its own.
        ([0.89, 0.89, 0.89, 0.89, 0.91], 2 / 5),
        # Two against four, at the two largest: 2 of the 15 pairs of places.
        ([0.89, 0.89, 0.89, 0.89, 0.91, 0.91], 2 / 15),
    ],
)
@pytest.mark.parametrize("added", [0.0, 0.013, 1 / 3, -0.7])
def test_arrangements_that_do_as_well_count(aucs: list[float], p: float, added: float) -> None:
    n = len(aucs)
    found = permutation_slope(
        np.array(aucs) + added, np.linspace(6.3, 8.1, n), np.zeros(n, dtype=np.int64), draws=9, seed=0
    )
    assert found.p_value() == pytest.approx(p)
    assert found.p_greater() == pytest.approx(p / 2)


def test_two_alike_in_size_and_auc_do_not_decide() -> None:
    """vgg16 and vgg16_bn: swapping them changes the predictor by 3e-5 and the outcome by nothing."""
    x = np.log10([138_357_544.0, 138_365_992.0, 25e6, 8e6, 60e6])
    y = np.array([0.91, 0.91, 0.90, 0.88, 0.89])
    blocks = np.zeros(5, dtype=np.int64)
    found = permutation_slope(y, x, blocks, draws=9, seed=0)
    fewer = [
        permutation_slope(y + shift, x, blocks, draws=9, seed=0).p_value() for shift in (0.1, 0.7, 1 / 3)
    ]
    assert fewer == [found.p_value()] * 3


def test_a_perfect_line_agrees_with_its_own_slope() -> None:
    x = np.array([6.1, 6.7, 7.3, 7.9, 8.2])
    found = permutation_slope(0.03 * x, x, np.zeros(5, dtype=np.int64), draws=9, seed=0)
    assert (found.p_value(found.estimate), found.p_greater(found.estimate)) == (1, 1)
    assert found.p_value() == found.smallest_p == 1 / 120


def test_means_that_are_equal_share_a_rank() -> None:
    """(.90 + .88) / 2, (.91 + .87) / 2 and .89 are one value; two judges see them, each in other words."""
    first = [np.mean([0.90, 0.88]), np.mean([0.91, 0.87]), 0.89, 0.7]
    second = [0.1 + 0.2, 0.3, 0.15 + 0.15, 0.2]
    table = np.array([first, second]).T
    assert len(set(first)) + len(set(second)) > 4
    assert kendalls_w(table).mean_ranks.tolist() == [2, 2, 2, 4]
    assert kendalls_w(table).w == pytest.approx(1)
    assert p_by_permutation(table, draws=99, seed=0) == pytest.approx(1 / 4)


def test_ties_survive_the_average_over_data_sets() -> None:
    tables = [results([0.9, 0.8, 0.7, 0.8, 0.9, 0.8, 0.85]), results([0.7, 0.8, 0.9, 0.8, 0.7, 0.8, 0.75])]
    means = {
        str(i): effects_in_dataset(
            t.rename(columns={"auc": "value"}).assign(init="imagenet", unfreeze_depth="0", setting="")
        )
        for i, t in enumerate(tables)
    }
    assert rank_correlations(MILLIONS, effects_over_datasets(means).values).spearman is None
