"""Pretraining, unfreeze depth, rankings, regret, gap, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_studies import analyze, lookup, study
from medfathom.analysis.questions.pretraining import Benefit, MeanBenefit, pretraining_benefit
from medfathom.analysis.questions.pretraining_over_datasets import (
    BenefitOverDatasets,
    Covariate,
    benefit_over_datasets,
)
from medfathom.analysis.questions.ranking import kendalls_w, ranking_agreement
from medfathom.analysis.questions.unfreezing import depths_over_datasets, unfreeze_depths
from medfathom.analysis.rows import prepare
from medfathom.analysis.size.inference import Settings

SETTINGS = Settings(permutations=499, draws=2_000)


def test_pretraining_benefit_is_paired() -> None:
    """The harder setting lowers both sides alike: the benefit of 0.02 stays what it is."""
    frame = study(inits=("imagenet", "random"), noise=0.001)
    found = pretraining_benefit(frame, SETTINGS, 0.01)
    whole = [b.mean for b in found if b.level == "dataset"]
    assert len(whole) == 2
    assert len(found) == 2 + 20
    for mean in whole:
        low, high = mean.ci95
        assert mean.benefit == pytest.approx(0.02, abs=0.001)
        assert low < mean.benefit < high < low + 0.003
        assert mean.n == 10


def two_seeds(with_: tuple[float, float], without: tuple[float, float]) -> pd.DataFrame:
    frame = study(inits=("imagenet", "random"), settings=1)
    aucs = {("imagenet", 0): with_[0], ("imagenet", 1): with_[1]}
    aucs |= {("random", 0): without[0], ("random", 1): without[1]}
    return frame.assign(auc=[aucs[key] for key in zip(frame["init"], frame["seed"], strict=True)])


@pytest.mark.parametrize(("with_", "without"), [((0.95, 0.93), (0.90, 0.88)), ((0.75, 0.75), (0.5, 0.5))])
def test_equal_differences_give_no_p_whatever_their_rounding(
    with_: tuple[float, float], without: tuple[float, float]
) -> None:
    """0.95 - 0.90 and 0.93 - 0.88 differ in the 16th digit; an interval of that width says nothing."""
    found = pretraining_benefit(two_seeds(with_, without), SETTINGS, 0.01)
    assert {b.level for b in found} == {"architecture", "dataset"}
    assert all(b.mean.p_value is None and b.mean.ci95 == (None, None) for b in found)
    assert all(b.mean.benefit == pytest.approx(with_[0] - without[0]) for b in found)


def test_equal_differences_between_depths_tell_none_apart() -> None:
    aucs = {"vgg16": (0.90, 0.95), "vgg19": (0.88, 0.93), "resnet50": (0.70, 0.75)}
    frame = study(settings=2, seeds=1)
    few = frame[frame["architecture"].isin(list(aucs))]
    few = few.assign(
        auc=[aucs[a][d] for a, d in zip(few["architecture"], few["unfreeze_depth"], strict=True)]
    )
    assert unfreeze_depths(few.astype({"unfreeze_depth": str}), SETTINGS)[0].not_worse == ["0", "1"]


def test_equal_differences_of_many_families_tell_depths_apart() -> None:
    rows = [
        {"architecture": f"net{i}", "family": f"net{i}", "dataset": "a", "modality": "CXR", "init": "x"}
        | {"unfreeze_depth": depth, "setting": "", "seed": None, "auc": 0.7 + i / 50 + gain}
        for i in range(8)
        for depth, gain in (("LP", 0.0), ("5", 0.05))
    ]
    found = unfreeze_depths(pd.DataFrame(rows), SETTINGS)[0]
    assert (found.best, found.not_worse) == ("5", ["5"])


def seeded(benefits: dict[str, float], noise: float) -> pd.DataFrame:
    """Networks with and without pretraining, three seeds each."""
    jitter = noise * np.array([-1.0, 0.0, 1.0])
    return pd.DataFrame(
        [
            {
                "architecture": name,
                "family": name,
                "modality": "CXR",
                "dataset": "a",
                "unfreeze_depth": "5",
                "setting": "",
                "seed": str(seed),
                "init": init,
                "auc": 0.8 + (benefit + jitter[(seed + k) % 3]) * (init == "imagenet"),
            }
            for k, (name, benefit) in enumerate(benefits.items())
            for seed in range(3)
            for init in ("imagenet", "random")
        ]
    )


def test_pretraining_that_harms_is_said_and_one_of_ten_networks_is_no_finding() -> None:
    """p = .03 of one network is p = .3 among ten; a network that loses .05 is harmed."""
    names = {f"net{i}": 0.0 for i in range(9)} | {"harmed": -0.05}
    found = {b.architecture: b.mean for b in pretraining_benefit(seeded(names, 0.001), SETTINGS, 0.01)}
    assert (found["harmed"].verdict, found["net0"].verdict) == ("harms", "negligible")
    few = seeded({f"net{i}": 0.01 if i == 0 else 0.0 for i in range(10)}, 0.003)
    lucky = {b.architecture: b.mean for b in pretraining_benefit(few, SETTINGS, 0.01)}["net0"]
    assert lucky.p_value is not None
    assert lucky.p_value < 0.05 < (lucky.p_holm or 0.0)
    assert lucky.verdict == "inconclusive"


def test_networks_that_are_equal_may_all_be_chosen() -> None:
    """Noise makes a regret; its interval excluded 0 in half of such studies."""
    rng = np.random.default_rng(0)
    frame = study(datasets=dict.fromkeys("abcd", "CXR"), settings=1, seeds=1).assign(init="x")
    regret = ranking_agreement(
        frame.assign(auc=0.8 + 0.01 * rng.normal(size=len(frame))).astype({"unfreeze_depth": str}),
        draws=99,
        seed=0,
    ).regret.all
    assert regret is not None
    assert regret.ci95[0] == 0.0 < regret.mean < (regret.ci95[1] or 0.0)


def test_members_of_a_family_are_one_vote_in_friedmans_test() -> None:
    """Two families of three that data sets rank alike: six networks agree, two families hardly can."""
    rng = np.random.default_rng(0)
    rows = [
        {"architecture": f"{f}{i}", "family": f, "dataset": d, "modality": "CXR", "init": "x", "seed": None}
        | {"unfreeze_depth": "5", "setting": "", "auc": 0.8 + 0.05 * (f == "f") + 0.001 * rng.normal()}
        for f in "fg"
        for i in range(3)
        for d in "abc"
    ]
    scope = ranking_agreement(pd.DataFrame(rows), draws=999, seed=0).scopes["all"]
    assert scope.kendalls_w is not None
    assert scope.kendalls_w > 0.7
    assert scope.p_value == pytest.approx(0.25)  # 2 of the 2^3 arrangements


def test_no_pair_no_benefit() -> None:
    assert pretraining_benefit(study(), SETTINGS, 0.01) == []


def test_benefit_against_data_set_size() -> None:
    names = dict.fromkeys("abcde", "CXR")
    frame = study(inits=("imagenet", "random"), datasets=names, settings=1, noise=0.001)
    size = dict(zip("abcde", (100, 300, 1_000, 3_000, 10_000), strict=True))
    pretrained = frame["init"] == "imagenet"
    frame["auc"] -= pretrained * 0.005 * np.log10(frame["dataset"].map(size))
    sizes = pd.Series(size, dtype=float)
    covariates = {
        "log10_n_train": Covariate(np.log10(sizes)),
        "domain_shift": Covariate(pd.Series(dtype=float)),
    }
    whole = benefit_over_datasets(pretraining_benefit(frame, SETTINGS, 0.01), frame, covariates, SETTINGS)[0]
    assert whole.n_datasets == 5
    assert whole.against["log10_n_train"].estimate.slope == pytest.approx(-0.005, abs=0.001)
    assert "known for 0" in whole.against["domain_shift"].reason


def by_domain_shift(measured: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The benefit falls by 0.01 a unit of shift; ResNets find every data set twice as far as the others.

    `measured` says which architectures' shifts are known, by data set.
    """
    frame = study(inits=("imagenet", "random"), datasets=dict.fromkeys("abcde", "CXR"), noise=1e-4)
    far = frame["dataset"].map(dict(zip("abcde", range(1, 6), strict=True)))
    frame["auc"] -= 0.01 * far * (frame["init"] == "imagenet")
    frame["domain_shift"] = far * np.where(frame["family"] == "resnet", 2.0, 1.0)
    known = [a in measured[d] for a, d in zip(frame["architecture"], frame["dataset"], strict=True)]
    found = analyze(frame.assign(domain_shift=frame["domain_shift"].where(known))).to_dict()
    against: dict[str, Any] = found["pretraining_over_datasets"][0]["against"]["domain_shift"]
    return against


