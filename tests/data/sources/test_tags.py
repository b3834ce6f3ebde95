"""Attributes of DICOM files as columns for subgroups, and columns of cases: one value a case."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import making
from medfathom.data.sources.base import Listing
from medfathom.data.sources.cases import of_cases
from medfathom.data.sources.open import open_source
from medfathom.errors import DataError
from medfathom.evaluation.own_test import columns_by_name

pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
from dicom_files import dataset, ramp, saved

AGES = ("063Y", "006M", "010W", "007D")


def scans(folder: Path, n: int = 8, slices: int = 1, **tags: Callable[[int, int], Any]) -> Path:
    """n patients of two classes, `CLASS/PATIENT/SLICE.dcm`."""
    for patient in range(n):
        place = folder / ("ill", "well")[patient % 2] / f"scan{patient}"
        place.mkdir(parents=True)
        for k in range(slices):
            made = dataset(ramp(12), 12, PatientSex="MF"[patient // 2 % 2], PatientAge=AGES[patient % 4])
            made.PatientID = f"PAT{patient:04d}"
            for name, value in tags.items():
                setattr(made, name, value(patient, k))
            (place / f"{k}.dcm").write_bytes(saved(made))
    return folder


def listed(source: str, path: Path, keep: Sequence[str], **keys: Any) -> Listing:
    opened = open_source(making.config(source, path=str(path), keep=list(keep), **keys))
    try:
        return opened.listing()
    finally:
        opened.close()


def table_of(folder: Path, header: str, cells: Callable[[int, Path], Sequence[str]]) -> Path:
    """A table with a row for each file."""
    path = folder / "images.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", *header.split(",")])
        for k, image in enumerate(sorted(folder.rglob("*.dcm"))):
            rows.writerow([image.relative_to(folder), image.parent.parent.name, *cells(k, image)])
    return path


def test_sex_and_age_in_years_come_from_the_files(tmp_path: Path) -> None:
    found = listed("folder", scans(tmp_path / "d"), ["PatientAge", "PatientSex"])
    own = {
        name: (age, sex)
        for name, age, sex in zip(
            found.names, found.kept["PatientAge"].tolist(), found.kept["PatientSex"].tolist(), strict=True
        )
    }
    # 10 weeks are 70 days of 365.25, to four digits.
    expected = [("63", "M"), ("0.5", "M"), ("0.1916", "F"), ("0.01916", "F")] * 2
    assert own == {f"{'ill' if k % 2 == 0 else 'well'}/scan{k}/0.dcm": expected[k] for k in range(8)}
    assert list(found.kept) == ["PatientAge", "PatientSex"]


def test_a_file_without_the_attribute_or_of_another_format_has_no_value(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d", SpacingBetweenSlices=lambda patient, _: 2.5 if patient else None)
    making.save(folder / "well" / "photo.png", making.images(1)[0])
    keys = {"bits": 12, "group_pattern": "([^/]+)$"}
    found = listed("folder", folder, ["SpacingBetweenSlices"], **keys).kept["SpacingBetweenSlices"]
    assert sorted(found.tolist()) == ["", "", *["2.5"] * 7]


def test_a_column_of_the_table_is_preferred_and_both_go_together(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d")
    path = table_of(folder, "site,PatientSex", lambda k, _: ["AB"[k % 2], "X"])
    found = listed("csv", path, ["PatientSex", "PatientAge", "site"])
    assert set(found.kept["PatientSex"].tolist()) == {"X"}
    assert set(found.kept["PatientAge"].tolist()) == {"63", "0.5", "0.1916", "0.01916"}
    assert found.kept["site"].tolist() == ["A", "B"] * 4


@pytest.mark.parametrize("name", ["PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID"])
def test_what_says_who_a_patient_is_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"dataset.keep: '{name}' may say who a patient is"):
        listed("folder", scans(tmp_path / "d"), [name])


def test_wrong_names_are_refused_in_a_line(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d")
    with pytest.raises(DataError, match=r"'PatientSx' is no attribute of DICOM files; .*'PatientSex'"):
        listed("folder", folder, ["PatientSx"])
    with pytest.raises(DataError, match="no column 'sight'; did you mean 'site'"):
        listed("csv", table_of(folder, "site", lambda *_: ["A"]), ["sight"])
    making.class_folders(tmp_path / "png")
    with pytest.raises(DataError, match="'PatientSex' is an attribute of DICOM files, but no file is DICOM"):
        listed("folder", tmp_path / "png", ["PatientSex"])


def test_all_images_of_a_volume_have_its_value(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d", slices=3)
    config = making.config("folder", path=str(folder), unit="volume", keep=["PatientSex", "PatientAge"])
    found = columns_by_name(config, "patientsex,PatientAge:10")
    assert found["PatientSex"] == {f"{('ill', 'well')[k % 2]}/scan{k}": "MF"[k // 2 % 2] for k in range(8)}
    assert found["PatientAge"]["ill/scan0"] == "[60, 70)"


def test_a_table_of_folders_hands_its_cells_to_their_images(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d", slices=3)
    path = folder / "scans.csv"
    rows = [
        f"{place.relative_to(folder)},{place.parent.name},{k}" for k, place in enumerate(folder.glob("*/*"))
    ]
    path.write_text("\n".join(["path,label,number", *rows]) + "\n")
    found = listed("csv", path, ["number"], unit="volume")
    assert found.cases is not None
    told = dict(zip(found.cases.tolist(), found.kept["number"].tolist(), strict=True))
    assert told == {row.split(",")[0]: row.split(",")[2] for row in rows}
    assert len(found) == 24


def test_an_empty_cell_takes_the_value_of_its_case() -> None:
    cases, cells = np.array(["a", "b", "a", "b", "c"]), np.array(["", "F", "M", "", ""])
    assert of_cases({"sex": cells}, cases, "case")["sex"].tolist() == ["M", "F", "M", "F", ""]


def test_a_case_with_two_values_is_refused(tmp_path: Path) -> None:
    folder = scans(tmp_path / "d", slices=3, InstanceNumber=lambda _, k: k + 1)
    match = (
        r"InstanceNumber differs between images of one volume, in 8 of 8, such as 'ill/scan0'; a volume needs"
    )
    with pytest.raises(DataError, match=match):
        listed("folder", folder, ["InstanceNumber"], unit="volume")
