"""Volumes and other cases in folders and tables: what becomes a case, and that no split divides one."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from making import images, save
from medfathom.data.heldout import open_test
from medfathom.data.listing import list_images
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.prepared import FACTS_FILE, PreparedData, read_facts
from medfathom.data.sources.base import UnusableRowsError
from medfathom.data.sources.cases import files_of
from medfathom.data.sources.open import open_source
from medfathom.data.sources.walk import Choice
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError
from medfathom.metrics.unknown import UNKNOWN

SLICES = 3


def volumes(root: Path, names: Sequence[str], slices: int = SLICES) -> None:
    """A folder of different slices for each volume."""
    for number, name in enumerate(names):
        for k, pixels in enumerate(images(slices, side=16, seed=number)):
            save(root / name / f"{k}.png", pixels)


def write_table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def of_table(path: Path, **keys: Any) -> CsvDataset:
    base = {"source": "csv", "modality": "OCT", "image_size": 16, "path": str(path), "unit": "volume"}
    return CsvDataset.model_validate(base | keys)


def of_folder(path: Path, **keys: Any) -> FolderDataset:
    base = {"source": "folder", "modality": "OCT", "image_size": 16, "path": str(path), "unit": "volume"}
    return FolderDataset.model_validate(base | keys)


def cases_by_split(data: PreparedData) -> dict[str, set[str]]:
    splits = {"train": data.split("train"), "val": data.split("val"), "test": open_test(data)}
    return {name: set(map(str, split.cases)) for name, split in splits.items()}  # type: ignore[arg-type]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve volumes of two classes, a folder each, in given splits."""
    names = [f"vol{k:02d}" for k in range(12)]
    volumes(tmp_path, names)
    splits = ["train"] * 6 + ["val"] * 4 + ["test"] * 2
    write_table(
        tmp_path / "labels.csv",
        [
            {"path": name, "label": ("well", "ill")[k % 2], "split": split}
            for k, (name, split) in enumerate(zip(names, splits, strict=True))
        ],
    )
    return tmp_path / "labels.csv"


def test_a_row_that_names_a_folder_is_one_volume(table: Path, tmp_path: Path) -> None:
    data = prepare(of_table(table, split_column="split"), tmp_path / "cache")
    assert data.sizes == {"train": 6 * SLICES, "val": 4 * SLICES, "test": 2 * SLICES}
    assert (data.unit, data.cases) == ("volume", {"train": 6, "val": 4, "test": 2})
    assert not any("repaired" in note for note in read_facts(data.folder).notes)
    val = data.split("val")
    units = val.units
    assert units.names == ["vol06", "vol07", "vol08", "vol09"]
    assert units.labels.tolist() == [1, 0, 1, 0]
    assert units.cases is not None
    assert units.cases.sizes.tolist() == [SLICES] * 4
    assert val.names[:2] == ["vol06 (line 8): 0.png", "vol06 (line 8): 1.png"]
    assert read_manifest(data.folder).case[:4].tolist() == ["vol00"] * SLICES + ["vol01"]


def test_the_shared_case_of_volumes_as_folders(shared: Path, tmp_path: Path) -> None:
    table = shared / "cases" / "volume-as-folder" / "labels.csv"
    if not table.is_file():
        pytest.skip(f"{table} is absent")
    source = open_source(of_table(table))
    listing = source.listing()
    there = sorted(folder.name for folder in table.parent.glob("vol*"))
    assert sorted(set(listing.cases.tolist())) == there  # type: ignore[union-attr]
    assert len(listing) == 8 * len(there)
    # Volumes that the table names and that are not there are told as such.
    assert len(listing.problems) == 24 - len(there)
    assert all(problem.reason == "no such file" for problem in listing.problems)


