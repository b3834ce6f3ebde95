"""Which parts of an image a prediction rests on: Grad-CAM of confident right and wrong predictions."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from medfathom.confirmation.find import MISTAKES as MISTAKES_FILE
from medfathom.confirmation.mistakes import mistakes_page
from medfathom.confirmation.pictures import Judged, names_as_text
from medfathom.exported.model import Model
from medfathom.files import write_atomically
from medfathom.metrics.calibration import decide
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.text import short
from medfathom.trial.inputs import pixels
from medfathom.trial.rows import as_tensor

SHOWN = 4
"""Right cases shown, wrong cases shown, and columns of the picture."""

MISTAKES = 20
"""The most mistakes shown, each beside its map."""

PAIRS = 4
"""Mistakes in a row."""

SMALLEST_MAP = 4
"""Side of a map, in its own pixels, below which it shows no places."""

LETTERS = 34
"""In a line above an image: so many are as wide as the image."""

EARLY = 0.05
"""Share of all layers: a convolution no later than that only cuts the image into patches (transformers)."""


@dataclass(frozen=True)
class Prediction:
    """One prediction for one image or case.

    Attributes:
        image: its position in the split; of a case that of the image to show.
        output: index of the logit that the prediction rests on.
        sign: 1 where a high logit speaks for the prediction; -1 where it speaks against it ("no X").
        confidence: probability of the prediction, in [0, 1].
        right: whether the prediction is true.
        said: the prediction.
        true: the truth.
    """

    image: int
    output: int
    sign: int
    confidence: float
    right: bool
    said: str
    true: str


def predictions(found: Judged) -> list[Prediction]:
    """Every prediction, the most confident first."""
    config, labels, values = found.config, found.test.units.labels, found.probabilities
    names = config.class_names
    listed = []
    if config.task == "multiclass":
        for i, k in enumerate(values.argmax(axis=1).tolist()):
            image, right = _image_of(found, i, k, yes=True), bool(k == labels[i])
            listed.append(Prediction(image, k, 1, float(values[i, k]), right, names[k], names[labels[i]]))
    else:
        for (i, k), yes in np.ndenumerate(decide(values, config.thresholds)):
            if not (is_present(flag := found.positive[i, k]) or is_absent(flag)):
                continue  # nobody knows whether the prediction is right
            true = bool(is_present(flag))
            confidence = float(values[i, k] if yes else 1 - values[i, k])
            if config.task == "binary":
                said_name, true_name, output, sign = names[int(yes)], names[int(true)], int(yes), 1
            else:  # one logit for each label, and none for its absence
                said_name = names[k] if yes else f"no {names[k]}"
                true_name, output = (names[k] if true else f"no {names[k]}"), k
                sign = 1 if yes else -1
            image, right = _image_of(found, i, k, yes=bool(yes)), bool(yes) == true
            listed.append(Prediction(image, output, sign, confidence, right, said_name, true_name))
    return sorted(listed, key=lambda each: -each.confidence)


def _image_of(found: Judged, unit: int, column: int, *, yes: bool) -> int:
    """The image to show of a unit: of a case the one that speaks most for what was said."""
    grouping = found.test.units.cases
    if grouping is None or found.of_images is None:
        return unit
    own = np.flatnonzero(grouping.member == unit)
    values = found.of_images[own, column]
    return int(own[values.argmax() if yes else values.argmin()])


def draw_predictions(folder: Path, model: Model, found: Judged) -> tuple[list[str], float | None]:
    """Draw `gradcam.png` where the network has a map to show, `mistakes.png` where it made mistakes.

    `mistakes.html` shows the same mistakes larger; it is no picture, and not among the names.

    Returns:
        The names of the files, and the maps' `border_share` (None: no map).
    """
    listed, share = predictions(found), None
    drawn: list[str] = []
    wrong = [each for each in listed if not each.right]
    chosen = [each for each in listed if each.right][:SHOWN] + wrong[:SHOWN]
    layer = target_layer(model)
    if layer is not None and chosen:
        maps = grad_cam(model, layer, found, chosen)
        with names_as_text():
            panel(found, chosen, maps).savefig(folder / "gradcam.png", dpi=110)
        share = border_share(maps)
        drawn.append("gradcam.png")
    if wrong:
        shown = wrong[:MISTAKES]
        beside = None if layer is None else grad_cam(model, layer, found, shown)
        with names_as_text():
            mistakes(found, shown, beside).savefig(folder / "mistakes.png", dpi=110)
        drawn.append("mistakes.png")
        write_atomically(folder / MISTAKES_FILE, mistakes_page(found, shown, beside))
    return drawn, share


def target_layer(model: Model) -> nn.Module | None:
    """The deepest convolution whose map is at least `SMALLEST_MAP` wide; None for networks without one."""
    order: list[tuple[nn.Module, bool]] = []

    def seen(module: nn.Module, _: object, output: object) -> None:
        usable = isinstance(module, nn.Conv2d) and isinstance(output, Tensor) and output.ndim == 4
        shape = output.shape[2:] if usable and isinstance(output, Tensor) else (0, 0)
        order.append((module, min(shape) >= SMALLEST_MAP))

    leaves = [m for m in model.module.network.backbone.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(seen) for leaf in leaves]
    try:
        with torch.inference_mode():
            config = model.config
            model.module(
                torch.zeros(1, config.channels, config.image_size, config.image_size, device=model.device)
            )
    finally:
        for hook in hooks:
            hook.remove()
    usable = [i for i, (_, fits) in enumerate(order) if fits and i > EARLY * len(order)]
    return order[usable[-1]][0] if usable else None


def grad_cam(model: Model, layer: nn.Module, found: Judged, chosen: list[Prediction]) -> NDArray[np.float32]:
    """Maps of what speaks for each prediction, (n, s, s), in [0, 1] (Selvaraju et al., ICCV 2017)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM  # noqa: PLC0415  imports OpenCV
    raw = as_tensor(np.ascontiguousarray(found.test.images[[each.image for each in chosen]]))
    images = pixels(raw.to(model.device)).contiguous()
    targets = [partial(_spoken_for, each) for each in chosen]
    module = model.module
    with torch.enable_grad(), GradCAM(model=module, target_layers=[layer]) as cam:
        maps: NDArray[np.float32] = cam(input_tensor=images, targets=targets)
    module.zero_grad(set_to_none=True)
    return maps


