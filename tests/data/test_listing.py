"""The positive class and the patients of any source; what is left out is in prepared.json."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import class_folders, config, hdf5, images, npz, save, table
from medfathom.data.doubts import is_negation
from medfathom.data.listing import list_images
from medfathom.data.prepare import prepare
from medfathom.data.prepared import FACTS_FILE, read_facts
from medfathom.data.sources.base import Listing
from medfathom.data.sources.open import open_source
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError
from medfathom.validate import check_source


def listed(found: Any) -> Listing:
    source = open_source(found)
    try:
        return list_images(source, found)
    finally:
        source.close()


def of_every_source(folder: Path, **keys: Any) -> list[Any]:
    """Definitions of data sets of two classes."""
    class_folders(folder / "folders")
    (folder / "table").mkdir()
    (folder / "hdf5").mkdir()
    phantom = {"n_train": 6, "n_val": 4, "n_test": 4}
    return [
        config("folder", path=str(folder / "folders"), **keys),
        config("csv", path=str(table(folder / "table")), **keys),
        config("npz", path=str(npz(folder)), **keys),
        config("hdf5", path=str(hdf5(folder / "hdf5")), **keys),
        config("phantom-cxr", **phantom, classes=["normal", "nodule"], **keys),
    ]


def test_the_positive_class_of_every_source(tmp_path: Path) -> None:
    for found in of_every_source(tmp_path):
        before = listed(found)
        for index, name in enumerate(before.class_names):
            after = listed(found.model_copy(update={"positive": name}))
            assert after.class_names[1] == name
            # The same images are of the same class.
            words = np.array(before.class_names)[before.labels]
            assert np.array(after.class_names)[after.labels].tolist() == words.tolist()
            assert (after.class_names == before.class_names) == (index == 1)


def test_a_positive_class_that_is_none(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    with pytest.raises(DataError, match=r"dataset.positive: 'il' is no class; did you mean 'ill'"):
        listed(config("folder", path=str(folder), positive="il"))
    class_folders(folder, ("other",))
    with pytest.raises(DataError, match=r"dataset.positive needs one label of two classes, but 3"):
        listed(config("folder", path=str(folder), positive="ill"))


@pytest.mark.parametrize(
    "name",
    [
        *("normal", "NORMAL", "No finding", "no_finding", "NoFinding", "non-COVID", "Non-Covid", "noncancer"),
        *("Healthy", "negative", "control", "Controls", "benign", "No_DR", "NoTumor", "uninfected", "0"),
        *("tumor free", "absent", "without lesion", "normal, benign", "CN", "H. pylori negative"),
        *("IDC(-)", "IDC (-)", "IDC [-]", "HER2-", "ER \N{MINUS SIGN}", "PR(\N{EN DASH})", "-"),
    ],
)
def test_negations(name: str) -> None:
    assert is_negation(name)


@pytest.mark.parametrize(
    "name",
    [
        *("COVID-19", "abnormal", "nodule", "Pneumonia", "1", "malignant", "positive", "nose", "DR", "notch"),
        *("IDC(+)", "HER2+", "stage-1", "T-cell", "x-ray (left)", "well-differentiated", "-1"),
    ],
)
def test_no_negations(name: str) -> None:
    assert not is_negation(name)


def test_a_negation_as_the_positive_class_is_told_until_it_is_chosen(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", ("COVID", "non-COVID"))
    note = "\n".join(listed(config("folder", path=str(folder))).notes)
    assert "the positive class 'non-COVID'" in note
    assert 'dataset.positive = "COVID"' in note
    for chosen in ("COVID", "non-COVID"):
        assert listed(config("folder", path=str(folder), positive=chosen)).notes == []
    # The order of class_names may be an oversight: it is told too.
    assert listed(config("folder", path=str(folder), class_names=["COVID", "non-COVID"])).notes


def test_a_class_whose_sign_says_negative_is_told_as_the_positive_one(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", ("IDC(+)", "IDC(-)"))
    note = "\n".join(listed(config("folder", path=str(folder))).notes)
    assert "the positive class 'IDC(-)' says by its name that something is not there" in note
    assert 'dataset.positive = "IDC(+)" makes them about' in note


def of_labels(folder: Path, labels: Sequence[str], **keys: Any) -> str:
    """The notes about a table whose rows have these labels in turn."""
    path = table(folder, n=12, header="path,label")
    rows = path.read_text().splitlines()[1:]
    lines = [
        f"{row.split(',')[0]},{label}" for row, label in zip(rows, itertools.cycle(labels), strict=False)
    ]
    path.write_text("\n".join(["path,label", *lines]) + "\n")
    return "\n".join(listed(config("csv", path=str(path), **keys)).notes)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["-1.0", "0.0", "1.0"], "-1"),
        (["-1", "0"], "-1"),
        (["normal", "sick", "-1"], "-1"),
        (["normal", "sick", "-1.0"], "-1.0"),
        (["0", "1", "-9"], "-9"),
        (["0", "1", "2", "-999"], "-999"),
        (["0", "1", "-9", "-99"], "-9"),
    ],
)
def test_a_number_for_a_missing_label_is_told(tmp_path: Path, labels: list[str], told: str) -> None:
    share = 12 // len(labels)
    found = of_labels(tmp_path, labels)
    assert f"'{told}' ({share} images)" in found
    assert "does it say that the label is not known?" in found


@pytest.mark.parametrize(
    "labels",
    [["-1", "1"], ["-1", "+1"], ["-2", "-1", "0", "1", "2"], ["0", "1", "9"], ["stage-1", "stage-9"]],
)
def test_numbers_of_a_scale_are_classes(tmp_path: Path, labels: list[str]) -> None:
    assert "not known" not in of_labels(tmp_path, labels)


def test_patients_as_numbers_of_two_kinds_are_one(tmp_path: Path) -> None:
    groups = {
        "train_groups": np.arange(12) // 2,
        "val_groups": 100.0 + np.arange(6) // 2,
        "test_groups": np.array(["5 ", "5.0", "201", "201", "202", "202"]),
    }
    found = listed(config("npz", path=str(npz(tmp_path, **groups)))).groups
    assert found is not None
    assert found[18:20].tolist() == ["5", "5"]
    assert set(found.tolist()) == {*map(str, range(6)), "100", "101", "102", "201", "202"}


def test_rows_of_a_table_are_chosen_by_patterns(tmp_path: Path) -> None:
    path = table(tmp_path)
    save(tmp_path / "images" / "0_mask.png", images(1)[0])
    with path.open("a") as file:
        file.write("images/0_mask.png,0,train,p0\n")
    whole = listed(config("csv", path=str(path)))
    assert any("look like masks (images/0_mask.png)" in note for note in whole.notes)
    chosen = listed(config("csv", path=str(path), exclude=["*_mask*"]))
    assert len(chosen) == len(whole) - 1
    assert [(one.reason, one.names) for one in chosen.ignored] == [
        ("dataset.exclude '*_mask*'", ("images/0_mask.png",))
    ]
    with pytest.raises(DataError, match="no row of"):
        listed(config("csv", path=str(path), include=["nothing"]))


def test_what_is_left_out_is_recorded_and_told(tmp_path: Path, workdir: Path) -> None:
    folder = class_folders(tmp_path / "set", ("COVID", "non-COVID"))
    for number in range(5):
        (folder / "train" / "COVID" / f"{number}.xcf").write_bytes(b"1")
    data = prepare(config("folder", path=str(folder)), tmp_path / "cache")
    facts = read_facts(data.folder)
    assert data.positive == "non-COVID"
    stored = json.loads((data.folder / FACTS_FILE).read_text())
    assert stored["ignored"][0]["names"] == [f"train/COVID/{number}.xcf" for number in range(5)]
    lines = facts.lines()
    assert lines[0] == "positive class: 'non-COVID'"
    assert lines[1].startswith("left out: 5 files, .xcf is not an image's suffix (train/COVID/0.xcf")
    assert lines[2].startswith("note: the positive class 'non-COVID'")
    (workdir / "study.toml").write_text(DEFINITION.format(folder=folder))
    assert check_source(load_definition("study.toml"))[: len(lines)] == lines


DEFINITION = """
version = 1
name = "study"
question = "Which?"
goal = "best"
sampler = "random"
scheduler = "none"
[budget]
base = "smoke"
[dataset]
source = "folder"
path = "{folder}"
modality = "CXR"
image_size = 16
[space.architecture]
role = "scientific"
choices = ["resnet18"]
[space.init]
value = "random"
[space.unfreeze_depth]
value = 5
[space.learning_rate]
low = 1e-4
high = 1e-2
log = true
"""


def test_exclusive_labels_of_an_array_are_told(tmp_path: Path) -> None:
    for what, told in ((np.eye(3, dtype=int), True), (1 - np.eye(3, dtype=int), False)):
        labels = {f"{s}_labels": what[np.arange(n) % 3] for s, n in (("train", 12), ("val", 6), ("test", 6))}
        notes = " ".join(listed(config("npz", path=str(npz(tmp_path, **labels)))).notes)
        assert ("every image has exactly one of the 3 labels" in notes) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mass", "edema", "mass;edema"), "class 'mass;edema' is several of the other classes with ';'"),
        (("mass", "edema", '"edema, mass"'), 'dataset.label_separator = "," gives an image each of these'),
        (("0", "3", "0 3"), "class '0 3' is several of the other classes with ' ' between them"),
        (("benign", "malignant", "benign/other"), ""),
        (("no finding", "mass", "edema"), ""),
    ],
)
def test_lists_of_labels_that_were_taken_for_classes_are_told(
    tmp_path: Path, words: Sequence[str], told: str
) -> None:
    for n in range(6):
        save(tmp_path / f"{n}.png", images(1, seed=n)[0])
    rows = [f"{n}.png,{words[n % 3]}" for n in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    found = config("csv", path=str(tmp_path / "t.csv"))
    said = " ".join(listed(found).notes)
    assert told in said
    assert ("several of the other classes" in said) == bool(told)
    names = [word.strip('"') for word in words]
    assert "several of the other" not in " ".join(
        listed(found.model_copy(update={"class_names": names})).notes
    )


@pytest.mark.parametrize(
    ("patients", "told"),
    [
        (
            ("1.23457E+11", "1.23457E+11", "P7"),
            "patients such as '1.23457E+11' (4 images) are rounded numbers",
        ),
        (("1,2E+12", "7", "8"), "'1,2E+12' (2 images) are rounded numbers"),
        (("2-Jan", "P1", "P2"), "patients such as '2-Jan' are dates"),
        (("Mar-04", "P1", "P2"), "patients such as 'Mar-04' are dates"),
        (("1e7", "may", "mar 4"), ""),
    ],
)
def test_patients_that_a_spreadsheet_has_changed_are_told(
    tmp_path: Path, patients: Sequence[str], told: str
) -> None:
    for n in range(6):
        save(tmp_path / f"{n}.png", images(1, seed=n)[0])
    rows = [f'{n}.png,{n % 2},"{patients[n % 3]}"' for n in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,who", *rows]))
    said = " ".join(listed(config("csv", path=str(tmp_path / "t.csv"), group_column="who")).notes)
    assert told in said
    assert ("patients such as" in said) == bool(told)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"group_column": "eye"}, "patients such as '1_OD' and '1_OS' look like two eyes"),
        ({"unit": "volume", "case_column": "eye"}, "cases such as '1_OD' and '1_OS' look like two eyes"),
        ({"unit": "volume", "case_column": "eye", "group_column": "who"}, ""),
        ({"group_column": "who"}, ""),
    ],
)
def test_eyes_that_were_taken_for_patients_are_told(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    for n in range(12):
        save(tmp_path / f"{n}.png", images(1, seed=n)[0])
    rows = [f"{n}.png,{n // 2 % 2},{n // 4 + 1}_{('OD', 'OS')[n // 2 % 2]},{n // 4 + 1}" for n in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,eye,who", *rows]))
    said = " ".join(listed(config("csv", path=str(tmp_path / "t.csv"), **keys)).notes)
    assert told in said
    assert ("look like two eyes" in said) == bool(told)
