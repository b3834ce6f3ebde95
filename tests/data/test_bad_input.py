"""Everything on the issue's list of bad input: named with its file and row, in one line, nothing
half-written.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from making import SIZES, arrays, class_folders, config, hdf5, images, label_columns, npz, save, table
from medfathom.data.labels import from_numbers, from_word_lists, from_words, normal_word, normal_words
from medfathom.data.prepare import prepare
from medfathom.data.prepared import read_facts
from medfathom.data.sources.base import UnusableRowsError
from medfathom.errors import DataError


def refused(cache: Path, source: str, **keys: Any) -> str:
    """The one line with which a data set is refused; nothing half-written is left in the cache."""
    with pytest.raises(DataError) as raised:
        prepare(config(source, **keys), cache)
    assert "\n" not in str(raised.value)
    assert all((folder / "prepared.json").exists() for folder in cache.glob("datasets/*/"))
    return str(raised.value)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# npz and medmnist


def test_no_such_file_and_a_folder(tmp_path: Path, cache: Path) -> None:
    for source, name in (("npz", {}), ("medmnist", {"name": "pneumoniamnist"}), ("csv", {})):
        assert "a.npz is not there" in refused(cache, source, path=str(tmp_path / "a.npz"), **name)
        assert "is a folder; a file is expected" in refused(cache, source, path=str(tmp_path), **name)
    for source in ("folder", "hdf5"):
        assert "nowhere is not there" in refused(cache, source, path=str(tmp_path / "nowhere"))
        assert "is a file; a folder is expected" in refused(cache, source, path=str(npz(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut short"])
def test_what_is_no_npz(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    assert "is not an npz file" in refused(cache, "npz", path=str(tmp_path / "set.npz"))


def test_paths_that_cannot_be_opened_are_named(tmp_path: Path, cache: Path) -> None:
    path = table(tmp_path)
    long = "a" * 300
    path.write_text(path.read_text() + f"{long}.png,ill,train,9\nimages/0.png/x.png,ill,train,9\n")
    said = refused(cache, "csv", path=str(path), split_column="split")
    assert f"{long}.png (line 42): cannot be read (File name too long)" in said
    assert "images/0.png/x.png (line 43): cannot be read (Not a directory)" in said


def test_values_beyond_the_bits_in_use_are_named_with_their_row(tmp_path: Path, cache: Path) -> None:
    deep = {f"{split}_images": images(n, deep=True) >> 4 for split, n in SIZES.items()}
    deep["val_images"][3, 0, 0] = 5000
    reason = r"val_images[3]: values from 0 to 5000, outside 0 to 4095 (dataset.bits = 12)"
    deep["val_images"][3, 0, 1] = 0
    assert reason in refused(cache, "npz", path=str(npz(tmp_path, **deep)), bits=12)


@pytest.mark.parametrize(("scale", "told"), [(1, True), (15, True), (40, False)])
def test_images_that_are_nearly_black_are_told(tmp_path: Path, cache: Path, scale: int, told: bool) -> None:
    dark = {f"{split}_images": images(n) // 128 * np.uint8(scale) for split, n in SIZES.items()}
    data = prepare(config("npz", path=str(npz(tmp_path, **dark))), cache)
    notes = " ".join(read_facts(data.folder).notes)
    assert (f"values from 0 to {scale} of 255: they are nearly black" in notes) == told


def test_a_truncated_npz(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "is not an npz file" in refused(cache, "npz", path=str(path))


def test_a_damaged_array(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)
    content = bytearray(path.read_bytes())
    start = content.index(b"train_images.npy") + 400
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    assert "array train_images" in refused(cache, "npz", path=str(path))


def test_an_array_shorter_than_it_says(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["val_images.npy"] = members["val_images.npy"][:-100]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "array val_images ends too early" in refused(cache, "npz", path=str(path))


def test_pickled_objects_are_not_loaded(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path, train_labels=np.array([{"label": 0}] * 12, dtype=object))
    assert "array train_labels holds pickled Python objects, which are not loaded" in refused(
        cache, "npz", path=str(path)
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_images": None}, "no array train_images; expected"),
        ({"val_labels": None}, "no array val_labels; found"),
        ({"val_labels": np.zeros((5, 1), int)}, "val_labels has shape (5, 1), but there are 6 images"),
        ({"val_images": images(6, channels=3)}, "differ in channels or type"),
        ({"train_images": images(12).astype(float)}, "train_images is float64; expected uint8 or uint16"),
        ({"train_images": images(12)[:, 0]}, "train_images has shape (12, 20); expected (n, h, w)"),
        ({"train_images": images(12)[:, :1, :1]}, "a side below 8 pixels"),
        ({"train_images": np.zeros((12, 20, 20, 4), np.uint8)}, "expected (n, h, w) or (n, h, w, 3)"),
        ({"train_images": np.asfortranarray(images(12))}, "is in Fortran order"),
        ({"val_images": images(0), "val_labels": np.zeros(0, int)}, "val_images has no image"),
        ({"train_labels": np.array(["a"] * 12)}, "train_labels is <U1; expected class numbers"),
        ({"train_labels": label_columns(12, 3)}, "labels differ in width"),
        ({"train_groups": np.arange(12)}, "no array val_groups"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, cache: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refused(cache, "npz", path=str(npz(tmp_path, **changes)))


def test_labels_that_are_no_class_numbers_are_named_by_row(tmp_path: Path, cache: Path) -> None:
    labels = arrays()["train_labels"].astype(float)
    labels[3], labels[5], labels[7] = np.nan, -1, 0.5
    said = refused(cache, "npz", path=str(npz(tmp_path, train_labels=labels)))
    assert "3 of 24" in said
    for row, value in ((3, "nan"), (5, "-1.0"), (7, "0.5")):
        assert f"train_images[{row}]: label {value} must be a whole number" in said


def test_labels_out_of_range_are_named_by_row(tmp_path: Path, cache: Path) -> None:
    labels = arrays()["val_labels"]
    labels[4] = 2
    path = str(npz(tmp_path, val_labels=labels))
    for source, keys in (("npz", {"class_names": ["a", "b"]}), ("medmnist", {"name": "pneumoniamnist"})):
        said = refused(cache, source, path=path, **keys)
        assert "val_images[4]: label 2 must be a whole number from 0 to 1" in said


def test_images_without_a_group_are_named_and_not_one_patient(tmp_path: Path, cache: Path) -> None:
    groups = {f"{s}_groups": np.array([f"{s} {row}" for row in range(n)]) for s, n in SIZES.items()}
    groups["train_groups"][[2, 4]] = "", " "
    groups["val_groups"][3] = "nan"
    groups["test_groups"][1] = "N/A"
    path = str(npz(tmp_path, **groups))
    said = refused(cache, "npz", path=path)
    assert "4 of 24" in said
    for name in ("train_images[2]", "train_images[4]", "val_images[3]", "test_images[1]"):
        assert f"{name}: no group" in said
    data = prepare(config("npz", path=path, on_bad_image="skip"), cache)
    assert data.sizes == {"train": 10, "val": 5, "test": 5}


@pytest.mark.parametrize("word", ["valid", "validation", "Val", "VAL"])
def test_arrays_of_a_split_under_another_name_are_not_left_out(
    tmp_path: Path, cache: Path, word: str
) -> None:
    content = {name.replace("val_", f"{word}_"): values for name, values in arrays().items()}
    np.savez(tmp_path / "x.npz", **content)
    said = refused(cache, "npz", path=str(tmp_path / "x.npz"))
    assert f"array {word}_images is not read; call it val_images" in said
    del content[f"{word}_images"]
    content["val_labels"] = content.pop(f"{word}_labels")
    np.savez(tmp_path / "y.npz", **content)
    assert "there is val_labels, but no array val_images" in refused(
        cache, "npz", path=str(tmp_path / "y.npz")
    )


def test_a_class_in_test_only(tmp_path: Path, cache: Path) -> None:
    labels = arrays()["test_labels"]
    labels[0] = 2
    said = refused(cache, "npz", path=str(npz(tmp_path, test_labels=labels)))
    assert "no train image of class '2', though the test split has some" in said


def test_another_medmnist_set_s_file(tmp_path: Path, cache: Path) -> None:
    said = refused(cache, "medmnist", name="chestmnist", path=str(npz(tmp_path)))
    assert "train_labels has rows of shape (1,), but this set has (14,)" in said


def test_an_unknown_medmnist_set_and_a_3d_one(cache: Path) -> None:
    said = refused(cache, "medmnist", name="pneumoniamnst")
    assert "no 2-D MedMNIST set; did you mean 'pneumoniamnist'" in said
    assert "no 2-D MedMNIST set" in refused(cache, "medmnist", name="nodulemnist3d")


def test_medmnist_offline_is_one_clear_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where HOME cannot be written
        import medmnist  # noqa: PLC0415  takes seconds

    def offline(*_: Any, **__: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(medmnist.PneumoniaMNIST, "__init__", offline)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    said = refused(cache, "medmnist", name="pneumoniamnist", image_size=64)
    assert "pneumoniamnist_64.npz is not there and could not be downloaded" in said
    assert "dataset.path" in said
    (tmp_path / ".medmnist").mkdir()
    npz(tmp_path).rename(tmp_path / ".medmnist" / "pneumoniamnist.npz")
    said = refused(cache, "medmnist", name="pneumoniamnist", image_size=64)
    assert "dataset.size = 28" in said
    assert prepare(config("medmnist", name="pneumoniamnist", size=28), cache).sizes == SIZES


# folder


def test_a_folder_without_images(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "set" / "train" / "a").mkdir(parents=True)
    (tmp_path / "set" / "train" / "a" / "x.mp4").write_bytes(b"1")
    said = refused(cache, "folder", path=str(tmp_path / "set"))
    assert "no image in" in said
    assert said.endswith("left out: 1 file, .mp4 is not an image's suffix (train/a/x.mp4)")


@pytest.mark.parametrize(
    ("suffix", "pattern"), [("", "*"), (".img", "*.img"), (".MPO", "*.MPO"), (".17", "*")]
)
def test_images_that_their_suffix_alone_keeps_out(
    tmp_path: Path, cache: Path, suffix: str, pattern: str
) -> None:
    folder = class_folders(tmp_path / "set")
    for file in folder.rglob("*.png"):
        file.rename(file.with_suffix(suffix))
    said = refused(cache, "folder", path=str(folder))
    assert said.endswith(f'; such files can be read as images: dataset.include = ["{pattern}"] takes them')
    data = prepare(config("folder", path=str(folder), include=[pattern]), cache)
    assert sum(data.sizes.values()) == 24


def test_one_class_is_no_task(tmp_path: Path, cache: Path) -> None:
    folder = class_folders(tmp_path / "set", ("only",))
    assert "one class ('only'); two are needed" in refused(cache, "folder", path=str(folder))


def test_a_class_folder_that_is_none_of_the_classes(tmp_path: Path, cache: Path) -> None:
    folder = class_folders(tmp_path / "set", ("a", "b", "c"))
    said = refused(cache, "folder", path=str(folder), class_names=["a", "b"])
    assert "folder 'c' is none of dataset.class_names = ['a', 'b']" in said


def test_split_folders_that_are_ambiguous_missing_or_absent(tmp_path: Path, cache: Path) -> None:
    folder = class_folders(tmp_path / "set")
    (folder / "valid").mkdir()
    assert "both val and valid could be val" in refused(cache, "folder", path=str(folder))
    (folder / "valid").rmdir()
    said = refused(cache, "folder", path=str(folder), folders={"train": "train", "test": "holdout"})
    assert "dataset.folders.test: no folder 'holdout'" in said
    (folder / "train").rename(folder / "other")
    assert "but no folder train" in refused(cache, "folder", path=str(folder))


def test_hidden_files_are_passed_over_and_nested_ones_are_not(tmp_path: Path, cache: Path) -> None:
    folder = class_folders(tmp_path / "set")
    (folder / "train" / "ill" / "._p.png").write_bytes(b"macOS")
    (folder / "train" / "ill" / "Thumbs.db").write_bytes(b"Windows")
    (folder / "__MACOSX").mkdir()
    save(folder / "train" / "ill" / "patient 7" / "a.PNG", images(1, seed=9)[0])
    split = prepare(config("folder", path=str(folder)), cache).split("train")
    assert len(split) == 9
    assert "train/ill/patient 7/a.PNG" in split.names


def test_unsplit_class_folders_are_split(tmp_path: Path, cache: Path) -> None:
    for index, name in enumerate(("ill", "well")):
        for row, pixels in enumerate(images(40, seed=index)):
            save(tmp_path / "set" / name / f"p{row // 4}-{row}.png", pixels)
    found = config("folder", path=str(tmp_path / "set"), group_pattern=r"(\w+/p\d+)-")
    data = prepare(found, cache)
    assert sum(data.sizes.values()) == 80
    train, val = data.split("train").groups, data.split("val").groups
    assert train is not None
    assert val is not None
    assert not set(train) & set(val)


def test_files_whose_group_cannot_be_told_are_named(tmp_path: Path, cache: Path) -> None:
    folder = class_folders(tmp_path / "set")
    save(folder / "train" / "ill" / "stray.png", images(1, seed=5)[0])
    said = refused_rows(cache, "folder", path=str(folder), group_pattern=r"-(p\d+)-")
    assert said == {"train/ill/stray.png": "no group: dataset.group_pattern or group_column finds none"}


def refused_rows(cache: Path, source: str, **keys: Any) -> dict[str, str]:
    with pytest.raises(UnusableRowsError) as raised:
        prepare(config(source, **keys), cache)
    return {problem.name: problem.reason for problem in raised.value.problems}


# csv


@pytest.mark.large
def test_a_table_with_3_bad_rows_among_10_000(tmp_path: Path, cache: Path) -> None:
    for row, pixels in enumerate(images(20)):
        save(tmp_path / f"{row}.png", pixels)
    for row in range(20, 10_000):
        (tmp_path / f"{row}.png").hardlink_to(tmp_path / f"{row % 20}.png")
    lines = ["path,label"] + [f"{row}.png,{row % 2}" for row in range(10_000)]
    lines[17], lines[4000], lines[9999] = "nowhere.png,0", "3999.png,", "9998.png,0,1"
    (tmp_path / "table.csv").write_text("\n".join(lines))
    said = refused_rows(cache, "csv", path=str(tmp_path / "table.csv"))
    assert said == {
        "nowhere.png (line 18)": "no such file",
        "3999.png (line 4001)": "no label ('')",
        "9998.png (line 10000)": "has 3 cells, but the header has 2",
    }


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"label_column": "lable"}, "dataset.label_column: {} has no column 'lable'; did you mean 'label'?"),
        ({"path_column": "file"}, "dataset.path_column: {} has no column 'file'"),
        (
            {"group_column": "pateint"},
            "dataset.group_column: {} has no column 'pateint'; did you mean 'patient'?",
        ),
        ({"split_column": "fold"}, "dataset.split_column: {} has no column 'fold'"),
        ({"label_columns": ["label", "mass"]}, "dataset.label_columns: {} has no column 'mass'"),
    ],
)
def test_wrong_columns(tmp_path: Path, cache: Path, keys: dict[str, Any], said: str) -> None:
    path = table(tmp_path)
    assert said.format(path) in refused(cache, "csv", path=str(path), **keys)


def test_a_split_that_is_none(tmp_path: Path, cache: Path) -> None:
    path = table(tmp_path)
    path.write_text(path.read_text().replace(",val,2", ",later,2", 1))
    said = refused_rows(cache, "csv", path=str(path), split_column="split")
    assert said == {"images/8.png (line 10)": "split = 'later': must be train, val or test"}


def test_what_is_no_table(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "table.csv"
    for content, said in (
        (b"", "has no rows"),
        (b"path,label\n", "has no rows"),
        (b"\xff\xfe\x00", 'is not in utf-8; it begins as UTF-16 does: encoding = "utf-16"'),
        (b"path,label\n\xe4.png,0\n", 'often in "cp1252"'),
        (b'path,label\n"a.png,0\n', "not CSV"),
        (b"path,path\na,b\n", "two columns of the same name"),
    ):
        path.write_bytes(content)
        assert said in refused(cache, "csv", path=str(path))


def test_semicolons_and_a_byte_order_mark_are_read(tmp_path: Path, cache: Path) -> None:
    path = table(tmp_path)
    path.write_text("\ufeff" + path.read_text().replace(",", ";"), encoding="utf-8")
    assert prepare(config("csv", path=str(path), split_column="split"), cache).sizes["train"] == 24


def test_several_labels_in_columns_or_in_one_cell(tmp_path: Path, cache: Path) -> None:
    for row, pixels in enumerate(images(48)):
        save(tmp_path / f"{row}.png", pixels)
    flags = label_columns(48, 2)
    words = [
        "|".join(n for n, f in zip(("mass", "edema"), row, strict=True) if f) or "No Finding" for row in flags
    ]
    lines = ["path,finding,mass,edema"]
    lines += [f"{row}.png,{words[row]},{flags[row, 0]},{flags[row, 1]}" for row in range(48)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    columns = prepare(config("csv", path=str(path), label_columns=["edema", "mass"]), cache)
    cells = prepare(
        config("csv", path=str(path), label_column="finding", label_separator="|", no_label="No Finding"),
        cache,
    )
    assert columns.task == cells.task == "multilabel"
    assert columns.class_names == cells.class_names == ("edema", "mass")
    assert np.array_equal(columns.split("train").labels, cells.split("train").labels)
    lines[5] = lines[5].rpartition(",")[0] + ",2"
    path.write_text("\n".join(lines))
    said = refused_rows(cache, "csv", path=str(path), label_columns=["edema", "mass"])
    assert said == {"4.png (line 6)": "label edema = '2': must be 0 or 1"}


def test_all_rows_bad(tmp_path: Path, cache: Path) -> None:
    path = table(tmp_path)
    said = refused(cache, "csv", path=str(path), class_names=["a", "b"], split_column="split")
    assert "40 of 40 images or rows cannot be used" in said


# hdf5


def test_swapped_lengths(tmp_path: Path, cache: Path) -> None:
    path = hdf5(tmp_path / "set", labels_of={"val": 12, "train": 6})
    said = refused(cache, "hdf5", path=str(path))
    assert (
        "_train_y.h5: /y has shape (6, 1, 1, 1), but camelyonpatch_level_2_split_train_x.h5 has 12 images"
        in said
    )


def test_hdf5_files_that_are_missing_damaged_or_of_another_kind(tmp_path: Path, cache: Path) -> None:
    path = hdf5(tmp_path / "set")
    labels = path / "camelyonpatch_level_2_split_train_y.h5"
    labels.write_bytes(b"no hdf5")
    assert "not an HDF5 file, or damaged" in refused(cache, "hdf5", path=str(path))
    labels.unlink()
    assert f"no file {labels}" in refused(cache, "hdf5", path=str(path))
    assert "no array 'images'" in refused(cache, "hdf5", path=str(hdf5(tmp_path / "b")), image_key="images")
    with h5py.File(path / "camelyonpatch_level_2_split_train_x.h5", "w") as file:
        file["x"] = np.zeros((12, 20, 20, 3))
    assert "/x is float64; expected uint8 or uint16" in refused(cache, "hdf5", path=str(path))
    (path / "camelyonpatch_level_2_split_train_x.h5").unlink()
    assert "no file camelyonpatch_level_2_split_train_x.h5" in refused(cache, "hdf5", path=str(path))


def test_hdf5_groups_come_from_a_table_beside(tmp_path: Path, cache: Path) -> None:
    path = hdf5(tmp_path / "set")
    for split, n in SIZES.items():
        word = "valid" if split == "val" else split
        rows = "\n".join(f"{row},slide {split} {row // 3}" for row in range(n))
        (path / f"camelyonpatch_level_2_split_{word}_meta.csv").write_text(f"x,wsi\n{rows}\n")
    keys = {"path": str(path), "groups": "camelyonpatch_level_2_split_{split}_meta.csv"}
    groups = prepare(config("hdf5", **keys), cache).split("val").groups
    assert groups is not None
    assert groups.tolist() == ["slide val 0"] * 3 + ["slide val 1"] * 3
    assert "did you mean 'wsi'" in refused(tmp_path / "b", "hdf5", group_column="wsj", **keys)
    short = path / "camelyonpatch_level_2_split_valid_meta.csv"
    short.write_text("x,wsi\n1,a\n")
    assert "1 rows, but there are 6 val images" in refused(tmp_path / "b", "hdf5", **keys)


# definitions


@pytest.mark.parametrize(
    ("source", "keys", "said"),
    [
        ("folder", {"path": "x", "group_pattern": "("}, "not a regular expression"),
        ("folder", {"path": "x", "class_pattern": "("}, "not a regular expression"),
        ("folder", {"path": "x", "class_level": 0}, "class_level must be 1 or more, or -1 or less"),
        (
            "folder",
            {"path": "x", "class_level": 2, "class_pattern": "(a)"},
            "give class_level or class_pattern",
        ),
        ("csv", {"path": "x", "classes": {"a": [1, 2], "b": ["2"]}}, "'2' is named twice"),
        (
            "csv",
            {"path": "x", "classes": {"a": [1]}, "label_columns": ["a", "b"]},
            "leave it out with label_columns",
        ),
        ("folder", {"path": "x", "group_pattern": "person"}, "exactly one group in parentheses, but has 0"),
        ("npz", {"path": "x", "class_names": ["a", "a"]}, "a class is named twice"),
        (
            "npz",
            {"path": "x", "splits": {"val_fraction": 0.6, "test_fraction": 0.4}},
            "val_fraction + test_fraction < 1",
        ),
        ("csv", {"path": "x", "label_columns": ["a", "b"], "label_column": "c"}, "not both"),
        ("csv", {"path": "x", "no_label": "none"}, "no_label needs label_separator"),
        ("csv", {"path": "x", "group_column": "g", "group_pattern": "(a)"}, "not both"),
    ],
)
def test_keys_that_contradict_one_another(source: str, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("+", r"\+")):
        config(source, **keys)


# readers, with generated input


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(-3, 5), st.floats(-2, 6), st.just(float("nan")), st.just(float("inf")), st.just(1e300)
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([None, ["a", "b"], ["a", "b", "c", "d"]]),
)
def test_every_number_is_a_class_or_a_problem(values: list[float], class_names: list[str] | None) -> None:
    labels = from_numbers(np.array(values)[:, None], [str(i) for i in range(len(values))], class_names)
    assert len(labels.problems) == (~labels.good).sum()
    assert {p.name for p in labels.problems} == {str(i) for i in np.flatnonzero(~labels.good)}
    for value, index, good in zip(values, labels.values, labels.good, strict=True):
        is_class = value >= 0 and value == int(value) if np.isfinite(value) and abs(value) < 2**31 else False
        assert good == (is_class and (class_names is None or value < len(class_names)))
        if good:
            assert labels.class_names[index] == (
                str(int(value)) if class_names is None else class_names[int(value)]
            )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["a", "b", "NaN", ""])), min_size=1)
)
def test_every_word_is_a_class_or_a_problem(words: list[str | None]) -> None:
    names = [str(i) for i in range(len(words))]
    labels = from_words(words, names, config("csv", path="x", similar_words="keep"))
    for word, index, good in zip(words, labels.values, labels.good, strict=True):
        if good:
            assert word is not None
            assert normal_word(labels.class_names[index]) in normal_words(filter(None, words))
    assert len(labels.problems) == (~labels.good).sum()
    keys = {"class_names": ["a", "b"], "label_separator": "|", "no_label": "x", "similar_words": "merge"}
    lists = from_word_lists(words, names, config("csv", path="x", **keys))
    assert len(lists.problems) == (~lists.good).sum()
    assert ((lists.values == 0) | (lists.values == 1)).all()


def test_numbers_as_words_are_sorted_as_numbers() -> None:
    labels = from_words(["10", "9", "2"], ["a", "b", "c"], config("csv", path="x"))
    assert labels.class_names == ("2", "9", "10")
    assert labels.values.tolist() == [2, 1, 0]
