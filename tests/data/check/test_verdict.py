"""What `data check` says first."""

import pytest

from medfathom.data.check.all_splits import DescribedImage
from medfathom.data.check.findings import Finding, ImageSet
from medfathom.data.check.verdict import verdict


def copies(*splits: str) -> ImageSet:
    return ImageSet([DescribedImage(0, f"{split}.png", split, "ill", "") for split in splits])


def test_copies_come_with_what_to_do() -> None:
    sets = [copies("train", "val")] * 8 + [copies("train", "test")]
    found = verdict(
        [Finding("error", "exact copies across splits", "…", sets), Finding("note", "classes", "…")]
    )
    assert found.sentence == (
        "Do not use it as it is: 8 images are in training and validation, 1 image is in training and test."
    )
    assert found.to_do == ("dataset.drop_copies = true leaves the copies out",)


def test_several_errors_are_all_told_and_each_way_once() -> None:
    errors = [
        Finding("error", "exact copies across splits", "…", [copies("val", "test")]),
        Finding("error", "near copies across splits", "…", [copies("train", "val")]),
        Finding("error", "groups across splits", "…", [{"group": "p1"}, {"group": "p2"}]),
    ]
    found = verdict(errors)
    assert "1 pair of near copies is in training and validation" in found.sentence
    assert "2 patients or slides are in several splits" in found.sentence
    assert len(found.to_do) == 2


@pytest.mark.parametrize(
    ("findings", "sentence"),
    [
        ([], "No problems found (checked for copies"),
        ([Finding("note", "groups", "…")], "No problems found"),
        (
            [Finding("warning", "blank images", "…")],
            "Nothing invalidates a study. Read the warnings first: blank images.",
        ),
    ],
)
def test_without_an_error(findings: list[Finding], sentence: str) -> None:
    assert verdict(findings).sentence.startswith(sentence)
    assert verdict(findings).to_do == ()
