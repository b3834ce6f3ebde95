"""`validate` calls broken data broken, with the cause; it decodes a few images of more than 8 bits alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import class_folders, config, images, npz, save, table
from medfathom.data import prepare
from medfathom.data.prepare import foresee
from medfathom.data.sources import files
from medfathom.data.sources.base import Listing, UnusableRowsError
from medfathom.data.too_few import few_notes
from medfathom.errors import DataError

Broken = Callable[[Path], Any]


def rows_of(folder: Path, rows: list[str], **keys: Any) -> Any:
    """A table's first images with these `label,split,patient`."""
    path = table(folder)
    lines = [f"images/{number}.png,{row}" for number, row in enumerate(rows)]
    path.write_text("\n".join(["path,label,split,patient", *lines]) + "\n")
    return config("csv", path=str(path), **keys)


def edited(folder: Path, old: str, new: str, **keys: Any) -> Any:
    path = table(folder)
    path.write_text(path.read_text().replace(old, new))
    return config("csv", path=str(path), **keys)


def without_folder(folder: Path, *parts: str) -> Any:
    for file in sorted(class_folders(folder).joinpath(*parts).rglob("*.png")):
        file.unlink()
    return config("folder", path=str(folder))


def npz_with(folder: Path, **changes: Any) -> Any:
    return config("npz", path=str(npz(folder, **changes)))


def damaged(folder: Path, content: bytes) -> Any:
    path = table(folder)
    (folder / "images" / "3.png").write_bytes(content)
    return config("csv", path=str(path), split_column="split")


TURNS = ["well", "ill"]