def _spoken_for(each: Prediction, logits: Tensor) -> Tensor:
    """How strongly its image's logits speak for a prediction."""
    return each.sign * logits[each.output]


def border_share(maps: NDArray[np.float32]) -> float:
    """The share of the maps' sum in the outermost tenth on each side (36 % of the area), in [0, 1]."""
    side = maps.shape[1]
    edge = max(1, side // 10)
    inside = maps[:, edge : side - edge, edge : side - edge].sum()
    total = float(maps.sum())
    return 1.0 - float(inside) / total if total > 0 else 0.0


def mistakes(found: Judged, wrong: list[Prediction], maps: NDArray[np.float32] | None) -> Figure:
    """Each mistake beside the same image under its map; without maps the images alone."""
    wide = 1 if maps is None else 2
    rows = math.ceil(len(wrong) / PAIRS)
    width = 2.1 if maps is None else 3.4
    figure = Figure(figsize=(width * PAIRS, 2.1 * rows), layout="constrained")
    places = figure.subplots(rows, wide * PAIRS, squeeze=False)
    for axes in places.flat:
        axes.set_axis_off()
    for k, each in enumerate(wrong):
        row, column = divmod(k, PAIRS)
        image = np.asarray(found.test.images[each.image])
        shown = image[:, :, 0] if image.shape[2] == 1 else image
        for axes in places[row, wide * column : wide * (column + 1)]:
            axes.imshow(shown, cmap="gray" if shown.ndim == 2 else None)
        if maps is not None:
            places[row, wide * column + 1].imshow(maps[k], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
        places[row, wide * column].set_title(_title(found, each), fontsize=6.5, loc="left")
    return figure


def panel(found: Judged, chosen: list[Prediction], maps: NDArray[np.float32] | None) -> Figure:
    """Right predictions above wrong ones, each under its map."""
    columns = SHOWN
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    for axes, each in zip(
        figure.subplots(rows, columns, squeeze=False).flat, [*chosen, *[None] * columns], strict=False
    ):
        axes.set_axis_off()
        if each is None:
            continue
        image = np.asarray(found.test.images[each.image])
        shown = image[:, :, 0] if image.shape[2] == 1 else image
        axes.imshow(shown, cmap="gray" if shown.ndim == 2 else None)
        if maps is not None:
            axes.imshow(maps[chosen.index(each)], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
        axes.set_title(_title(found, each), fontsize=8, color="black" if each.right else "#b00020")
    return figure


def _title(found: Judged, each: Prediction) -> str:
    """The image's name, the prediction, and the truth where it is another: lines no wider than it."""
    name = str(found.test.names[each.image])
    lines = [
        name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}",
        f"predicted {short(each.said, LETTERS - len('predicted  (0.00)'))} ({each.confidence:.2f})",
        *([] if each.right else [f"is {short(each.true, LETTERS - len('is '))}"]),
    ]
    return "\n".join(lines)
