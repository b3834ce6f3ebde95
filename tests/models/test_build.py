"""The network as a whole: reproducible, of the size it says, grey and colour, its head, what it saves."""

import copy

import pytest
import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medfathom.errors import ModelError
from medfathom.models.build import HeadOptions, Network, build_network, normalization_of

SIDE = 64


def build(architecture: str = "resnet10t", **changes: object) -> Network:
    options = {
        "init": "random",
        "num_outputs": 3,
        "unfreeze_depth": 2,
        "image_size": SIDE,
        "in_channels": 3,
        "seed": 0,
        **changes,
    }
    return build_network(architecture, **options).eval()  # type: ignore[arg-type]


def images(channels: int = 3, n: int = 4, side: int = SIDE) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_the_same_arguments_give_the_same_network_and_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = build(), build(), build(seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one(images()), two(images()))
    assert one.weights_hash == two.weights_hash != other.weights_hash
    assert not torch.equal(one(images()), other(images()))


def test_the_backbone_does_not_depend_on_the_head() -> None:
    hashes = {
        build(num_outputs=k, head=HeadOptions(hidden=h)).weights_hash for k, h in ((1, 0), (5, 0), (3, 16))
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet10t",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
        pytest.param("vgg11", marks=pytest.mark.slow),
    ],
)
@pytest.mark.large
def test_logits_are_those_of_timms_own_model(architecture: str) -> None:
    network = build(architecture)
    fixed = timm.get_pretrained_cfg(architecture).fixed_input_size
    with torch.device("meta"):  # spares drawing weights that are replaced
        theirs = timm.create_model(architecture, num_classes=3, **({"img_size": SIDE} if fixed else {}))
    theirs.eval().load_state_dict(network.backbone.state_dict(), strict=False, assign=True)
    theirs.get_classifier().load_state_dict(network.head[-1].state_dict(), assign=True)
    assert not any(p.is_meta for p in theirs.parameters())
    with torch.no_grad():
        assert torch.equal(network(images()), theirs(images()))


