"""Verdicts, and what must not change them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from made_studies import PAPER, analyze, study, unheard_of
from medfathom.analysis.as_json import FLAT, HIDDEN, OPTIONAL, plain
from medfathom.analysis.effects import two_way
from medfathom.analysis.modality import modality_of
from medfathom.analysis.predictors import PARAMETERS
from medfathom.analysis.report import sentences
from medfathom.analysis.size.association import Unadjusted, associate
from medfathom.analysis.size.design import Design
from medfathom.analysis.size.inference import Settings, Spread
from medfathom.analysis.size.multiplicity import holm, verdict
from medfathom.analysis.size.permutation import permutation_slope
from medfathom.analysis.size.slope import mixture_slope
from medfathom.analysis.size.verdicts import architectures_needed

P_KEYS = {
    "slope", "ci95", "ci90", "p_value", "p_holm", "smallest_reachable_p", "p_within_family", "spearman",
    "kendall", "margin", "p_equivalence", "verdict", "architectures_needed", "method",
}  # fmt: skip


def answer(frame: pd.DataFrame, predictor: str = "log10_params", **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = analyze(frame, **options).to_dict()["modalities"]["CXR"]["predictors"][predictor]
    return found


def test_a_strong_slope_is_found_and_its_size_is_right() -> None:
    found = answer(study(slope=0.03, family=0.002))
    assert found["verdict"] == "increases"
    assert found["ci95"][0] <= 0.03 <= found["ci95"][1]
    assert found["p_value"] >= found["smallest_reachable_p"] > 0


def test_a_falling_slope_decreases() -> None:
    assert answer(study(slope=-0.03))["verdict"] == "decreases"


def test_a_slope_within_the_margin_is_negligible() -> None:
    found = answer(study(slope=0.0, noise=0.001))
    assert found["verdict"] == "negligible"
    assert -0.01 < found["ci90"][0] < found["ci90"][1] < 0.01


def test_noise_is_inconclusive_with_a_reason_and_a_number_of_architectures() -> None:
    found = answer(study(noise=0.03, family=0.03))
    assert found["verdict"] == "inconclusive"
    assert found["reason"]
    assert found["architectures_needed"] > 10


def test_design_schema() -> None:
    found = analyze(study(datasets={"a": "CXR", "b": "OCT"})).to_dict()
    assert found["schema"] == 2
    cxr = found["modalities"]["CXR"]
    assert {k: cxr[k] for k in ("n_datasets", "n_architectures", "n_families", "n_cells", "n_rows")} == {
        "n_datasets": 1, "n_architectures": 10, "n_families": 5, "n_cells": 2, "n_rows": 40,
    }  # fmt: skip
    for predictor in ("log10_params", "log2_depth"):
        assert set(cxr["predictors"][predictor]) >= P_KEYS
    assert set(cxr["joint"]) >= {
        "r2_unique_log10_params", "r2_unique_log2_depth", "r2_shared", "predictor_correlation",
    }  # fmt: skip
    keys = {"modality_difference", "pretraining_benefit", "unfreeze_depth", "ranking_agreement"}
    assert keys <= set(found)
    json.dumps(found, allow_nan=False)


def test_more_runs_of_the_same_architectures_are_no_more_evidence() -> None:
    few = study(noise=0.01, settings=1, seeds=1)
    many = pd.concat([few.assign(seed=seed) for seed in range(50)])
    assert answer(many)["p_value"] == pytest.approx(answer(few)["p_value"], rel=1e-6)


def test_what_all_architectures_share_in_a_cell_changes_nothing() -> None:
    frame = study(noise=0.01)
    harder = frame.assign(auc=frame["auc"] - 0.05 * frame["unfreeze_depth"])
    for key in ("slope", "p_value", "p_within_family"):
        assert answer(harder)[key] == pytest.approx(answer(frame)[key], rel=1e-6)


def test_order_of_rows_changes_nothing() -> None:
    frame = study(noise=0.01)
    shuffled = frame.sample(frac=1, random_state=3)
    assert answer(shuffled)["p_value"] == pytest.approx(answer(frame)["p_value"], rel=1e-9)


def test_the_same_seed_gives_the_same_numbers() -> None:
    frame = study(noise=0.01, datasets={"a": "CXR", "b": "CXR", "c": "CXR"})
    assert analyze(frame, seed=4).to_dict() == analyze(frame, seed=4).to_dict()


def test_slopes_double_when_effects_double() -> None:
    frame = study(noise=0.01)
    middle = frame.groupby("unfreeze_depth")["auc"].transform("mean")
    wider = frame.assign(auc=middle + 2 * (frame["auc"] - middle))
    one, two = answer(frame), answer(wider)
    assert two["slope"] == pytest.approx(2 * one["slope"], rel=1e-6)
    assert two["p_value"] == pytest.approx(one["p_value"], rel=1e-6)


def test_gaps_do_not_bias() -> None:
    """Large networks only in the hard cell: means over runs would fall with size, effects do not."""
    frame = study(slope=0.0, noise=0.0005)
    frame["auc"] -= 0.1 * (frame["unfreeze_depth"] == 0)
    large = frame["n_params"] > 50e6
    anchor = frame["architecture"] == "vgg16"
    gaps = frame[~(large & ~anchor & (frame["unfreeze_depth"] == 1))]
    found = answer(gaps)
    assert abs(found["slope"]) < 0.005
    assert found["verdict"] == "negligible"


def test_three_data_sets_speak_for_the_modality_and_two_for_themselves() -> None:
    two = answer(study(datasets={"a": "CXR", "b": "CXR"}))
    three = answer(study(datasets={"a": "CXR", "b": "CXR", "c": "CXR"}))
    assert set(two["heterogeneity"]["slopes"]) == {"a", "b"}
    assert two["prediction95"] == [None, None]
    assert None not in three["prediction95"]
    assert two["speaks_for"] == "these two data sets"
    assert set(three["heterogeneity"]["slopes"]) == {"a", "b", "c"}


def test_slopes_that_differ_between_data_sets_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    frame = study(datasets=dict.fromkeys("abcd", "CXR"), noise=0.001)
    tilt = frame["dataset"].map(dict(zip("abcd", (0.06, -0.06, 0.05, -0.05), strict=True)))
    tilted = frame.assign(auc=frame["auc"] + tilt * (np.log10(frame["n_params"]) - 7.5) + 0 * rng.random())
    plain_, wide = answer(frame), answer(tilted)
    assert wide["verdict"] == "inconclusive"
    assert np.ptp(wide["ci95"]) > 5 * np.ptp(plain_["ci95"])


def tilted(slopes: tuple[float, ...], noise: float) -> pd.DataFrame:
    """One data set for each slope, of the paper's networks."""
    frame = study(datasets=dict.fromkeys("abcdefgh"[: len(slopes)], "CXR"), noise=noise)
    tilt = frame["dataset"].map(dict(zip("abcdefgh", slopes, strict=False)))
    return frame.assign(auc=frame["auc"] + tilt * (np.log10(frame["n_params"]) - 7.5))


