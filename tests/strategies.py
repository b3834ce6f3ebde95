"""Hypothesis strategies for what studies are made of."""

from hypothesis import assume
from hypothesis import strategies as st
from pydantic import ValidationError

from medfathom.definitions.space import SpaceConfig

INITS = ["imagenet", "random"]
NAMES = ["lp-ft", "surgical", "l2-sp"]


@st.composite
def spaces(draw: st.DrawFn) -> SpaceConfig:
    """Spaces over a few architectures, inits and depths, with and without exclusions."""
    architectures = draw(
        st.lists(st.sampled_from(["vgg16", "resnet18", "resnet50"]), min_size=1, unique=True)
    )
    depths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    roles = st.sampled_from(["scientific", "nuisance"])
    space = {
        "architecture": {"role": draw(roles), "choices": architectures},
        "init": {"role": draw(roles), "choices": draw(st.permutations(INITS))},
        "unfreeze_depth": {"role": draw(roles), "choices": depths},
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "batch_size": {"low": 8, "high": 64, "log": draw(st.booleans())},
    }
    if draw(st.booleans()):
        space["strategy"] = {"role": draw(roles), "choices": ["fixed", *draw(st.permutations(NAMES))]}
    excludable = [{"init": i, "unfreeze_depth": d} for i in INITS for d in depths]
    exclude = draw(st.lists(st.sampled_from(excludable), max_size=len(excludable) - 1, unique_by=repr))
    try:
        return SpaceConfig.model_validate({**space, "exclude": exclude})
    except ValidationError:
        assume(False)  # some strategy means nothing with any of these depths
        raise