@pytest.mark.parametrize("hidden", [0, 32])
def test_facts_are_those_of_the_whole_network(hidden: int) -> None:
    network = build("resnet18", unfreeze_depth=1, head=HeadOptions(hidden=hidden))
    facts = network.facts
    head = 512 * 3 + 3 if hidden == 0 else 512 * hidden + hidden + 3 * hidden + 3
    assert facts.n_params == 11_689_512 - 513_000 + head
    assert facts.n_trainable_params == 8_393_728 + head  # layer4 of ResNet-18
    assert facts.trainable_fraction == facts.n_trainable_params / facts.n_params
    assert facts.depth == 18 + (hidden > 0)
    assert facts.trainable_layer_fraction == (5 + 1 + (hidden > 0)) / (20 + 1 + (hidden > 0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(n=1))
    assert facts.macs == counter.get_total_flops() // 2


def test_trained_fractions_rise_with_depth_from_the_head_alone_to_everything() -> None:
    facts = [build(unfreeze_depth=d).facts for d in range(6)]
    for name in ("trainable_fraction", "trainable_layer_fraction"):
        values = [getattr(f, name) for f in facts]
        assert values == sorted(set(values))
        assert values[-1] == 1
    assert facts[0].n_trainable_params == 512 * 3 + 3


def test_a_repeated_grey_image_is_what_the_colour_network_sees() -> None:
    grey = torch.rand(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    colour = grey.expand(-1, 3, -1, -1)

    def normalised(network: Network, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in network.normalization)
        return (x - mean) / std

    one, three = build(in_channels=1), build(in_channels=3)
    assert len(one.normalization[0]) == 1
    assert one.facts.n_params == three.facts.n_params
    torch.testing.assert_close(
        one(normalised(one, grey)), three(normalised(three, colour)), rtol=1e-4, atol=1e-5
    )
    assert one.forward_prefix(grey).shape == three.forward_prefix(colour).shape


def test_summed_first_weights_do_to_a_grey_image_what_repeating_does() -> None:
    """Exact where pretraining normalised all colours alike, as EfficientNet-Lite's did."""
    options = {"architecture": "tf_efficientnet_lite0", "in_channels": 1, "init": "imagenet"}
    repeated, summed = build(grey="repeat", **options), build(grey="sum", **options)
    assert summed.facts.n_params == repeated.facts.n_params - 2 * 32 * 9
    torch.testing.assert_close(summed(images(1)), repeated(images(1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("grey", ["repeat", "sum"])
@pytest.mark.parametrize("depth", [0, 5])
def test_grey_images_pass_at_both_ends(grey: str, depth: int) -> None:
    network = build(in_channels=1, grey=grey, unfreeze_depth=depth)
    assert network(images(1)).shape == (4, 3)
    if depth == 5:
        assert network.forward_prefix(images(1)).shape[1] == (3 if grey == "repeat" else 1)


def test_with_nothing_frozen_the_prefix_is_the_identity() -> None:
    x = images()
    assert build(unfreeze_depth=5).forward_prefix(x) is x


@pytest.mark.parametrize(("pooling", "expected"), [("max", "max"), ("avgmax", "mean of both")])
def test_pooling_over_positions(pooling: str, expected: str) -> None:
    network = build(unfreeze_depth=0, head=HeadOptions(pooling=pooling))  # type: ignore[arg-type]
    with torch.no_grad():
        maps = network.backbone.forward_features(images())  # type: ignore[operator]
    wanted = maps.amax((2, 3)) if expected == "max" else (maps.amax((2, 3)) + maps.mean((2, 3))) / 2
    torch.testing.assert_close(network.forward_prefix(images()), wanted)


def test_pooling_of_a_vit_keeps_the_names_of_its_weights() -> None:
    token = build("vit_tiny_patch16_224")
    pooled = build("vit_tiny_patch16_224", head=HeadOptions(pooling="max"))
    assert set(pooled.state_dict()) == set(token.state_dict())
    with torch.no_grad():
        maps = pooled.backbone.forward_features(images())  # type: ignore[operator]
    torch.testing.assert_close(
        pooled.features_after(3, images()).shape, token.features_after(3, images()).shape
    )
    torch.testing.assert_close(pooled(images()), pooled.head(maps[:, 1:].amax(1)))


def test_dropout_of_the_head_is_on_in_training_only() -> None:
    network = build(unfreeze_depth=0, head=HeadOptions(dropout=0.5, hidden=64))
    features = network.forward_prefix(images())
    assert torch.equal(network.forward_rest(features), network.forward_rest(features))
    network.train()
    assert not torch.equal(network.forward_rest(features), network.forward_rest(features))


@pytest.mark.parametrize("architecture", ["efficientvit_m0", "resnet10t"])
@pytest.mark.parametrize("depth", [2, 5])
def test_in_inference_it_is_the_network_of_its_latest_weights(architecture: str, depth: int) -> None:
    network = build(architecture, unfreeze_depth=depth)
    network.train()(images())
    network.eval()(images())
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameters in network.train().trainable_parameters_by_group():
            for parameter in parameters:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    fresh = build(architecture, unfreeze_depth=depth, seed=1)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(images()), fresh(images()))
    assert not any(module.training for module in network.train().prefix_modules())


def test_stochastic_depth_is_that_of_timm_in_what_is_trained_and_off_in_what_is_frozen() -> None:
    swin = "swin_tiny_patch4_window7_224"
    network = build(swin, unfreeze_depth=5).train()
    plain = timm.create_model(swin, num_classes=0, img_size=SIDE)
    plain.load_state_dict(network.backbone.state_dict())
    shown = images()
    torch.manual_seed(3)
    expected = plain.train()(shown)
    torch.manual_seed(3)
    features: list[Tensor] = []
    network.head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0]))
    network(shown)
    assert torch.equal(features[0], expected)
    network.set_unfreeze_depth(0)
    assert torch.equal(network.train().forward_prefix(shown), plain.eval()(shown))


def test_trained_groups_come_stem_side_first_and_the_head_last() -> None:
    groups = build(unfreeze_depth=3).trainable_parameters_by_group()
    assert [name for name, _ in groups] == [3, 4, 5, "head"]
    parameters = [id(p) for _, ps in groups for p in ps]
    assert len(parameters) == len(set(parameters))


def test_what_was_trained_comes_back() -> None:
    network = build(unfreeze_depth=1)
    saved = copy.deepcopy(network.trained_state())
    expected = network(images())
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    network.load_trained_state(saved)
    assert torch.equal(network(images()), expected)
    with pytest.raises(
        ModelError, match=r"not a trained state of resnet10t with groups \[5\]: .* tensors differ"
    ):
        network.load_trained_state(build(unfreeze_depth=2).trained_state())
    with pytest.raises(ModelError, match=r"1 tensors differ, the first is head\.1\.bias|head\.1\.weight"):
        network.load_trained_state({**saved, "head.1.weight": torch.zeros(4, 512)})


def test_features_after_fewer_groups_lead_to_the_same_logits() -> None:
    network = build(unfreeze_depth=1)
    for groups in range(5):
        features = network.features_after(groups, images())
        assert torch.equal(network.logits_from(groups, features), network(images()))
    with pytest.raises(ModelError, match=r"groups must be 0 to 4 \(the frozen ones\), but got 5"):
        network.features_after(5, images())


@pytest.mark.parametrize(
    "architecture",
    ["resnet10t", "test_efficientnet", "test_vit", "densenet121", "convnext_atto", "efficientvit_b0"],
)
@pytest.mark.large
def test_features_go_on_from_an_earlier_cut_to_the_last_bit(architecture: str) -> None:
    network = build(architecture, unfreeze_depth=0)
    for start in range(1, 5):
        earlier = network.features_after(start, images())
        kept = earlier.clone()
        for groups in range(start + 1, 6):
            expected = network.features_after(groups, images())
            assert torch.equal(network.features_after(groups, earlier, start), expected), (start, groups)
        assert torch.equal(earlier, kept)


def test_a_copy_is_independent_and_works() -> None:
    network = build()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.head[-1].bias.add_(1)
    torch.testing.assert_close(twin(images()), network(images()) + 1)


def test_gradients_stop_at_the_cut() -> None:
    network = build(unfreeze_depth=1)
    features = network.forward_prefix(images())
    assert not features.requires_grad
    network.forward_rest(features).sum().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in network.named_parameters() if p.requires_grad}


def test_normalization_is_that_of_the_weights() -> None:
    assert normalization_of("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalization_of("resnet50")[0] == (0.485, 0.456, 0.406)
    assert build(in_channels=1, grey="sum").backbone_normalization == (
        (pytest.approx(0.449),),
        (pytest.approx(0.226),),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet5"}, "unknown architecture 'resnet5': did you mean"),
        ({"architecture": "inception_v3"}, r"inception_v3 cannot take 64 px images: .* the nearest is 75"),
        (
            {"architecture": "vit_tiny_patch16_224", "image_size": 100},
            r"vit_\w+ cannot take 100 px .* 96 or 112",
        ),
        ({"unfreeze_depth": 6}, "unfreeze_depth must be 0 to 5, but got 6"),
        ({"unfreeze_depth": -1}, "unfreeze_depth must be 0 to 5, but got -1"),
        ({"in_channels": 2}, "in_channels must be 1 or 3, but got 2"),
        ({"num_outputs": 0}, "num_outputs must be at least 1, but got 0"),
    ],
)
def test_bad_arguments_are_explained_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
