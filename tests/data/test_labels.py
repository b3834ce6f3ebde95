"""Words of classes, splits and patients: one spelling where that is sure, an error where it is not."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from making import config
from medfathom.data.labels import from_word_lists, from_words, normal_word, normal_words, one_spelling
from medfathom.errors import DataError


def classes_of(words: list[str | None], **keys: Any) -> list[str | None]:
    """The class of each row; None for a problem."""
    labels = from_words(words, [str(i) for i in range(len(words))], config("csv", path="x", **keys))
    return [
        labels.class_names[value] if good else None
        for value, good in zip(labels.values, labels.good, strict=True)
    ]


@pytest.mark.parametrize(
    "written",
    ["No finding", " No finding", "No  finding\t", "No\u00a0finding", "\ufeffNo finding", "No\u200b finding"],
)
def test_white_space_and_invisible_characters_make_no_word_of_their_own(written: str) -> None:
    assert normal_word(written) == "No finding"


def test_two_unicode_forms_of_a_word_are_one() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Sjögren") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert classes_of([composed, decomposed, "other"]) == [composed, composed, "other"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["0", "1.0", "", "2."], ["0", "1", "", "2"]),
        (["0.0", "nan", "1.0"], ["0", "nan", "1"]),
        (["7.0", "P7"], ["7.0", "P7"]),  # text, not numbers that a spreadsheet wrote
        (["0.5", "1.0"], ["0.5", "1.0"]),
        (["007", "1.0"], ["007", "1"]),  # a leading zero is not the spreadsheet's
        (["-1.0", "1"], ["-1", "1"]),
    ],
)
def test_whole_numbers_lose_their_decimals_only_in_a_column_of_numbers(
    column: list[str], expected: list[str]
) -> None:
    assert normal_words(column) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="aA0. 7\u00a0Pé\u0301", max_size=5)))
def test_normal_words_stay_as_they_are(words: list[str]) -> None:
    once = normal_words(words)
    assert normal_words(once) == once


@pytest.mark.parametrize(
    "words",
    [["Normal", "normal"], ["P7", "p7"], ["P07", "P7"], ["No finding", "No_finding"], ["7", "07", "P1"]],
)
def test_words_that_may_be_one_are_refused_merged_or_kept(words: list[str]) -> None:
    first, second, *_ = words
    column = [first, *words]
    with pytest.raises(DataError) as refused:
        one_spelling(column, "error", "patients")
    for part in (f"{first!r} (2 times)", f"{second!r} (1 times)", 'dataset.similar_words = "merge"'):
        assert part in str(refused.value)
    assert one_spelling(column, "merge", "patients")[:3] == [first] * 3
    assert one_spelling(column, "keep", "patients") == column


@pytest.mark.parametrize("words", [["1.1", "1.10"], ["a1", "a11"], ["0.05", "0.5"], ["-1", "1"], ["A", "B"]])
def test_words_that_differ_are_left_alone(words: list[str]) -> None:
    assert one_spelling(words, "error", "patients") == words


def test_case_of_class_words() -> None:
    words: list[str | None] = ["Normal", "normal", "NORMAL ", "ill", "Normal"]
    with pytest.raises(DataError, match=r"'NORMAL' \(1 times\), 'Normal' \(2 times\), 'normal' \(1 times\)"):
        classes_of(words)
    assert set(classes_of(words, similar_words="merge")) == {"Normal", "ill"}
    assert len(set(classes_of(words, similar_words="keep"))) == 4
    merged = classes_of(words, classes={"healthy": ["Normal", "normal", "NORMAL"]})
    assert set(merged) == {"healthy", "ill"}


def test_the_definition_s_spelling_wins() -> None:
    words: list[str | None] = ["normal", "normal", "ill"]
    found = classes_of(words, class_names=["Normal", "Ill"], similar_words="merge")
    assert found == ["Normal", "Normal", "Ill"]
    with pytest.raises(DataError, match="differ only in their spelling"):
        classes_of(words, class_names=["Normal", "Ill"])


def test_class_names_that_differ_in_case_were_meant() -> None:
    assert classes_of(["t", "T"], class_names=["T", "t"]) == ["t", "T"]


def test_numbers_with_and_without_decimals_are_the_same_classes() -> None:
    assert classes_of(["0", "0.0", "1", "1.0"]) == ["0", "0", "1", "1"]
    assert classes_of(["0.0", "1.0"], class_names=["0", "1"]) == ["0", "1"]
    assert classes_of(["0", "1.0"], class_names=["0.0", "1.0"]) == ["0.0", "1.0"]


def test_classes_are_merged_and_others_stay() -> None:
    grades: list[str | None] = ["0", "1", "2", "3", "4.0", None]
    merged = classes_of(grades, classes={"referable": [2, 3, 4]})
    assert merged == ["0", "1", "referable", "referable", "referable", None]
    named = classes_of(grades, classes={"none": [0, 1], "referable": [2, "3", 4]})
    assert named == ["none", "none", "referable", "referable", "referable", None]


def test_a_merged_word_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"dataset.classes: no image has the class word '5'"):
        classes_of(["0", "1", "2"], classes={"referable": [2, 5]})


def test_lists_of_words_follow_the_same_rules() -> None:
    words: list[str | None] = ["Mass|Effusion", "mass ", "No Finding", "Effusion|Other"]
    keys = {"label_separator": "|", "no_label": "no finding", "similar_words": "merge"}
    table = config("csv", path="x", **keys, classes={"Any": ["Effusion", "Other"]})
    labels = from_word_lists(words, list("abcd"), table)
    assert labels.class_names == ("Any", "Mass")
    assert labels.values.tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]


SURE = {
    "spaces": lambda word: f"  {word}\u00a0",
    "invisible": lambda word: f"\ufeff{word}",
    "decomposed": lambda word: unicodedata.normalize("NFD", word),
    "decimals": lambda word: f"{word}.0" if word.isdecimal() else word,
}
"""Changes of a word that surely change nothing."""

UNSURE = {
    "case": str.upper,
    "separator": lambda word: word.replace(" ", "_"),
    "zeros": lambda word: re.sub(r"(\d+)", r"0\1", word),
}
"""Changes after which it may be another word."""


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[str], list[str], bool]:
    """True words, the same words as a table has them, and whether they surely are the same."""
    known = draw(
        st.sampled_from([("0", "1", "2"), ("no finding", "très ill", "edema"), ("grade 1", "grade 2")])
    )
    truth = [*known, *draw(st.lists(st.sampled_from(known), min_size=2, max_size=12))]
    written, sure = list(truth), True
    for row in draw(st.sets(st.integers(len(known), len(truth) - 1))):
        written[row] = SURE[draw(st.sampled_from(sorted(SURE)))](truth[row])
    if draw(st.booleans()):
        written[-1] = UNSURE[draw(st.sampled_from(sorted(UNSURE)))](truth[-1])
        sure = written[-1] == truth[-1]
    return truth, written, sure


@settings(max_examples=200, deadline=None)
@given(columns())
def test_a_column_is_read_right_or_its_words_are_named(column: tuple[list[str], list[str], bool]) -> None:
    truth, written, sure = column
    if sure:
        assert classes_of(list(written)) == truth
        return
    with pytest.raises(DataError) as refused:
        classes_of(list(written))
    assert repr(truth[-1]) in str(refused.value)
    assert repr(written[-1]) in str(refused.value)
    assert classes_of(list(written), class_names=sorted(set(truth)), similar_words="merge") == truth
    with pytest.raises(DataError, match="patients differ"):
        one_spelling(normal_words(written), "error", "patients")


@pytest.mark.parametrize(
    ("words", "sets"),
    [
        (["yes", "no", "Y", "N"], 2),
        (["1", "0", "yes", "no"], 2),
        (["True", "0", "False"], 1),
        (["true", "false"], 0),
        (["N", "no finding", "Y"], 0),
    ],
)
def test_words_for_yes_and_no_have_one_meaning_each(words: list[str], sets: int) -> None:
    if sets:
        with pytest.raises(DataError, match="differ only in their spelling"):
            classes_of(words)
        assert len(set(classes_of(words, similar_words="merge"))) == 2
    else:
        assert classes_of(words) == words


def test_numbers_with_a_decimal_comma_are_whole_too() -> None:
    assert classes_of(["1,0", "0,00", "2"]) == ["1", "0", "2"]
    assert classes_of(["1,000", "2,000", "2"]) == ["1,000", "2,000", "2"]  # thousands
