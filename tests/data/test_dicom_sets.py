"""Sets of DICOM files: patients are groups, ids are hashed, the window is the definition's."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_models import CONFIG
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import foresee, prepare
from medfathom.data.prepared import PreparedData, load_split, read_facts
from medfathom.data.pseudonyms import Subject, pseudonym
from medfathom.data.sources.base import UnusableRowsError
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError
from medfathom.exported.model import Model
from medfathom.exported.network import Deployed

pytest.importorskip("pydicom", reason="pydicom is not installed (medfathom[dicom])")
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_files import dataset, saved

SECRETS = ("PAT00", "Doe", "Jane", "19700101", "20240229", "1.2.826")


def patient(number: int) -> str:
    return f"PAT{number // 2:04d}"


def files(folder: Path, n: int = 24, **tags: Callable[[int], Any]) -> Path:
    """Two files a patient, named by the patient; 12 bits as CT in HU; two classes."""
    for number in range(n):
        drawn = np.random.default_rng(number).integers(0, 4096, (16, 16))
        made = dataset(drawn, 12, RescaleSlope=1, RescaleIntercept=-1024)
        made.PatientID, made.PatientName = patient(number), "Doe^Jane"
        made.PatientBirthDate, made.StudyDate = "19700101", "20240229"
        made.StudyInstanceUID = f"1.2.826.{number}"
        for name, value in tags.items():
            setattr(made, name, value(number))
        path = folder / "AB"[number // 2 % 2] / f"{patient(number)}_20240229_{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(made))
    return folder


def definition(folder: Path, **keys: Any) -> FolderDataset:
    given = {"source": "folder", "path": str(folder), "modality": "CT", "image_size": 16, **keys}
    return FolderDataset.model_validate(given)


def written(data: PreparedData) -> bytes:
    """All that is written of a data set, names of files included."""
    kept = [path for path in data.folder.parent.rglob("*") if path.is_file()]
    return b"\n".join(
        str(path.relative_to(data.folder)).encode() + path.read_bytes()
        for path in kept
        if path.is_relative_to(data.folder)
    )


def test_patients_are_the_groups_and_only_hashes_are_written(tmp_path: Path) -> None:
    data = prepare(definition(files(tmp_path / "in")), tmp_path / "cache")
    manifest = read_manifest(data.folder)
    assert set(manifest.group) == {pseudonym(patient(number)) for number in range(24)}
    assert set(manifest.study) == {pseudonym(f"1.2.826.{number}") for number in range(24)}
    splits = {group: set(manifest.split[manifest.group == group]) for group in set(manifest.group)}
    assert all(len(found) == 1 for found in splits.values())
    for secret in SECRETS:
        assert secret.encode() not in written(data)


def test_errors_name_no_patient(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    broken = sorted(folder.rglob("*.dcm"))[0]
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(UnusableRowsError) as caught:
        prepare(definition(folder), tmp_path / "cache")
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_the_definitions_groups_come_first_and_are_hashed_too(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    data = prepare(definition(folder, group_pattern=r"PAT(\d+)_"), tmp_path / "cache")
    assert set(read_manifest(data.folder).group) == {pseudonym(f"{n:04d}") for n in range(12)}


def test_ids_that_differ_in_spelling_are_not_two_patients(tmp_path: Path) -> None:
    def spelled(number: int) -> str:
        return patient(number) if number % 2 else patient(number).lower()

    folder = files(tmp_path / "in", PatientID=spelled)
    with pytest.raises(DataError, match="patients of DICOM files differ only in their spelling") as raised:
        prepare(definition(folder), tmp_path / "cache")
    assert "pat0" not in str(raised.value).lower()
    merged = read_manifest(prepare(definition(folder, similar_words="merge"), tmp_path / "cache").folder)
    assert len(set(merged.group)) == 12
    kept = read_manifest(prepare(definition(folder, similar_words="keep"), tmp_path / "cache").folder)
    assert len(set(kept.group)) == 24


def test_a_file_that_does_not_say_whether_values_are_signed_is_refused_early(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    made = dataset(np.zeros((16, 16)), 12)
    del made.PixelRepresentation
    (folder / "A" / "odd.dcm").write_bytes(saved(made))
    with pytest.raises(UnusableRowsError, match=r"does not say whether its values are signed"):
        foresee(definition(folder), tmp_path / "cache")


def test_one_id_for_all_is_no_patient(tmp_path: Path) -> None:
    folder = files(tmp_path / "in", PatientID=lambda _: "ANONYMOUS")
    with pytest.raises(DataError, match="all 24 DICOM files have the same PatientID"):
        prepare(definition(folder), tmp_path / "cache")
    data = prepare(definition(folder, group_pattern="(.+)"), tmp_path / "cache")
    assert len(set(read_manifest(data.folder).group)) == 24


def test_a_word_in_place_of_some_ids_may_be_no_patient(tmp_path: Path) -> None:
    folder = files(tmp_path / "in", PatientID=lambda n: "ANONYMOUS" if n < 4 else patient(n))
    told = " ".join(foresee(definition(folder), tmp_path / "cache"))
    assert "patient 'anonymous' (4 images): does it say that the patient is not known?" in told


def test_files_without_an_id_have_no_group_and_beside_others_are_named(tmp_path: Path) -> None:
    none = prepare(definition(files(tmp_path / "a", PatientID=lambda _: "")), tmp_path / "cache")
    assert load_split(none.folder, "train").groups is None
    some = definition(files(tmp_path / "b", PatientID=lambda n: "" if n == 3 else patient(n)))
    with pytest.raises(UnusableRowsError, match=r"1 of 24.*no PatientID, though other files have one"):
        prepare(some, tmp_path / "cache")


def test_a_window_for_all_files_from_a_table(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([[str(path), path.parent.name] for path in sorted(folder.rglob("*.dcm"))])
    keys = {"source": "csv", "path": str(table), "modality": "CT", "image_size": 16, "window": [40, 400]}
    data = prepare(CsvDataset.model_validate(keys), tmp_path / "cache")
    shares = [(images == 0).mean() for images in (data.split("train").images, data.split("val").images)]
    # uniform from -1024 HU on, 4096 of them: black up to -160 HU, that is 865 of 4096
    assert np.allclose(shares, 865 / 4096, atol=0.03)
    assert data.split("train").images.dtype == np.uint16


@pytest.mark.parametrize("window", [[40, 0], [40], [40, float("nan")], [float("inf"), 4], ["a", 4], 40])
def test_a_window_that_is_none_is_refused(window: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="window"):
        definition(tmp_path, window=window)


def test_a_window_without_dicom_is_refused(tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "in" / "AB"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(path)
    with pytest.raises(DataError, match=r"dataset.window: no file is DICOM"):
        prepare(definition(tmp_path / "in", window=[40, 400]), tmp_path / "cache")


def test_short_ids_are_hidden_only_where_they_stand_alone() -> None:
    who = Subject(pseudonym("7"), "", ("7", "Doe"))
    assert who.hidden("A/slice17_7.dcm") == f"A/slice17_{pseudonym('7')}.dcm"
    assert who.hidden("A/doe.dcm (line 3)") == f"A/{pseudonym('Doe')}.dcm (line 3)"


def volumes(folder: Path, **tags: Callable[[int], Any]) -> FolderDataset:
    """Twelve volumes of two slices, in folders named by the patient."""
    for path in sorted(files(folder, **tags).rglob("*.dcm")):
        (path.parent / path.name[:7]).mkdir(exist_ok=True)
        path.rename(path.parent / path.name[:7] / path.name)
    return definition(folder, unit="volume")


def test_cases_are_named_without_their_patient(tmp_path: Path) -> None:
    data = prepare(volumes(tmp_path / "in"), tmp_path / "cache")
    manifest = read_manifest(data.folder)
    assert len(set(manifest.case)) == len(set(manifest.group)) == 12
    for secret in SECRETS:
        assert secret.encode() not in written(data)


def test_a_case_of_two_patients_is_refused_without_naming_them(tmp_path: Path) -> None:
    config = volumes(tmp_path / "in", PatientID=lambda n: "PAT0099" if n == 3 else patient(n))
    with pytest.raises(UnusableRowsError, match=r"2 of 24.* a volume needs one patient") as caught:
        prepare(config, tmp_path / "cache")
    assert "PAT0099" not in str(caught.value)


def without_suffixes(root: Path) -> Path:
    """As PACS and CDs write them: numbers, UIDs and no suffix, with an index beside them."""
    files(root)
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        name = ("IM-0001-%04d", "%06d", "1.2.840.113619.2.55.%d")[number % 3] % number
        path.rename(path.parent / name)
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in ("DICOMDIR", "A/dicomdir", "A/INDEX"):
        index.save_as(root / name, enforce_file_format=True)
    (root / "A" / "README").write_text("not an image")
    (root / "A" / "VERSION").write_bytes(b"")
    return root


def test_dicom_files_without_a_suffix_are_found_and_their_index_is_not_an_image(tmp_path: Path) -> None:
    root = without_suffixes(tmp_path / "set")
    notes = foresee(definition(root), tmp_path / "cache")
    data = prepare(definition(root), tmp_path / "cache")
    assert sum(data.sizes.values()) == 24
    ignored = read_facts(data.folder).ignored
    assert {one.reason: sorted(one.names) for one in ignored} == {
        "an index of DICOM files, no image": ["A/INDEX", "A/dicomdir", "DICOMDIR"],
        "no suffix": ["A/README", "A/VERSION"],
    }
    assert all(str(one) in notes for one in ignored)

    config = CONFIG.model_copy(update={"image_size": 16, "channels": 1, "dtype": "uint16"})
    found = Model(config, Deployed(config).network.state_dict()).predict(root)
    assert len(found) == 24
    assert {(one.reason, tuple(one.names)) for one in found.ignored} == {
        (one.reason, tuple(one.names)) for one in ignored
    }


def test_an_index_is_no_image_though_all_files_are_included(tmp_path: Path) -> None:
    root = without_suffixes(tmp_path / "set")
    for name in ("README", "VERSION", "INDEX"):
        (root / "A" / name).unlink()
    assert sum(prepare(definition(root, include=["*"]), tmp_path / "cache").sizes.values()) == 24


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        ("image", r'DICOM with 3 frames; unit = "image" takes files of one frame; unit = "volume" takes all'),
        ("case", r'DICOM with 3 frames; unit = "image" takes files of one frame; unit = "volume" takes all'),
        ("slide", r'DICOM with 3 frames; unit = "image" takes files of one frame; unit = "volume" takes all'),
        ("volume", ""),
    ],
)
def test_frames_are_images_of_volumes_alone(unit: str, reason: str, tmp_path: Path) -> None:
    for number in range(6):
        drawn = np.random.default_rng(number).integers(0, 4096, (3, 16, 16))
        made = dataset(drawn.reshape(48, 16), 12)
        made.PatientID, made.NumberOfFrames, made.Rows = f"P{number}", 3, 16
        path = tmp_path / "set" / "AB"[number % 2] / f"IM{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(made))
    config = definition(tmp_path / "set", unit=unit)
    if reason:
        with pytest.raises(UnusableRowsError, match=f"6 of 6 .* A/IM0: {reason}"):
            foresee(config, tmp_path / "cache")
    else:
        data = prepare(config, tmp_path / "cache")
        assert (sum(data.sizes.values()), sum((data.cases or {}).values())) == (18, 6)
