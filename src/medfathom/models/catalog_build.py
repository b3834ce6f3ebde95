"""Measure architectures, and write the catalog that ships with medfathom.

    python -m medfathom.models.catalog_build [NAME ...]

writes `catalog.json`: half an hour for all, no downloads. Run it when timm or the list below changes.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from dataclasses import asdict
from functools import lru_cache

import timm
import torch
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from medfathom.errors import ModelError
from medfathom.files import write_atomically
from medfathom.models.facts import TABLE, ArchitectureFacts, Entry, Pretrained, find_shipped
from medfathom.models.graph.blueprint import (
    BackboneSettings,
    check_name,
    create_backbone,
    family_of,
    find_groups,
    has_fixed_size,
    native_size,
)
from medfathom.models.graph.layer_groups import in_few_words
from medfathom.models.graph.measure import ShapesOnly, measure
from medfathom.models.graph.tracing import trace

_PAPER = """
vgg16 vgg19 resnet50 resnet101 resnet152 inception_v3 legacy_xception densenet121 densenet169 densenet201
"""
"""The ten networks that arXiv 2408.17011 compares."""

_OTHERS = """
vgg11 vgg13 vgg16_bn
resnet10t resnet18 resnet34 resnext50_32x4d wide_resnet50_2
inception_v4 inception_resnet_v2 xception41 xception65 densenet161
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 tf_efficientnetv2_s
tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnet_lite3 tf_efficientnet_lite4
mobilenetv2_050 mobilenetv2_100 mobilenetv2_140
mobilenetv3_small_050 mobilenetv3_small_100 mobilenetv3_large_100
regnetx_002 regnetx_008 regnetx_032 regnety_002 regnety_008 regnety_032
ghostnet_100 ghostnetv2_100 ghostnetv2_160 rexnet_100 rexnet_150 rexnet_200 dla34 dla60 dla102
convnext_atto convnext_femto convnext_pico convnext_nano convnext_tiny convnext_small convnext_base
vit_tiny_patch16_224 vit_small_patch16_224 vit_base_patch16_224 vit_small_patch32_224 vit_base_patch32_224
deit_tiny_patch16_224 deit_small_patch16_224 deit_base_patch16_224
swin_tiny_patch4_window7_224 swin_small_patch4_window7_224 swin_base_patch4_window7_224
mobilevit_xxs mobilevit_xs mobilevit_s pvt_v2_b0 pvt_v2_b1 pvt_v2_b2
"""
"""From half a million parameters to 138 million, three sizes or more in most families."""

_WITH_AND_WITHOUT = """
resnet26t ecaresnet26t botnet26t_256 halonet26t
resnext26ts seresnext26ts eca_resnext26ts gcresnext26ts eca_botnext26ts_256
resnet33ts seresnet33ts eca_resnet33ts gcresnet33ts sebotnet33ts_256
resnet50d ecaresnet50d resnet50t ecaresnet50t gcresnet50t seresnet50 seresnext50_32x4d
resnet101d ecaresnet101d skresnet18 skresnet34
"""
"""The same network without attention and with squeeze-and-excitation, ECA, global context, selective kernels,
halo or bottleneck attention, so that attention is compared at equal size. timm names no network with CBAM."""

_HYBRIDS = """
maxvit_rmlp_pico_rw_256 maxvit_rmlp_nano_rw_256 maxvit_tiny_tf_224 maxvit_small_tf_224
coatnet_nano_rw_224 coatnet_0_rw_224 coatnet_1_rw_224
efficientvit_b0 efficientvit_b1 efficientvit_b2 efficientvit_b3
efficientvit_m0 efficientvit_m2 efficientvit_m5
fastvit_t8 fastvit_t12 fastvit_s12 fastvit_sa12 fastvit_sa24
"""
"""Convolution and self-attention in one network."""

_FOUNDATIONS = """
vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_small_patch16_dinov3 vit_base_patch16_dinov3
vit_base_patch16_siglip_224 vit_base_patch16_siglip_gap_224
"""
"""Transformers whose weights come from self-supervision (DINOv2, DINOv3) or from captions (SigLIP)."""

NAMES = [
    *_PAPER.split(),
    *_OTHERS.split(),
    *_WITH_AND_WITHOUT.split(),
    *_HYBRIDS.split(),
    *_FOUNDATIONS.split(),
]
"""The architectures of the catalog."""

STEPS = (1, 2, 4, 7, 8, 14, 16, 32, 64, 128)
"""Steps of image sizes that are tried, pixels."""

SMALLEST_IMAGE = 8
"""Side in pixels of the smallest image that a study can have."""


def measure_architecture(name: str) -> Entry:
    """Measure what the catalog says of an architecture; no weights are needed.

    Raises:
        ModelError: timm has no such architecture, or it cannot be traced or cut into layer groups.
    """
    check_name(name)
    with torch.device("meta"):
        network = timm.create_model(name)
    side = native_size(name)
    measured = measure(network, trace(network), (3, side, side))
    pretrained = _pretrained(name)
    smallest, step = _sizes(name, side)
    facts = ArchitectureFacts(
        name=name,
        family=family_of(name),
        n_params=sum(p.numel() for p in network.parameters()),
        depth=measured.depth,
        macs=measured.macs,
        native_size=side,
        smallest_size=smallest,
        size_step=step,
        pretrained_tags=tuple(p.tag for p in pretrained),
    )
    return Entry(facts, pretrained, in_few_words(find_groups(name)))


def _pretrained(name: str) -> tuple[Pretrained, ...]:
    found = []
    for full_name, config in get_arch_pretrained_cfgs(name).items():
        if config.has_weights:
            url = config.url[1] if isinstance(config.url, tuple) else config.url
            if not url or config.custom_load:
                url = ""
            if config.hf_hub_id or url:
                found.append(
                    Pretrained(
                        tag=full_name.partition(".")[2],
                        hub=config.hf_hub_id,
                        hub_file=config.hf_hub_filename,
                        file=url.rpartition("/")[2] or None,
                        url=None if config.hf_hub_id else url,
                    )
                )
    return tuple(found)


def _sizes(name: str, native: int) -> tuple[int, int]:
    """The smallest image side that an architecture takes, and the step between sides.

    The step of a network that cuts images into patches is a multiple of the patch's side: on other sizes it
    would drop the border.
    """
    patch = _patch_side(name)
    steps = [s for s in STEPS if s % patch == 0]
    step = next((s for s in steps if takes(name, native + s) and takes(name, native + 3 * s)), None)
    if step is None or native % step:
        return native, native
    multiples = range(-(-SMALLEST_IMAGE // step), native // step + 1)
    return step * multiples[bisect_left(multiples, True, key=lambda k: takes(name, k * step))], step


def _patch_side(name: str) -> int:
    """Side of the patches that an image is cut into; 1 where patches overlap, and where there are none."""
    embedding = getattr(_for_size(name, None), "patch_embed", None)
    projection = getattr(embedding, "proj", None)
    if isinstance(projection, nn.Conv2d) and projection.kernel_size != projection.stride:
        return 1
    patch = getattr(embedding, "patch_size", 1)
    return int(patch[0]) if isinstance(patch, tuple) else int(patch)


def takes(name: str, size: int) -> bool:
    """Whether an architecture can be built for images of this side, and run on them."""
    try:
        network = _for_size(name, size if has_fixed_size(name) else None)
        with torch.no_grad(), torch.device("meta"), ShapesOnly():
            network(torch.empty(2, 3, size, size))
    except (ModelError, RuntimeError, AssertionError, ValueError, TypeError, ZeroDivisionError):
        return False
    return True


@lru_cache(maxsize=1)
def _for_size(name: str, size: int | None) -> nn.Module:
    return create_backbone(BackboneSettings(name, size), "meta").eval()


def main(names: list[str]) -> None:
    """Measure these architectures again, or all, and write the catalog."""
    entries = {name: entry for name in NAMES if (entry := find_shipped(name)) is not None}
    for name in names or NAMES:
        entries[name] = measure_architecture(name)
        facts = entries[name].facts
        print(f"{name}: depth {facts.depth}, {facts.n_params:,} parameters", file=sys.stderr)  # noqa: T201
    rows = sorted(entries.values(), key=lambda entry: (entry.facts.family, entry.facts.n_params))
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    write_atomically(TABLE, f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