def test_no_number_of_architectures_makes_up_for_data_sets_that_differ() -> None:
    frame = tilted((-0.03, 0.0, 0.04), noise=0.001)
    found = analyze(frame).modalities["CXR"]
    answer_ = found.predictors["log10_params"]
    assert (answer_.verdict, answer_.architectures_needed) == ("inconclusive", None)
    assert "between these 3 data sets that only more data sets can help" in answer_.reason
    assert "would be needed" not in sentences.verdicts("CXR", found)["log10_params"]


def test_architectures_needed_shrink_their_own_error_only() -> None:
    """One interval, once for these data sets, once a quarter of its square from data sets that differ."""
    modality = modality_of("CXR", study().astype({"unfreeze_depth": str}))
    assert modality is not None
    found = associate(modality, PARAMETERS, margin=0.02, settings=Settings(99, 200))
    assert isinstance(found, Unadjusted)
    assert found.n_architectures == 10
    alone = replace(found, slope=0.0, span=1.0, ci90=(-0.02, 0.02))
    extra = 0.0001 / stdtrit(7, 0.95) ** 2
    spread = Spread(
        dict.fromkeys("abcdefgh", 0.0), tau=0.0, i2=0.0, f=1.0, p_value=None, extra_variance=extra
    )
    shared = replace(alone, heterogeneity=spread)
    assert architectures_needed(alone, 1) < architectures_needed(shared, 1) < 1_000
    more = replace(alone, heterogeneity=replace(spread, extra_variance=2 * extra))
    assert architectures_needed(more, 1) is None


def test_two_predictors_in_two_modalities_are_four_tests() -> None:
    found = analyze(study(noise=0.01, datasets={"a": "CXR", "b": "OCT"})).to_dict()["modalities"]
    answers = [found[m]["predictors"][p] for m in ("CXR", "OCT") for p in ("log10_params", "log2_depth")]
    assert [a["p_holm"] for a in answers] == pytest.approx(holm([a["p_value"] for a in answers]))