def test_domain_shift_compares_data_sets_by_the_same_architectures() -> None:
    """In a and b the ResNets were measured, which see twice the shift, in the others they were not."""
    own = {"a": ("resnet50", "vgg16"), "b": ("resnet50", "resnet101", "vgg16")} | dict.fromkeys(
        "cd", ("vgg16",)
    )
    found = by_domain_shift(own | {"e": ("vgg16", "vgg19")})
    assert found["measured_by"] == ["vgg16"]
    assert found["slope"] == pytest.approx(-0.01, abs=1e-4)


def test_domain_shifts_of_different_architectures_are_not_compared() -> None:
    found = by_domain_shift(dict.fromkeys("abc", ("resnet50",)) | dict.fromkeys("de", ("vgg16",)))
    assert (found["slope"], found["n_datasets"]) == (None, 0)
    assert "domain shift is known for 5 data sets, but for no architecture on all" in found["reason"]


def benefits(table: np.ndarray, families: list[int]) -> tuple[list[Benefit], pd.DataFrame]:
    """As `pretraining_benefit` gives them, of a table (architectures, data sets; NaN: not run), and rows."""
    listed = [
        Benefit(
            level="architecture",
            modality="CXR",
            dataset=f"set{d}",
            unfreeze_depth="5",
            init="imagenet",
            baseline="random",
            architecture=f"net{a}",
            mean=MeanBenefit(benefit=float(table[a, d]), n=1, unit="seed"),
        )
        for a, d in np.argwhere(np.isfinite(table))
    ]
    names = [f"net{a}" for a in range(len(table))]
    return listed, pd.DataFrame({"architecture": names, "family": list(map(str, families))})


