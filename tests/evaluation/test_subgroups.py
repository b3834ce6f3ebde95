"""Subgroups: their metrics are those of their images; what is too few; differences; the largest gap."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medfathom
from evaluating import images
from made_models import CONFIG
from medfathom.errors import InputError
from medfathom.evaluation.judging import Predictions
from medfathom.evaluation.subgroups import columns_of, subgroups_of
from medfathom.evaluation.words import subgroup_lines
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.unknown import UNKNOWN

SEX = np.array(["F", "M"] * 150)


def predicted(gap: float, n: int = 300, seed: int = 0) -> Predictions:
    """Scores that tell the classes apart well in F, worse in M by a gap."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 2)
    shift = np.where(SEX[:n] == "F", 2.0, 2.0 - gap)
    logit = random.normal(0, 1, n) + shift * (labels - 0.5)
    return Predictions(CONFIG, labels, np.column_stack([np.zeros(n), logit]), np.arange(n).astype(np.str_))


def test_metrics_are_those_of_the_subgroups_images() -> None:
    found = predicted(0.5)
    first, second = subgroups_of(found, {"Sex": SEX}).groups
    assert (first.value, second.value, first.n, first.n_patients) == ("F", "M", 150, 150)
    for group in (first, second):
        own = group.value == SEX
        scores, labels = found.probabilities[own, 0], found.labels[own]
        assert group.auc is not None
        assert group.auc.value == pytest.approx(roc_auc_score(labels, scores)[0])
        assert group.sensitivity is not None
        assert group.sensitivity.value == pytest.approx((scores[labels == 1] >= 0.5).mean())
        assert group.positives == labels.sum()


def test_the_sums_are_those_of_fairlearn() -> None:
    """Reference: fairlearn 0.15.0, `MetricFrame.by_group` of scikit-learn's recall (either class) and AUC."""
    found = subgroups_of(predicted(0.5), {"Sex": SEX})
    reference = {
        "F": (0.9361740060616865, 0.9154929577464789, 0.8354430379746836),
        "M": (0.8306293456944197, 0.6455696202531646, 0.7605633802816901),
    }
    for group in found.groups:
        values = [each.value for each in (group.auc, group.sensitivity, group.specificity) if each]
        assert values == pytest.approx(reference[group.value], abs=1e-12)
    assert found.gaps[0].gap.value == pytest.approx(0.10554466036726684, abs=1e-12)


def test_a_gap_is_found_and_none_is_not() -> None:
    (gap,) = subgroups_of(predicted(1.8), {"Sex": SEX}).gaps
    assert (gap.best, gap.worst) == ("F", "M")
    assert gap.gap.low > 0  # type: ignore[operator]
    same = subgroups_of(predicted(0.0), {"Sex": SEX})
    assert same.gaps[0].gap.low < 0  # type: ignore[operator]
    assert all(group.p_holm > 0.05 for group in same.groups)  # type: ignore[operator]


def test_chance_gaps_are_rare() -> None:
    """Of 100 data sets without a gap about 5 have one at 0.05: more than 12 has probability 0.0005."""
    many = [subgroups_of(predicted(0.0, seed=k), {"Sex": SEX}).groups[0].p_value for k in range(100)]
    assert sum(p < 0.05 for p in many if p is not None) <= 12


def test_holm_counts_all_subgroups_and_gaps_widen_with_pairs() -> None:
    found = predicted(1.0)
    place = np.array([f"site {k % 3}" for k in range(300)])
    alone = subgroups_of(found, {"Sex": SEX})
    both = subgroups_of(found, {"Sex": SEX, "Site": place})
    assert both.groups[0].p_value == alone.groups[0].p_value
    assert both.groups[0].p_holm > alone.groups[0].p_holm  # type: ignore[operator]
    assert [gap.column for gap in both.gaps] == ["Sex", "Site"]


def test_a_label_that_the_data_do_not_know_makes_no_subgroup_too_small() -> None:
    found = predicted(0.5)
    labels = np.column_stack([found.labels, np.full(300, UNKNOWN)]).astype(np.uint8)
    names = {"task": "multilabel", "class_names": ["mass", "edema"], "thresholds": [0.5, 0.5]}
    logits = np.column_stack([found.logits[:, 1], np.zeros(300)])
    several = Predictions(CONFIG.model_copy(update=names), labels, logits, found.groups)
    for one, alone in zip(
        subgroups_of(several, {"Sex": SEX}).groups, subgroups_of(found, {"Sex": SEX}).groups, strict=True
    ):
        assert (one.positives, one.negatives, one.why) == (alone.positives, alone.negatives, "")
        assert one.auc == alone.auc
    # Too few are those of the label that is known.
    rare = np.where(np.arange(300) < 290, "a", "b")
    few = subgroups_of(several, {"Rare": rare}).groups[1]
    assert few.why.startswith(f"too few: {found.labels[290:].sum()} positive and ")


