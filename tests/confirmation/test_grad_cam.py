"""Grad-CAM shows what speaks for a decision, whichever way it went."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from torch import Tensor, nn

from medfathom.confirmation.find import NO_MAP, pictures_of_best
from medfathom.confirmation.grad_cam import (
    Prediction,
    grad_cam,
    mistakes,
    panel,
    predictions,
    target_layer,
)
from medfathom.confirmation.pictures import Judged, draw_metrics
from medfathom.data.prepared import Split
from medfathom.models.build import build_network

BRIGHT = np.zeros((8, 8), dtype=bool)
BRIGHT[:, :4] = True


class LightAndDark(nn.Module):
    """Each logit is how much is bright less how much is dark, by a map of either."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1)
        self.outputs = outputs
        self.maps.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.maps.bias.data = torch.tensor([0.0, 1.0])

    def forward(self, images: Tensor) -> Tensor:
        light, dark = self.maps(images).mean(dim=(2, 3)).unbind(dim=1)
        return (light - dark)[:, None].repeat(1, self.outputs)


def found(task: str, names: list[str], labels: np.ndarray, probabilities: np.ndarray) -> Judged:
    """Images that are bright on the left and dark on the right."""
    images = np.repeat((BRIGHT * np.uint8(255))[None, :, :, None], len(labels), axis=0)
    config: Any = SimpleNamespace(
        calibration="temperature",
        task=task,
        class_names=names,
        thresholds=[0.5] * probabilities.shape[1],
        temperature=1.0,
        unit="image",
        architecture="light and dark",
        init="random",
    )
    positive = labels.astype(bool) if labels.ndim == 2 else (labels == 1)[:, None]
    test = Split(images, labels, None, [str(i) for i in range(len(labels))])
    return Judged(config, test, positive, probabilities, names)


def maps(judged: Judged, chosen: list[Prediction], outputs: int) -> np.ndarray:
    module = LightAndDark(outputs)
    model: Any = SimpleNamespace(module=module, device="cpu")
    return grad_cam(model, module.maps, judged, chosen)


def test_a_label_that_is_denied_is_explained_by_what_speaks_against_it() -> None:
    judged = found("multilabel", ["fluid", "drusen"], np.array([[1, 0]]), np.array([[0.9, 0.2]]))
    yes, no = predictions(judged)
    assert (yes.said, yes.sign, yes.output) == ("fluid", 1, 0)
    assert (no.said, no.sign, no.output) == ("no drusen", -1, 1)
    for_it, against_it = maps(judged, [yes, no], 2)
    assert for_it[BRIGHT].min() > 0.9
    assert for_it[~BRIGHT].max() < 0.1
    assert against_it[~BRIGHT].min() > 0.9
    assert against_it[BRIGHT].max() < 0.1


def test_a_name_that_is_no_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    names = ["a $\\frac{ b$", "drusen"]
    judged = found("multilabel", names, np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.2], [0.3, 0.8]]))
    assert "roc.png" in draw_metrics(tmp_path, judged)


@pytest.mark.parametrize("draw", [panel, mistakes])
def test_what_stands_above_an_image_stays_above_it(draw: Any) -> None:
    classes = ["other_interstitial_lung_disease_or_none", "well_known_finding_of_the_upper_lobe"]
    judged = found("binary", classes, np.array([0, 1] * 4), np.array([[0.9], [0.1]] * 4))
    names = [f"{'folder_of_a_hospital/' * 3}{i}.png" for i in range(8)]
    judged = replace(judged, test=replace(judged.test, names=names))
    figure = draw(judged, predictions(judged), None)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole, titles = (
        figure.bbox,
        figure.findobj(lambda each: isinstance(each, Text) and "is " in each.get_text()),
    )
    boxes = [title.get_window_extent(canvas.get_renderer()) for title in titles]
    assert len(boxes) == 8
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_classes_have_logits_of_their_own() -> None:
    binary = found("binary", ["healthy", "ill"], np.array([0, 1]), np.array([[0.1], [0.7]]))
    assert [(each.said, each.output, each.sign) for each in predictions(binary)] == [
        ("healthy", 0, 1),
        ("ill", 1, 1),
    ]
    three = found("multiclass", ["a", "b", "c"], np.array([2]), np.array([[0.1, 0.3, 0.6]]))
    assert [(each.said, each.output, each.sign) for each in predictions(three)] == [("c", 2, 1)]


@pytest.mark.parametrize(
    ("architecture", "size", "has_map"),
    [
        ("vit_tiny_patch16_224", 64, False),
        ("swin_tiny_patch4_window7_224", 224, False),
        ("resnet18", 64, True),
    ],
)
def test_only_networks_that_keep_places_have_a_map(architecture: str, size: int, has_map: bool) -> None:
    network = build_network(
        architecture, init="random", num_outputs=2, unfreeze_depth=5, image_size=size, in_channels=3, seed=0
    )

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return network.forward_rest(network.forward_prefix(images))

    config = SimpleNamespace(channels=3, image_size=size)
    model: Any = SimpleNamespace(module=Whole().eval(), config=config, device="cpu")
    assert (target_layer(model) is not None) == has_map


def test_a_report_says_why_there_is_no_map(tmp_path: Path) -> None:
    def captions(*names: str) -> list[str]:
        for name in names:
            (tmp_path / name).touch()
        best = SimpleNamespace(stratum="vit", models=[SimpleNamespace(folder=tmp_path, pictures=names)])
        summary: Any = SimpleNamespace(study="s", best_of_strata=[best])
        return [text for _, _, text in pictures_of_best(summary)]

    assert captions("roc.png", "mistakes.png")[-1].endswith(NO_MAP)
    assert not any(NO_MAP in text for text in captions("roc.png", "gradcam.png"))
