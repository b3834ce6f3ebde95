"""An exported model that needs no training: its score is how bright the image is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from made_models import CONFIG
from medfathom.exported import model as exported
from medfathom.exported.model import Deployed
from medfathom.models.folder import CARD_FILE, METRICS_FILE, WEIGHTS_FILE, write_config, write_manifest

METRICS = """{"model": {"test_auc": 0.9, "test_ci": [0.85, 0.94], "test": {"auc": 0.9, "auc_ci_low": 0.85,
"auc_ci_high": 0.94, "sensitivity": 0.9, "sensitivity_ci_low": 0.8, "sensitivity_ci_high": 0.95}}}"""


class Brightness(torch.nn.Module):
    """Logits 0 and 8 * (mean - 1/2)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(*(torch.nn.Conv2d(1, 1, 1, bias=False) for _ in range(2)))
        for layer in self.backbone:
            torch.nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        self.network = SimpleNamespace(backbone=self.backbone)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = 8 * (self.backbone(images).mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def model(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that calls bright images ill; classes well and ill, threshold 0.5."""
    folder = workdir / "model"
    folder.mkdir()
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"image_size": 16, "temperature": 1.0})
    state = Deployed(config).network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS_FILE)
    write_config(folder, config)
    (folder / METRICS_FILE).write_text(METRICS)
    (folder / CARD_FILE).write_text("# A card\n")
    write_manifest(folder)
    whole = exported.Model.__init__

    def bright(self: exported.Model, *arguments: object) -> None:
        whole(self, *arguments)  # type: ignore[arg-type]
        self.module = Brightness()  # type: ignore[assignment]

    monkeypatch.setattr(exported.Model, "__init__", bright)
    return folder
