"""What AUC costs: who is on a front, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medfathom.confirmation.efficiency import draw, on_front
from medfathom.confirmation.words import COSTS, front_words


def made() -> dict[str, Any]:
    """Three models: the cheapest, the best, and one that costs more than the best for less."""
    models: list[dict[str, Any]] = [
        {"stratum": "densenet121", "architecture": "densenet121", "search_trial": 1, "auc": 0.90},
        {"stratum": "resnet50", "architecture": "resnet50", "search_trial": 2, "auc": 0.92},
        {"stratum": "vgg16", "architecture": "vgg16", "search_trial": 3, "auc": 0.91},
    ]
    for model, size in zip(models, (8e6, 26e6, 138e6), strict=True):
        model |= {"ci": [model["auc"] - 0.03, model["auc"] + 0.03]}
        model |= {"n_params": size, "macs": 100 * size, "latency_ms": size / 1e6}
    for model in models:
        model["front"] = [cost for cost in COSTS if on_front(model, models, cost)]
    return {"device": "a processor", "auc": "test, mean over seeds", "models": models}


def test_who_is_on_the_front() -> None:
    lines = front_words(made())
    assert len(lines) == 1 + len(COSTS)
    assert (
        lines[1] == "AUC against parameters: densenet121 (8e+06, AUC 0.9000); resnet50 (2.6e+07, AUC 0.9200)"
    )


def test_a_front_is_said_to_be_no_ground_for_a_choice() -> None:
    first = front_words(made())[0]
    assert "point estimates on the test split" in first
    assert "no ground for choosing" in first


def test_the_picture_says_so_too(tmp_path: Path) -> None:
    draw(made(), tmp_path / "words.svg")
    text = (tmp_path / "words.svg").read_text()
    assert "point estimates on the test split" in text
    assert "beaten by nobody" not in text
