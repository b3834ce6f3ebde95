"""What AUC costs: who is on a front, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from made_confirmations import made_model, made_result
from made_models import CONFIG
from medfathom.confirmation import efficiency
from medfathom.confirmation.efficiency import draw
from medfathom.confirmation.results import COSTS, Efficiency, ModelCost
from medfathom.confirmation.words import front_words
from medfathom.models.folder import ModelConfig
from medfathom.trial.latency import latency_ms as trial_latency


def cost(name: str, number: int, auc: float, size: int) -> ModelCost:
    return ModelCost(
        stratum=name,
        architecture=name,
        search_trial=number,
        auc=auc,
        ci=(auc - 0.03, auc + 0.03),
        n_params=size,
        macs=100 * size,
        latency_ms=size / 1e6,
    )


def made() -> Efficiency:
    """Three models: the cheapest, the best, and one that costs more than the best for less."""
    models = (
        cost("densenet121", 1, 0.90, 8_000_000),
        cost("vgg16", 3, 0.91, 138_000_000),
        cost("resnet50", 2, 0.92, 26_000_000),
    )
    return Efficiency("a processor", models)


def test_who_is_on_the_front() -> None:
    lines = front_words(made())
    assert len(lines) == 1 + len(COSTS)
    assert (
        lines[1] == "AUC against parameters: densenet121 (8.0 M, AUC 0.9000); resnet50 (26.0 M, AUC 0.9200)"
    )


def test_equal_models_share_the_front() -> None:
    twins = Efficiency("a processor", (cost("a", 0, 0.9, 10), cost("b", 1, 0.9, 10), cost("c", 2, 0.9, 11)))
    assert [model.stratum for model in twins.front("n_params")] == ["a", "b"]


def test_a_network_is_timed_once_at_each_image_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the measure that trials have: one word, `latency_ms`, has one meaning."""
    timed: list[tuple[int, int, int]] = []

    def counted(network: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
        timed.append(shape)
        assert trial_latency(network, shape, device) > 0
        return float(shape[1])

    def config(folder: Path) -> ModelConfig:
        return CONFIG.model_copy(update={"architecture": "lcnet_050", "image_size": int(folder.name)})

    monkeypatch.setattr(efficiency, "latency_ms", counted)
    monkeypatch.setattr(efficiency, "read_config", config)
    sizes = ("32", "160", "32")
    found = efficiency.measure([made_result(models=(made_model(folder=Path(s)),)) for s in sizes], threads=1)
    assert timed == [(1, 32, 32), (1, 160, 160)]
    assert [model.latency_ms for model in found.models] == [32.0, 160.0, 32.0]


def test_the_json_form() -> None:
    content = made().to_dict()
    assert content["models"][0] == {
        "stratum": "densenet121",
        "architecture": "densenet121",
        "search_trial": 1,
        "auc": 0.90,
        "ci": [0.90 - 0.03, 0.90 + 0.03],
        "n_params": 8_000_000,
        "macs": 800_000_000,
        "latency_ms": 8.0,
        "front": ["n_params", "macs", "latency_ms"],
    }
    assert [m["front"] for m in content["models"]] == [[*COSTS], [], [*COSTS]]
    assert (content["device"], content["auc"]) == ("a processor", "test, mean over seeds")


def test_a_front_is_said_to_be_no_ground_for_a_choice() -> None:
    first = front_words(made())[0]
    assert "point estimates on the test split" in first
    assert "do not choose a model by them" in first


def test_the_picture_says_so_too(tmp_path: Path) -> None:
    draw(made(), tmp_path / "words.svg")
    assert "point estimates on the test split" in (tmp_path / "words.svg").read_text()
