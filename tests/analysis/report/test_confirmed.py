"""Confirmed models in the report: each row says which configuration it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from made_confirmations import made_model, made_result
from made_studies import analyze, lookup, study
from medfathom.analysis.report.figures import Figures
from medfathom.analysis.report.report import page
from medfathom.confirmation.find import PICTURES, pictures_of_best
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.confirmation.words import best_sentence


def test_configurations_that_were_asked_for_are_named_by_their_trial() -> None:
    """Before, they stood under their stratum's name, as if they were its best."""
    asked = made_result(stratum="architecture=vgg16 unfreeze_depth=0", search_trial=7, chosen=False)
    best = replace(asked, search_trial=3, chosen=True)
    summary = ConfirmationSummary(
        study="demo",
        modality="CXR",
        unfinished=None,
        openings=(),
        strata=(asked, best),
        missing=(),
        failures=(),
    )
    found = replace(analyze(study(settings=1, seeds=1), lookup=lookup), confirmed=[summary.to_dict()])
    html = page(found, Figures())
    names = re.findall(r"<td>demo</td><td>([^<]*)</td>", html)
    assert names == ["vgg16 · depth 0 (trial 7)", "vgg16 · depth 0"]
    assert "Best model of demo on validation:</strong> vgg16 · depth 0 (trial 7): test AUC" in html
    assert "vgg16 · depth 0 (trial 7), test AUC" in best_sentence(asked)
    assert "(trial" not in best_sentence(best)


@pytest.mark.parametrize(("seeds", "words"), [(1, ""), (3, ", first of 3 seeds")])
def test_pictures_say_of_which_seed_they_are(tmp_path: Path, seeds: int, words: str) -> None:
    """Before, a ROC curve with one seed's AUC stood below the mean of three."""
    (tmp_path / "roc.png").write_bytes(b"")
    models = tuple(made_model(seed=k, folder=tmp_path, pictures=("roc.png",)) for k in range(seeds))
    summary = ConfirmationSummary(
        study="demo",
        modality="CXR",
        unfinished=None,
        openings=(),
        strata=(made_result(stratum="unfreeze_depth=0", models=models),),
        missing=(),
        failures=(),
    )
    [(about, _, _)] = pictures_of_best(summary)
    assert about == f"demo, depth 0{words}"


def test_the_confusion_matrix_of_several_classes_is_by_the_highest_probability() -> None:
    assert "more: the class with the highest probability" in PICTURES["confusion.png"]
