"""The spaces and studies of the paper's design: what they hold, that every network in them fits."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from medfathom.definitions.load import load_definition, read_toml
from medfathom.definitions.space import SpaceConfig
from medfathom.models.catalog import check_architecture
from medfathom.models.catalog_build import NAMES
from medfathom.models.facts import find_shipped
from medfathom.validate import check_definition

REPOSITORY = Path(__file__).resolve().parents[2]
PAPER_STUDIES = ["paper_cxr", "paper_oct", "paper_wsi"]


def space(name: str) -> SpaceConfig:
    return SpaceConfig.model_validate(read_toml(REPOSITORY / f"search/spaces/{name}.toml"))


def test_five_settings_are_the_papers() -> None:
    strata = space("five_settings").strata()
    assert len(strata) == 50
    settings = {(s["init"], s["unfreeze_depth"]) for s in strata}
    assert settings == {("imagenet", 0), ("imagenet", 1), ("imagenet", 5), ("random", 1), ("random", 5)}
    assert {s["architecture"] for s in strata} == set(NAMES[:10])


def test_transfer_crosses_every_init_with_every_depth() -> None:
    transfer = space("transfer")
    strata = transfer.strata()
    architectures = {s["architecture"] for s in strata}
    pairs = {(s["init"], s["unfreeze_depth"]) for s in strata}
    assert pairs == {(i, d) for i in ("imagenet", "imagenet-stats", "random") for d in range(6)}
    assert len(strata) == len(architectures) * 18
    depth = transfer.dimensions["unfreeze_depth"]
    assert (depth.low, depth.high) == (0, 5)
    assert all(find_shipped(str(a)) for a in architectures)


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_the_papers_studies(name: str) -> None:
    study = load_definition(str(REPOSITORY / f"study_defs/{name}.toml"))
    assert study.name == name
    assert study.goal == "compare"
    assert (study.sampler.name, study.scheduler.name) == ("grid", "none")
    assert (study.budget.trials, study.budget.epochs) == (len(study.space.strata()), 300)
    fixed = {n: d.value for n, d in study.space.dimensions.items() if d.role == "fixed"}
    assert (fixed["optimizer"], fixed["decay"]) == ("adam", "exponential")
    for architecture in {str(s["architecture"]) for s in study.space.strata()}:
        check_architecture(architecture, study.dataset.image_size)


def commented_sets(path: Path) -> list[str]:
    """The `--set` values of the commands in a definition's comment."""
    comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    words = shlex.split(comment.replace("networks' ", "networks "))
    return [after.rstrip(".") for word, after in pairwise(words) if word == "--set"]


@pytest.mark.parametrize("name", PAPER_STUDIES)
def test_a_smoke_budget_runs_the_same_design_on_small_images(name: str) -> None:
    """By the command that the definition's own comment gives."""
    path = REPOSITORY / f"study_defs/{name}.toml"
    *overrides, without_weights = commented_sets(path)
    study = load_definition(str(path), overrides)
    assert study.name == f"{name}_smoke"
    assert study.dataset.modality == load_definition(str(path)).dataset.modality
    assert study.space == load_definition(str(path)).space
    assert study.budget.trials == len(study.space.strata()) == 50
    assert study.budget.epochs <= 2
    for architecture in {str(s["architecture"]) for s in study.space.strata()}:
        check_architecture(architecture, study.dataset.image_size)
    random_only = load_definition(str(path), [*overrides, without_weights])
    assert {(s["init"], s["unfreeze_depth"]) for s in random_only.space.strata()} == {
        ("random", 1),
        ("random", 5),
    }
    assert check_definition(random_only) == []
