"""The price of one architecture for all: chosen by validation, judged by test."""

import numpy as np
import pandas as pd
import pytest

from made_studies import analyze, study
from medfathom.analysis.questions.universality import price_of_universality
from medfathom.analysis.report.sentences import further
from medfathom.analysis.report.setting_tables import setting_tables
from medfathom.errors import ResultsError

THREE = {"chest": "CXR", "retina": "OCT", "tissue": "WSI"}


def confirmed(datasets: dict[str, str] = THREE, seeds: int = 2, **own: float) -> pd.DataFrame:
    """Ten networks, all alike but vgg16, which is .01 better, and those that are given: the best of a set."""
    frame = study(datasets=datasets, settings=1, seeds=seeds, noise=0.0)
    frame = frame.assign(auc=0.8 + 0.01 * (frame["architecture"] == "vgg16"))
    for (dataset, name), gain in zip(BEST.items(), own.values(), strict=False):
        frame.loc[(frame["dataset"] == dataset) & (frame["architecture"] == name), "auc"] += gain
    known = {"val_auc": frame["auc"] + 0.05, "auc_se": np.nan, "setting": ""}
    return frame.assign(**known).astype({"unfreeze_depth": str})


BEST = {"chest": "resnet50", "retina": "densenet121", "tissue": "xception"}


def test_the_price_is_what_each_best_is_ahead() -> None:
    """vgg16 is .01 above the others; in chest resnet50 is .025, in retina densenet121 .02 above them."""
    found = price_of_universality(confirmed(chest=0.025, retina=0.02))
    assert found.universal == "vgg16"
    prices = {p.dataset: (p.best, round(p.price, 6)) for p in found.datasets}
    assert prices == {
        "chest": ("resnet50", 0.015),
        "retina": ("densenet121", 0.01),
        "tissue": ("vgg16", 0.0),
    }
    whole = found.modalities[-1]
    assert (whole.modality, whole.n_datasets, whole.speaks_for) == ("all", 3, "data sets like these")
    assert whole.price == pytest.approx(0.025 / 3)
    # Student's t with 2 degrees of freedom, of .015, .01 and 0: 4.302653 * 0.00763763 / sqrt(3)
    assert whole.ci95 == pytest.approx((0.025 / 3 - 0.0189730, 0.025 / 3 + 0.0189730), abs=1e-6)


def test_validation_chooses_and_test_judges() -> None:
    """Who shines on test alone is not chosen; who is flattered by validation makes the price negative."""
    frame = confirmed()
    frame.loc[frame["architecture"] == "resnet152", "auc"] = 0.99
    flattered = (frame["architecture"] == "vgg19") & (frame["dataset"] == "chest")
    frame.loc[flattered, ["val_auc", "auc"]] = (0.87, 0.75)
    found = price_of_universality(frame)
    assert found.universal == "vgg16"
    chest = next(p for p in found.datasets if p.dataset == "chest")
    assert (chest.best, round(chest.price, 6)) == ("vgg19", -0.06)


def test_intervals_of_a_data_set_hold_seeds_and_test_images() -> None:
    frame = confirmed(chest=0.025, seeds=3).assign(auc_se=0.01)
    better = (frame["architecture"] == "resnet50") & (frame["dataset"] == "chest")
    frame.loc[better, "auc"] += np.array([-0.01, 0.0, 0.01])
    chest = next(p for p in price_of_universality(frame).datasets if p.dataset == "chest")
    reach = np.hypot(4.302653 * 0.01 / np.sqrt(3), 1.959964 * np.hypot(0.01, 0.01))
    assert chest.ci95 == pytest.approx((0.015 - reach, 0.015 + reach), abs=1e-6)
    alone = price_of_universality(frame[frame["dataset"] != "tissue"])
    assert alone.universal == "resnet50"
    assert {m.modality: m.speaks_for for m in alone.modalities} == {
        "CXR": "",
        "OCT": "these data sets",
        "all": "these data sets",
    }


def test_without_validation_there_is_no_price() -> None:
    found = price_of_universality(confirmed().drop(columns="val_auc"))
    assert found.universal is None
    assert "validation AUC" in found.reason
    one = price_of_universality(confirmed({"chest": "CXR"}))
    assert "at least 2 in 2 are needed" in one.reason


def test_the_report_tells_the_price() -> None:
    analysis = analyze(confirmed(chest=0.025, retina=0.02))
    sentence = next(s for s in further(analysis) if s.startswith("Price of one architecture"))
    assert "vgg16, chosen by validation" in sentence
    assert "CXR +0.0150" in sentence
    table = next(t for t in setting_tables(analysis) if t.title.startswith("The price of one architecture"))
    assert len(table.rows) == 3 + 4


def test_a_validation_auc_that_is_no_number_is_refused() -> None:
    rows = confirmed().assign(_source="table.csv", _row=range(2, 2 + len(confirmed())))
    rows["val_auc"] = rows["val_auc"].astype(object)
    rows.loc[rows.index[0], "val_auc"] = "0,87"
    with pytest.raises(ResultsError, match="val_auc = '0,87' is not a number"):
        price_of_universality(rows)
