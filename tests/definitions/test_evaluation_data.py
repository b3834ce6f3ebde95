"""What a model is evaluated on may be a whole study definition."""

from pathlib import Path

import pytest

from medfathom.definitions.evaluation import load_evaluation
from medfathom.definitions.load import names
from medfathom.errors import DefinitionError

MODEL = {"image_size": 32}


@pytest.mark.parametrize("name", sorted(names("study_defs")))
def test_every_shipped_study_of_one_data_set(name: str) -> None:
    if "[[datasets]]" in names("study_defs")[name].read_text():
        with pytest.raises(DefinitionError, match="on one data set; write it as \\[dataset\\]"):
            load_evaluation(name, MODEL)
    else:
        assert load_evaluation(name, MODEL).dataset.image_size == 32


def test_a_misspelt_table_is_refused(workdir: Path) -> None:
    (workdir / "x.toml").write_text("[smokes]\n[dataset]\nsource='phantom-oct'\nmodality='OCT'\n")
    with pytest.raises(DefinitionError, match="smokes: unknown key"):
        load_evaluation("x.toml", MODEL)
