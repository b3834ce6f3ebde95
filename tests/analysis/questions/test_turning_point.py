"""Where the benefit of pretraining changes sign, how sure that is, and which resolution is enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze
from medfathom.analysis.questions.resolution import enough, resolution_steps
from medfathom.analysis.questions.turning_point import TurningPoint, turning_points
from medfathom.analysis.report.figures import Figures
from medfathom.analysis.report.opening import opening
from medfathom.analysis.report.report import page
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.told import ToldOfStudy

SETTINGS = Settings(permutations=199, draws=500)
IMAGES = (50, 200, 1000)


def table(
    rng: np.random.Generator,
    *,
    turns_at: float = 200.0,
    per_tenfold: float = -0.08,
    networks: int = 5,
    own: float = 0.002,
    noise: float = 0.002,
    seeds: int = 1,
    images: tuple[int, ...] = IMAGES,
) -> pd.DataFrame:
    """Results whose benefit falls by so much with every ten times as many images."""
    spread = own * rng.normal(size=networks)
    return pd.DataFrame(
        [
            {"architecture": f"n{i}", "family": f"f{i}", "n_params": 1e7 + 1e6 * i, "depth": 20 + i}
            | {"dataset": "a", "modality": "CXR", "init": init, "unfreeze_depth": "5", "seed": str(seed)}
            | {"setting": f"train_fraction={n / images[-1]:g}", "n_train": n, "domain_shift": 0.4}
            | {
                "auc": 0.8
                + (per_tenfold * np.log10(n / turns_at) + spread[i]) * (init == "imagenet")
                + noise * rng.normal()
            }
            for n in images
            for init in ("imagenet", "random")
            for i in range(networks)
            for seed in range(seeds)
        ]
    )


def point(frame: pd.DataFrame) -> TurningPoint:
    (found,) = turning_points(frame, SETTINGS, 0.01)
    return found


def test_the_turning_point_is_found_with_an_interval_around_it() -> None:
    found = point(table(np.random.default_rng(0)))
    assert [at.n_train for at in found.at] == list(IMAGES)
    assert [found.at[0].mean.verdict, found.at[-1].mean.verdict] == ["helps", "harms"]
    low, high = found.turns_ci95
    assert found.turns_at == pytest.approx(200, rel=0.15)
    assert 100 < low < found.turns_at < high < 400
    assert found.slope.slope == pytest.approx(-0.08, abs=0.01)
    assert found.domain_shift == pytest.approx(0.4)


def test_a_benefit_that_stays_has_no_turning_point_and_one_in_noise_no_interval() -> None:
    stays = point(table(np.random.default_rng(1), turns_at=1e6))
    assert stays.turns_at is None
    assert [at.mean.verdict for at in stays.at] == ["helps"] * 3
    noisy = point(table(np.random.default_rng(1), per_tenfold=-0.01, own=0.05))
    assert noisy.turns_at is None or noisy.turns_ci95 == (None, None)


def test_one_network_is_judged_over_its_seeds() -> None:
    found = point(table(np.random.default_rng(2), networks=1, seeds=5))
    assert {at.mean.unit for at in found.at} == {"seed"}
    assert found.turns_at == pytest.approx(200, rel=0.2)


def test_one_number_of_images_is_no_question() -> None:
    assert turning_points(table(np.random.default_rng(3), images=(100,)), SETTINGS, 0.01) == []


@pytest.mark.slow
def test_the_interval_holds_the_true_turning_point() -> None:
    """In 95 of 100 studies of five networks, or a little more: at least 90 % with Monte Carlo error."""
    rng, held, found = np.random.default_rng(4), 0, 0
    for _ in range(100):
        one = point(table(rng, own=0.01, noise=0.005))
        low, high = one.turns_ci95
        if one.turns_at is not None:
            found += 1
            held += (low is None or low <= 200) and (high is None or high >= 200)
    assert found >= 90
    assert held / found >= 0.90


def sizes(rng: np.random.Generator, lost: dict[int, float], datasets: int = 1) -> pd.DataFrame:
    """Results at several image sizes; size -> what it loses against the largest."""
    return pd.DataFrame(
        [
            {"architecture": f"n{i}", "family": f"f{i}", "n_params": 1e7 + 1e6 * i, "depth": 20 + i}
            | {"dataset": f"d{d}", "modality": "CXR", "init": "imagenet", "unfreeze_depth": "5", "seed": "0"}
            | {"setting": f"image_size={size}, strategy=fixed"}
            | {"auc": 0.8 - loss + 0.01 * i + 0.001 * rng.normal()}
            for d in range(datasets)
            for size, loss in lost.items()
            for i in range(5)
        ]
    )


@pytest.mark.parametrize("datasets", [1, 3])
def test_the_smallest_size_that_loses_nothing_that_matters_is_enough(datasets: int) -> None:
    frame = sizes(np.random.default_rng(5), {32: 0.05, 64: 0.001, 128: 0.0}, datasets)
    steps = resolution_steps(frame, SETTINGS, 0.01)
    assert [(s.image_size, s.mean.verdict) for s in steps] == [(32, "worse"), (64, "as good")]
    assert enough(steps, "CXR") == 64
    assert (steps[0].largest, steps[0].n_datasets) == (128, datasets)


def test_results_of_one_size_ask_nothing() -> None:
    assert resolution_steps(sizes(np.random.default_rng(6), {64: 0.0}), SETTINGS, 0.01) == []


def test_a_report_opens_with_the_answer_to_the_question_of_its_studies() -> None:
    found = analyze(table(np.random.default_rng(7)), permutations=199, draws=500)
    asked = replace(found, studies=[ToldOfStudy("s", asks="turning_point")])
    first = opening(asked)
    assert first is not None
    assert first.answer.startswith("Pretraining helps in 1 and harms in 1 of 3 comparisons")
    assert "changes sign at about" in first.answer
    assert "95 % interval" in first.answer
    assert any("Measured domain shift" in line for line in first.details)
    text = page(asked, Figures())
    assert text.index(first.title) < text.index('id="answer"') < text.index("Does network size predict AUC?")
    pretrained = opening(replace(found, studies=[ToldOfStudy("s", asks="pretraining")]))
    assert pretrained is not None
    assert pretrained.answer.startswith("Pretraining makes a negligible difference (imagenet against random")
    assert "mean of 3 further settings" in pretrained.answer
    assert pretrained.details[0] == first.answer  # an average of helping and harming says little
    none = opening(replace(found, studies=[ToldOfStudy("s", asks="resolution")]))
    assert none is not None
    assert none.answer.startswith("Not available: no network was trained at two image sizes")
    assert opening(replace(found, studies=[ToldOfStudy("s"), ToldOfStudy("t", asks="resolution")])) is None
