"""Strategies are compared with `fixed` within architecture, and never mixed in one cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfathom.analysis.pipeline import Analysis, analyze
from medfathom.analysis.report.strategy_words import strategy_sentences, strategy_table
from medfathom.analysis.results import from_trials

NAMES = ["resnet18", "resnet50", "vgg11", "vgg16", "densenet121", "densenet169"]
GAINS = {"fixed": 0.0, "lp-ft": 0.05, "surgical": -0.08, "bitfit": 0.0}


def trials(*, inits: tuple[str, ...] = ("imagenet",), noise: float = 0.002) -> list[dict[str, object]]:
    """Three seeds of each network with each strategy; `surgical` means nothing for random weights."""
    random = np.random.default_rng(0)
    return [
        {
            "state": "COMPLETE",
            "dataset": "d",
            "modality": "OCT",
            "architecture": name,
            "init": init,
            "unfreeze_depth": 3,
            "strategy": strategy,
            "seed": seed,
            "auc": 0.8 + 0.01 * k + gain + (0.04 if init == "imagenet" else 0) + noise * random.normal(),
        }
        for k, name in enumerate(NAMES)
        for init in inits
        for strategy, gain in GAINS.items()
        for seed in range(3)
        if not (strategy == "surgical" and init == "random")
    ]


def analysed(records: list[dict[str, object]]) -> Analysis:
    frame, _ = from_trials(records, exploratory=False)
    return analyze(frame, permutations=199, draws=600)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analysed(trials())


def test_a_strategy_is_held_against_fixed_with_the_same_network_and_seed(found: Analysis) -> None:
    whole = {g.strategy: g.mean for g in found.strategies if g.architecture is None}
    assert set(whole) == set(GAINS) - {"fixed"}
    for name, mean in whole.items():
        assert mean.benefit == pytest.approx(GAINS[name], abs=0.004)  # two standard errors of 18 pairs
        assert (mean.n, mean.unit) == (6, "architecture")
    assert [whole[n].verdict for n in ("lp-ft", "surgical", "bitfit")] == ["better", "worse", "negligible"]
    single = [g for g in found.strategies if g.architecture == "vgg16"]
    assert all((g.mean.n, g.mean.unit) == (3, "seed") for g in single)


def test_words_and_table_tell_the_same(found: Analysis) -> None:
    (sentence,) = strategy_sentences(found)
    assert sentence.startswith("Transfer strategy (d, imagenet, unfreeze depth 3): lp-ft (0.0")
    assert "better than fixed; surgical (−0.0" in sentence
    headings, rows, _ = strategy_table(found)
    assert all(len(row) == len(headings) for row in rows)
    assert len(rows) == 3 * (1 + len(NAMES))


def test_cells_do_not_mix_strategies(found: Analysis) -> None:
    assert set(found.rows["setting"]) == {f"strategy={name}" for name in GAINS}
    assert found.modalities["OCT"].counts.n_cells == len(GAINS)


def test_search_trials_of_different_strategies_are_not_merged() -> None:
    frame, _ = from_trials(trials())
    assert len(frame) == len(NAMES) * len(GAINS)
    assert set(frame["setting"]) == {f"strategy={name}" for name in GAINS}


def test_where_all_are_fixed_nothing_is_said() -> None:
    frame, _ = from_trials([t for t in trials() if t["strategy"] == "fixed"], exploratory=False)
    assert "setting" not in frame
    older = [{k: v for k, v in t.items() if k != "strategy"} for t in trials() if t["strategy"] == "fixed"]
    without, _ = from_trials(older, exploratory=False)
    pd.testing.assert_frame_equal(frame.drop(columns="strategy"), without)


def test_pretraining_is_asked_within_a_strategy() -> None:
    """`surgical` is there for pretrained weights alone: it must not lower what pretraining brings."""
    records = trials(inits=("imagenet", "random"), noise=0.0)
    (whole,) = [b for b in analysed(records).pretraining_benefit if b.architecture is None]
    assert whole.mean.benefit == pytest.approx(0.04, abs=1e-9)


def test_further_settings_are_no_seeds() -> None:
    """Two image sizes with three seeds each are three seeds of one network, not six."""
    both = [{**t, "setting": f"image_size={size}", "auc": t["auc"]} for t in trials() for size in (32, 64)]
    single = {g.mean.n for g in analysed(both).strategies if g.architecture}
    assert single == {3}