def over(table: np.ndarray, families: list[int]) -> BenefitOverDatasets:
    listed, rows = benefits(table, families)
    return benefit_over_datasets(listed, rows, {}, SETTINGS)[0]


@pytest.mark.parametrize(
    ("own", "between", "interaction", "families", "gaps"),
    [
        (0.02, 0.0, 0.002, [0, 1, 2, 3, 4], False),
        (0.002, 0.02, 0.002, [0, 1, 2, 3, 4], False),
        (0.0, 0.0, 0.02, [0, 1, 2, 3, 4], False),
        (0.02, 0.0, 0.002, [0, 0, 1, 1, 2, 3], False),
        (0.02, 0.01, 0.01, [0, 1, 2, 3, 4, 5, 6], True),
    ],
)
@pytest.mark.slow
def test_the_same_architectures_in_every_data_set_are_no_more_evidence(
    own: float, between: float, interaction: float, families: list[int], gaps: bool
) -> None:
    """No benefit on average: at 5 % at most 5 % of studies of six data sets may find one."""
    rng = np.random.default_rng(3)
    n, studies = len(families), 200
    missing = rng.random((n, 6)) < 0.3 * gaps
    missing[0], missing[:, 0] = False, False
    found = 0
    for _ in range(studies):
        table = own * rng.normal(size=(n, 1)) + between * rng.normal(size=(1, 6))
        table = np.where(missing, np.nan, table + interaction * rng.normal(size=(n, 6)))
        found += over(table, families).p_value <= 0.05
    assert found / studies <= 0.08  # two Monte Carlo errors above 5 %


