"""One word for pretraining: found where it is true, rarely where it is not, and for whom it speaks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze
from medfathom.analysis.questions.pretraining_verdict import PretrainingVerdict, pretraining_verdicts
from medfathom.analysis.report.pretraining_words import pretraining_lines
from medfathom.analysis.size.inference import Settings

SETTINGS = Settings(permutations=199, draws=500)


def table(
    gains: dict[str, tuple[str, float]],
    rng: np.random.Generator,
    *,
    networks: int = 6,
    seeds: int = 2,
    own: float = 0.004,
    noise: float = 0.004,
    depths: tuple[str, ...] = ("1", "5"),
) -> pd.DataFrame:
    """Results with and without pretraining; data set -> modality and what pretraining brings there.

    `own` is the spread of the networks' benefits, `noise` that of a run.
    """
    spread = own * rng.normal(size=networks)
    return pd.DataFrame(
        [
            {"architecture": f"n{i}", "family": f"f{i}", "n_params": 1e7 + 1e6 * i, "depth": 20 + i}
            | {"dataset": dataset, "modality": modality, "init": init, "unfreeze_depth": depth}
            | {"seed": str(seed), "setting": ""}
            | {"auc": 0.8 + (gain + spread[i]) * (init == "imagenet") + noise * rng.normal()}
            for dataset, (modality, gain) in gains.items()
            for depth in depths
            for init in ("imagenet", "random")
            for i in range(networks)
            for seed in range(seeds)
        ]
    )


def verdicts(frame: pd.DataFrame) -> dict[str, PretrainingVerdict]:
    return {v.scope: v for v in pretraining_verdicts(frame, SETTINGS, 0.01)}


def test_each_of_the_four_words_where_it_is_true() -> None:
    rng = np.random.default_rng(0)
    gains = {"a": ("CXR", 0.05), "b": ("OCT", -0.05), "c": ("WSI", 0.0)}
    frame = table(gains, rng, own=0.002, noise=0.002)
    loose = table({"d": ("US", 0.02)}, rng, own=0.05)
    found = verdicts(pd.concat([frame, loose]))
    assert {scope: v.mean.verdict for scope, v in found.items()} == {
        "CXR": "helps",
        "OCT": "harms",
        "WSI": "negligible",
        "US": "inconclusive",
        "all": "inconclusive",
    }
    low, high = found["OCT"].mean.ci95
    assert low < -0.05 < high < 0
    assert (found["CXR"].mean.unit, found["all"].mean.unit) == ("architecture", "data set and architecture")
    assert found["CXR"].unfreeze_depths == ["1", "5"]


def test_over_three_data_sets_of_a_modality_both_are_samples() -> None:
    """Data sets that differ widen the interval: they stand for others."""
    rng = np.random.default_rng(1)
    alike = dict.fromkeys("abcd", ("CXR", 0.03))
    apart = dict(zip("abcd", [("CXR", g) for g in (0.0, 0.01, 0.05, 0.06)], strict=True))
    one, other = (verdicts(table(gains, rng, own=0.001, noise=0.001))["CXR"] for gains in (alike, apart))
    assert one.mean.benefit == pytest.approx(other.mean.benefit, abs=0.002)
    assert np.diff(other.mean.ci95)[0] > 5 * np.diff(one.mean.ci95)[0]
    assert (one.mean.verdict, other.mean.verdict) == ("helps", "inconclusive")


def test_one_network_is_judged_over_its_seeds_and_speaks_for_itself() -> None:
    frame = table({"a": ("CXR", -0.1)}, np.random.default_rng(2), networks=1, seeds=4)
    found = verdicts(frame)["CXR"]
    assert (found.mean.unit, found.mean.n, found.mean.verdict) == ("seed", 4, "harms")
    single = verdicts(frame[frame["seed"] == "0"])["CXR"]
    assert (single.mean.verdict, single.mean.ci95) == ("inconclusive", (None, None))


def test_the_harder_depth_of_one_init_is_no_benefit_of_the_other() -> None:
    """Random weights are not run at depth 0, where all is worse: that depth does not count."""
    frame = table({"a": ("CXR", 0.03)}, np.random.default_rng(3), depths=("0", "5"), own=0.001, noise=0.001)
    frame.loc[frame["unfreeze_depth"] == "0", "auc"] -= 0.2
    frame = frame[(frame["init"] != "random") | (frame["unfreeze_depth"] != "0")]
    found = verdicts(frame)["CXR"]
    assert found.unfreeze_depths == ["5"]
    assert found.mean.benefit == pytest.approx(0.03, abs=0.003)


@pytest.mark.parametrize(("datasets", "networks", "seeds"), [(1, 5, 1), (4, 4, 1), (1, 1, 3)])
@pytest.mark.slow
def test_no_benefit_is_rarely_called_one(datasets: int, networks: int, seeds: int) -> None:
    """A false "helps" or "harms" in at most 5 % of tables; 8 % leaves room for Monte Carlo error."""
    rng = np.random.default_rng(4)
    gains = {f"d{i}": ("CXR", 0.0) for i in range(datasets)}
    false = 0
    for _ in range(200):
        shifted = {
            name: (modality, 0.02 * (datasets > 2) * rng.normal()) for name, (modality, _) in gains.items()
        }
        own = 0.02 * (networks > 1)
        frame = table(shifted, rng, networks=networks, seeds=seeds, own=own, noise=0.02, depths=("5",))
        false += verdicts(frame)["CXR"].mean.verdict in ("helps", "harms")
    assert false / 200 <= 0.08


def test_the_first_screen_opens_with_the_word() -> None:
    rng = np.random.default_rng(5)
    frame = table({"a": ("CXR", 0.06), "b": ("CXR", 0.05), "c": ("OCT", -0.06)}, rng, own=0.001, noise=0.001)
    found = analyze(frame, permutations=199, draws=500)
    lines = pretraining_lines(found.pretraining, found.pretraining_benefit, found.margin)
    assert list(lines) == ["CXR", "OCT", "all data sets"]
    assert lines["CXR"].startswith("helps (imagenet against random, unfreeze depths 1, 5): +0.05")
    assert "95 % interval" in lines["CXR"]
    assert "over 6 networks; this applies to these 2 data sets only." in lines["CXR"]
    assert lines["CXR"].endswith("Of 4 comparisons by data set and unfreeze depth: helps in 4.")
    assert lines["OCT"].startswith("harms (imagenet")
    assert lines["all data sets"].startswith("is inconclusive (imagenet")
    first = found.to_dict()["pretraining"][0]  # type: ignore[index]
    assert (first["scope"], first["verdict"]) == ("CXR", "helps")
    assert first["ci95"][0] > 0
