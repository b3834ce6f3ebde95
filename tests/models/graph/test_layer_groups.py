"""Five layer groups for every architecture: a partition, in order, whose parts run apart.

The smallest network of each family runs on real numbers; larger ones, which differ from it in width and
repetition only, on the meta device.
"""

import logging

import pytest
import timm
import torch
from torch import Tensor, nn

from medfathom.models.build import HeadOptions, build_network
from medfathom.models.catalog import lookup
from medfathom.models.facts import find_shipped, shipped
from medfathom.models.graph.blueprint import (
    BackboneSettings,
    Blueprint,
    blueprint_of,
    create_backbone,
    find_groups,
)
from medfathom.models.graph.layer_groups import GROUPS, in_few_words, tensor_names
from medfathom.models.graph.measure import ShapesOnly

SIDE = 48

SMALLEST = {facts.family: facts.name for facts in reversed(shipped())}
"""The smallest architecture of each family: the catalog is sorted by size."""

UNCHOSEN = timm.list_models()[130::220]
"""Every 220th name of timm: nobody picked them."""

ODD = ["nasnetalarge", "crossvit_9_240", "hrnet_w18_small", "coat_lite_tiny", "vit_small_patch16_dinov3"]
"""Cells with two inputs, two branches, four resolutions, sizes as values, buffers asked for their values."""

CUTS_KNOWN = {
    "resnet18": ("conv1 bn1", "layer1", "layer2", "layer3", "layer4"),
    "vgg11": (
        "features.0",
        "features.3",
        "features.6 features.8",
        "features.11 features.13",
        "features.16 features.18 pre_logits",
    ),
    "tf_efficientnet_lite0": (
        "conv_stem bn1 blocks.0",
        "blocks.1",
        "blocks.2",
        "blocks.3 blocks.4",
        "blocks.5 blocks.6 conv_head bn2",
    ),
    "mobilenetv2_100": (
        "conv_stem bn1 blocks.0",
        "blocks.1",
        "blocks.2",
        "blocks.3 blocks.4",
        "blocks.5 blocks.6 conv_head bn2",
    ),
    "convnext_atto": ("stem", "stages.0", "stages.1", "stages.2", "stages.3 head"),
    "regnety_002": ("stem", "s1", "s2", "s3", "s4"),
    "swin_tiny_patch4_window7_224": ("patch_embed", "layers.0", "layers.1", "layers.2", "layers.3 norm"),
    "vit_tiny_patch16_224": (
        "cls_token pos_embed patch_embed",
        "blocks.0 blocks.1 blocks.2",
        "blocks.3 blocks.4 blocks.5",
        "blocks.6 blocks.7 blocks.8",
        "blocks.9 blocks.10 blocks.11 norm",
    ),
    "legacy_xception": (
        "conv1 bn1 conv2 bn2",
        "block1",
        "block2",
        "block3 block4 block5 block6 block7 block8 block9 block10 block11",
        "block12 conv3 bn3 conv4 bn4",
    ),
    "densenet121": (
        "features.conv0 features.norm0",
        "features.denseblock1 features.transition1",
        "features.denseblock2 features.transition2",
        "features.denseblock3 features.transition3",
        "features.denseblock4 features.norm5",
    ),
}


def small_side(name: str) -> int:
    """A small image side that the architecture takes."""
    facts = lookup(name)
    return next(s for s in range(max(SIDE, facts.smallest_size), 1024) if facts.takes(s))


def assert_five_groups(groups: dict[str, int], backbone: nn.Module, blueprint: Blueprint) -> None:
    assert sorted(groups) == sorted(tensor_names(backbone))
    assert set(groups.values()) == {1, 2, 3, 4, 5}
    assert min(blueprint.layers_per_group) > 0
    assert blueprint.depth <= sum(blueprint.layers_per_group)
    costs = [blueprint.cuts[k].macs for k in range(GROUPS + 1)]
    assert costs == sorted(costs)
    assert (costs[0], costs[-1]) == (0, blueprint.macs)