def test_too_few_have_no_numbers() -> None:
    found = predicted(0.0)
    rare = np.array(["a"] * 285 + ["b"] * 15)
    rare[:5] = ""
    subgroups = subgroups_of(found, {"Rare": rare})
    few = subgroups.groups[1]
    assert (few.auc, few.difference, few.p_holm) == (None, None, None)
    assert few.why.startswith("too few: ")
    assert subgroups.left_out == {"Rare": 5}
    assert "In no subgroup, as Rare is not known: 5 of 300." in subgroup_lines(subgroups)
    assert subgroups.gaps == []


def test_images_of_a_few_patients_are_too_few() -> None:
    """A subgroup may be one patient with many images: nothing is shown about a single one."""
    found = predicted(0.5)
    patients = np.where(SEX == "F", found.groups, "the only man")
    several = Predictions(found.config, found.labels, found.logits, patients)
    women, man = subgroups_of(several, {"Sex": SEX}).groups
    assert (women.why, women.difference) == ("", None)
    assert (man.n, man.n_patients, man.auc) == (150, 1, None)
    assert man.why == (
        "too few patients: 1 with a positive and 1 with a negative one, at least 10 each are needed"
    )


def test_ranges_and_what_has_no_value() -> None:
    found = columns_of(
        "age:10,SEX", {"Age": np.array(["41", "50", "", "x"]), "Sex": np.array(["F", "nan", "M", "M"])}
    )
    assert found["Age"].tolist() == ["[40, 50)", "[50, 60)", "", ""]
    assert found["Sex"].tolist() == ["F", "", "M", "M"]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("race", "--by race: the data keep no such column"),
        ("id", "--by id: id has 500 values, but at most 20 subgroups are allowed"),
        ("sex:10", "the column has no numbers, but for example 'F'"),
        ("id:x", "the width of ranges must be a number above 0, but got 'x'"),
    ],
)
def test_bad_columns_are_one_line(by: str, message: str) -> None:
    kept = {"id": np.arange(500).astype(np.str_), "sex": np.array(["F", "M"] * 250)}
    with pytest.raises(InputError, match=message):
        columns_of(by, kept)


def test_columns_come_from_the_table(model: Path, workdir: Path) -> None:
    pixels, labels = images(80)
    rows = ["file,label,patient,Sex,Age"]
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(workdir / f"{k}.png")
        rows.append(f"{k}.png,{('well', 'ill')[label]},p{k},{'FM'[k // 2 % 2]},{30 + k % 20}")
    (workdir / "t.csv").write_text("\n".join(rows))
    text = '[dataset]\nsource = "csv"\npath = "t.csv"\npath_column = "file"\ngroup_column = "patient"\n'
    (workdir / "t.toml").write_text(f'{text}keep = ["Sex", "Age"]\n')
    found = medfathom.evaluate(model, "t.toml", by="sex,age:10").subgroups
    assert found is not None
    assert [(g.column, g.value, g.n) for g in found.groups] == [
        ("Sex", "F", 40),
        ("Sex", "M", 40),
        ("Age", "[30, 40)", 40),
        ("Age", "[40, 50)", 40),
    ]
    card = (model / "README.md").read_text()
    assert "| Sex F | 40 | 40 | 20 |" in card
    assert "p17" not in card  # no patient is named


def test_two_spellings_of_a_value_are_refused() -> None:
    kept = {"Sex": np.array(["F", "M", "m"]), "Stage": np.array(["ER+", "ER-", "<65"])}
    with pytest.raises(InputError, match=r"--by sex: values of Sex .*: 'M' \(1 images\), 'm' \(1 images\)"):
        columns_of("sex", kept)
    assert columns_of("stage", kept)["Stage"].tolist() == ["ER+", "ER-", "<65"]


@pytest.mark.parametrize(
    ("width", "cells", "expected"),
    [
        ("0.1", ["0.3", "0.29", "0.7", "-0.1"], ["[0.3, 0.4)", "[0.2, 0.3)", "[0.7, 0.8)", "[-0.1, 0)"]),
        ("10", ["40", "39.9", "-0.0", "x"], ["[40, 50)", "[30, 40)", "[0, 10)", ""]),
        ("10", ["45,5", "39,95", "1,000"], ["[40, 50)", "[30, 40)", ""]),
        ("4", ["2015031", "2015036"], ["[2015028, 2015032)", "[2015036, 2015040)"]),
    ],
)
def test_a_number_is_in_its_range(width: str, cells: list[str], expected: list[str]) -> None:
    assert columns_of(f"x:{width}", {"x": np.array(cells)})["x"].tolist() == expected