def test_a_benefit_over_data_sets_is_found_and_gaps_do_not_bias_it() -> None:
    """Two architectures that gain little are missing where all gain much."""
    rng = np.random.default_rng(0)
    gain, place = np.array([0.03, 0.03, 0.03, 0.01, 0.01]), np.array([0.0, 0.0, 0.0, 0.02])
    table = gain[:, None] + place + 1e-4 * rng.normal(size=(5, 4))
    whole = over(table, [0, 1, 2, 3, 4])
    table[3:, 3] = np.nan
    gaps = over(table, [0, 1, 2, 3, 4])
    assert (whole.n_datasets, whole.n_architectures) == (4, 5)
    assert whole.benefit == pytest.approx(0.027, abs=3e-4)
    assert gaps.benefit == pytest.approx(0.027, abs=3e-4)
    assert whole.p_value < 0.05
    assert whole.ci95[0] < 0.027 < whole.ci95[1]
    assert whole.prediction95[0] < whole.ci95[0]
    assert whole.tau == pytest.approx(0.01, abs=1e-3)


def test_data_sets_that_share_no_architecture_are_averaged_too() -> None:
    table = np.full((4, 3), np.nan)
    table[0, 0], table[1, 1], table[2, 2], table[3, 2] = 0.01, 0.02, 0.02, 0.04
    assert over(table, [0, 1, 2, 3]).benefit == pytest.approx(0.0225)


def test_the_best_unfreeze_depth_and_those_like_it() -> None:
    frame = study(settings=4, noise=0.001)
    same = frame["unfreeze_depth"] == 2
    frame.loc[same, "auc"] += 0.01  # as good as depth 3
    found = unfreeze_depths(frame.astype({"unfreeze_depth": str}), SETTINGS)[0]
    assert found.best in {"2", "3"}
    assert {"2", "3"} <= set(found.not_worse)
    assert not {"0", "1"} & set(found.not_worse)


def test_two_architectures_do_not_tell_depths_apart() -> None:
    frame = study(settings=3)
    few = frame[frame["architecture"].isin(["vgg16", "vgg19"])]
    found = unfreeze_depths(few, SETTINGS)[0]
    assert found.reason
    assert len(found.not_worse) == 3


def test_data_sets_that_agree_and_the_price_of_one_network() -> None:
    found = analyze(study(datasets={"a": "CXR", "b": "OCT", "c": "WSI"}, noise=0.02)).to_dict()[
        "ranking_agreement"
    ]
    scope = found["scopes"]["all"]
    assert scope["kendalls_w"] > 0.5
    assert scope["p_value"] < 0.05
    assert list(scope["mean_ranks"].values()) == sorted(scope["mean_ranks"].values())
    assert all(len(group) >= 2 for group in scope["groups_not_told_apart"])
    regret = found["regret"]
    assert set(regret["modalities"]) == {"CXR", "OCT", "WSI"}
    assert regret["all"]["mean"] >= 0
    assert regret["all"]["ci95"][0] <= regret["all"]["mean"] <= regret["all"]["ci95"][1]
    assert "at least 3" in regret["modalities"]["CXR"]["reason"]


def test_one_data_set_cannot_agree() -> None:
    found = analyze(study()).to_dict()["ranking_agreement"]
    assert found["scopes"]["all"]["reason"]
    assert found["regret"]["universal"] is None


@settings(deadline=None)
@given(st.integers(0, 1_000), st.integers(3, 7), st.integers(2, 5))
def test_w_lies_between_0_and_1_and_knows_only_ranks(seed: int, n: int, k: int) -> None:
    table = np.random.default_rng(seed).normal(size=(n, k))
    w = kendalls_w(table).w
    assert -1e-12 <= w <= 1 + 1e-12
    assert kendalls_w(np.exp(3 * table)).w == pytest.approx(w)
    assert kendalls_w(table[::-1]).w == pytest.approx(w)