BROKEN: dict[str, tuple[Broken, str]] = {
    "no table": (lambda f: config("csv", path=str(f / "no.csv")), "is not there"),
    "no folder": (lambda f: config("folder", path=str(f / "no")), "is not there"),
    "a file for a folder": (lambda f: config("folder", path=str(table(f))), "a folder is expected"),
    "no root": (lambda f: config("csv", path=str(table(f)), root=str(f / "no")), "dataset.root: no folder"),
    "no label column": (lambda f: config("csv", path=str(table(f)), label_column="dx"), "no column 'dx'"),
    "no path column": (lambda f: config("csv", path=str(table(f)), path_column="x"), "no column 'x'"),
    "no group column": (lambda f: config("csv", path=str(table(f)), group_column="x"), "no column 'x'"),
    "no split column": (lambda f: config("csv", path=str(table(f)), split_column="x"), "no column 'x'"),
    "no rows": (lambda f: rows_of(f, [], split_column="split"), "no rows below its header"),
    "strange split": (lambda f: edited(f, ",test,", ",fold3,", split_column="split"), "fold3"),
    "strange class": (lambda f: edited(f, "ill", "sick", class_names=TURNS), "label 'sick' is none of"),
    "missing files": (lambda f: edited(f, "images/1", "pictures/1", split_column="split"), "pictures/1"),
    "no image": (lambda f: damaged(f, b"hello"), "images/3.png"),
    "empty file": (lambda f: damaged(f, b""), "images/3.png"),
    "pattern without matches": (
        lambda f: config("csv", path=str(table(f)), group_pattern="person([0-9]+)"),
        "no group: dataset.group_pattern",
    ),
    "test of one class": (
        lambda f: rows_of(
            f,
            [f"{TURNS[i % 2]},train,{i}" for i in range(8)]
            + [f"{TURNS[i % 2]},val,a{i}" for i in range(4)]
            + [f"ill,test,b{i}" for i in range(3)],
            split_column="split",
        ),
        "all 3 test images are of one class",
    ),
    "validation without a class": (lambda f: without_folder(f, "val", "ill"), "no val image of class 'ill'"),
    "training without a class": (
        lambda f: without_folder(f, "train", "ill"),
        "no train image of class 'ill'",
    ),
    "one class folder": (lambda f: config("folder", path=str(class_folders(f, ("a",)))), "two are needed"),
    "two patients": (
        lambda f: rows_of(f, [f"{TURNS[i % 2]},,{i % 4 // 2}" for i in range(12)], group_column="patient"),
        "2 groups in all, and each split needs one",
    ),
    "two patients of a class": (
        lambda f: rows_of(
            f, [f"{'ill' if i < 2 else 'well'},,{i}" for i in range(20)], group_column="patient"
        ),
        "every class needs 3 groups, one for each split, but class 'ill' has 2",
    ),
    "two images of a class": (
        lambda f: rows_of(f, [f"{'ill' if i < 2 else 'well'},,{i}" for i in range(20)]),
        "every class needs 3 images, one for each split, but class 'ill' has 2",
    ),
    "unusable rows before groups": (
        lambda f: rows_of(
            f, [f"{TURNS[i % 2]},,{i if i < 2 else ''}" for i in range(30)], group_column="patient"
        ),
        "28 of 30 images or rows cannot be used",
    ),
    "labels of another length": (lambda f: npz_with(f, val_labels=np.zeros((2, 1))), "val_labels has shape"),
    "no training images": (lambda f: npz_with(f, train_images=None), "no array train_images"),
    "labels that are no numbers": (lambda f: npz_with(f, train_labels=np.array(["a"] * 12)), "train_labels"),
    "a label that everyone has": (
        lambda f: npz_with(
            f,
            **{
                f"{s}_labels": np.stack([np.ones(n), np.arange(n) % 2], 1)
                for s, n in (("train", 12), ("val", 6), ("test", 6))
            },
        ),
        "every train image has label '0'",
    ),
    "no npz file": (lambda f: config("npz", path=str(table(f))), "not an npz file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_refused_with_their_cause(name: str, tmp_path: Path) -> None:
    make, cause = BROKEN[name]
    with pytest.raises(DataError) as raised:
        foresee(make(tmp_path), tmp_path / "cache")
    assert cause in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "cache").exists()


def test_few_patients_and_rare_classes_are_said(tmp_path: Path) -> None:
    rows = [f"{TURNS[i % 2]},,{i // 2 % 6}" for i in range(40)]
    notes = foresee(rows_of(tmp_path, rows, group_column="patient"), tmp_path / "cache")
    assert "the test split has 1 patients or slides: the interval of its AUC is not reliable" in notes
    assert any("the val split has few images of a class" in note for note in notes)


def test_nothing_is_said_of_a_large_set_and_the_second_time_no_header_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path, n=80)
    found = config("csv", path=str(path), split_column="split")
    first = foresee(found, tmp_path / "cache")
    monkeypatch.setattr(files, "read_header", lambda _: pytest.fail("a header was read again"))
    assert foresee(found, tmp_path / "cache") == first
    assert first[0] == "positive class: 'well'"
    expected = ("note: column 'patient' names", "there are only 60 images outside the test split")
    assert [line for line in first[1:] if not line.startswith(expected)] == []