def test_class_folders_of_volumes(tmp_path: Path) -> None:
    for split, number in (("train", 4), ("val", 2), ("test", 2)):
        volumes(tmp_path / "set" / split, [f"{c}/v{k}" for c in ("ill", "well") for k in range(number)])
    data = prepare(of_folder(tmp_path / "set"), tmp_path / "cache")
    assert data.cases == {"train": 8, "val": 4, "test": 4}
    assert data.split("val").units.names == ["val/ill/v0", "val/ill/v1", "val/well/v0", "val/well/v1"]


def test_an_image_directly_in_its_class_folder_has_no_volume(tmp_path: Path) -> None:
    volumes(tmp_path / "set", [f"{c}/v{k}" for c in ("ill", "well") for k in range(4)])
    save(tmp_path / "set" / "ill" / "alone.png", images(1, seed=99)[0])
    with pytest.raises(UnusableRowsError, match=r"ill/alone.png: no volume: .* give dataset.case_pattern"):
        prepare(of_folder(tmp_path / "set"), tmp_path / "cache")


def test_a_row_that_names_one_image_has_no_volume(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"{k}.png", images(1, seed=k)[0])
    write_table(tmp_path / "t.csv", [{"path": f"{k}.png", "label": "ab"[k % 2]} for k in range(4)])
    with pytest.raises(UnusableRowsError, match=r"0.png \(line 2\): no volume: .* give dataset.case_pattern"):
        prepare(of_table(tmp_path / "t.csv"), tmp_path / "cache")


@pytest.mark.parametrize(
    ("keys", "volumes_left", "slices"),
    [
        ({"include": ["*.png"]}, 12, SLICES),
        ({"include": ["vol*"]}, 12, SLICES),
        ({"include": ["vol1*"]}, 2, SLICES),
        ({"include": ["*/0.png"]}, 12, 1),
        ({"exclude": ["0.png"]}, 12, SLICES - 1),
        ({"exclude": ["vol1*"]}, 10, SLICES),
        ({"exclude": ["vol*/2.png"]}, 12, SLICES - 1),
    ],
)
def test_patterns_are_about_the_files_of_a_folder_that_a_row_names(
    keys: dict[str, Any], volumes_left: int, slices: int, tmp_path: Path
) -> None:
    names = [f"vol{number:02d}" for number in range(12)]
    volumes(tmp_path, names)
    rows: list[dict[str, object]] = [{"path": name, "label": "ab"[k % 2]} for k, name in enumerate(names)]
    write_table(tmp_path / "t.csv", rows)
    source = open_source(of_table(tmp_path / "t.csv", **keys))
    listing = source.listing()
    assert not listing.problems
    assert listing.cases is not None
    assert len(set(listing.cases)) == volumes_left
    assert len(listing) == volumes_left * slices


