"""`space.image_size`: which sizes a definition may search, and what its data set's size then is."""

from __future__ import annotations

from typing import Any

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.growth import news_of
from medfathom.definitions.load import load_definition
from medfathom.trial.kinds import kinds_of


def definition(sizes: object, **dataset: Any) -> StudyConfig:
    whole = load_definition("demo").model_dump(exclude_defaults=True)
    whole["dataset"] = {k: v for k, v in whole["dataset"].items() if k != "image_size"} | dataset
    space = {"architecture": {"value": "resnet18"}, "image_size": sizes}
    return StudyConfig.model_validate({**whole, "space": space})


def test_the_data_set_has_the_smallest() -> None:
    config = definition({"choices": [96, 32, 64], "role": "scientific"})
    assert config.dataset.image_size == 32
    assert config.sizes == [96, 32, 64]
    assert len(config.space.strata()) == 3
    assert StudyConfig.model_validate(config.model_dump(mode="json")) == config
    assert definition({"value": 48}).dataset.image_size == 48
    assert load_definition("demo").sizes == [64]


def test_kinds_of_trials_differ_by_size() -> None:
    kinds = kinds_of(definition({"choices": [32, 64]}))
    assert [kind.params.image_size for kind in kinds] == [32, 64]
    assert sum(kind.trials for kind in kinds) == pytest.approx(definition({"value": 32}).budget.trials)


@pytest.mark.parametrize(
    ("sizes", "dataset", "words"),
    [
        ({"choices": [32, 64]}, {"image_size": 64}, "leave dataset.image_size out"),
        ({"low": 32, "high": 64}, {"image_size": 32}, "give choices from 8 to 1024"),
        ({"choices": [4, 64]}, {}, "greater than or equal to 8|from 8 to 1024"),
        ({"choices": [64, 2048]}, {}, "less than or equal to 1024"),
    ],
)
def test_what_cannot_be_prepared_is_refused(sizes: object, dataset: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        definition(sizes, **dataset)


def test_a_larger_size_is_a_wider_space() -> None:
    before, after = (definition({"choices": sizes}).space for sizes in ([32, 64], [32, 64, 128]))
    assert news_of(before, after) == ["image_size 128"]
