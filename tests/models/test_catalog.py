"""The shipped table: depths as the literature names them, numbers as freshly measured, sizes, bad names."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.errors import ModelError
from medfathom.models.catalog import check_architecture, lookup
from medfathom.models.catalog_build import NAMES, SMALLEST_IMAGE, measure_architecture, takes
from medfathom.models.facts import ArchitectureFacts, find_shipped, shipped

NAMED_DEPTHS = {
    **{f"vgg{depth}": depth for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)},
    **{f"densenet{depth}": depth for depth in (121, 161, 169, 201)},
    "inception_v3": 48,  # Szegedy et al. 2016, as Keras counts it
    "legacy_xception": 71,
}

PUBLISHED_SIZES = {  # torchvision's model table: parameters, GFLOPs (multiply-accumulates) at 224 px
    "vgg16": (138_357_544, 15.47),
    "resnet18": (11_689_512, 1.81),
    "resnet50": (25_557_032, 4.09),
    "densenet121": (7_978_856, 2.83),
    "mobilenetv2_100": (3_504_872, 0.30),
    "vit_base_patch16_224": (86_567_656, 17.56),
    "convnext_tiny": (28_589_128, 4.46),
    "swin_tiny_patch4_window7_224": (28_288_354, 4.49),
}

PAPER = """
vgg16 vgg19 resnet50 resnet101 resnet152 inception_v3 legacy_xception densenet121 densenet169 densenet201
"""


@pytest.mark.parametrize(("name", "depth"), NAMED_DEPTHS.items())
def test_the_computed_depth_is_the_one_in_the_name(name: str, depth: int) -> None:
    assert lookup(name).depth == depth


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    facts = lookup(name)
    parameters, gmacs = PUBLISHED_SIZES[name]
    assert facts.n_params == parameters
    assert facts.macs / 1e9 == pytest.approx(gmacs, abs=0.02)


def test_the_papers_ten_and_sixty_more_with_sizes_varying_within_families() -> None:
    names = [facts.name for facts in shipped()]
    assert sorted(names) == sorted(NAMES)
    assert len(set(names)) == len(names) >= 70
    assert set(PAPER.split()) <= set(names)
    sizes: dict[str, set[int]] = {}
    for facts in shipped():
        sizes.setdefault(facts.family, set()).add(facts.n_params)
    assert sum(len(s) >= 3 for s in sizes.values()) >= 10
    for family in ("resnet", "densenet", "efficientnet", "mobilenetv3", "regnet", "convnext"):
        assert max(sizes[family]) > 2 * min(sizes[family])
    for family in ("swin_transformer", "deit", "vision_transformer"):
        assert len(sizes[family]) >= 3


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "legacy_xception", "vit_tiny_patch16_224", "pvt_v2_b0"]
)
def test_shipped_entries_are_what_is_measured_now(name: str) -> None:
    assert measure_architecture(name) == find_shipped(name)


def test_an_architecture_outside_the_table_is_measured() -> None:
    assert find_shipped("resnet18d") is None
    facts = lookup("resnet18d")
    assert (facts.family, facts.depth, facts.n_params) == ("resnet", 20, 11_708_744)
    assert "ra2_in1k" in facts.pretrained_tags


def test_an_unknown_architecture_gets_the_nearest_names() -> None:
    with pytest.raises(ModelError, match=r"unknown architecture 'resnet5': did you mean 'resnet\w+'"):
        check_architecture("resnet5", 224)


def test_a_tag_in_the_name_is_explained() -> None:
    with pytest.raises(ModelError, match="architecture resnet50, init imagenet:a1_in1k"):
        lookup("resnet50.a1_in1k")


def test_a_size_that_cannot_be_taken_names_those_that_can() -> None:
    check_architecture("inception_v3", 75)
    with pytest.raises(ModelError, match=r"inception_v3 cannot take 74 px images: .* the nearest is 75$"):
        check_architecture("inception_v3", 74)
    with pytest.raises(ModelError, match=r"multiples of 16 px from 16 px on; the nearest is 96 or 112$"):
        check_architecture("vit_tiny_patch16_224", 100)


@pytest.mark.parametrize("name", ["inception_v3", "densenet121", "swin_tiny_patch4_window7_224", "vgg11"])
def test_sizes_of_the_table_hold(name: str) -> None:
    facts = lookup(name)
    assert all(takes(name, facts.smallest_size + k * facts.size_step) for k in (0, 1, 3))
    below = facts.smallest_size - facts.size_step
    assert below < SMALLEST_IMAGE or not takes(name, below)


def test_a_network_that_halves_exactly_takes_multiples_only() -> None:
    assert lookup("dla34").size_step == 32
    assert takes("dla34", 64)
    assert not takes("dla34", 80)


def test_a_network_of_patches_takes_multiples_of_the_patch() -> None:
    assert [lookup(f"vit_small_patch{p}_224").size_step for p in (16, 32)] == [16, 32]
    assert lookup("swin_tiny_patch4_window7_224").size_step == 4


@given(smallest=st.integers(1, 20), step=st.integers(1, 64), size=st.integers(1, 1024))
def test_the_nearest_sizes_can_be_taken_and_none_is_nearer(smallest: int, step: int, size: int) -> None:
    facts = ArchitectureFacts("a", "f", 1, 1, 1, 224, smallest * step, step, ())
    nearest = facts.nearest_sizes(size)
    assert all(facts.takes(s) for s in nearest)
    taken = [s for s in range(1, 2400) if facts.takes(s)]
    assert min(abs(s - size) for s in nearest) == min(abs(s - size) for s in taken)
    assert facts.takes(size) == (size in nearest)


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from medfathom.models import facts; facts.shipped(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