def test_another_version_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may tell what an earlier one did not see."""
    found = config("csv", path=str(table(tmp_path, n=80)), split_column="split")
    cache = tmp_path / "cache"
    foresee(found, cache)
    (kept,) = (cache / "validated").iterdir()
    kept.write_text('["of an earlier version"]', encoding="utf-8")
    assert foresee(found, cache) == ["of an earlier version"]
    monkeypatch.setattr(prepare, "version", lambda _: "later")
    assert foresee(found, cache) != ["of an earlier version"]


def test_what_was_skipped_once_is_an_error_where_it_shall_be_one(tmp_path: Path) -> None:
    found = damaged(tmp_path, b"no image")
    skipping = found.model_copy(update={"on_bad_image": "skip"})
    assert foresee(skipping, tmp_path / "cache")
    with pytest.raises(DataError, match=r"3\.png"):
        foresee(found, tmp_path / "cache")


@pytest.mark.parametrize(("n", "stops"), [(12, True), (60, False)])
def test_images_that_use_few_of_their_bits_are_told_before_they_are_decoded(
    tmp_path: Path, n: int, stops: bool
) -> None:
    """In a large set a few are looked at: others may reach white."""
    for k in range(n):
        save(tmp_path / "set" / "ab"[k % 2] / f"{k}.png", images(1, deep=True, seed=k)[0] >> 4)
        save(tmp_path / "set" / "ab"[k % 2] / f"flat{k}.png", images(1, seed=k)[0])
    found = config("folder", path=str(tmp_path / "set"))
    said = "use at most 12 of them"
    if stops:
        with pytest.raises(DataError, match=f"all 12 images with more than 8 bits {said}"):
            foresee(found, tmp_path / "cache")
    else:
        (note,) = [line for line in foresee(found, tmp_path / "cache") if said in line]
        assert note.startswith("note: of 60 images with more than 8 bits 32 were looked at: all 32 ")
    chosen = config("folder", path=str(tmp_path / "set"), bits=12)
    assert not [line for line in foresee(chosen, tmp_path / "cache") if said in line]


def test_unknown_labels_count_for_no_class_and_cases_count_once() -> None:
    labels = np.array([[1, 255], [1, 255], [0, 1]] * 4, dtype=np.uint8)
    splits, cases = np.array(["test"] * 12), np.array([str(row // 6) for row in range(12)])
    listing = Listing(
        *(list("abcdefghijkl"), labels, splits, None, "multilabel", ("first", "second"), 1),
        dtype=np.dtype("uint8"),
    )
    assert any("images of a class (second 4)" in note for note in few_notes(listing, splits))
    by_case = few_notes(replace(listing, cases=cases), splits)
    assert any("cases of a class (first 2, second 0)" in note for note in by_case)


def test_images_that_are_left_out_are_told(tmp_path: Path) -> None:
    path = table(tmp_path)
    (tmp_path / "images" / "3.png").write_bytes(b"")
    skips = config("csv", path=str(path), split_column="split", on_bad_image="skip")
    line = "left out: 1 image or row that cannot be used: images/3.png (line 5): empty file"
    for _ in range(2):  # a second call keeps nothing back
        assert line in foresee(skips, tmp_path / "cache")


@pytest.mark.parametrize("n", [12, 60])
def test_files_of_another_depth_are_told_wherever_they_lie(tmp_path: Path, n: int) -> None:
    """The folder of one class alone has them: the first of all images are no sample."""
    for k in range(n):
        deep = images(1, deep=True, seed=k)[0]
        deep[0, 0] = 65535
        save(tmp_path / "set" / "a" / f"{k}.png", deep >> 2)
        save(tmp_path / "set" / "b" / f"{k}.png", deep >> 4)
    found = config("folder", path=str(tmp_path / "set"), bits=14)
    (note,) = [line for line in foresee(found, tmp_path / "cache") if "of another depth" in line]
    assert re.search(r"(12 of 24|16 of 32) images .* \(b/.* use at most 12 of 14 bits", note)

    narrow = config("folder", path=str(tmp_path / "set"), bits=12)
    skips = narrow.model_copy(update={"on_bad_image": "skip"})
    (note,) = [line for line in foresee(skips, tmp_path / "cache") if "left out" in line]
    assert re.search(r"(12|16) images cannot be used and will be left out \(a/.*, outside 0 to 4095", note)
    with pytest.raises(UnusableRowsError, match=r"(12 of 24|16 of 32) images or rows cannot be used"):
        foresee(narrow, tmp_path / "cache")

    (tmp_path / "set" / "a" / "broken.png").write_bytes(b"")  # others are looked at all the same
    assert any(
        " cannot be used and will be left out (a/" in line for line in foresee(skips, tmp_path / "cache")
    )
