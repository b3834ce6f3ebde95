"""The parts of the gap add up; each has an interval; a difference between the splits is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.trial import create_trial

from made_confirmations import FACTS, made_model, made_result
from made_models import CONFIG
from medfathom.confirmation.find import predictions_file
from medfathom.confirmation.gap import gap_of
from medfathom.confirmation.summary import _one
from medfathom.confirmation.words import gap_words
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.cross_validated import FoldAuc
from medfathom.models.folder import write_config


def folders(place: Path, shifts: dict[str, float], n: int = 400, seeds: int = 3) -> tuple[list[Path], dict]:
    """Models whose classes lie apart by a shift on each split; their AUCs."""
    random = np.random.default_rng(0)
    made, aucs = [], {"val": [], "test": []}
    for seed in range(seeds):
        folder = place / f"trial-{seed}"
        folder.mkdir()
        write_config(folder, CONFIG)
        for split, shift in shifts.items():
            labels = (np.arange(n) % 4 == 0).astype(int) if split == "test" else np.arange(n) % 2
            values = 1 / (1 + np.exp(-(random.normal(0, 1, n) + shift * (labels - 0.5))))
            table = {
                "name": list(map(str, range(n))),
                "group": None,
                "label": labels,
                "probability:ill": values,
            }
            pd.DataFrame(table).to_parquet(predictions_file(folder, split))
            aucs[split].append(float(roc_auc_score(labels, values)[0]))
        made.append(folder)
    return made, aucs


def test_a_harder_test_split_is_told_from_an_optimistic_search(tmp_path: Path) -> None:
    made, aucs = folders(tmp_path, {"val": 3.0, "test": 1.5})
    gap = gap_of(0.99, aucs["val"], aucs["test"], made)
    assert gap is not None
    val, test = np.mean(aucs["val"]), np.mean(aucs["test"])
    assert (gap.search.value, gap.splits.value) == pytest.approx((0.99 - val, val - test))
    assert gap.search.ci is not None
    reach = 4.302652729911275 * np.std(aucs["val"], ddof=1) / np.sqrt(3)  # Student, 2 degrees of freedom
    assert gap.search.ci == pytest.approx((0.99 - val - reach, 0.99 - val + reach))
    assert gap.told_from_zero
    assert gap.val is not None
    assert gap.test is not None
    assert (gap.val.prevalence, gap.test.prevalence) == (0.5, 0.25)
    assert gap.test.specificity < gap.val.specificity
    said = " ".join(gap_words(made_result(search_auc=0.99, test_auc=float(test), gap=gap)))
    assert "The validation split is easier than the test split" in said
    assert "prevalence 0.500 and 0.250" in said


def test_equal_splits_are_not_called_different(tmp_path: Path) -> None:
    made, aucs = folders(tmp_path, {"val": 2.0, "test": 2.0}, n=120, seeds=1)
    gap = gap_of(0.93, aucs["val"], aucs["test"], made)
    assert gap is not None
    assert gap.search.ci is None
    assert not gap.told_from_zero
    said = " ".join(gap_words(made_result(gap=gap)))
    assert "too small to show whether they differ" in said
    assert "one seed: no interval" in said


@pytest.mark.parametrize("n_folds", [None, 5])
def test_a_cross_validated_search_has_no_such_parts(tmp_path: Path, n_folds: int | None) -> None:
    """Its AUC is of all folds, that of the models trained again of the validation split alone."""
    made, aucs = folders(tmp_path, {"val": 2.0, "test": 2.0})
    one = {"val_loss": 0.2, "judged": FoldAuc(0.99, [0], [0.01], 0.01, 9.0, 9.0, 1.0)}
    known = {} if n_folds is None else {"folds": [one] * n_folds}
    search = create_trial(value=0.99, user_attrs=known)
    row = {**FACTS, "stratum": "all", "architecture": "vgg11", "init": "random", "unfreeze_depth": 5}
    models = tuple(
        made_model(folder=folder, val_auc=val, test_auc=test, row=row)
        for folder, val, test in zip(made, aucs["val"], aucs["test"], strict=True)
    )
    assert (_one(search, {}, models, 0.99, chosen=True).gap is None) == (n_folds is not None)


def test_curves_fitted_on_validation_do_not_flatter_its_interval(tmp_path: Path) -> None:
    """Isotonic regression raises the AUC of the images that it was fitted to: .68 becomes .74 here."""
    made, aucs = folders(tmp_path, {"val": 0.7, "test": 0.7}, n=60, seeds=1)
    plain = gap_of(0.8, aucs["val"], aucs["test"], made)
    file = predictions_file(made[0], "val")
    table = pd.read_parquet(file)
    odds = np.log(table["probability:ill"] / (1 - table["probability:ill"])).to_numpy()
    logits = np.stack([np.zeros(len(odds)), odds], axis=1)
    fitted = CONFIG.fitted("isotonic", table["label"].to_numpy(), logits)
    table["probability:ill"] = fitted.calibrated(logits)[:, 0]
    table["logit:well"], table["logit:ill"] = logits.T
    table.to_parquet(file)
    write_config(made[0], fitted)
    curved = gap_of(0.8, aucs["val"], aucs["test"], made)
    assert plain is not None
    assert curved is not None
    assert curved.splits.ci == pytest.approx(plain.splits.ci)


def test_without_validation_predictions_there_is_no_gap(tmp_path: Path) -> None:
    assert gap_of(0.9, [0.9], [0.8], [tmp_path]) is None
    assert gap_words(made_result()) == []