def assert_parts_run_apart(backbone: nn.Module, blueprint: Blueprint, images: Tensor) -> None:
    """Every cut: one tensor with a row per image crosses it, is left alone, and leads to the same output."""
    blueprint.prepare(backbone)
    with torch.no_grad(), ShapesOnly():
        backbone.eval()
        whole = None if images.is_meta else backbone(images)
        for frozen in range(1, GROUPS):
            cut = blueprint.cuts[frozen]
            assert cut.prefix is not None
            assert cut.rest is not None
            features = cut.prefix(backbone, images)
            assert tuple(features.shape) == (len(images), *cut.shape)
            before = features.clone()
            output = cut.rest(backbone, features.clone() if cut.writes_input else features)
            assert tuple(output.shape) == (len(images), blueprint.features)
            if whole is not None:
                assert torch.equal(features, before)
                assert torch.equal(output, whole)
        if not images.is_meta:  # a row per image: none sees another
            one = cut.prefix(backbone, images[1:2])
            torch.testing.assert_close(features[1:2], one, rtol=1e-3, atol=1e-3 * float(one.std()))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(facts.name, marks=() if facts.name in SMALLEST.values() else pytest.mark.slow)
        for facts in shipped()
    ],
)
@pytest.mark.large
def test_every_architecture_of_the_catalog(name: str) -> None:
    side = small_side(name)
    settings = BackboneSettings(name, side)
    device = "cpu" if name in SMALLEST.values() else "meta"
    torch.manual_seed(0)
    backbone = create_backbone(settings, device)
    blueprint = blueprint_of(backbone, settings)
    assert_five_groups(dict(blueprint.groups), backbone, blueprint)
    assert_parts_run_apart(backbone, blueprint, torch.rand(2, 3, side, side, device=device))


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in UNCHOSEN), *ODD])
@pytest.mark.large
def test_architectures_that_nobody_chose(name: str) -> None:
    settings = BackboneSettings(name)
    backbone = create_backbone(settings, "meta")
    blueprint = blueprint_of(backbone, settings)
    assert_five_groups(dict(blueprint.groups), backbone, blueprint)
    channels, height, width = backbone.pretrained_cfg["input_size"]
    assert_parts_run_apart(backbone, blueprint, torch.empty(2, channels, height, width, device="meta"))


@pytest.mark.parametrize("name", CUTS_KNOWN)
@pytest.mark.large
def test_groups_are_the_stem_and_the_stages(name: str) -> None:
    expected = tuple(tuple(words.split()) for words in CUTS_KNOWN[name])
    assert in_few_words(find_groups(name)) == expected
    entry = find_shipped(name)
    assert entry is not None
    assert entry.groups == expected


def test_groups_are_the_same_at_every_image_size_and_pooling() -> None:
    groups = []
    for size, pooling in ((32, "avg"), (160, "avg"), (64, "max")):
        network = build_network(
            "resnet10t",
            init="random",
            num_outputs=2,
            unfreeze_depth=2,
            image_size=size,
            in_channels=3,
            seed=0,
            head=HeadOptions(pooling=pooling),
        )
        names = {id(p): n for n, p in network.named_parameters()}
        groups.append([(g, [names[id(p)] for p in ps]) for g, ps in network.trainable_parameters_by_group()])
    assert groups[0] == groups[1] == groups[2]


def test_several_values_cross_a_cut_as_one_tensor() -> None:
    """NASNet's cells: each takes the outputs of the two before it."""
    settings = BackboneSettings("nasnetalarge")
    backbone = create_backbone(settings, "meta")
    cut = blueprint_of(backbone, settings).cuts[3]
    assert len(cut.shape) == 1
    assert cut.writes_input


def test_timm_says_nothing_while_networks_are_built(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        create_backbone(BackboneSettings("resnet10t", 64), "meta")
    assert not caplog.records
