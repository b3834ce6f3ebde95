"""How often a slope is found where there is none: simulated studies of designs that are easy to get wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfathom.analysis.effects import Effects, effects_over_datasets, two_way
from medfathom.analysis.modality import Modality
from medfathom.analysis.questions.moderation import between_modalities
from medfathom.analysis.size.design import Design
from medfathom.analysis.size.inference import MIXTURE, PERMUTATION, STUDENT, Settings, slope_in
from medfathom.analysis.size.slope import mixture_slope

QUICK = Settings(permutations=999, draws=2_000)
NAMES = [f"net{i}" for i in range(7)]
SIZES = np.linspace(6.5, 8.3, 7)
"""log10 of the parameter count; the last is the largest."""

CELLS = 8
NOISE = 0.02


def made(rng: np.random.Generator, keep: np.ndarray, datasets: int, own: float) -> dict[str, Effects]:
    """Effects in each data set of seven architectures that differ by `own`, in the cells `keep` (7, 8)."""
    architectures = own * rng.standard_normal(len(NAMES))
    a, c = np.nonzero(keep)
    return {
        str(d): two_way([NAMES[i] for i in a], c, architectures[a] + NOISE * rng.standard_normal(len(a)))
        for d in range(datasets)
    }


def whole(per_dataset: dict[str, Effects]) -> Effects:
    return per_dataset["0"] if len(per_dataset) == 1 else effects_over_datasets(per_dataset)


def rejections(keep: np.ndarray, datasets: int, own: float, studies: int) -> float:
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(studies):
        each = made(rng, keep, datasets, own)
        slope, _, _ = slope_in(whole(each), each, SIZES, np.arange(7), QUICK)
        found += slope.p_value() <= 0.05
    return found / studies


COMPLETE = np.ones((7, CELLS), dtype=bool)
LARGEST_ONCE = COMPLETE & ((np.arange(7) < 6)[:, None] | (np.arange(CELLS) == 0))


@pytest.mark.parametrize("datasets", [1, 2])
@pytest.mark.parametrize("own", [0.0, 0.005, 0.02])
def test_an_architecture_in_one_cell_only_does_not_make_slopes(datasets: int, own: float) -> None:
    """The largest network's effect is the least precise: shuffled among the others, 11 % were slopes."""
    studies = 600
    assert rejections(LARGEST_ONCE, datasets, own, studies) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize(("times", "most"), [(1.0, 0.05), (3.0, 0.075)])
def test_noisier_networks_at_the_ends_make_no_slopes(times: float, most: float) -> None:
    """A t-test finds slopes in 13 % of such studies at three times the noise."""
    rng, x, studies = np.random.default_rng(3), np.linspace(6.5, 8.5, 10), 1_000
    design = Design.build(np.column_stack([np.ones(10), x - x.mean()]), np.arange(10), np.eye(10))
    calibration = design.calibrate(4_000, 0)
    noise = np.where(np.isin(np.arange(10), (0, 9)), times, 1.0)
    ps = [mixture_slope(noise * rng.normal(size=10), design, calibration).p_value() for _ in range(studies)]
    assert np.mean(np.array(ps) <= 0.05) <= most + 2 * np.sqrt(most * (1 - most) / studies)


def test_gaps_decide_the_method() -> None:
    rng = np.random.default_rng(0)
    families = np.array([0, 0, 1, 1, 2, 3, 4])
    for keep, singles, kin in ((COMPLETE, f"exact {PERMUTATION}", MIXTURE), (LARGEST_ONCE, STUDENT, MIXTURE)):
        for datasets in (1, 2):
            each = made(rng, keep, datasets, 0.01)
            assert slope_in(whole(each), each, SIZES, np.arange(7), QUICK)[1] == singles
            assert slope_in(whole(each), each, SIZES, np.zeros(7, dtype=np.int64), QUICK)[1] == singles
            assert slope_in(whole(each), each, SIZES, families, QUICK)[1] == kin


def modality(rng: np.random.Generator, name: str, datasets: int, tilt: float) -> Modality:
    """Seven architectures in data sets whose true slopes differ by `tilt` (standard deviation) about none."""
    a, c = np.nonzero(COMPLETE[:, :2])
    own = 0.002 * rng.standard_normal(7)
    each = {}
    for d in range(datasets):
        true = own + tilt * rng.standard_normal() * (SIZES - SIZES.mean()) + 0.002 * rng.standard_normal(7)
        each[str(d)] = two_way([NAMES[i] for i in a], c, true[a] + 0.002 * rng.standard_normal(len(a)))
    table = pd.DataFrame({"n_params": 10**SIZES, "depth": 50.0, "family": NAMES}, index=NAMES)
    return Modality(name, whole(each), each, np.arange(7), NAMES, table, len(a) * datasets)


@pytest.mark.parametrize("homogeneous", [1, 12])
@pytest.mark.slow
def test_data_sets_that_agree_lend_nothing_to_those_that_do_not(homogeneous: int) -> None:
    """Three data sets of A whose slopes differ by 0.03: twelve like one another in B made 15 % of these a
    difference between A and B."""
    rng = np.random.default_rng(1)
    studies, found = 200, 0
    for _ in range(studies):
        pair = {"A": modality(rng, "A", 3, 0.03), "B": modality(rng, "B", homogeneous, 0.0)}
        found += between_modalities(pair, QUICK)["log10_params"].p_value <= 0.05
    assert found / studies <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / studies)


def test_a_difference_of_modalities_says_for_which_data_sets_it_speaks() -> None:
    rng = np.random.default_rng(1)
    made_up = {name: modality(rng, name, n, 0.01) for name, n in (("A", 1), ("B", 2), ("C", 3))}
    pairs = between_modalities(made_up, QUICK)["log10_params"].pairs
    assert [pair.speaks_for for pair in pairs] == [
        "A: only its 1 data set; B: only its 2 data sets",
        "A: only its 1 data set; C: data sets like its 3",
        "B: only its 2 data sets; C: data sets like its 3",
    ]