def test_larger_networks_that_overfit_more() -> None:
    frame = study(noise=0.001)
    gap = 0.05 + 0.03 * (np.log10(frame["n_params"]) - 7.5)
    found = analyze(frame.assign(train_auc=frame["auc"] + gap)).to_dict()["generalisation_gap"]
    assert found["modalities"]["CXR"]["predictors"]["log10_params"]["slope"] == pytest.approx(0.03, abs=1e-6)
    assert "at least 4" in found["training_set_size"]["reason"]


def test_no_training_auc() -> None:
    assert "no row has a train_auc" in analyze(study()).to_dict()["generalisation_gap"]["reason"]


def test_unfreeze_depths_are_pooled_over_data_sets() -> None:
    """Words beside numbers; a cell without every depth is left out; data sets weigh the same."""
    aucs = {("a", "r"): (0.8, 0.9, 0.7), ("b", "r"): (0.6, 0.9, 0.9), ("b", "v"): (0.8, 0.7, 0.6)}
    rows = [
        {"modality": "CXR", "dataset": dataset, "architecture": name, "init": "imagenet", "setting": ""}
        | {"unfreeze_depth": depth, "auc": auc}
        for (dataset, name), values in aucs.items()
        for depth, auc in zip(("0", "5", "start60"), values, strict=True)
    ]
    rows.append(rows[0] | {"architecture": "v"})
    (found,) = depths_over_datasets(pd.DataFrame(rows), SETTINGS)
    assert (found.n_cells, found.n_left_out, found.n_datasets, found.p_value) == (3, 1, 2, None)
    assert [d.unfreeze_depth for d in found.depths] == ["5", "0", "start60"]
    assert [d.mean_auc for d in found.depths] == pytest.approx([0.85, 0.75, 0.725])
    assert [d.mean_rank for d in found.depths] == pytest.approx([(1 + 1.75) / 2, 2.0, 2.625])
    assert [d.wins for d in found.depths] == [1.5, 1.0, 0.5]


def several_settings(seeds: dict[tuple[str, str], tuple[str, ...]]) -> list[Benefit]:
    """The benefit of one network at two image sizes that differ: .1 and .3; `seeds` by init and size."""
    rows = [
        (
            "vgg16",
            "a",
            "CXR",
            init,
            f"image_size={size}",
            seed,
            0.6 + gain * (init == "imagenet") + level + 0.01 * k,
        )
        for size, gain, level in (("32", 0.1, 0.0), ("64", 0.3, 0.05))
        for init in ("imagenet", "random")
        for k, seed in enumerate(seeds[init, size])
    ]
    columns = ["architecture", "dataset", "modality", "init", "setting", "seed", "auc"]
    frame = prepare(pd.DataFrame(rows, columns=columns), lookup)[0]
    return [b for b in pretraining_benefit(frame, Settings(99, 200), 0.01) if b.architecture]


def test_settings_are_no_seeds() -> None:
    """Before, two image sizes without seeds were two seeds, with an interval over them."""
    sides = [(init, size) for init in ("imagenet", "random") for size in ("32", "64")]
    [alone] = several_settings(dict.fromkeys(sides, ("",)))
    assert (alone.mean.n, alone.mean.unit, alone.mean.ci95) == (1, "seed", (None, None))
    [seeded] = several_settings(dict.fromkeys(sides, ("1", "2", "3")))
    assert seeded.mean.n == 3
    assert [alone.mean.benefit, seeded.mean.benefit] == pytest.approx([0.2, 0.2])


def test_uneven_seeds_do_not_hold_one_setting_against_another() -> None:
    """Before, the mean over all runs of one side was held against that of the other: .825 - .62 = .205."""
    several, one = ("1", "2", "3"), ("1",)
    [found] = several_settings(
        {
            ("imagenet", "32"): one,
            ("imagenet", "64"): one,
            ("random", "32"): several,
            ("random", "64"): one,
        }
    )
    assert found.mean.benefit == pytest.approx(((0.1 - 0.01) + 0.3) / 2)