def test_architectures_of_their_own_families_are_permuted_exactly() -> None:
    frame = study(noise=0.01)
    few = frame[frame["architecture"].isin(["vgg16", "resnet50", "inception_v3", "xception", "densenet121"])]
    found = answer(few)
    assert found["method"].startswith("exact permutation")
    assert found["smallest_reachable_p"] == pytest.approx(1 / 120)
    assert found["p_within_family"] is None


def test_within_family_arrangements_of_the_paper_are_72() -> None:
    found = answer(study(noise=0.01))
    assert found["within_family"]["smallest_reachable_p"] == pytest.approx(1 / 72)
    assert found["p_within_family"] >= 1 / 72


def test_three_architectures_cannot_tell_and_say_why() -> None:
    frame = study(slope=0.05, noise=0.0001)
    few = frame[frame["architecture"].isin(["vgg16", "resnet50", "densenet121"])]
    found = answer(few)
    assert found["verdict"] == "inconclusive"
    assert "few architectures" in found["reason"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kept", [["vgg16"], ["vgg16", "resnet50"]])
def test_fewer_than_three_architectures_are_inconclusive(kept: list[str]) -> None:
    frame = study()
    found = answer(frame[frame["architecture"].isin(kept)])
    assert found["verdict"] == "inconclusive"
    assert found["slope"] is None
    assert found["reason"]


def test_one_value_of_a_predictor_is_inconclusive() -> None:
    found = answer(unheard_of(study().assign(depth=50)), "log2_depth")
    assert (found["verdict"], found["p_value"]) == ("inconclusive", None)
    assert "same value" in found["reason"]


def test_equal_aucs_do_not_crash() -> None:
    found = analyze(study().assign(auc=0.9)).to_dict()
    json.dumps(found, allow_nan=False)


def test_exploratory_is_said_everywhere() -> None:
    assert analyze(study(), exploratory=True).to_dict()["exploratory"] is True


def test_leave_one_out_and_other_scales_stand_beside() -> None:
    frame = study(datasets={"a": "CXR", "b": "CXR"})
    frame["macs"] = frame["n_params"] * 100
    entries = {e["name"]: e for e in answer(frame)["sensitivity"]}
    assert {
        "logit AUC",
        "ranks within cells",
        "without family vgg",
        "without dataset a",
        "log10_macs",
    } <= set(entries)
    assert entries["log10_macs"]["slope"] == pytest.approx(answer(frame)["slope"], rel=1e-6)
    assert entries["log10_trainable_params"]["reason"]


def test_joint_parts_add_up() -> None:
    found = analyze(study(noise=0.01)).to_dict()["modalities"]["CXR"]["joint"]
    parts = found["r2_unique_log10_params"] + found["r2_unique_log2_depth"] + found["r2_shared"]
    assert parts == pytest.approx(found["r2_total"])
    expected = np.corrcoef(np.log10([v[1] for v in PAPER.values()]), np.log2([v[2] for v in PAPER.values()]))
    assert found["predictor_correlation"] == pytest.approx(expected[0, 1])


def test_a_slope_that_depends_on_init_is_moderation() -> None:
    frame = study(inits=("imagenet", "random"), noise=0.001)
    tilt = 0.05 * (np.log10(frame["n_params"]) - 7.5) * (frame["init"] == "random")
    found = analyze(frame.assign(auc=frame["auc"] + tilt)).to_dict()["modalities"]["CXR"]["moderation"]
    pair = found["init"]["predictors"]["log10_params"]["pairs"][0]
    assert pair["levels"] == ["imagenet", "random"]
    assert pair["difference"] == pytest.approx(0.05, abs=0.005)
    assert pair["p_holm"] < 0.01
    assert found["unfreeze_depth"]["predictors"]["log10_params"]["p_value"] > 0.01


def test_modalities_with_other_slopes_differ() -> None:
    one = study(slope=0.0, noise=0.001)
    two = study(slope=0.05, noise=0.001, datasets={"oct": "OCT"}, seed=1)
    found = analyze(pd.concat([one, two])).to_dict()["modality_difference"]["log10_params"]
    assert found["pairs"][0]["difference"] == pytest.approx(0.05, abs=0.01)
    assert found["p_value"] < 0.01


def test_four_words() -> None:
    assert verdict(0.1, 0.01, 0.9) == "increases"
    assert verdict(-0.1, 0.01, 0.9) == "decreases"
    assert verdict(0.001, 0.01, 0.01) == "negligible"
    assert verdict(0.001, 0.9, 0.9) == "inconclusive"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_and_keeps_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b and a <= 1 for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(4, 6))
