"""LoRA (Hu et al. 2022): low-rank adapters beside a backbone's layers, through peft.

An adapter stands where its layer stood, so the graph that the layer groups are cut from runs it. Adapted are
linear and convolutional layers that are no more than that: not those that do something to their weights first
(weight standardization), nor grouped ones, whose rank would have to be a multiple of the groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import nn

from medfathom.errors import ModelError
from medfathom.models.joint import COPY

PLAIN = (nn.Linear, nn.Conv2d)
"""Types of layers that get an adapter; not their subclasses."""

_PARTS = re.compile(r"\.(?:base_layer|lora_[AB]\.default|" + COPY + r")(?=\.)")


def plain_name(name: str) -> str:
    """A tensor's name as it would be without adapters and without batch norms for each data set.

    An adapter's own has the name of the layer's weight.
    """
    return _PARTS.sub("", name)


def is_of_adapter(name: str) -> bool:
    """Whether a tensor is an adapter's own."""
    return ".lora_" in name


def add_adapters(backbone: nn.Module, paths: Iterable[str], rank: int, seed: int) -> None:
    """Put adapters beside the plain layers among these modules; they change no output yet.

    Raises:
        ModelError: peft is not installed, or none of them is a plain layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415  an extra; imports transformers
    except ImportError as error:
        raise ModelError(
            f'strategy = "lora" needs peft ({error}): install it with `pip install "medfathom[lora]"`'
        ) from None
    chosen = [path for path in sorted(paths) if _is_plain(backbone.get_submodule(path))]
    if not chosen:
        raise ModelError(
            'strategy = "lora": no plain linear or convolutional layer is in the trained groups; '
            'take another architecture, a greater unfreeze_depth, or "bitfit"'
        )
    # As an expression: a list would also name every other module whose path ends like one of them.
    targets = "|".join(map(re.escape, chosen))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), backbone)


def merge_adapters(backbone: nn.Module) -> None:
    """Add what adapters learnt to their layers' weights, and take them off; nothing where there are none."""
    adapted = [path for path, module in backbone.named_modules() if hasattr(module, "lora_A")]
    for path in adapted:
        layer = backbone.get_submodule(path)
        layer.merge()  # type: ignore[operator]
        backbone.set_submodule(path, layer.get_base_layer())  # type: ignore[operator]


def _is_plain(module: nn.Module) -> bool:
    return type(module) in PLAIN and getattr(module, "groups", 1) == 1
