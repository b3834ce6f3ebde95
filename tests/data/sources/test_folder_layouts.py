"""Folders as people have them: every file is read right, or named with the reason why it is not."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from making import config
from medfathom.data.listing import list_images
from medfathom.data.sources.base import Listing
from medfathom.data.sources.open import open_source
from medfathom.data.sources.walk import Choice, files_below
from medfathom.errors import DataError
from medfathom.text import printable


def png() -> bytes:
    content = BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(content, "PNG")
    return content.getvalue()


IMAGE = png()


def write(root: Path, *files: str | bytes) -> None:
    """Image files below a folder."""
    for file in files:
        path = root / os.fsdecode(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)


def listed(root: Path, **keys: Any) -> Listing:
    found = config("folder", path=str(root), **keys)
    source = open_source(found)
    return list_images(source, found)


def classes(listing: Listing) -> dict[str, str]:
    """File -> its class."""
    return {
        name: listing.class_names[label] for name, label in zip(listing.names, listing.labels, strict=True)
    }


def ignored(listing: Listing) -> dict[str, str]:
    """File that is left out -> the reason."""
    return {name: one.reason for one in listing.ignored for name in one.names}


@dataclass
class Tree:
    """A data set's folder: what is in it, and what a listing must say of it."""

    keys: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    """File -> split, class."""
    left_out: dict[str, str] = field(default_factory=dict)
    """File -> a part of the reason."""
    noted: list[str] = field(default_factory=list)
    """Parts of notes."""
    damaged: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """File -> its content, a part of the reason why it cannot be used."""


LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "class": ("{word}/{n}.png", {}),
    "split": ("{split}/{word}/{n}.png", {}),
    "upper": ("{SPLIT}/{word}/{n}.png", {}),
    "patients": ("{word}/patient{p}/{n}.png", {"group_pattern": r"^([^/]+/patient\d+)/"}),
    "level": ("organ{o}/{word}/{n}.png", {"class_level": 2}),
    "split level": ("{split}/organ{o}/{word}/{n}.png", {"class_level": 2}),
    "lowest": ("{split}/site{o}/deep/{word}/{n}.png", {"class_level": -1}),
    "pattern": ("{word}{p}/{n}.png", {"class_pattern": r"^([^/\d]+)\d+/", "group_pattern": r"^([^/]+)/"}),
    "name": ("{split}/all/{word}_{n}.png", {"class_pattern": r"/([^/_]+)_[^/]*\.png$"}),
}
WORDS = ("ill", "no finding", "très")


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    layout, keys = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    tree = Tree(dict(keys))
    with_splits = "split" in layout.lower()
    for number in range(18):
        split = ("train", "val", "test")[number % 3] if with_splits else ""
        word = WORDS[number // 3 % 3]
        places = {"split": split, "SPLIT": split.upper(), "word": word, "n": number}
        file = layout.format(**places, o=number % 2, p=number % 4)
        tree.files[file] = (split, word)
    for fault in draw(st.sets(st.sampled_from(sorted(FAULTS)), max_size=4)):
        FAULTS[fault](tree)
    return tree


def beside(tree: Tree, name: str) -> str:
    return f"{next(iter(tree.files)).rsplit('/', 1)[0]}/{name}"


def other_suffix(tree: Tree) -> None:
    tree.left_out[beside(tree, "0.xcf")] = ".xcf is not an image's suffix"
    tree.left_out[beside(tree, "notes")] = "no suffix"


def hidden(tree: Tree) -> None:
    tree.left_out[beside(tree, ".0.png")] = "hidden"


def junk(tree: Tree) -> None:
    for name in ("._0.png", "Thumbs.db", ".DS_Store", "__MACOSX/ill/._0.png"):
        tree.left_out[beside(tree, name)] = ""


def masks(tree: Tree) -> None:
    file, facts = next(iter(tree.files.items()))
    tree.files[file.replace(".png", "_mask.png")] = facts
    tree.noted.append("look like masks")


def excluded(tree: Tree) -> None:
    tree.keys["exclude"] = ["*_seg*", "scribbles"]
    tree.left_out[beside(tree, "0_SEG.png")] = "dataset.exclude '*_seg*'"
    tree.left_out[beside(tree, "scribbles/0.png")] = "dataset.exclude 'scribbles'"


def stray(tree: Tree) -> None:
    if "class_pattern" not in tree.keys:
        outside = next(iter(tree.files.values()))[0] != ""
        tree.left_out["stray.png"] = "outside the split folders" if outside else "above the class folders"


def damaged(tree: Tree) -> None:
    tree.damaged[beside(tree, "empty.png")] = b"", "empty file"
    tree.damaged[beside(tree, "page.png")] = b"<!DOCTYPE html>", "HTML or XML"
    tree.damaged[beside(tree, "cut.png")] = IMAGE[:20], "damaged or truncated"


def odd_names(tree: Tree) -> None:
    file, facts = next(iter(tree.files.items()))
    for name in ("Gr\udcf6\udcdfe", "new\nline", "x" * 200, "[bold]", "tab\t"):
        tree.files[file.replace("0.png", f"{name}0.png")] = facts


FAULTS = {
    "other suffix": other_suffix,
    "hidden": hidden,
    "junk": junk,
    "masks": masks,
    "excluded": excluded,
    "stray": stray,
    "damaged": damaged,
    "odd names": odd_names,
}


@settings(max_examples=60, deadline=None)
@given(trees())
def test_every_file_is_read_right_or_named(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), *tree.files, *tree.left_out)
        for file, (content, _) in tree.damaged.items():
            (Path(folder) / file).write_bytes(content)
        listing = listed(Path(folder), **tree.keys)
    expected = {printable(file): word for file, (_, word) in tree.files.items()}
    found, named = classes(listing), ignored(listing)
    assert found == expected
    splits = {printable(file): split for file, (split, _) in tree.files.items()}
    assert dict(zip(listing.names, listing.splits.tolist(), strict=True)) == splits
    for file, reason in tree.left_out.items():
        assert reason in named.get(file, ""), file
    for part in tree.noted:
        assert any(part in note for note in listing.notes)
    assert named.keys() == {file for file, reason in tree.left_out.items() if reason}
    problems = {problem.name: problem.reason for problem in listing.problems}
    assert problems.keys() == tree.damaged.keys()
    assert all(reason in problems[file] for file, (_, reason) in tree.damaged.items())


