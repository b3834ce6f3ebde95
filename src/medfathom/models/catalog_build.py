"""Measure architectures, and write the shipped table: `python -m medfathom.models.catalog_build`."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import asdict
from typing import Any

import timm
import torch

from medfathom.errors import ModelError
from medfathom.models.blueprint import native_size
from medfathom.models.build import family_of
from medfathom.models.catalog import TABLE, ArchitectureFacts
from medfathom.models.measure import measure
from medfathom.models.tracing import trace

SIZES = (32, 48, 64, 75, 80, 96, 112, 128, 160, 192, 224, 256, 299)
"""Image sides tried, in pixels, to find the smallest that an architecture can take."""

PAPER = """
vgg16 vgg19 resnet50 resnet101 resnet152 inception_v3 legacy_xception densenet121 densenet169 densenet201
"""
"""The ten networks of arXiv 2408.17011."""

NAMES = f"""
{PAPER}
vgg11 vgg13 vgg11_bn vgg13_bn vgg16_bn vgg19_bn resnet10t resnet14t resnet18 resnet26 resnet34 resnet50d
resnet101d wide_resnet50_2 resnext50_32x4d resnext101_32x8d seresnet50 densenet161 densenetblur121d
inception_v4 inception_resnet_v2 xception41 xception65 efficientnet_b0 efficientnet_b1 efficientnet_b2
efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnetv2_rw_t efficientnetv2_rw_s tf_efficientnetv2_s
tf_efficientnetv2_m tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnet_lite3
tf_efficientnet_lite4 mobilenetv2_050 mobilenetv2_100 mobilenetv2_140 mobilenetv3_small_100
mobilenetv3_large_100 mnasnet_100 ghostnet_100 regnety_002 regnety_004 regnety_008 regnety_016 regnety_032
regnety_080 regnetx_002 regnetx_008 regnetx_032 convnext_atto convnext_femto convnext_pico convnext_nano
convnext_tiny convnext_small convnext_base vit_tiny_patch16_224 vit_small_patch16_224 vit_base_patch16_224
vit_small_patch32_224 vit_base_patch32_224 vit_large_patch16_224 deit_tiny_patch16_224
deit_small_patch16_224 deit_base_patch16_224 swin_tiny_patch4_window7_224 swin_small_patch4_window7_224
swin_base_patch4_window7_224
"""


def known_names() -> list[str]:
    """Every architecture of the installed timm."""
    return list(timm.list_models())


def describe(name: str) -> ArchitectureFacts:
    """Build an architecture on the meta device, as timm ships it, and measure it.

    Raises:
        ModelError: it cannot be built or traced.
    """
    side = native_size(name)
    with torch.device("meta"):
        network = timm.create_model(name)
    measured = measure(network, trace(network), (3, side, side))
    return ArchitectureFacts(
        name=name,
        family=family_of(network),
        n_params=sum(p.numel() for p in network.parameters()),
        depth=measured.depth,
        macs=measured.macs,
        native_size=side,
        smallest_size=next(s for s in (*SIZES, side) if takes(name, s)),
        pretrained_tags=tuple(m.partition(".")[2] for m in timm.list_pretrained(f"{name}.*") if "." in m),
    )


def takes(name: str, side: int) -> bool:
    """Whether an architecture can be built for and run on images of this side."""
    config = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": side} if config is not None and config.fixed_input_size else {}
    try:
        with torch.device("meta"):
            network = timm.create_model(name, **options)
            network.eval()(torch.zeros(2, 3, side, side))
    except (TypeError, AssertionError, ValueError, RuntimeError, NotImplementedError):
        return False
    return True


def main() -> None:
    """Write the table beside its name first, then rename."""
    facts = []
    for name in NAMES.split():
        try:
            facts.append(describe(name))
        except ModelError as error:
            sys.exit(f"{name}: {error}")
    text = io.StringIO()
    rows = [asdict(f) | {"pretrained_tags": " ".join(f.pretrained_tags)} for f in facts]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    beside = TABLE.with_suffix(".new")
    beside.write_text(text.getvalue(), encoding="utf-8")
    beside.replace(TABLE)


if __name__ == "__main__":
    main()
