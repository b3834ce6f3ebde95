"""What places say about themselves: real layouts, and what only the user can say."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import making
from medfathom.data.guess import is_place
from medfathom.data.guess.groups import guess_groups
from medfathom.data.guess.modality import guess_modality
from medfathom.data.guess.place import Guessed, guess_dataset
from medfathom.errors import InputError


def put(folder: Path, *names: str, side: int = 40) -> None:
    """Grey images, each other than the others."""
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side + 8), k % 256, np.uint8)).save(path)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def keys(found: Guessed, *names: str) -> list[object]:
    return [found.keys.get(name) for name in names]


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    names = [f"{c}/person{p}_{c}_{k}.png" for c in ("NORMAL", "VIRUS") for p in range(9) for k in range(2)]
    put(tmp_path / "chest_xray", *[name.replace("person", f"person{c}") for c, name in enumerate(names)])
    put(tmp_path / "plain", *names)
    found = guess_dataset(tmp_path / "plain", modality="CXR")
    assert keys(found, "source", "modality", "positive") == ["folder", "CXR", "VIRUS"]
    assert (found.side, len(found.listing)) == (40, 36)
    assert found.listing.groups is not None
    assert set(found.listing.groups) == {f"person{p}" for p in range(9)}
    assert "9 patients (or slides) in 36 names" in found.why["group_pattern"]
    assert found.dataset.image_size == 64
    # A number of its own for each image is no patient.
    alone = guess_dataset(tmp_path / "chest_xray")
    assert alone.listing.groups is None
    assert alone.why["modality"] == "the word 'chest' in 'chest_xray'"


def test_folders_named_after_patients_and_masks(tmp_path: Path) -> None:
    names = [f"{c}{p}/{k}.png" for c in ("AMD", "NORMAL") for p in range(1, 5) for k in range(3)]
    put(tmp_path / "a" / "inner", *names)
    found = guess_dataset(tmp_path / "a")
    assert found.keys["path"] == str(tmp_path / "a" / "inner")
    assert found.listing.class_names == ("AMD", "NORMAL")
    assert found.listing.groups is not None
    assert len(set(found.listing.groups)) == 8
    put(tmp_path / "busi", *[f"{c}/x ({k}){m}.png" for c in "ab" for k in range(5) for m in ("", "_mask")])
    found = guess_dataset(tmp_path / "busi")
    assert (found.keys["exclude"], len(found.listing)) == (["*_mask*"], 10)
    assert found.keys["modality"] == "ultrasound"


def test_folders_of_masks_beside_class_folders(tmp_path: Path) -> None:
    folders = ("benign", "malignant", "benign_masks", "malignant_masks")
    put(tmp_path, *[f"{folder}/{k}.png" for folder in folders for k in range(6)])
    found = guess_dataset(tmp_path, modality="US")
    assert found.listing.class_names == ("benign", "malignant")
    assert (found.keys["exclude"], len(found.listing)) == (["*_masks"], 12)
    assert found.why["exclude"].startswith("12 images look like masks: benign_masks/0.png")


def test_a_table_of_ids_with_patients_and_splits(tmp_path: Path) -> None:
    put(tmp_path / "png", *[f"{k:03d}.png" for k in range(12)])
    rows = [
        {"id": f"{k:03d}", "patient_id": k // 2, "set": "test" if k > 7 else "train", "diagnosis": k % 3}
        for k in range(12)
    ]
    place = table(tmp_path / "labels.csv", rows)
    found = guess_dataset(place, modality="OCT")
    expected = ["csv", "{id}.png", True, "patient_id", "set", "diagnosis"]
    names = ("source", "path_template", "anywhere", "group_column", "split_column", "label_column")
    assert keys(found, *names) == expected
    assert found.listing.splits.tolist().count("test") == 4
    # The same from its folder, which has no class folders.
    assert guess_dataset(tmp_path, modality="OCT").keys == found.keys


@pytest.mark.parametrize(
    "columns", [("lesion_id", "patient_id"), ("slide_id", "Patient"), ("slide_id", "case_id")]
)
def test_of_a_column_of_lesions_and_one_of_patients_the_patients_are_the_groups(
    tmp_path: Path, columns: tuple[str, str]
) -> None:
    part, patient = columns
    put(tmp_path, *[f"{k}.png" for k in range(24)])
    rows = [
        {part: f"x{k // 2}", "file": f"{k}.png", patient: f"p{k // 6}", "label": k % 2} for k in range(24)
    ]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="WSI")
    assert keys(found, "group_column") == [patient]
    alone = [{name: cell for name, cell in row.items() if name != patient} for row in rows]
    found = guess_dataset(table(tmp_path / "t.csv", alone), modality="WSI")
    assert keys(found, "group_column") == [part]


def test_ids_name_images_and_no_masks_of_another_format(tmp_path: Path) -> None:
    for n in range(8):  # one of two formats was taken by chance
        folder = tmp_path / f"set{n}"
        own, other = (".jpg", ".png") if n % 2 else (".png", ".jpg")
        put(
            folder,
            *[f"{place}/{n}{k}{end}" for place, end in (("im", own), ("masks", other)) for k in "abcd"],
        )
        rows = [{"id": f"{n}{k}", "label": "xy"[i % 2]} for i, k in enumerate("abcd")]
        found = guess_dataset(table(folder / "t.csv", rows), modality="US")
        assert keys(found, "path_template") == ["{id}" + own]
    put(tmp_path / "set0", *[f"more/0{k}.bmp" for k in "ab"])
    found = guess_dataset(tmp_path / "set0" / "t.csv", modality="US")
    assert keys(found, "path_template") == ["{id}.png"]
    assert "there are files in .bmp too, which are not taken" in found.why["path_template"]


def test_patients_are_found_in_the_folders_of_files_that_lie_anywhere(tmp_path: Path) -> None:
    for place in ("patient_{}", "{}"):
        folder = tmp_path / place
        put(folder, *[f"images/{place.format(10 + k // 3)}/im{k}.png" for k in range(18)])
        rows = [{"file": f"im{k}.png", "label": "ab"[k // 3 % 2]} for k in range(18)]
        found = guess_dataset(table(folder / "t.csv", rows), modality="CXR")
        assert keys(found, "anywhere") == [True]
        assert set(found.listing.groups.tolist()) == {place.format(10 + p) for p in range(6)}  # type: ignore[union-attr]
    rows = [{"file": f"{10 + k // 3}/im{k}.png", "label": "ab"[k // 3 % 2]} for k in range(18)]
    place = tmp_path / "{}" / "images" / "t.csv"
    found = guess_dataset(table(place, rows), modality="CXR")
    assert set(found.listing.groups.tolist()) == {str(10 + p) for p in range(6)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cell", "anywhere"), [(r"im\{}.png", None), ("im/{}.Png", None), (r"D:\scans\im\{}.png", True)]
)
def test_paths_as_windows_writes_them_are_found(tmp_path: Path, cell: str, anywhere: bool | None) -> None:
    put(tmp_path, *[f"im/{k}.PNG" for k in range(6)])
    rows = [{"file": cell.format(k), "label": "ab"[k % 2]} for k in range(6)]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="CXR")
    assert keys(found, "path_column", "anywhere") == ["file", anywhere]
    assert len(found.listing) == 6


def test_further_columns_of_images_are_told(tmp_path: Path) -> None:
    eyes = ("left", "right", "mask")
    put(tmp_path, *[f"{k}_{eye}.png" for k in range(6) for eye in eyes])
    rows = [
        {e: f"{k}_{e}.png" for e in eyes} | {"again": f"x/{k}_left.png", "label": "ab"[k % 2]}
        for k in range(6)
    ]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="fundus")
    assert found.why["path_column"].endswith(
        "; other images are named in right, and are not taken: see path_template"
    )


def test_of_several_columns_that_may_be_the_label_the_others_are_told(tmp_path: Path) -> None:
    put(tmp_path, *[f"{k}.png" for k in range(6)])
    rows = [{"file": f"{k}.png", "diagnosis": "xyz"[k % 3], "label": "ab"[k % 2]} for k in range(6)]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="CXR")
    assert keys(found, "label_column") == ["diagnosis"]
    assert "label could be it too: --label" in found.why["label_column"]


@pytest.mark.parametrize("separator", ["|", ";", ","])
def test_cells_of_several_labels_are_no_classes(tmp_path: Path, separator: str) -> None:
    put(tmp_path, *[f"{k}.png" for k in range(12)])
    words = ["edema", "mass", f"edema{separator} mass", "No Finding"]
    rows = [{"file": f"{k}.png", "label": words[k % 4]} for k in range(12)]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="CXR")
    assert keys(found, "label_separator", "no_label") == [separator, "No Finding"]
    assert found.listing.labels.sum(axis=0).tolist() == [6, 6]


@pytest.mark.parametrize("columns", [("mask", "image"), ("a", "b")])
def test_a_column_of_masks_names_no_images(tmp_path: Path, columns: tuple[str, str]) -> None:
    put(tmp_path, *[f"{folder}/{k}.png" for folder in ("masks", "images") for k in range(8)])
    masks, own = columns
    rows = [{masks: f"masks/{k}.png", own: f"images/{k}.png", "label": k % 2} for k in range(8)]
    found = guess_dataset(table(tmp_path / "t.csv", rows), modality="US")
    assert keys(found, "path_column", "exclude") == [own, None]


def test_columns_of_zeros_and_ones(tmp_path: Path) -> None:
    put(tmp_path, *[f"{k}.png" for k in range(8)])
    marks = [{"file": f"{k}.png", "edema": ["1", "0", "-1", ""][k % 4], "mass": k % 2} for k in range(8)]
    found = guess_dataset(table(tmp_path / "a.csv", marks), modality="CXR")
    assert keys(found, "label_columns", "uncertain", "missing", "one_hot") == [
        ["edema", "mass"],
        "ignore",
        "ignore",
        None,
    ]
    marks = [{"file": f"{k}.png", "edema": "1" if k % 4 else "", "mass": k % 2} for k in range(8)]
    found = guess_dataset(table(tmp_path / "b.csv", marks), modality="CXR")
    assert found.keys["missing"] == "zero"
    assert "edema has no 0 at all" in found.why["missing"]
    hot = [{"file": f"{k}.png", "mel": int(k % 2), "nv": int(not k % 2)} for k in range(8)]
    assert guess_dataset(table(tmp_path / "c.csv", hot), modality="CXR").keys["one_hot"] is True


def test_a_table_in_another_encoding_whose_words_differ_in_case(tmp_path: Path) -> None:
    put(tmp_path, *[f"{k}.png" for k in range(6)])
    text = "path;label\n" + "".join(f"{k}.png;{('Ödem', 'ödem', 'kein')[k % 3]}\n" for k in range(6))
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    found = guess_dataset(tmp_path / "t.csv", modality="OCT")
    assert keys(found, "encoding", "similar_words") == ["cp1252", "merge"]
    assert len(found.listing.class_names) == 2


def test_rows_that_name_folders_are_cases(tmp_path: Path) -> None:
    put(tmp_path, *[f"vol{v}/{k}.png" for v in range(6) for k in range(3)])
    rows = [{"path": f"vol{v}", "label": "ill" if v % 2 else "healthy"} for v in range(6)]
    found = guess_dataset(table(tmp_path / "labels.csv", rows).parent, modality="OCT")
    assert keys(found, "source", "unit", "positive") == ["csv", "case", "ill"]
    assert found.listing.cases is not None
    assert len(set(found.listing.cases)) == 6


def test_arrays_and_hdf5(tmp_path: Path) -> None:
    path = making.npz(tmp_path, **making.arrays(groups=True))
    found = guess_dataset(path, modality="OCT")
    assert keys(found, "source", "positive") == ["npz", "1"]
    assert found.side == 20
    import h5py  # noqa: PLC0415

    for split, n in (("train", 8), ("valid", 4), ("test", 4)):
        for kind, values in (("x", np.zeros((n, 32, 32, 3), np.uint8)), ("y", np.arange(n) % 2)):
            with h5py.File(tmp_path / f"my_{split}_{kind}.h5", "w") as file:
                file[kind] = values
    found = guess_dataset(tmp_path / "my_train_x.h5", modality="WSI")
    assert keys(found, "images", "labels") == ["my_{split}_x.h5", "my_{split}_y.h5"]
    assert found.listing.splits.tolist().count("val") == 4


def test_what_only_the_user_can_say_is_asked_in_one_line(tmp_path: Path) -> None:
    put(tmp_path / "set", *[f"{c}/{k}.png" for c in "ab" for k in range(4)])
    with pytest.raises(InputError, match="the modality cannot be guessed; add --modality"):
        guess_dataset(tmp_path / "set")
    found = guess_dataset(tmp_path / "set", modality="MR")
    assert "nothing tells which is meant" in found.why["positive"]
    rows = [{"path": f"a/{k}.png", "sex": "mf"[k % 2], "smoker": "yn"[k % 2]} for k in range(4)]
    place = table(tmp_path / "set" / "t.csv", rows)
    with pytest.raises(InputError, match="Add --label with one of sex, smoker"):
        guess_dataset(place, modality="MR")
    assert guess_dataset(place, modality="MR", label="sex").keys["label_column"] == "sex"
    with pytest.raises(InputError, match="no such column"):
        guess_dataset(place, modality="MR", label="age")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        guess_dataset(tmp_path / "empty")
    with pytest.raises(InputError, match="is not there"):
        guess_dataset(tmp_path / "nowhere")


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40), st.sampled_from(["patient", "Subject_", "pt-"]))
def test_a_guessed_pattern_finds_the_patients_of_all_names(patients: list[int], word: str) -> None:
    names = [f"x/{word}{10 + patient}_{k}.png" for k, patient in enumerate(patients)]
    found = guess_groups(names, ["x"] * len(names))
    different = len(set(patients))
    assert (found is not None) == (1 < different < len(names))


@pytest.mark.parametrize(
    ("layout", "patient"),
    [
        ("{c}/{p}/visit{v}/{k}.png", "{p}"),
        ("{c}/{p}/2019-0{v}-11/{k}.png", "{p}"),
        ("{c}/P{p}/P{p}_{v}/{k}.png", "P{p}"),
        ("train/{c}/{p}/{v}/OD/{k}.png", "{p}"),
        ("p{s}/p{s}0{p}/s{p}{v}/{k}.png", "p{s}0{p}"),
        ("{c}/slide{v}_patient{p}_{k}.png", "patient{p}"),
        ("{c}/slide{p}_{v}{k}.png", "slide{p}"),
        ("{c}/{p}/{v}{k}.png", "{p}"),
        ("{p}/visit{v}/{k}.png", "{p}"),
    ],
)
def test_visits_scans_and_slides_are_no_patients(layout: str, patient: str) -> None:
    names, whose, words = [], [], []
    for p in range(101, 113):
        for v in range(1, 4):
            for k in range(2):
                keys = {"c": "ab"[p % 2], "p": p, "v": v, "k": k, "s": p % 3 + 10}
                names.append(layout.format(**keys))
                whose.append(patient.format(**keys))
                words.append("ab"[p % 2])
    found = guess_groups(names, words)
    assert found is not None
    assert [re.search(found.pattern, name)[1] for name in names] == whose  # type: ignore[index]


def test_folders_that_come_back_everywhere_are_no_patients() -> None:
    names = [
        f"{'ab'[p % 2]}/{who}/{eye}/1.png" for p, who in enumerate("uvwxyz") for eye in ("x1", "x2", "x3")
    ]
    assert guess_groups(names, [name[0] for name in names]) is None


@pytest.mark.parametrize(
    "kinds", ["40X 100X 200X 400X", "2018 2019 2020", "site1 site2 site3", "left right both"]
)
@pytest.mark.parametrize("words", [("a", "b"), ("a", "b", "c")])
def test_folders_of_few_kinds_are_no_patients(kinds: str, words: tuple[str, ...]) -> None:
    names = [f"{word}/{kind}/{k}.png" for word in words for kind in kinds.split() for k in range(9)]
    assert guess_groups(names, [name[0] for name in names]) is None


def test_words_for_a_modality() -> None:
    assert guess_modality(["path", "label", "history"], None) is None
    assert guess_modality(["OctaScans"], None) == ("OCT", "the word 'Octa' in 'OctaScans'")
    assert guess_modality(["chest", "drusen"], None) is None  # speaks for two


def test_which_arguments_are_places(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\n")
    assert is_place(str(tmp_path))
    assert is_place(str(tmp_path / "a.csv"))
    assert not is_place("demo")
    assert not is_place(str(tmp_path / "none.csv"))