def test_without_a_fault_nothing_is_said(tmp_path: Path) -> None:
    for name, (layout, keys) in LAYOUTS.items():
        root = tmp_path / name
        for number in range(24):
            word, split = WORDS[number % 3], ("train", "val", "test")[number // 3 % 3]
            places = {"split": split, "SPLIT": split.upper(), "word": word, "n": number}
            write(root, layout.format(**places, o=number % 2, p=number % 4))
        listing = listed(root, **keys)
        assert (list(listing.notes), list(listing.ignored), list(listing.problems)) == ([], [], []), name


@pytest.mark.parametrize(
    ("first", "second"),
    [("Normal", "normal"), ("COVID-19", "Covid 19"), ("No finding", "No_finding"), ("grade1", "grade01")],
)
def test_class_folders_that_differ_in_spelling(tmp_path: Path, first: str, second: str) -> None:
    write(tmp_path, f"train/{first}/1.png", f"val/{first}/2.png", f"test/{second}/3.png")
    write(tmp_path, "train/other/1.png", "val/other/2.png", "test/other/3.png")
    with pytest.raises(DataError, match=rf"{first}.*{second}|{second}.*{first}"):
        listed(tmp_path)
    assert set(listed(tmp_path, similar_words="merge").class_names) == {first, "other"}
    assert set(listed(tmp_path, similar_words="keep").class_names) == {first, second, "other"}


def test_a_class_folder_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    write(tmp_path, "train/Sjo\u0308gren/1.png", "val/Sj\u00f6gren/2.png", "train/b/1.png", "val/b/2.png")
    assert listed(tmp_path).class_names == ("Sj\u00f6gren", "b")


def test_patients_that_differ_in_spelling(tmp_path: Path) -> None:
    write(tmp_path, "a/P7_1.png", "a/p7_2.png", "b/P8_1.png", "b/P08_2.png")
    with pytest.raises(
        DataError, match=r"patients differ only in their spelling: 'P08' .* 'P8' .* and 1 more"
    ):
        listed(tmp_path, group_pattern=r"(\w+)_")
    merged = listed(tmp_path, group_pattern=r"(\w+)_", similar_words="merge").groups
    assert merged is not None
    assert len(set(merged.tolist())) == 2


def said(root: Path, **keys: Any) -> str:
    return "\n".join(listed(root, **keys).notes)


def test_patients_as_classes_are_told(tmp_path: Path) -> None:
    for word in ("AMD", "NORMAL"):
        for patient in (1, 2, 3):
            write(tmp_path, f"{word}{patient}/TIFFs/001.png", f"{word}{patient}/TIFFs/002.png")
    note = said(tmp_path)
    assert "6 classes" in note
    assert "are they patients or slides?" in note
    # What the note proposes works.
    keys = {"class_pattern": r"([^/]*?)[ _(-]*\d+\)?/", "group_pattern": r"([^/]*\d\)?)/"}
    found = listed(tmp_path, **keys, positive="NORMAL")
    assert found.class_names == ("AMD", "NORMAL")
    assert found.groups is not None
    assert set(found.groups.tolist()) == {"AMD1", "AMD2", "AMD3", "NORMAL1", "NORMAL2", "NORMAL3"}
    assert not found.notes


@pytest.mark.parametrize("name", ["Patient {}", "subject-{}", "P{}"])
def test_few_numbered_patients_are_told_too(tmp_path: Path, name: str) -> None:
    write(tmp_path, *(f"{name.format(n)}/1.png" for n in range(3)))
    assert "are they patients" in said(tmp_path)


@pytest.mark.parametrize(
    "classes", [["0", "1", "2", "3", "4"], ["grade 1", "grade 2", "grade 3", "normal"], ["T1", "T2", "T3"]]
)
def test_grades_and_stages_are_classes(tmp_path: Path, classes: list[str]) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in classes for n in range(2)))
    assert said(tmp_path) == ""