def test_permutation_interval_holds_exactly_what_is_not_rejected(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    found = permutation_slope(
        rng.normal(size=n), rng.normal(size=n), np.zeros(n, dtype=np.int64), draws=9, seed=0
    )
    low, high = found.interval(0.90)
    for end, outward in ((low, -1), (high, 1)):
        if np.isfinite(end):
            step = 1e-6 * (1 + abs(end))
            assert found.p_value(end + outward * step) <= 0.10 + 1e-9
            assert found.p_value(end - outward * step) > 0.10
    assert found.p_value(found.estimate) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_mixture_interval_holds_exactly_what_is_not_rejected(seed: int) -> None:
    rng = np.random.default_rng(seed)
    families = np.array([0, 0, 1, 1, 1, 2, 3])
    X = np.column_stack([np.ones(7), rng.normal(size=7)])
    found = mixture_slope(rng.normal(size=7), Design.build(X, families, np.eye(7)), ())
    low, high = found.interval(0.95)
    assert found.p_value(low) == pytest.approx(0.05, abs=1e-6)
    assert found.p_value(high) == pytest.approx(0.05, abs=1e-6)
    assert found.p_greater(0.3) + found.p_less(0.3) == pytest.approx(1, abs=1e-3)


def test_size_is_held_with_and_without_families() -> None:
    """The issue's hardest case: the paper's ten networks. Rejections at 5 %, 2,000 studies each."""
    families = np.unique([v[0] for v in PAPER.values()], return_inverse=True)[1]
    x = np.log10([v[1] for v in PAPER.values()])
    design = Design.build(np.column_stack([np.ones(10), x - x.mean()]), families, np.eye(10))
    calibration = design.calibrate(4_000, 0)
    rng = np.random.default_rng(1)
    for ratio in (0.0, 1.0, 16.0):
        own, shared = rng.normal(size=(2_000, 10)), rng.normal(size=(2_000, 5)) * np.sqrt(ratio)
        ps = [mixture_slope(y, design, calibration).p_value() for y in own + shared[:, families]]
        assert 0.015 <= np.mean(np.array(ps) <= 0.05) <= 0.065


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_effects_are_least_squares(seed: int) -> None:
    """Against dummy variables and lstsq, on a connected table with gaps."""
    rng = np.random.default_rng(seed)
    keep = rng.random((5, 4)) < 0.6
    keep[:, 0] = True
    a, c = np.nonzero(keep)
    values = rng.normal(size=len(a))
    found = two_way([f"a{i}" for i in a], c, values)
    X = np.column_stack([a[:, None] == np.arange(5), c[:, None] == np.unique(c)]).astype(float)
    theirs = np.linalg.lstsq(X, values, rcond=None)[0][:5]
    assert found.values == pytest.approx(theirs - theirs.mean(), abs=1e-9)
    residual = values - X @ np.linalg.lstsq(X, values, rcond=None)[0]
    if found.noise_df > 0:
        assert found.noise_variance == pytest.approx(residual @ residual / found.noise_df, abs=1e-9)


def test_plain_leaves_no_nan() -> None:
    given_ = {"a": np.float64("nan"), "b": [np.inf, np.int64(3)], "c": (np.bool_(True),), "d": {"e": 1.5}}
    assert plain(given_) == {"a": None, "b": [None, 3], "c": [True], "d": {"e": 1.5}}


@dataclass(frozen=True)
class Inner:
    low: float
    high: np.float64


@dataclass(frozen=True)
class Outer:
    within: Inner
    inner: Inner = field(metadata=FLAT)
    by: dict[str, float] = field(metadata=FLAT)
    table: pd.DataFrame = field(metadata=HIDDEN)
    absent: float | None = field(metadata=OPTIONAL)
    given: float | None = field(metadata=OPTIONAL)


def test_typed_results_become_plain_keys_in_the_order_of_their_fields() -> None:
    inner = Inner(1.0, np.float64("inf"))
    found = plain(Outer(inner, inner, {"size": 2.0}, pd.DataFrame(), None, 3.0))
    expected = {"within": {"low": 1.0, "high": None}, "low": 1.0, "high": None, "by_size": 2.0, "given": 3.0}
    assert list(found.items()) == list(expected.items())
