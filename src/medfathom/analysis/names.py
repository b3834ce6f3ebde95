"""Architectures as papers and torchvision spell them; needs neither timm nor torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medfathom.errors import ModelError, did_you_mean
from medfathom.models.facts import shipped
from medfathom.models.imagenet import timm_names

TIMM_NAMES = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "efficientnet_v2_s": "tf_efficientnetv2_s",
    "efficientnet_v2_m": "tf_efficientnetv2_m",
    "efficientnet_v2_l": "tf_efficientnetv2_l",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "regnet_y_8gf": "regnety_080",
    "regnet_y_16gf": "regnety_160",
    "regnet_x_400mf": "regnetx_004",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "inceptionv3": "inception_v3",
    "mobilenetv2": "mobilenetv2_100",
}
"""torchvision's name -> timm's name of the same network."""


@dataclass(frozen=True)
class TorchvisionFacts:
    """A network of torchvision that timm lacks; sizes with 1000 classes, at 224 px; top-1 in per cent."""

    name: str
    family: str
    n_params: int
    depth: int
    macs: int
    imagenet_top1: float


TORCHVISION = {
    facts.name: facts
    for facts in (
        TorchvisionFacts("alexnet", "alexnet", 61_100_840, 8, 714_188_480, 56.522),
        TorchvisionFacts("googlenet", "googlenet", 6_624_904, 22, 1_498_000_000, 69.778),
        TorchvisionFacts("mnasnet0_5", "mnasnet", 2_218_512, 53, 104_000_000, 67.734),
        TorchvisionFacts("mnasnet1_0", "mnasnet", 4_383_312, 53, 314_000_000, 73.456),
        TorchvisionFacts("shufflenet_v2_x0_5", "shufflenet_v2", 1_366_792, 51, 40_000_000, 60.552),
        TorchvisionFacts("shufflenet_v2_x1_0", "shufflenet_v2", 2_278_604, 51, 145_000_000, 69.362),
        TorchvisionFacts("squeezenet1_0", "squeezenet", 1_248_424, 18, 819_000_000, 58.092),
        TorchvisionFacts("squeezenet1_1", "squeezenet", 1_235_496, 18, 349_000_000, 58.178),
    )
}
"""From torchvision's documentation of its weights; the depth is counted as the catalog does."""


def spelled_otherwise(name: str) -> list[str]:
    """Names that the given one may stand for, most literal first: a paper's ResNet-18 is timm's resnet18."""
    plain = re.sub(r"[^a-z0-9_]", "", name.lower())
    under = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    tried = [name, plain, under, plain.replace("_", "")]
    return list(dict.fromkeys([TIMM_NAMES.get(one, one) for one in tried]))


def refuse_unknown(name: str) -> None:
    """Raise ModelError where neither catalog, torchvision nor timm knows the name.

    Saves the seconds and the gigabyte that loading torch takes, which could only say the same.
    """
    known = {facts.name for facts in shipped()} | timm_names() | set(TORCHVISION) | set(TIMM_NAMES)
    if name in known:
        return
    plain, _, tag = name.partition(".")
    if tag and plain in known:
        raise ModelError(f"{name!r} is {plain!r} with a pretrained tag; --name {name}={plain} says so")
    members = sorted((one for one in known if one.startswith(name.lower())), key=lambda one: (len(one), one))
    if members:
        raise ModelError(f"{name!r} is a family, not an architecture; give one of {', '.join(members[:6])}")
    raise ModelError(f"unknown architecture {name!r}; {did_you_mean(name, known)}")