def test_classes_one_folder_deeper_are_told(tmp_path: Path) -> None:
    for organ, inner in (("colon", ("colon_aca", "colon_n")), ("lung", ("lung_aca", "lung_scc", "lung_n"))):
        write(tmp_path, *(f"{organ}_image_sets/{name}/{n}.png" for name in inner for n in range(3)))
    assert "dataset.class_level = 2" in said(tmp_path)
    assert len(listed(tmp_path, class_level=2).class_names) == 5
    assert said(tmp_path, class_level=2) == ""


def test_patients_that_each_have_folders_of_the_classes(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(f"{patient}/{label}/{n}.png" for patient in (8863, 8914, 9023) for label in "01" for n in "ab"),
    )
    assert "dataset.class_level = 2" in said(tmp_path)


def test_split_folders_below_and_in_place_of_classes(tmp_path: Path) -> None:
    write(tmp_path / "a", *(f"{c}/{s}/{n}.png" for c in ("x", "y") for s in ("train", "test") for n in "12"))
    assert "folders test, train lie below the class folders" in said(tmp_path / "a")
    write(
        tmp_path / "b",
        *(f"{s}/{c}/{n}.png" for c in ("x", "y") for s in ("training_set", "test_set") for n in "12"),
    )
    assert "class folders test_set, training_set are named like splits" in said(tmp_path / "b")
    write(tmp_path / "c", *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in "12"))
    assert "class folders images, masks are named like" in said(tmp_path / "c")


@pytest.mark.parametrize(
    ("mask", "pattern"),
    [
        ("{}_mask.png", "*_mask*"),
        ("{}_mask_1.png", "*_mask*"),
        ("{}-Segmentation.png", "*-Segmentation*"),
        ("lung masks/{}.png", "lung masks"),
        ("Masks/{}.png", "Masks"),
        ("groundTruth/{}.png", "groundTruth"),
        ("{}_gt.png", "*_gt*"),
        ("{}_overlay.png", "*_overlay*"),
    ],
)
def test_masks_are_told_and_can_be_left_out(tmp_path: Path, mask: str, pattern: str) -> None:
    images = [f"{word}/{word} ({n}).png" for word in ("benign", "normal") for n in range(3)]
    write(tmp_path, *images)
    assert said(tmp_path, positive="benign") == ""
    write(
        tmp_path,
        *(f"{word}/{mask.format(f'{word} ({n})')}" for word in ("benign", "normal") for n in range(3)),
    )
    assert f'dataset.exclude = ["{pattern}"]' in said(tmp_path)
    left = listed(tmp_path, exclude=[pattern])
    assert sorted(left.names) == images
    assert len(ignored(left)) == 6


def test_two_kinds_of_masks_are_both_told(tmp_path: Path) -> None:
    ends = (".jpg", "_segmentation.png", "_superpixels.png")
    write(tmp_path, *(f"{word}/ISIC_{n}{end}" for word in ("mel", "nv") for n in range(3) for end in ends))
    told = said(tmp_path)
    assert "6 images look like masks" in told
    assert "6 images are named after another image" in told
    assert 'dataset.exclude = ["*_superpixels*"]' in told