def test_an_empty_folder_is_named(table: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    table.write_text(table.read_text() + "none,ill,train\n")
    with pytest.raises(UnusableRowsError, match=r"none \(line 14\): no image in this folder"):
        prepare(of_table(table, split_column="split"), tmp_path / "cache")


def flat(root: Path, rows: Sequence[tuple[str, str, str, str]]) -> Path:
    """A flat layout: (file, label, patient, case) for each image."""
    for seed, (name, *_) in enumerate(rows):
        save(root / name, images(1, side=16, seed=seed)[0])
    columns = ("path", "label", "patient", "eye")
    write_table(root / "t.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    return root / "t.csv"


def two_eyes(n_patients: int) -> list[tuple[str, str, str, str]]:
    """Two eyes a patient, two images an eye, a label for each eye."""
    return [
        (f"p{p}_{eye}_{k}.png", ("well", "ill")[(p + (eye == "L")) % 2], f"p{p}", eye)
        for p, eye, k in itertools.product(range(n_patients), "LR", range(2))
    ]


@pytest.mark.parametrize("keys", [{"case_column": "eye"}, {"case_pattern": "_([LR])_"}])
def test_equal_cases_of_two_patients_are_two_cases(keys: dict[str, str], tmp_path: Path) -> None:
    table = flat(tmp_path, two_eyes(12))
    thirds = {"val_fraction": 0.34, "test_fraction": 0.33}
    found = of_table(table, unit="case", group_column="patient", splits=thirds, **keys)
    data = prepare(found, tmp_path / "cache")
    assert data.cases is not None
    assert sum(data.cases.values()) == 24
    manifest = read_manifest(data.folder)
    assert set(manifest.case) == {f"p{p}/{eye}" for p in range(12) for eye in "LR"}
    # Both eyes of a patient are in one split.
    assert len({*zip(manifest.group.tolist(), manifest.split.tolist(), strict=True)}) == 12
    units = data.split("val").units
    assert [name.split("/")[0] for name in units.names] == list(units.groups)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [{"case_column": "eye"}, {"case_pattern": "_([A-Za-z0-9]+)_"}])
def test_a_case_in_two_spellings_is_not_two_cases(keys: dict[str, str], tmp_path: Path) -> None:
    rows = [
        (
            f"x_{'Vol' if k else 'vol'}{v}_{k}.png",
            ("well", "ill")[v % 2],
            f"p{v}",
            f"{'Vol' if k else 'vol'}{v}",
        )
        for v in range(12)
        for k in range(2)
    ]
    table = flat(tmp_path, rows)
    with pytest.raises(DataError, match=r"volumes differ only in their spelling: 'Vol0' .*, 'vol0'"):
        open_source(of_table(table, **keys)).listing()
    merged = open_source(of_table(table, similar_words="merge", **keys)).listing()
    assert merged.cases is not None
    assert len(set(merged.cases)) == 12
    kept = open_source(of_table(table, similar_words="keep", **keys)).listing()
    assert kept.cases is not None
    assert len(set(kept.cases)) == 24
    splits = {"val_fraction": 0.25, "test_fraction": 0.25}
    data = prepare(of_table(table, similar_words="merge", splits=splits, **keys), tmp_path / "cache")
    assert sum(data.cases.values()) == 12  # type: ignore[union-attr]


@pytest.mark.parametrize("cells", [("7.0", "7"), ("P1", "p1")])
def test_a_patient_in_two_spellings_has_one_case(cells: tuple[str, str], tmp_path: Path) -> None:
    rows = [
        (f"{w}_{k}.png", w, cells[k] if w == "ill" else "3", "left" if k else "left ")
        for w in ("ill", "well")
        for k in range(2)
    ]
    table = flat(tmp_path, rows)
    keys = {"group_column": "patient", "case_column": "eye", "similar_words": "merge"}
    found = open_source(of_table(table, **keys)).listing()
    assert found.cases is not None
    assert not found.problems
    assert len(set(found.cases)) == 2


def test_a_case_with_two_labels_is_refused(tmp_path: Path) -> None:
    rows = two_eyes(6)
    rows[1] = (rows[1][0], "ill" if rows[1][1] == "well" else "well", *rows[1][2:])
    found = of_table(flat(tmp_path, rows), unit="case", case_column="eye", group_column="patient")
    with pytest.raises(UnusableRowsError) as caught:
        prepare(found, tmp_path / "cache")
    assert [p.name for p in caught.value.problems] == ["p0_L_0.png (line 2)", "p0_L_1.png (line 3)"]
    assert "'p0/L' has images of label 'ill' and of label 'well'" in caught.value.problems[0].reason


def unsure(tmp_path: Path, *rows: tuple[str, str, str]) -> CsvDataset:
    """Volumes (path, effusion, oedema), and others whose labels are all known; -1 is not known."""
    known = [(f"w{k}/0.png", str(k % 2), str(k // 2 % 2)) for k in range(12)]
    for path, *_ in (*rows, *known):
        save(tmp_path / path, np.random.default_rng(len(path)).integers(0, 255, (16, 16)).astype(np.uint8))
    lines = [",".join(row) for row in (("path", "effusion", "oedema"), *rows, *known)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    keys = {"source": "csv", "modality": "CXR", "image_size": 16, "path": str(tmp_path / "t.csv")}
    labels = {"label_columns": ["effusion", "oedema"], "uncertain": "ignore", "case_pattern": "(v|w[0-9]+)"}
    return CsvDataset.model_validate(keys | labels | {"unit": "case"})


def test_a_label_of_a_case_is_known_once_it_is_of_any_image(tmp_path: Path) -> None:
    """Known labels hold for all images of a case; only where none is known it stays unknown."""
    config = unsure(tmp_path, ("v/0.png", "-1", "0"), ("v/1.png", "1", "-1"), ("v/2.png", "1", "0"))
    found = open_source(config).listing()
    assert found.cases is not None
    assert found.labels[found.cases == "v"].tolist() == [[1, 0]] * 3
    said = "'effusion' is not known of 1 images, and is taken from others of their case"
    assert said in found.notes
    # What was taken from others is not told as left out.
    assert not any("left out of loss" in note for note in list_images(open_source(config), config).notes)

    config = unsure(tmp_path, ("v/0.png", "-1", "0"), ("v/1.png", "-1", "-1"))
    told = "labels that are not known, left out of loss and metrics: effusion 2 of 14 images"
    assert told in list_images(open_source(config), config).notes
    found = open_source(config).listing()
    assert found.cases is not None
    assert found.labels[found.cases == "v"].tolist() == [[UNKNOWN, 0]] * 2


def test_known_labels_of_a_case_that_disagree_are_refused(tmp_path: Path) -> None:
    config = unsure(tmp_path, ("v/0.png", "1", "0"), ("v/1.png", "-1", "0"), ("v/2.png", "0", "0"))
    problems = open_source(config).listing().problems
    assert [problem.name for problem in problems] == [
        "v/0.png (line 2)",
        "v/1.png (line 3)",
        "v/2.png (line 4)",
    ]
    assert "its case 'v' has images of label 'effusion' and of label" in problems[0].reason


def test_a_volume_of_two_patients_is_refused(tmp_path: Path) -> None:
    names = [
        "ill/v1/p1_0",
        "ill/v1/p2_1",
        *(f"{c}/v{k}/p{k}_0" for k in range(3, 9) for c in ("ill", "well")),
    ]
    for k, name in enumerate(names):
        save(tmp_path / "set" / f"{name}.png", images(1, seed=k)[0])
    with pytest.raises(UnusableRowsError, match=r"'ill/v1' has images of patient 'p1' and of patient 'p2'"):
        prepare(of_folder(tmp_path / "set", group_pattern=r"/(p\d)_"), tmp_path / "cache")


def test_a_case_in_two_given_splits_is_refused(tmp_path: Path) -> None:
    for k, (split, c, n) in enumerate(itertools.product(("train", "val", "test"), ("ill", "well"), range(2))):
        save(tmp_path / "set" / split / c / f"{c}{n}_x.png", images(1, seed=k)[0])
    found = of_folder(tmp_path / "set", unit="case", case_pattern=r"(\w+\d)_")
    with pytest.raises(
        DataError, match=r"4 cases are in several splits of the source, 'ill0' in train and val"
    ):
        prepare(found, tmp_path / "cache")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"unit": "image", "case_pattern": "(x)"}, "case_pattern needs unit"),
        ({"case_pattern": "(x)", "case_column": "c"}, "case_column or case_pattern, not both"),
        ({"case_pattern": "x"}, "exactly one group in parentheses"),
        ({"unit": "eye"}, "unit"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        of_table(tmp_path / "t.csv", **keys)


def test_a_column_that_is_not_there_is_named(table: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.case_column: .* has no column 'casee'"):
        prepare(of_table(table, case_column="casee"), table.parent / "cache")


def test_slices_come_in_their_natural_order(tmp_path: Path) -> None:
    for name in ("s10.png", "s2.png", "s1.png", ".s0.png", "note.txt"):
        save(tmp_path / "v" / name, images(1)[0]) if name.endswith("png") else None
    assert [file.name for file in files_of(tmp_path / "v", Choice(), tmp_path)] == [
        "s1.png",
        "s2.png",
        "s10.png",
    ]


def test_a_changed_slice_is_prepared_again(table: Path, tmp_path: Path) -> None:
    before = prepare(of_table(table, split_column="split"), tmp_path / "cache")
    save(tmp_path / "vol00" / "1.png", images(1, side=17, seed=77)[0])
    after = prepare(of_table(table, split_column="split"), tmp_path / "cache")
    assert before.fingerprint != after.fingerprint


def test_the_fingerprint_of_images_knows_no_cases(table: Path, tmp_path: Path) -> None:
    """What was prepared before there were cases is the same data set still."""
    rows = [(f"vol{k:02d}/{i}.png", "ab"[k % 2]) for k in range(12) for i in range(SLICES)]
    splits = ["train"] * 6 * SLICES + ["val"] * 4 * SLICES + ["test"] * 2 * SLICES
    write_table(
        tmp_path / "flat.csv",
        [{"path": p, "label": c, "split": s} for (p, c), s in zip(rows, splits, strict=True)],
    )
    flat_config = of_table(tmp_path / "flat.csv", unit="image", split_column="split")
    data = prepare(flat_config, tmp_path / "cache")
    assert data.cases is None
    assert data.split("val").cases is None
    volumes_too = of_table(tmp_path / "flat.csv", split_column="split", case_pattern=r"(vol\d+)")
    assert prepare(volumes_too, tmp_path / "cache").fingerprint != data.fingerprint


def test_a_set_prepared_by_an_earlier_version_is_read(table: Path, tmp_path: Path) -> None:
    rows = [{"path": f"vol{k:02d}/0.png", "label": "ab"[k % 2]} for k in range(12)]
    write_table(tmp_path / "flat.csv", rows)
    thirds = {"val_fraction": 0.34, "test_fraction": 0.33}
    data = prepare(of_table(tmp_path / "flat.csv", unit="image", splits=thirds), tmp_path / "cache")
    facts = json.loads((data.folder / FACTS_FILE).read_text())
    del facts["unit"], facts["cases"]
    (data.folder / FACTS_FILE).write_text(json.dumps(facts))
    manifest = data.folder / "manifest.csv"
    with manifest.open(newline="") as file:
        lines = [line[:-1] for line in csv.reader(file)]
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert read_facts(data.folder).data == data
    assert set(read_manifest(data.folder).case) == {""}


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_no_case_is_ever_in_two_splits(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the layout: patients known or not, kept together or not, cases of one image or of several."""
    root = tmp_path_factory.mktemp("set")
    n_patients = data.draw(st.integers(14, 20))
    rows = []
    for p in range(n_patients):
        for case in range(data.draw(st.integers(1, 2))):
            label = "ab"[(p + case) % 2]
            n = data.draw(st.integers(1, 3))
            rows += [(f"{p}_{case}_{k}.png", label, f"p{p}", f"{p}.{case}") for k in range(n)]
    keys: dict[str, Any] = {"case_column": "eye"}
    if data.draw(st.booleans()):
        keys["group_column"] = "patient"
    keys["splits"] = {
        "val_fraction": 0.3,
        "test_fraction": 0.3,
        "seed": data.draw(st.integers(0, 9)),
        "grouped": data.draw(st.booleans()),
    }
    try:
        prepared = prepare(of_table(flat(root, rows), unit="case", **keys), root / "cache")
    except DataError as error:
        if "image of class" not in str(error):  # the draw left a class out
            raise
        return
    splits = cases_by_split(prepared)
    assert not any(first & second for first, second in itertools.combinations(splits.values(), 2))
    assert sum(map(len, splits.values())) == len({row[3] for row in rows})
    for name in ("train", "val"):
        split = prepared.split(name)  # type: ignore[arg-type]
        labels_of: dict[str, set[int]] = {}
        for case, label in zip(np.asarray(split.cases), split.labels, strict=True):
            labels_of.setdefault(str(case), set()).add(int(label))
        assert all(len(labels) == 1 for labels in labels_of.values())
