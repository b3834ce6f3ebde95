"""An exported folder in timm: the same logits from timm alone, by the code that the model card gives."""

from pathlib import Path
from typing import Any

import pytest
import torch

from made_models import CONFIG
from medfathom.confirmation.card import _timm
from medfathom.exported.model import Model, load_unsealed
from medfathom.exported.network import Deployed
from medfathom.exported.timm_layout import write_timm
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.folder import HEAD_FILE, ModelConfig, write_config

torch.set_num_threads(1)

WHOLE: list[dict[str, Any]] = [
    {"architecture": "mobilenetv3_small_050"},
    {"architecture": "resnet10t", "head_pooling": "avgmax", "grey": "sum", "mean": [0.4], "std": [0.2]},
    {"architecture": "vit_tiny_patch16_224", "head_pooling": "max", "channels": 3},
    {"architecture": "dla46_c", "task": "multiclass", "class_names": ["a", "b", "c"]},
]
APART: list[dict[str, Any]] = [
    {"architecture": "mobilenetv3_small_050", "head_hidden": 16},
    {"architecture": "resnet10t", "unit": "case", "combine": "attention"},
]


def exported(folder: Path, **changes: Any) -> tuple[Model, ModelConfig]:
    """A model with random weights, written as `export` writes it; and its configuration there."""
    config = CONFIG.model_copy(update={"image_size": 64, **changes})
    torch.manual_seed(0)
    state = {k: v.clone() for k, v in Deployed(config).network.state_dict().items()}
    model = Model(config, state)
    folder.mkdir()
    written = write_timm(folder, config, model.module, model.module.network)
    write_config(folder, written)
    return model, written


def by_the_card(folder: Path, config: ModelConfig, images: torch.Tensor) -> torch.Tensor:
    """What the card's code gives."""
    outputs = num_outputs(config.task, len(config.class_names))
    code = _timm(config, outputs).replace("FOLDER", str(folder))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (config.mean, config.std))
    names: dict[str, Any] = {"images": (images.repeat(1, len(mean[0]) // images.shape[1], 1, 1) - mean) / std}
    with torch.inference_mode():
        exec(code, names)  # noqa: S102
    result: torch.Tensor = names["logits"]
    return result


@pytest.mark.parametrize("changes", WHOLE + APART, ids=lambda c: "-".join(map(str, c.values())))
def test_timm_gives_the_same_logits(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, config = exported(tmp_path / "model", **changes)
    assert (config.classifier is not None) == (changes in WHOLE)
    assert (tmp_path / "model" / HEAD_FILE).exists() == (changes in APART)
    images = torch.rand(2, config.channels, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = model.module(images).detach()[:, : num_outputs(config.task, len(config.class_names))]
    torch.testing.assert_close(by_the_card(tmp_path / "model", config, images), ours, rtol=1e-4, atol=1e-4)
    again = load_unsealed(tmp_path / "model").module.network.state_dict()
    before = model.module.network.state_dict()
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)
