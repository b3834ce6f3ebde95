"""An exported model as timm has it: `timm.create_model("local-dir:FOLDER", pretrained=True)` loads it.

`model.safetensors` has timm's names, `config.json` is laid out as on the hub. A head that timm has no place
for (with a hidden layer, or with attention) lies beside in `head.safetensors`; timm then gives the features
before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medfathom.errors import ExportedModelError, RunError
from medfathom.files import write_atomically
from medfathom.models.folder import BACKBONE, HEAD, HEAD_FILE, TIMM_FILE, WEIGHTS_FILE, ModelConfig
from medfathom.models.graph.blueprint import BackboneSettings, has_fixed_size, timm_arguments
from medfathom.models.joint import state_of_one
from medfathom.models.network import Network
from medfathom.models.tensor_file import save_tensors

TOLERANCE = 1e-4
"""Largest difference to our own network, relative to the largest output."""

CHECKED = 4
"""Random images that timm's network is checked on."""

LAST = "1"
"""The linear layer in a head without a hidden layer: dropout comes before it (`models.build.make_head`)."""

CROP_MODES = {"squash": "squash", "pad": "border", "crop": "center"}
"""How images are made square: our words, and timm's."""


def write_timm(folder: Path, config: ModelConfig, deployed: nn.Module, network: Network) -> ModelConfig:
    """Write weights and timm's configuration, and check both with timm.

    Args:
        folder: where to write.
        config: of the model.
        deployed: images in [0, 1] -> outputs, in evaluation mode on the CPU.
        network: inside it.

    Returns:
        The configuration with `classifier`: where the head lies.

    Raises:
        RunError: timm computes something else than we do.
    """
    state = {n: t.detach().contiguous().clone() for n, t in network.backbone.state_dict().items()}
    head = {n: t.detach().contiguous().clone() for n, t in network.head.state_dict().items()}
    arguments = _accepted(config)
    placed = _placed(config, arguments, state, head)
    if placed is not None:
        name, whole = placed
        written = config.model_copy(update={"classifier": name})
        _write(folder, written, arguments, whole, _outputs(head))
        if _difference(folder, config, deployed, nn.Identity()) <= TOLERANCE:
            return written
    written = config.model_copy(update={"classifier": None})
    _write(folder, written, arguments, state, 0)
    save_tensors(folder / HEAD_FILE, head)
    difference = _difference(folder, config, deployed, network.head)
    if difference > TOLERANCE:
        raise RunError(
            f"{config.architecture}: timm's features differ from those of the trained network by "
            f"{difference:.2g}; the model is not exported"
        )
    return written


def read_state(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """All tensors of a model folder under our names, `backbone.` and `head.`.

    Raises:
        ExportedModelError: a file of weights cannot be read, or lacks the head.
    """
    if config.head is not None:
        return state_of_one(_load(folder.parent / WEIGHTS_FILE), config.head)
    tensors = _load(folder / WEIGHTS_FILE)
    if config.classifier is not None:
        try:
            head = {f"{HEAD}{LAST}.{k}": tensors.pop(f"{config.classifier}.{k}") for k in ("weight", "bias")}
        except KeyError as error:
            raise ExportedModelError(
                f"{folder / WEIGHTS_FILE}: {error.args[0]} is missing; export the model again"
            ) from None
        head = {n: t.flatten(1) if t.dim() > 1 else t for n, t in head.items()}
    elif (folder / HEAD_FILE).is_file():
        head = {f"{HEAD}{name}": tensor for name, tensor in _load(folder / HEAD_FILE).items()}
    else:  # as `confirm` keeps it, and as older versions exported it
        return tensors
    return {f"{BACKBONE}{name}": tensor for name, tensor in tensors.items()} | head


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ExportedModelError(f"{path}: cannot be read ({reason})") from None


def _outputs(head: Mapping[str, Tensor]) -> int:
    return len(head[f"{LAST}.bias"])


def _accepted(config: ModelConfig) -> dict[str, Any]:
    """Arguments that `timm.create_model` builds this backbone from."""
    settings = BackboneSettings(config.architecture, config.image_size, len(config.mean), config.head_pooling)
    arguments = timm_arguments(settings)
    try:
        timm.create_model(config.architecture, num_classes=0, **arguments)
    except TypeError:  # knows no `fc_norm`
        arguments.pop("fc_norm", None)
    return arguments


def _placed(
    config: ModelConfig, arguments: Mapping[str, Any], state: Mapping[str, Tensor], head: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]] | None:
    """The head as timm's own classifier: its name, and all tensors. None: timm has no place for it."""
    if set(head) != {f"{LAST}.weight", f"{LAST}.bias"}:
        return None
    theirs = timm.create_model(config.architecture, num_classes=_outputs(head), **arguments).state_dict()
    names = {name.rpartition(".")[0] for name in theirs.keys() - state.keys()}
    if len(names) != 1 or state.keys() - theirs.keys():
        return None
    name = names.pop()
    added = {f"{name}.{kind}": head[f"{LAST}.{kind}"] for kind in ("weight", "bias")}
    if added.keys() != theirs.keys() - state.keys():
        return None
    if any(tensor.numel() != theirs[n].numel() for n, tensor in added.items()):
        return None
    return name, {**state, **{n: tensor.reshape(theirs[n].shape) for n, tensor in added.items()}}


def _write(
    folder: Path,
    config: ModelConfig,
    arguments: Mapping[str, Any],
    tensors: dict[str, Tensor],
    num_classes: int,
) -> None:
    save_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    usual = timm.get_pretrained_cfg(config.architecture)
    size = config.image_size
    content: dict[str, Any] = {
        "architecture": config.architecture,
        "num_classes": num_classes,
        **({"label_names": config.class_names} if num_classes else {}),
        "model_args": dict(arguments),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [len(config.mean), size, size],
            "fixed_input_size": has_fixed_size(config.architecture),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": CROP_MODES[config.fit],
            "mean": config.mean,
            "std": config.std,
            "num_classes": num_classes,
            "pool_size": None,
            "first_conv": None if usual is None else usual.first_conv,
            "classifier": config.classifier,
        },
    }
    write_atomically(folder / TIMM_FILE, json.dumps(content, indent=1) + "\n")


def _difference(folder: Path, config: ModelConfig, deployed: nn.Module, head: nn.Module) -> float:
    """How far timm's network, with this head after it, is from ours on random images; relative."""
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    side, random = config.image_size, torch.Generator().manual_seed(0)
    images = torch.rand(CHECKED, config.channels, side, side, generator=random)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.mean, config.std))
    with torch.inference_mode():
        ours = deployed(images)
        found = head(theirs((images - mean) / std))
    return float((ours - found).abs().max() / ours.abs().max().clamp(min=1.0))
