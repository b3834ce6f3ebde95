"""The AUCs that pictures show: of the very cells that the question is asked over."""

from __future__ import annotations

import numpy as np
import pytest

from made_studies import analyze, lookup, study
from medfathom.analysis.modality import modality_of
from medfathom.analysis.pipeline import ModalityFindings
from medfathom.analysis.report.figures import draw_all
from medfathom.analysis.report.levels import levels_of
from medfathom.analysis.rows import prepare


def test_auc_against_imagenet_accuracy_is_that_of_pretrained_networks() -> None:
    """Networks that started at random have no ImageNet accuracy, and no part in the AUCs that are drawn."""
    rows = study(inits=("imagenet", "random"))
    rows["auc"] -= 0.3 * (rows["init"] == "random")
    top1 = dict(zip(sorted(rows["architecture"].unique()), np.arange(70.0, 80.0), strict=True))
    found = analyze(rows.assign(imagenet_top1=rows["architecture"].map(top1)), lookup=lookup)
    assert isinstance(found.modalities["CXR"], ModalityFindings)
    drawn = draw_all(found).others["CXR"]["CXR_imagenet_top1"].data.set_index("architecture")["auc"]
    expected = rows[rows["init"] == "imagenet"].groupby("architecture")["auc"].mean()
    assert drawn.to_dict() == pytest.approx(expected.to_dict())


def test_a_network_that_lacks_the_easy_cell_changes_no_level() -> None:
    """Levels are those that a table without gaps would have."""
    rows = study(noise=0.0, family=0.01, seeds=1)
    rows["auc"] += 0.1 * rows["unfreeze_depth"]
    whole = prepare(rows, lookup)[0]
    lacking = whole[~(whole["architecture"].isin(["vgg16", "vgg19"]) & (whole["unfreeze_depth"] == "1"))]
    both = [modality_of("CXR", each) for each in (whole, lacking)]
    first, second = (levels_of(each).set_index("architecture")["auc"] for each in both if each is not None)
    assert second.to_dict() == pytest.approx(first.to_dict())
