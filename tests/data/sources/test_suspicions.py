"""What names of files and folders say: masks and patients are told, and ordinary data sets get no note."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from making import config, table
from medfathom.data.listing import list_images
from medfathom.data.sources.base import Listing
from medfathom.data.sources.open import open_source
from medfathom.data.sources.suspicions import mask_suspicions


def write(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(path, "PNG")


def listed(root: Path, **keys: Any) -> Listing:
    found = config("folder", path=str(root), **keys)
    return list_images(open_source(found), found)


def said(root: Path, **keys: Any) -> str:
    return "\n".join(listed(root, **keys).notes)


@pytest.mark.parametrize(
    ("mask", "pattern"),
    [
        ("{}_masks", "*_masks"),
        ("{} mask", "* mask"),
        ("{}-Segmentation", "*-Segmentation"),
        ("{}Labels", "*Labels"),
        ("{} (ROI)", "* (ROI)"),
        ("{}_gt", "*_gt"),
        ("mask_{}", "mask_*"),
    ],
)
def test_class_folders_that_are_masks_of_another_are_told(tmp_path: Path, mask: str, pattern: str) -> None:
    images = [f"{word}/{n}.png" for word in ("covid", "flu (A)") for n in range(3)]
    write(
        tmp_path, *images, *(f"{mask.format(word)}/{n}.png" for word in ("covid", "flu (A)") for n in (0, 1))
    )
    told = said(tmp_path)
    assert "4 images look like masks" in told
    assert f'dataset.exclude = ["{pattern}"] leaves them out' in told
    # What the note proposes works.
    left = listed(tmp_path, exclude=[pattern])
    assert left.class_names == ("covid", "flu (A)")
    assert sorted(left.names) == images
    assert not left.notes


def test_class_folders_that_are_masks_are_told_in_split_folders_too(tmp_path: Path) -> None:
    write(tmp_path, *(f"{s}/{c}/0.png" for s in ("train", "val", "test") for c in ("a", "b", "a_mask")))
    assert "3 images look like masks (train/a_mask/0.png" in said(tmp_path)


@pytest.mark.parametrize(
    "classes",
    [
        ("Seg", "Lym", "Mono"),
        ("Mask R-CNN", "U-Net"),
        ("with_mask", "without_mask", "mask_worn_incorrectly"),
        ("labelled", "new"),
        ("roi", "tissue"),
        ("gastritis", "gt"),
        ("a", "a_masked_b"),
    ],
)
def test_classes_with_a_mask_s_word_alone_are_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in classes for n in range(2)))
    assert said(tmp_path) == ""


@pytest.mark.parametrize(
    ("mask", "pattern"),
    [
        ("{}Mask", "*Mask.*"),
        ("{}mask", "*mask.*"),
        ("roi_{}", "roi_*"),
        ("{}_roi", "*_roi.*"),
        ("label_{}", "label_*"),
        ("{} (contour)", "* (contour).*"),
    ],
)
@pytest.mark.parametrize("image", ["{}", "A{}img", "IMG {}"])
def test_files_named_after_another_and_a_mask_s_word_are_told(
    tmp_path: Path, image: str, mask: str, pattern: str
) -> None:
    images = [f"{word}/{image.format(n)}.png" for word in ("ill", "sick") for n in range(3)]
    write(tmp_path, *images)
    assert said(tmp_path) == ""
    write(tmp_path, *(f"{w}/{mask.format(image.format(n))}.png" for w in ("ill", "sick") for n in range(3)))
    told = said(tmp_path)
    assert "6 images look like masks" in told
    assert f'dataset.exclude = ["{pattern}"] leaves them out' in told
    assert sorted(listed(tmp_path, exclude=[pattern]).names) == images


@pytest.mark.parametrize("word", ["seg", "label", "roi", "gt"])
def test_a_short_word_before_a_letter_tells_a_mask_beside_the_image(word: str) -> None:
    masks = [f"B/{word}_A{n}.png" for n in range(3)]
    (line,) = mask_suspicions([*(f"B/A{n}.png" for n in range(3)), *masks])
    assert line.startswith("3 images look like masks")
    assert f'"{word}_*"' in line


@pytest.mark.parametrize(
    "names",
    [
        ["a/roi_0.png", "a/roi_1.png", "b/roi_2.png"],  # regions are the images
        ["a/label_0.png", "b/0.png"],  # another folder's file is another image
        ["a/0.png", "a/unmasked_0.png", "a/segment_7.png"],
        ["a/1.2.840.10008.1", "a/1.2.840.10008.2", "a/1.2.840.10008.3"],  # UIDs, not one stem of 3 suffixes
        ["a/IM.1", "a/IM.2", "a/IM.3"],
    ],
)
def test_files_of_ordinary_names_are_no_masks(names: list[str]) -> None:
    assert mask_suspicions(names) == []


def test_masks_beside_the_images_of_a_table_are_told(tmp_path: Path) -> None:
    path = table(tmp_path)
    write(tmp_path, "images/roi_0.png")
    with path.open("a") as file:
        file.write("images/roi_0.png,0,train,p0\n")
    found = config("csv", path=str(path))
    notes = list_images(open_source(found), found).notes
    assert any('1 images look like masks (images/roi_0.png); dataset.exclude = ["roi_*"]' in n for n in notes)


def volumes(root: Path, *inner: str, name: str = "vol{}") -> Path:
    """A table of 4 folders, each with 2 slices and the files `inner`."""
    folders = [name.format(n) for n in range(4)]
    write(root, *(f"{folder}/{file}" for folder in folders for file in ("000.png", "001.png", *inner)))
    path = root / "t.csv"
    path.write_text("path,label\n" + "".join(f"{f},{'ab'[n % 2]}\n" for n, f in enumerate(folders)))
    return path


def of_table(path: Path, **keys: Any) -> Listing:
    found = config("csv", path=str(path), unit="volume", **keys)
    return list_images(open_source(found), found)


@pytest.mark.parametrize(
    ("mask", "pattern"), [("masks/000.png", "masks"), ("000_mask.png", "*_mask*"), ("roi_000.png", "roi_*")]
)
def test_masks_in_the_folders_of_a_table_are_told(tmp_path: Path, mask: str, pattern: str) -> None:
    path = volumes(tmp_path, mask)
    whole = of_table(path)
    assert len(whole) == 12
    (line,) = [note for note in whole.notes if "mask" in note]
    assert line.startswith(f"4 images look like masks (vol0/{mask}, vol1/{mask}")
    assert line.endswith(f'dataset.exclude = ["{pattern}"] leaves them out')
    left = of_table(path, exclude=[pattern])
    assert len(left) == 8
    assert not any("mask" in note for note in left.notes)
    assert sum(len(one.names) for one in left.ignored) == 4


def test_other_files_in_the_folders_of_a_table_are_counted_and_named(tmp_path: Path) -> None:
    path = volumes(tmp_path, "notes.webm", "deeper/info.txt")
    with path.open("a") as file:
        file.write("Thumbs.db,a\n")
    found = of_table(path)
    assert len(found) == 8
    assert {one.reason: list(one.names) for one in found.ignored} == {
        ".txt is not an image's suffix": [f"vol{n}/deeper/info.txt" for n in range(4)],
        ".webm is not an image's suffix": [f"vol{n}/notes.webm" for n in range(4)],
        "written by macOS or Windows, not images": ["Thumbs.db"],
    }
    assert not any("mask" in note for note in found.notes)


def test_a_row_s_folder_that_is_named_like_a_mask_is_told_once(tmp_path: Path) -> None:
    notes = of_table(volumes(tmp_path, "masks/000.png", name="vol{}_mask")).notes
    assert len([note for note in notes if "look like masks" in note]) == 1


@pytest.mark.parametrize(
    ("patients", "classes", "groups"),
    [
        (
            [f"{n:03d}_{'AMD' if n % 2 else 'NORMAL'}" for n in range(6)],
            ("AMD", "NORMAL"),
            {"000", "001", "002", "003", "004", "005"},
        ),
        (["1-normal", "2-normal", "3-sick", "4-sick"], ("normal", "sick"), {"1", "2", "3", "4"}),
        (
            [f"{word}{n}_{eye}" for word in ("AMD", "DME") for n in (1, 2) for eye in ("OD", "OS")],
            ("AMD", "DME"),
            {"AMD1", "AMD2", "DME1", "DME2"},
        ),
        (["P3_A", "P4_B", "P5_A"], ("A", "B"), {"P3", "P4", "P5"}),
        (["sub-03_x", "sub-04_y"], ("x", "y"), {"sub-03", "sub-04"}),
        (["case-3_AMD", "case-4_AMD", "case-5_DME"], ("AMD", "DME"), {"case-3", "case-4", "case-5"}),
        (["S3L", "S4R", "T3L", "T4R"], ("S", "T"), {"S3", "S4", "T3", "T4"}),
    ],
)
def test_patients_whose_number_is_not_last_are_told(
    tmp_path: Path, patients: list[str], classes: tuple[str, ...], groups: set[str]
) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in patients for n in range(2)))
    told = said(tmp_path)
    assert f"there are {len(patients)} classes" in told
    assert "are they patients or slides?" in told
    # What the note proposes works.
    patterns = dict(re.findall(r"dataset\.(\w+_pattern) = '(.*?)'(?= )", told))
    found = listed(tmp_path, **patterns, positive=classes[0])
    assert set(found.class_names) == set(classes)
    assert found.groups is not None
    assert set(found.groups.tolist()) == groups
    assert not found.problems
    assert not found.notes


def test_many_numbers_of_one_name_are_told_though_they_come_again(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}_{word}/0.png" for word in ("ill", "sick") for n in range(12)))
    assert "there are 24 classes" in said(tmp_path)


@pytest.mark.parametrize(
    "classes",
    [
        ["covid-19 mild", "covid-19 severe", "pneumonia"],
        ["0Normal", "1Doubtful", "2Mild", "3Moderate", "4Severe"],
        ["01_TUMOR", "02_STROMA", "03_COMPLEX", "04_LYMPHO"],
        [f"{word}_{n}X" for word in ("benign", "malignant") for n in (40, 100, 200)],
        ["T1a", "T1b", "T2a", "T2b", "T3a"],
        ["T1_scan", "T2_scan", "FLAIR"],
        [f"KL{n} {side}" for n in range(6) for side in ("left", "right")],
        ["covid-19_left", "covid-19_right", "h1_left", "h1_right"],
        ["BI-RADS 2 benign", "BI-RADS 3 benign", "BI-RADS 4 malignant", "BI-RADS 5 malignant"],
        ["CD3_pos", "CD3_neg", "CD8_pos", "CD8_neg"],
        ["day 3 treated", "day 7 treated", "day 3 untreated", "day 7 untreated"],
        ["p16 pos", "p16 neg", "other"],
        ["stage-1", "stage-2"],
        ["BI-RADS 4a", "BI-RADS 4b", "BI-RADS 4c", "BI-RADS 5"],
    ],
)
def test_grades_magnifications_and_markers_are_classes(tmp_path: Path, classes: list[str]) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in classes for n in range(2)))
    assert said(tmp_path) == ""
