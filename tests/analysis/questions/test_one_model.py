"""The price of one model for several data sets: chosen by validation, judged by test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze, study
from medfathom.analysis.questions.one_model import price_of_one_model
from medfathom.analysis.questions.universality import price_of_universality
from medfathom.analysis.report.figures import draw_all
from medfathom.analysis.report.opening import opening
from medfathom.analysis.report.setting_tables import setting_tables
from medfathom.analysis.told import ToldOfStudy

THREE = {"chest": "CXR", "retina": "OCT", "tissue": "WSI"}
TOGETHER = "chest+retina+tissue"


def alone(seeds: int = 2) -> pd.DataFrame:
    """Ten networks on each data set alone, all with a test AUC of .8, resnet50 with .84."""
    frame = study(datasets=THREE, settings=1, seeds=seeds, noise=0.0)
    frame = frame.assign(auc=0.8 + 0.04 * (frame["architecture"] == "resnet50"))
    known = {"val_auc": frame["auc"] + 0.05, "auc_se": np.nan, "setting": "", "joint": None}
    return frame.assign(**known, study=frame["dataset"]).astype({"unfreeze_depth": str})


def joint(losses: dict[str, float], seeds: int = 2) -> pd.DataFrame:
    """One densenet121 for all, this much below .84 on each; one vgg16, which validation says is worse."""
    frame = alone(seeds)
    frame = frame[frame["architecture"].isin(["densenet121", "vgg16"])]
    frame = frame.assign(auc=0.84 - frame["dataset"].map(losses), joint=TOGETHER, study="together")
    worse = frame["architecture"] == "vgg16"
    frame["val_auc"] = frame["auc"] + 0.05 - 0.2 * worse
    frame.loc[worse, "auc"] = 0.99
    return frame.assign(setting=f"one model for {TOGETHER}")


LOSSES = {"chest": 0.03, "retina": 0.0, "tissue": -0.01}


def test_the_price_is_what_the_best_for_each_is_ahead() -> None:
    (found,) = price_of_one_model(pd.concat([alone(), joint(LOSSES)]))
    assert found.datasets == ["chest", "retina", "tissue"]
    assert found.model == f"densenet121 (one model for {TOGETHER})"  # not vgg16, which shines on test alone
    prices = {p.dataset: (p.modality, p.best, round(p.price, 6)) for p in found.prices}
    assert prices == {
        "chest": ("CXR", "resnet50", 0.03),
        "retina": ("OCT", "resnet50", 0.0),
        "tissue": ("WSI", "resnet50", -0.01),
    }
    whole = found.modalities[-1]
    assert (whole.modality, whole.n_datasets, whole.speaks_for) == ("all", 3, "data sets like these")
    assert whole.price == pytest.approx(0.02 / 3)
    # Student's t with 2 degrees of freedom, of .03, 0 and -.01: 4.302653 * 0.0208167 / sqrt(3)
    assert whole.ci95 == pytest.approx((0.02 / 3 - 0.0517115, 0.02 / 3 + 0.0517115), abs=1e-6)


def test_intervals_hold_seeds_and_the_test_images_of_both() -> None:
    frame = pd.concat([alone(3), joint(LOSSES, 3)]).assign(auc_se=0.01)
    ours = (frame["study"] == "together") & (frame["dataset"] == "chest")
    ours &= frame["architecture"] == "densenet121"
    frame.loc[ours, "auc"] += np.array([-0.01, 0.0, 0.01])
    (found,) = price_of_one_model(frame)
    chest = found.prices[0]
    seeds, sampling = 4.302653 * 0.01 / np.sqrt(3), 1.959964 * 0.01 * np.sqrt(2)
    assert chest.ci95[1] == pytest.approx(chest.price + np.hypot(seeds, sampling), abs=1e-6)


def test_without_models_of_one_data_set_there_is_no_price() -> None:
    (found,) = price_of_one_model(joint(LOSSES))
    assert found.model is None
    assert "--set only=NAME" in found.reason
    both = pd.concat([alone(), joint(LOSSES)])
    (found,) = price_of_one_model(both[(both["dataset"] != "tissue") | both["joint"].notna()])
    assert (found.alone, len(found.prices)) == (["tissue"], 2)
    assert price_of_one_model(alone()) == []
    assert price_of_one_model(alone().drop(columns="joint")) == []
    (found,) = price_of_one_model(both.drop(columns="val_auc"))
    assert "no validation AUC" in found.reason


def test_joint_models_do_not_choose_the_one_architecture_for_all() -> None:
    analysis = analyze(pd.concat([alone(), joint(LOSSES)]))
    assert analysis.universality == price_of_universality(analyze(alone()).rows)
    assert analysis.universality.universal == "resnet50"


def test_the_report_opens_with_the_price() -> None:
    from dataclasses import replace  # noqa: PLC0415

    analysis = analyze(pd.concat([alone(), joint(LOSSES)]))
    analysis = replace(analysis, studies=[ToldOfStudy("together", asks="one_model")])
    first = opening(analysis)
    assert first is not None
    assert first.answer == (
        "One model for chest, retina, tissue has a mean test AUC 0.0067 below that of the best model for "
        "each (95 % interval −0.0450 to +0.0584, for data sets like these)."
    )
    assert "CXR +0.0300" in first.details[0]
    drawing = draw_all(analysis).all()[first.picture]
    assert "one model for chest, retina, tissue" in drawing.svg
    assert drawing.data["n"].tolist() == [1, 1, 1, 3]
    assert set(drawing.data["n_of"]) == {"data set"}
    assert "3 data sets" in drawing.inline
    table = next(t for t in setting_tables(analysis) if "one model" in t.title)
    assert len(table.rows) == 3 + 4
    nothing = opening(replace(analysis, one_model=[]))
    assert nothing is not None
    assert nothing.answer.startswith("Not available")
