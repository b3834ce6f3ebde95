"""The shipped table: depths as the literature names them, numbers as freshly measured, sizes that fail."""

import pytest

from medfathom.errors import ModelError
from medfathom.models.catalog import check_architecture, lookup, shipped
from medfathom.models.catalog_build import PAPER, describe

DEPTHS = {
    **{f"vgg{d}": d for d in (11, 13, 16, 19)},
    **{f"resnet{d}": d for d in (18, 34, 50, 101, 152)},
    **{f"densenet{d}": d for d in (121, 161, 169, 201)},
    "inception_v3": 48,
    "legacy_xception": 71,
}


@pytest.mark.parametrize(("name", "depth"), DEPTHS.items())
def test_depth_is_what_the_name_says(name: str, depth: int) -> None:
    assert lookup(name).depth == depth


def test_the_papers_ten_and_sixty_more_with_sizes_varying_within_families() -> None:
    facts = shipped()
    names = [f.name for f in facts]
    assert len(set(names)) == len(names) >= 70
    assert set(PAPER.split()) <= set(names)
    families = {f.family for f in facts}
    varied = {family for family in families if len({f.n_params for f in facts if f.family == family}) >= 3}
    assert len(varied) >= 8


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "inception_v3"]
)
def test_shipped_rows_are_what_is_measured_now(name: str) -> None:
    assert describe(name) == lookup(name)


def test_an_architecture_outside_the_table_is_measured() -> None:
    facts = lookup("resnet18d")
    assert facts.name not in {f.name for f in shipped()}
    assert facts.depth == 20
    assert facts.family == "resnet"


def test_an_unknown_architecture_gets_the_nearest_names() -> None:
    with pytest.raises(ModelError, match=r"unknown architecture 'resnet5'; did you mean 'resnet.*'\?"):
        lookup("resnet5")


def test_a_size_that_is_too_small_is_named() -> None:
    check_architecture("inception_v3", 75)
    with pytest.raises(ModelError, match=r"inception_v3 cannot take 64 px images: the smallest it can is 75"):
        check_architecture("inception_v3", 64)
