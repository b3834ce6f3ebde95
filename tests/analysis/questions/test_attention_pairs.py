"""Attention compared at equal size: pair by pair, the network without being the unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfathom.analysis.questions.attention import attention_benefits
from medfathom.analysis.size.inference import Settings
from medfathom.models.attention_pairs import ATTENTION_PAIRS
from medfathom.models.facts import find_shipped

SETTINGS = Settings(permutations=199, draws=500)


def test_both_networks_of_a_pair_are_in_the_catalog_and_of_equal_size() -> None:
    for name, (without, _) in ATTENTION_PAIRS.items():
        one, other = find_shipped(name), find_shipped(without)
        assert one is not None
        assert other is not None
        assert one.facts.n_params / other.facts.n_params == pytest.approx(1, abs=0.12)


def test_what_attention_brings_is_paired_and_said_by_kind() -> None:
    rng = np.random.default_rng(0)
    gain = {"SE": 0.03, "ECA": 0.0, "GC": 0.0, "SK": 0.0, "BoT": 0.0}
    level = {name: 0.8 + 0.03 * rng.normal() for name, _ in ATTENTION_PAIRS.values()}
    aucs = {name: level[name] for name in level if name not in ATTENTION_PAIRS}
    for name, (without, kind) in ATTENTION_PAIRS.items():
        aucs[name] = aucs.get(without, 0.8) + gain[kind] + 0.001 * rng.normal()
    rows = pd.DataFrame(
        {
            "architecture": list(aucs),
            "family": [name[:8] for name in aucs],
            "auc": list(aucs.values()),
            "dataset": "a",
            "modality": "CXR",
            "init": "imagenet",
            "unfreeze_depth": "5",
            "setting": "",
            "seed": None,
        }
    )
    found = {each.attention: each for each in attention_benefits(rows, SETTINGS, 0.01)}
    assert list(found) == ["BoT", "ECA", "GC", "SE", "SK", "any"]
    assert found["SE"].mean.verdict == "helps"
    assert found["SE"].mean.benefit == pytest.approx(0.03, abs=0.003)
    assert len(found["SE"].pairs) == 4
    assert found["ECA"].mean.verdict == "negligible"
    assert found["BoT"].mean.verdict == "inconclusive"  # a single pair has no interval
    assert attention_benefits(rows[rows["architecture"] == "resnet18"], SETTINGS, 0.01) == []