def test_include_takes_what_it_names_whatever_the_suffix(tmp_path: Path) -> None:
    write(tmp_path, *(f"{word}/{kind}/{n}" for word in "ab" for kind in ("images", "other") for n in "12"))
    found = listed(tmp_path, include=["images"])
    assert sorted(found.names) == ["a/images/1", "a/images/2", "b/images/1", "b/images/2"]
    assert set(ignored(found).values()) == {"not in dataset.include"}


def test_an_empty_class_folder_and_a_link_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"no image of class 'c'.*dataset.exclude = \[\"c\"\]"):
        listed(tmp_path)
    found = listed(tmp_path, exclude=["c"])
    assert ignored(found) == {"a/again/": "a link to a folder that it lies in"}


def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    (tmp_path / "b" / "2.png").symlink_to(tmp_path / "a" / "2.png")
    found = listed(tmp_path)
    assert ignored(found) == {"a/2.png": "no file, but a pipe or a device"}
    assert [str(problem) for problem in found.problems] == ["b/2.png: no file, but a pipe or a device"]


@pytest.mark.parametrize(
    ("layout", "keys", "pattern"),
    [
        ("{word}/patient{p}/{n}.png", {}, r"patient(\d+)"),
        ("{word}/person{p}_{n}.png", {}, r"person(\d+)"),
        ("{word}/slide{n}_person{p}.png", {}, r"person(\d+)"),
        ("{q}x/{word}/{n}.png", {"class_level": 2}, "^([^/]+)/"),
        ("{word}/{q}/{n}.png", {}, "^(?:[^/]+/){1}([^/]+)/"),
    ],
)
def test_patients_that_nothing_keeps_together_are_told(
    tmp_path: Path, layout: str, keys: dict[str, Any], pattern: str
) -> None:
    for n in range(60):
        write(tmp_path, layout.format(word="ab"[n % 2], p=n // 2 % 5, q=8800 + n // 4, n=n))
    assert f"dataset.group_pattern = '{pattern}' keeps them together" in said(tmp_path, **keys)
    assert not said(tmp_path, group_pattern="^(.*)$", **keys)


@pytest.mark.parametrize("layout", ["{word}/patient{p}/scan{v}/{n}.png", "{word}/patient{p}_{v}/{n}.png"])
def test_patients_whose_volumes_nothing_keeps_together_are_told(tmp_path: Path, layout: str) -> None:
    for n in range(60):
        write(tmp_path, layout.format(word="ab"[n // 30], p=n // 6, v=n // 3 % 2, n=n))
    found = said(tmp_path, unit="volume")
    assert "paths name 10 patients or slides (patient0, ...) of 20 volumes" in found
    assert r"dataset.group_pattern = 'patient(\d+)' keeps them together" in found
    assert "keeps them together" not in said(tmp_path, unit="volume", group_pattern=r"(patient\d+)")


def test_volumes_whose_numbers_start_again_in_each_class_are_no_patients(tmp_path: Path) -> None:
    for n in range(48):
        write(tmp_path, f"{'ab'[n % 2]}/volume{n // 4}/{n}.png")
    assert "keeps them together" not in said(tmp_path, unit="volume")


def test_patients_whose_numbers_start_again_in_each_class_are_told(tmp_path: Path) -> None:
    for n in range(24):
        write(tmp_path, f"{'ab'[n % 2]}/person{n // 4}_{n}.png")
    assert "6 of 6 patients have images of several classes (0: a, b)" in said(
        tmp_path, group_pattern=r"person(\d+)"
    )
    assert not said(tmp_path, group_pattern=r"^([^/]+/person\d+)_")


@pytest.mark.parametrize("word", ["unknown", "?", "None", "not known", "-", "ungradable", "Indeterminate"])
def test_a_class_that_may_be_a_missing_label_is_told(tmp_path: Path, word: str) -> None:
    write(tmp_path, "ill/1.png", "well/1.png", f"{word}/1.png", f"{word}/2.png")
    assert f"class {word!r} (2 images): does it say that the label is not known?" in said(tmp_path)
    assert not said(tmp_path, class_names=["ill", "well", word])


def test_a_u_among_numbers_may_be_a_missing_label(tmp_path: Path) -> None:
    write(tmp_path, "0/1.png", "1/1.png", "u/1.png")
    assert "class 'u' (1 images): does it say that the label is not known?" in said(tmp_path)
    write(tmp_path, "n/1.png")
    assert "does it say" not in said(tmp_path)


def test_classes_that_are_fractions_are_told(tmp_path: Path) -> None:
    write(tmp_path, "0/1.png", "0.5/1.png", "1/1.png")
    assert "classes such as 0.5 are no whole numbers: are the labels probabilities" in said(tmp_path)
    assert not said(tmp_path, class_names=["0", "0.5", "1"])


def test_a_patient_that_may_be_nobody_is_told(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(f"{c}/{who}-{n}.png" for c in ("ill", "well") for who in ("unknown", "p1") for n in (1, 2)),
    )
    found = said(tmp_path, group_pattern=r"(\w+)-\d")
    assert "patient 'unknown' (4 images): does it say that the patient is not known?" in found
    assert "'p1' (" not in found


def test_empty_folders_below_a_class_are_told(tmp_path: Path) -> None:
    write(tmp_path, "ill/v1/1.png", "ill/v2/1.png", "well/v3/1.png", "well/v4/1.png")
    assert "without a file" not in said(tmp_path, unit="volume")
    (tmp_path / "well" / "v5").mkdir()
    assert "1 folder without a file (well/v5)" in said(tmp_path, unit="volume")


@pytest.mark.parametrize(
    ("ends", "what"),
    [
        (("_left", "_right"), "pairs of eyes or sides"),
        (("-OD", "-OS"), "pairs of eyes or sides"),
        ((" slice 1", " slice 2"), "volumes or slides"),
        (("_tile01", "_tile02"), "volumes or slides"),
    ],
)
def test_parts_of_a_whole_that_nothing_keeps_together_are_told(
    tmp_path: Path, ends: tuple[str, str], what: str
) -> None:
    write(tmp_path, *(f"{c}/p{n}{end}.png" for n, c in enumerate(("ill", "well", "ill")) for end in ends))
    found = said(tmp_path)
    assert f"paths name 3 {what} (p0, ...) of 6 images" in found
    pattern = re.search(r"dataset.group_pattern = '(.*)' keeps", found)
    assert pattern is not None
    kept = listed(tmp_path, group_pattern=pattern[1])
    assert kept.groups is not None
    assert sorted(set(kept.groups.tolist())) == ["p0", "p1", "p2"]
    write(tmp_path / "other", *(f"{c}/p{n}.png" for n, c in enumerate(("ill", "well"))))
    assert "paths name" not in said(tmp_path / "other")


def test_a_pattern_that_finds_nothing_between_its_parentheses_finds_no_group(tmp_path: Path) -> None:
    write(tmp_path, "ill/pat_1.png", "well/pat_2.png", "ill/pat7_3.png", "well/pat8_4.png")
    found = listed(tmp_path, group_pattern=r"pat(\d*)_")
    assert sorted(problem.name for problem in found.problems) == ["ill/pat_1.png", "well/pat_2.png"]


def test_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "1.png")
    write(tmp_path / "set", "a/1.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    assert classes(listed(tmp_path / "set")) == {"a/1.png": "a", "b/1.png": "b"}


def test_one_class_in_one_more_folder(tmp_path: Path) -> None:
    write(tmp_path, "chest_xray/train/a/1.png", "chest_xray/train/b/1.png")
    with pytest.raises(DataError, match=r"one class \('chest_xray'\).*; below are train:"):
        listed(tmp_path)


def test_a_file_whose_path_has_no_class_is_named(tmp_path: Path) -> None:
    write(tmp_path, "AMD1/1.png", "DME1/1.png", "other/1.png")
    problems = listed(tmp_path, class_pattern=r"^([A-Z]+)\d/").problems
    assert [str(problem) for problem in problems] == [
        "other/1.png: dataset.class_pattern finds no class in its path"
    ]


def test_merged_class_folders(tmp_path: Path) -> None:
    write(tmp_path, *(f"{grade}/{n}.png" for grade in range(5) for n in "ab"))
    found = listed(tmp_path, classes={"referable": [2, 3, 4], "none": [0, 1]}, positive="referable")
    assert found.class_names == ("none", "referable")
    assert found.labels.sum() == 6


@pytest.mark.parametrize("at", [2, 3, 5])
def test_files_below_agrees_with_the_files_there_are(tmp_path: Path, at: int) -> None:
    files = [f"{'/'.join('abcde'[:depth])}/{n}.png" for depth in range(1, at) for n in range(3)]
    write(tmp_path, *files)
    assert sorted(files_below(tmp_path, Choice()).files) == sorted(files)
