"""A model folder's network as ONNX, checked against torch before it is kept."""

from __future__ import annotations

import logging
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medfathom.errors import RunError
from medfathom.exported.model import Model, load_unsealed
from medfathom.exported.network import Averaged, Deployed
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.folder import ModelConfig

TOLERANCE = 1e-4
"""Largest difference allowed: of a probability, and of a logit relative to the largest logit."""

OUTPUTS = ("logits", "probabilities", "attention")
"""Names of what it gives; the last only of a head with attention."""

CHECKED = 16
"""Random images that ONNX is checked on, in two batches of different size."""


class _WithProbabilities(nn.Module):
    """Images in [0, 1], (n, c, s, s) -> logits and calibrated probabilities, (n, K) each (binary: two).

    With attention also the images' scores, (n, 1).
    """

    def __init__(self, deployed: Deployed | Averaged, config: ModelConfig) -> None:
        super().__init__()
        self.deployed, self.task = deployed, config.task
        # It takes images, also where cases are judged.
        self.temperature = config.image_temperature or config.temperature
        self.n_logits = num_outputs(config.task, len(config.class_names))
        self.attention = config.combine == "attention"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """All at once."""
        outputs = self.deployed(images)
        logits = outputs[:, : self.n_logits]
        scaled = logits / self.temperature
        values = torch.sigmoid(scaled) if self.task == "multilabel" else torch.softmax(scaled, dim=1)
        return (logits, values, outputs[:, self.n_logits :]) if self.attention else (logits, values)


def write_onnx(path: Path, folder: Path) -> float:
    """Export the network in a model folder.

    Args:
        path: of the file to write; one file, weights inside.
        folder: configuration and weights.

    Returns:
        The largest difference of a probability between ONNX Runtime and torch, on random images.

    Raises:
        RunError: the architecture cannot be exported, or computes something else.
    """
    model = load_unsealed(folder)
    config = model.config
    module = _WithProbabilities(model.module, config).eval()
    example = torch.rand(2, config.channels, config.image_size, config.image_size)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module,
                (example,),
                path,
                input_names=["images"],
                output_names=list(OUTPUTS[: 2 + module.attention]),
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=2**16)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001  the exporter raises many kinds, all meaning the same here
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{config.architecture} cannot be written as ONNX ({reason}); --no-onnx leaves it out"
        ) from None
    return _difference(path, model, module)


def _difference(path: Path, model: Model, module: nn.Module) -> float:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    config, worst = model.config, 0.0
    random = torch.Generator().manual_seed(0)
    for count in (1, CHECKED - 1):
        images = torch.rand(count, config.channels, config.image_size, config.image_size, generator=random)
        with torch.inference_mode():
            logits, values, *scores = (part.numpy() for part in module(images))
        theirs = session.run(list(OUTPUTS[: 2 + len(scores)]), {"images": images.numpy()})
        found = float(np.abs(theirs[1] - values).max())
        others = zip([theirs[0], *theirs[2:]], [logits, *scores], strict=True)
        relative = max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in others)
        if max(found, relative) > TOLERANCE:
            raise RunError(
                f"{config.architecture}: ONNX Runtime differs from torch by {found:.2g} in a probability, "
                f"more than {TOLERANCE:g}; --no-onnx leaves it out"
            )
        worst = max(worst, found)
    return worst
