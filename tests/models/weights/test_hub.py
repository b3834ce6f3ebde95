"""Models in the hub's layout: loaded, normalised as they say, refused in one line where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import save_file

from medfathom.errors import WeightsError
from medfathom.models.build import build_network
from medfathom.models.weights import lookup
from medfathom.models.weights.lookup import Init, locate_weights, parse_init


def repository(folder: Path, *, card: str = "", **config: object) -> Path:
    """A resnet10t as `timm.models.push_to_hf_hub` lays it out."""
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    save_file(timm.create_model("resnet10t", num_classes=4).state_dict(), folder / "model.safetensors")
    content = {
        "architecture": "resnet10t",
        "num_classes": 4,
        "pretrained_cfg": {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7], "license": "cc-by-nc-4.0"},
    }
    (folder / "config.json").write_text(json.dumps(content | config))
    if card:
        (folder / "README.md").write_text(card)
    return folder


def test_the_form_is_parsed() -> None:
    assert (
        parse_init("hub:org/name") == parse_init("hub:hf-hub:org/name") == Init("hub", repository="org/name")
    )
    with pytest.raises(WeightsError, match="nothing follows the colon"):
        parse_init("hub:")


def test_a_folder_in_the_hubs_layout_is_loaded_and_normalised_as_it_says(tmp_path: Path) -> None:
    folder = repository(tmp_path / "cxr-model")
    network = build_network(
        "resnet10t",
        init=f"hub:{folder}",
        num_outputs=2,
        unfreeze_depth=0,
        image_size=64,
        in_channels=3,
        seed=0,
    )
    torch.manual_seed(5)
    own = timm.create_model("resnet10t", num_classes=4).state_dict()
    state = network.backbone.state_dict()
    assert all(torch.equal(state[name], own[name]) for name in state if not name.endswith("tracked"))
    assert network.backbone_normalization == ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
    assert "(licence cc-by-nc-4.0)" in network.init_source
    assert network.match is not None
    assert network.match.complete


def test_what_was_downloaded_before_is_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    card = "---\ntags:\n- image-classification\nlicense: other\nlicense_name: rail-m\n---\n# license: mit\n"
    folder = tmp_path / "models--org--net" / "snapshots" / "abc"
    repository(folder, card=card, pretrained_cfg={"mean": [0.5], "std": [0.5]})
    location = locate_weights("resnet10t", "hub:org/net")
    assert location.path == folder / "model.safetensors"
    assert location.description == "hub: org/net (licence rail-m)"
    with pytest.raises(
        WeightsError, match="HF_HUB_OFFLINE is set\\); with internet access, `hf download org/other`"
    ):
        locate_weights("resnet10t", "hub:org/other")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet18"}, r"that model is a resnet18, not a resnet10t; exclude"),
        ({"architecture": None}, r"names no timm architecture"),
        ({"model_args": {"init_values": 1e-5}}, r"was built with init_values = 1e-05, .* cannot be loaded"),
        ({"pretrained_cfg": {"mean": 0.5, "std": [0.5]}}, r"mean = 0\.5"),
        ({"pretrained_cfg": {"mean": ["grey"], "std": [0.5]}}, r"mean = \['grey'\] .*lists of numbers"),
    ],
)
def test_what_is_another_network_is_refused(tmp_path: Path, config: dict[str, object], message: str) -> None:
    folder = repository(tmp_path / "model", **config)
    with pytest.raises(WeightsError, match=message) as caught:
        locate_weights("resnet10t", f"hub:{folder}")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_and_a_name_that_is_none(tmp_path: Path) -> None:
    folder = repository(tmp_path / "model", model_args={"img_size": 224})
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no file of weights; put model\.safetensors or pytorch"):
        locate_weights("resnet10t", f"hub:{folder}")
    with pytest.raises(WeightsError, match=r"is no folder, and has not the form ORGANISATION/NAME"):
        locate_weights("resnet10t", "hub:no-such-folder")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            GatedRepoError,
            r"org/net is gated: accept its licence on .*/org/net and log in with `hf auth login`",
        ),
        (RepositoryNotFoundError, r"the hub has no org/net, or it is private"),
    ],
)
def test_gated_and_absent_models_are_told_in_one_line(
    kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise kind.__new__(kind, "no\nentry")  # as it is raised, but for the answer of a server

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(lookup, "_answers", lambda _: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(WeightsError, match=message) as caught:
        locate_weights("resnet10t", "hub:org/net")
    assert "\n" not in str(caught.value)
