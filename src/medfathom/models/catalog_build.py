"""Measuring architectures, and writing the table of those that travel with the program.

    python -m medfathom.models.catalog_build [NAME ...]

writes `catalog.json`: a few minutes for all, no downloads. Run it when timm changes or the list below does.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from dataclasses import asdict
from functools import lru_cache

import timm
import torch
from timm.models import _registry as registry
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

NAMES = [*_PAPER.split(), *_OTHERS.split()]
"""What travels with the program."""

STEPS = (1, 2, 4, 7, 8, 14, 16, 32, 64, 128)
"""What image sizes may have to be multiples of."""

SMALLEST_IMAGE = 8
"""Side in pixels of the smallest image that a study can have."""


def measure_architecture(name: str) -> Entry:
    """Everything the catalog knows of an architecture, without its weights.

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
    for full_name in registry._model_with_tags[name]:
        config = registry._model_pretrained_cfgs[full_name]
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
    """The smallest image side an architecture takes, and what sides must be multiples of.

    A network that cuts images into patches takes multiples of the patch's side: it would drop the border.
    """
    patch = _patch_side(name)
    steps = [s for s in STEPS if s % patch == 0]
    step = next((s for s in steps if takes(name, native + s) and takes(name, native + 3 * s)), None)
    if step is None or native % step:
        return native, native
    multiples = range(-(-SMALLEST_IMAGE // step), native // step + 1)
    return step * multiples[bisect_left(multiples, True, key=lambda k: takes(name, k * step))], step


def _patch_side(name: str) -> int:
    patch = getattr(getattr(_for_size(name, None), "patch_embed", None), "patch_size", 1)
    return int(patch[0]) if isinstance(patch, tuple) else int(patch)


def takes(name: str, size: int) -> bool:
    """Whether an architecture can be built for, and run on, images of this side."""
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
    """Measure these architectures anew, or all, and write the table."""
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
