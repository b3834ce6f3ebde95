"""Architectures that share no cells: groups that can be compared within, never with one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from medfathom.analysis.effects import two_way
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import DEPTH, PARAMETERS, Predictor
from medfathom.analysis.questions.generalisation import generalisation_gap
from medfathom.analysis.questions.joint import explained_together
from medfathom.analysis.questions.moderation import usable, within_modality
from medfathom.analysis.size.association import NoSlope, Unadjusted, associate
from medfathom.analysis.size.inference import Settings, spread_of_slopes

QUICK = Settings(permutations=99, draws=200)
LAYERS = {"vgg16": 16, "vgg16_bn": 16, "resnet50": 50, "resnet50d": 50, "resnet101": 101}


def rows(*cells: Sequence[str], inits: Sequence[str] = ("imagenet",), n_params: int = 0) -> pd.DataFrame:
    """One result of each architecture named, a cell of its own data set for each list of names."""
    found = [
        (name, f"d{d}", "CXR", 0.9 + 0.003 * i - 0.01 * d, init, "all", n_params or 10 ** (7 + i / 10))
        for d, names in enumerate(cells)
        for i, name in enumerate(names)
        for init in inits
    ]
    columns = ["architecture", "dataset", "modality", "auc", "init", "unfreeze_depth", "n_params"]
    frame = pd.DataFrame(found, columns=columns)
    layers, family = frame["architecture"].map(LAYERS), frame["architecture"].str.slice(0, 3)
    return frame.assign(depth=layers, family=family, setting="")


def modality(frame: pd.DataFrame) -> Modality:
    found = modality_of("CXR", frame)
    assert found is not None
    return found


def answer(frame: pd.DataFrame, predictor: Predictor) -> Unadjusted | NoSlope:
    return associate(modality(frame), predictor, margin=0.01, settings=QUICK)


TWO_PAIRS = (["vgg16", "vgg16_bn"], ["resnet50", "resnet50d"])


def test_one_value_in_each_group_is_no_slope_and_says_so() -> None:
    found = answer(rows(*TWO_PAIRS), DEPTH)
    assert isinstance(found, NoSlope)
    assert found.reason.startswith("the architectures fall into 2 groups that have no cell in common")


def test_both_predictors_of_one_value_in_each_group_are_no_joint_answer() -> None:
    frame = rows(*TWO_PAIRS, ["vgg16", "vgg16_bn"], ["resnet50", "resnet50d"], n_params=10**7)
    found = explained_together(modality(frame), QUICK)
    assert found.r2_total is None
    more = rows(["vgg16", "vgg16_bn"], ["resnet50", "resnet101", "resnet50d"])
    assert explained_together(modality(more.assign(n_params=more["depth"] * 1e6)), QUICK).reason


def test_a_predictor_that_differs_only_between_groups_is_no_joint_answer() -> None:
    three = ["vgg16", "vgg16_bn", "vgg16b"]
    frame = rows(three, ["resnet50", "resnet50d"]).assign(depth=lambda f: 16 + 34 * (f["dataset"] == "d1"))
    found = explained_together(modality(frame), QUICK)
    assert (
        found.reason
        == "a predictor has one value only among the architectures of each group that shares cells"
    )


def test_moderators_and_gaps_leave_such_a_predictor_out() -> None:
    frame = rows(*TWO_PAIRS, inits=("imagenet", "random"))
    assert not usable(modality(frame), DEPTH)
    assert usable(modality(frame), PARAMETERS)
    found = within_modality("CXR", frame, QUICK)["init"].predictors
    assert found["log2_depth"].pairs == []
    gap = generalisation_gap(frame.assign(train_auc=frame["auc"] + 0.02), QUICK).modalities["CXR"]
    assert set(gap.predictors) == {"log10_params"}


def test_pairs_that_differ_leave_a_slope() -> None:
    """Every group has two members at least, so two groups always leave a degree of freedom."""
    found = answer(rows(["vgg16", "resnet50"], ["vgg16_bn", "resnet101"]), DEPTH)
    assert isinstance(found, Unadjusted)
    assert None not in found.ci95
    assert np.isfinite(found.slope)


def test_slopes_of_a_data_set_in_two_groups_are_within_them() -> None:
    """Cells {a, b} and {c, d}: the predictor differs much between them, which says nothing of the slope."""
    x = np.array([6.0, 6.5, 8.0, 8.5])
    own = two_way(list("abcd"), np.array([0, 0, 1, 1]), 0.03 * x + np.array([0, 0, 0.2, 0.2]))
    other = two_way(list("abcd"), np.zeros(4, dtype=np.int64), 0.03 * x)
    found = spread_of_slopes(other, {"groups": own, "whole": other, "again": other}, x)
    assert found is not None
    assert list(found.slopes.values()) == pytest.approx([0.03, 0.03, 0.03])
