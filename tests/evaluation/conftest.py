"""An exported model that needs no training: its score is how bright the image is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from made_models import CONFIG
from medfathom.exported import model as exported
from medfathom.exported.network import Deployed
from medfathom.models.folder import CARD_FILE, METRICS_FILE, WEIGHTS_FILE, write_config, write_manifest

METRICS = """{"model": {"test_auc": 0.9, "test_ci": [0.85, 0.94], "test": {"auc": 0.9, "auc_ci_low": 0.85,
"auc_ci_high": 0.94, "sensitivity": 0.9, "sensitivity_ci_low": 0.8, "sensitivity_ci_high": 0.95}}}"""


class Brightness(torch.nn.Module):
    """Logits 0 and 8 * (mean - 1/2); of more classes the brighter is the later one."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.steps = torch.linspace(0, 8, n_classes)
        self.backbone = torch.nn.Sequential(*(torch.nn.Conv2d(1, 1, 1, bias=False) for _ in range(2)))
        for layer in self.backbone:
            torch.nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        self.network = SimpleNamespace(backbone=self.backbone)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = self.backbone(images).mean(dim=(1, 2, 3)) - 0.5
        return score[:, None] * self.steps


@pytest.fixture
def model(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that calls bright images ill; classes well and ill, threshold 0.5."""
    return bright_model(workdir, monkeypatch)


@pytest.fixture
def model_of_three(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of three classes, the darkest first."""
    classes = {"task": "multiclass", "class_names": ["dark", "grey", "bright"], "thresholds": []}
    return bright_model(workdir, monkeypatch, **classes)


@pytest.fixture
def model_of_volumes(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It judges folders of slices by the mean of their probabilities."""
    return bright_model(workdir, monkeypatch, unit="volume", image_temperature=1.0)


def bright_model(workdir: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Path:
    """The folder of a model that looks at brightness alone; `changes` of its configuration."""
    folder = workdir / "model"
    folder.mkdir()
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"image_size": 16, "temperature": 1.0, **changes})
    state = Deployed(config).network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS_FILE)
    write_config(folder, config)
    (folder / METRICS_FILE).write_text(METRICS)
    (folder / CARD_FILE).write_text("# A card\n")
    write_manifest(folder)
    whole = exported.Model.__init__

    def bright(self: exported.Model, *arguments: object) -> None:
        whole(self, *arguments)  # type: ignore[arg-type]
        self.module = Brightness(len(config.class_names))  # type: ignore[assignment]

    monkeypatch.setattr(exported.Model, "__init__", bright)
    return folder
