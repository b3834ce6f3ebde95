"""`objective`: which are known, and what does not go with them."""

from __future__ import annotations

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import DefinitionError


def looks_for(objective: str, *more: str) -> StudyConfig:
    return load_definition("demo", [f"objective={objective!r}", *more])


@pytest.mark.parametrize("objective", ["auprc", "log_loss", "sensitivity_at_specificity:0.9"])
def test_the_usual_pieces_are_those_that_go_with_it(objective: str) -> None:
    config = looks_for(objective)
    assert (config.sampler.name, config.scheduler.name) == ("tpe", "asha")


def test_another_objective_is_another_study_and_auc_is_what_studies_were() -> None:
    plain = load_definition("demo", [])
    assert plain.objective == "auc"
    assert looks_for("auc").definition_hash == plain.definition_hash
    assert "objective" not in plain.identity()
    same = ["sampler=tpe", "scheduler=asha"]
    hashes = {looks_for(name, *same).definition_hash for name in ("auc", "auprc", "log_loss")}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("auprk", "objective: no such objective; did you mean 'auprc'"),
        ("sensitivity_at_specificity", "did you mean 'sensitivity_at_specificity:0.9'"),
        ("sensitivity_at_specificity:90", "a specificity between 0 and 1"),
        ("sensitivity_at_specificity:high", "a specificity between 0 and 1"),
        ("unit_auc", 'needs cases: give dataset.unit = "case"'),
    ],
)
def test_an_objective_that_cannot_be_is_refused(objective: str, words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        looks_for(objective)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("goal=compare", 'cannot be combined with goal = "compare"'),
        ("sampler=gain", 'cannot be combined with sampler.name = "gain"'),
        ("scheduler=curve", 'cannot be combined with scheduler.name = "curve"'),
        ("objectives.cost='macs'", 'cannot be combined with objectives.cost = "macs"'),
        ("dataset.splits.folds=5", "cannot be combined with dataset.splits.folds"),
        ("choice.by='log_loss'", 'cannot be combined with choice.by = "log_loss"'),
    ],
)
def test_what_knows_auc_alone_is_refused_with_the_reason(change: str, words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        looks_for("auprc", change)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_auc_of_units_is_an_auc() -> None:
    config = load_definition("demo", [])
    dataset = {"source": "folder", "path": "nowhere", "modality": "OCT", "image_size": 64, "unit": "volume"}
    whole = config.model_dump() | {"objective": "unit_auc", "dataset": dataset}
    found = StudyConfig.model_validate(whole)
    assert (found.sampler.name, found.scheduler.name) == ("gain", "curve")


def test_several_data_sets_are_judged_by_auc_alone() -> None:
    plain = load_definition("demo", ["sampler=tpe", "scheduler=asha"]).model_dump()
    parts = [plain["dataset"] | {"name": name} for name in ("a", "b")]
    whole = plain | {"objective": "auprc", "dataset": {"source": "joint", "datasets": parts}}
    with pytest.raises(ValueError, match=r"cannot be combined with \[\[datasets\]\]"):
        StudyConfig.model_validate(whole)
