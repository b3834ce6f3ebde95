"""Where weights come from and what is made of them."""

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet

from medfathom.models.weights import load_into, read_tensors, rename_lite
from medfathom.models.weights_lookup import locate_weights


@pytest.mark.parametrize(("n", "side"), [(0, 224), (1, 240), (2, 260)])
def test_package_weights_give_the_logits_of_the_packages_own_model(n, side):
    architecture = f"tf_efficientnet_lite{n}"
    location = locate_weights(architecture, "imagenet")
    theirs = EfficientNet.from_name(f"efficientnet-lite{n}").eval()
    theirs.load_state_dict(read_tensors(location.path))
    ours = timm.create_model(architecture).eval()
    stages = [len(stage) for stage in ours.blocks]
    ours.load_state_dict(rename_lite(read_tensors(location.path), stages))
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_package_weights_fill_the_whole_backbone():
    location = locate_weights("tf_efficientnet_lite0", "imagenet")
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    report = load_into(backbone, "tf_efficientnet_lite0", location)
    assert report.share == 1.0
    assert report.missing == []
