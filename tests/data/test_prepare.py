from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import SIZES, class_folders, config, images, npz, save, table
from medfathom.data import decoding
from medfathom.data import prepare as preparation
from medfathom.data.arrays import ArrayFile
from medfathom.data.heldout import open_test
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.prepared import SPLIT_NAMES, facts_lines, read_facts
from medfathom.data.sources.base import UnusableRowsError
from medfathom.data.sources.files import FileSource
from medfathom.data.workers import MemoryGate
from medfathom.errors import DataError, RunError


def leftovers(cache: Path) -> list[Path]:
    """Everything under a cache but the lock."""
    return [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_second_run_reads_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = config("folder", path=str(class_folders(tmp_path / "set")))
    first = prepare(found, tmp_path / "cache")

    def refuse(*_: Any) -> None:
        raise AssertionError("a pixel was read")

    monkeypatch.setattr(FileSource, "decode", refuse)
    named = found.model_copy(update={"name": "eyes"})  # what it is called changes no pixel
    assert prepare(found, tmp_path / "cache") == prepare(named, tmp_path / "cache") == first


def test_changed_files_are_prepared_anew(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    found = config("folder", path=str(folder))
    first = prepare(found, tmp_path / "cache")
    changed = save(next((folder / "train" / "ill").iterdir()), images(1, seed=99)[0])
    os.utime(changed, ns=(1, 1))
    second = prepare(found, tmp_path / "cache")
    assert second.folder != first.folder
    assert second.fingerprint != first.fingerprint


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    places = [npz(folder) for folder in (tmp_path, tmp_path / "b") if not folder.mkdir(exist_ok=True)]
    first, second = (prepare(config("npz", path=str(path)), tmp_path / "cache") for path in places)
    assert first.fingerprint == second.fingerprint
    labels = np.array([[1], [0]] * 6)
    other = npz(tmp_path / "b", train_labels=labels)
    assert prepare(config("npz", path=str(other)), tmp_path / "cache").fingerprint != first.fingerprint


def test_the_manifest_says_where_each_image_comes_from(tmp_path: Path) -> None:
    path = table(tmp_path)
    found = config("csv", path=str(path), split_column="split", group_column="patient")
    data = prepare(found, tmp_path / "cache")
    manifest = read_manifest(data.folder)
    assert len(manifest) == 40
    row = manifest.name.tolist().index("images/9.png (line 11)")
    file = tmp_path / "images" / "9.png"
    assert manifest.n_bytes[row] == file.stat().st_size
    assert (manifest.width[row], manifest.height[row]) == (20, 20)
    assert (manifest.split[row], manifest.group[row], manifest.label[row]) == ("val", "2", "0")
    assert len(set(manifest.sha256)) == len(set(manifest.pixels_sha256)) == 40
    for name in SPLIT_NAMES:
        split = open_test(data) if name == "test" else data.split(name)
        assert list(split.names) == manifest.name[manifest.split == name].tolist()


def test_progress_rises_to_the_number_of_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    prepare(
        config("npz", path=str(npz(tmp_path))), tmp_path / "cache", progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == (24, 24)
    assert calls == sorted(calls)


def test_mixed_depth_and_colour_are_brought_together(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    save(folder / "train" / "ill" / "deep.png", images(1, side=16, deep=True)[0])
    save(folder / "train" / "well" / "colour.png", images(1, side=16, channels=3)[0])
    split = prepare(config("folder", path=str(folder)), tmp_path / "cache").split("train")
    assert split.images.dtype == np.uint16
    assert split.images.shape[3] == 3
    deep = split.images[list(split.names).index("train/ill/deep.png")]
    assert np.array_equal(deep, np.repeat(images(1, side=16, deep=True)[0][:, :, None], 3, axis=2))
    colour = split.images[list(split.names).index("train/well/colour.png")]
    assert np.array_equal(colour, images(1, side=16, channels=3)[0].astype(int) * 257)
    grey = prepare(config("folder", path=str(folder), channels=1), tmp_path / "cache")
    assert grey.channels == 1


def spoiled(tmp_path: Path) -> Path:
    """A table of 40 rows of which five are bad, each in its own way."""
    path = table(tmp_path)
    (tmp_path / "images" / "3.png").write_bytes(b"")
    (tmp_path / "images" / "8.png").write_text("no image")
    whole = (tmp_path / "images" / "14.png").read_bytes()
    (tmp_path / "images" / "14.png").write_bytes(whole[: len(whole) // 2])
    lines = path.read_text().splitlines()
    lines[21] = lines[21].replace("well", "wel")
    lines[22] = lines[22].replace("ill", "nan")
    path.write_text("\n".join(lines) + "\n")
    return path


REASONS = {
    "images/3.png (line 5)": "empty file",
    "images/8.png (line 10)": "not a PNG",
    "images/14.png (line 16)": "truncated",
    "images/20.png (line 22)": "label 'wel' is none of 'well', 'ill'",
    "images/21.png (line 23)": "no label ('nan')",
}


def test_all_bad_rows_are_in_one_report(tmp_path: Path) -> None:
    found = config("csv", path=str(spoiled(tmp_path)), split_column="split", class_names=["well", "ill"])
    with pytest.raises(UnusableRowsError, match="5 of 40 images or rows cannot be used") as raised:
        prepare(found, tmp_path / "cache")
    assert "\n" not in str(raised.value)
    problems = {problem.name: problem.reason for problem in raised.value.problems}
    assert problems.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in problems[name]
        assert name in str(raised.value)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_skip_goes_on_and_records_what_was_left_out(tmp_path: Path) -> None:
    found = config(
        "csv",
        path=str(spoiled(tmp_path)),
        split_column="split",
        class_names=["well", "ill"],
        on_bad_image="skip",
    )
    data = prepare(found, tmp_path / "cache")
    assert sum(data.sizes.values()) == 35
    assert {problem.name for problem in read_facts(data.folder).left_out} == REASONS.keys()
    told = [
        line for line in facts_lines(data) if line.startswith("left out: 5 images or rows that cannot be")
    ]
    assert len(told) == 1
    assert "images/3.png (line 5): empty file" in told[0]
    assert told[0].endswith("; and 2 more, which `medfathom data check` lists")
    split = data.split("train")
    assert len(split.images) == len(split.labels) == len(split.names) == data.sizes["train"]
    row = list(split.names).index("images/16.png (line 18)")
    clean = prepare(config("folder", path=str(class_folders(tmp_path / "set"))), tmp_path / "cache")
    assert clean.fingerprint != data.fingerprint
    pixels = np.asarray(split.images[row])
    assert pixels.std() > 10  # moved up to its new place, not a hole


def test_bad_images_found_while_skipping_still_end_a_strict_study(tmp_path: Path) -> None:
    path = str(spoiled(tmp_path))
    keys = {"path": path, "split_column": "split", "class_names": ["well", "ill"]}
    skipped = prepare(config("csv", on_bad_image="skip", **keys), tmp_path / "cache")
    with pytest.raises(UnusableRowsError, match="5 of 40"):
        prepare(config("csv", **keys), tmp_path / "cache")
    assert prepare(config("csv", on_bad_image="skip", **keys), tmp_path / "cache") == skipped


def test_many_problems_are_counted_in_the_line_and_all_in_the_error(tmp_path: Path) -> None:
    path = table(tmp_path, n=80)
    for row in range(0, 60, 2):
        (tmp_path / "images" / f"{row}.png").write_bytes(b"")
    with pytest.raises(UnusableRowsError, match="and 10 more, which `medfathom data check` lists") as raised:
        prepare(config("csv", path=str(path), split_column="split"), tmp_path / "cache")
    assert len(raised.value.problems) == 30


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_without_images_is_named(tmp_path: Path, split: str) -> None:
    folder = class_folders(tmp_path / "set", ("a", "b", "c"))
    for file in (folder / split / "b").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"no {split} image of class 'b', though the test split has some"):
        prepare(config("folder", path=str(folder)), tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


def test_a_class_that_only_bad_images_had_is_named_with_them(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", ("a", "b", "c"))
    for file in (folder / "train" / "b").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    found = config("folder", path=str(folder), on_bad_image="skip")
    with pytest.raises(DataError, match=r"no train image of class 'b' once 4 are left out \(train/b/"):
        prepare(found, tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


def test_a_class_that_only_bad_images_had_follows_from_them_where_they_are_an_error(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", ("a", "b", "c"))
    for file in (folder / "train" / "b").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UnusableRowsError, match=r"^4 of \d+ .*; without them: no train image of class 'b'"):
        prepare(config("folder", path=str(folder)), tmp_path / "cache")


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_no_image_that_can_be_used_is_said_once_with_what_to_do(tmp_path: Path, on_bad_image: str) -> None:
    folder = class_folders(tmp_path / "set")
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:200])
    found = config("folder", path=str(folder), on_bad_image=on_bad_image)
    with pytest.raises(UnusableRowsError) as raised:
        prepare(found, tmp_path / "cache")
    said = str(raised.value)
    assert re.match(r"(\d+) of \1 images or rows cannot be used: train/ill/.*.png: damaged", said)
    assert said.endswith("; without them: no image is left; repair these images or rows, or take others")
    assert "skip" not in said
    assert "left out" not in said
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize("cell", ["0", ""])
def test_a_label_that_no_row_has_is_named_with_what_to_do(tmp_path: Path, cell: str) -> None:
    """Drawing other splits would not help."""
    path = table(tmp_path)
    header, *rows = path.read_text().splitlines()
    rows = [f"{row},{k % 2},{cell},{int(k % 3 == 0)}" for k, row in enumerate(rows)]
    path.write_text("\n".join([f"{header},a,b,c", *rows]) + "\n")
    found = config("csv", path=str(path), label_columns=["a", "b", "c"], missing="ignore")
    with pytest.raises(DataError, match=r"^no image has label 'b': .* leave it out of dataset.label_columns"):
        prepare(found, tmp_path / "cache")


def test_a_label_that_everyone_has_is_named(tmp_path: Path) -> None:
    columns = {
        f"{split}_labels": np.stack([np.ones(n), np.arange(n) % 2], axis=1) for split, n in SIZES.items()
    }
    with pytest.raises(DataError, match="every train image has label '0'"):
        prepare(config("npz", path=str(npz(tmp_path, **columns))), tmp_path / "cache")


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(RunError, match=r"[GM]iB are needed, 0.0 MiB are free"):
        prepare(config("npz", path=str(npz(tmp_path))), tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


def test_an_interrupted_preparation_goes_on_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_ROWS", 4)
    found = config("folder", path=str(class_folders(tmp_path / "set")))
    whole = prepare(found, tmp_path / "elsewhere")

    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(found, tmp_path / "cache", progress=interrupt)
    calls: list[int] = []
    decoded: list[Any] = []
    original = FileSource.decode
    monkeypatch.setattr(
        FileSource, "decode", lambda self, fetched: decoded.append(fetched) or original(self, fetched)
    )
    resumed = prepare(found, tmp_path / "cache", progress=lambda done, total: calls.append(done))
    assert calls[0] >= 12
    assert len(decoded) <= 12
    assert resumed.fingerprint == whole.fingerprint
    assert np.array_equal(resumed.split("train").images, whole.split("train").images)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_pixels_that_a_power_cut_lost_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_ROWS", 4)
    found = config("folder", path=str(class_folders(tmp_path / "set")))
    whole = prepare(found, tmp_path / "elsewhere")

    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(found, tmp_path / "cache", progress=interrupt)
    (array,) = (tmp_path / "cache").rglob("train_images.npy")
    content = bytearray(array.read_bytes())
    content[-8 * 256 : -7 * 256] = bytes(256)  # the first image's page was never written
    array.write_bytes(content)
    journal = next((tmp_path / "cache").rglob("journal.jsonl"))
    journal.write_bytes(journal.read_bytes()[:-5])  # nor the last line's end
    resumed = prepare(found, tmp_path / "cache")
    assert np.array_equal(resumed.split("train").images, whole.split("train").images)


def test_a_preparation_killed_after_bad_images_were_left_out_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "set")
    bad = sorted((folder / "train" / "ill").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:200])
    found = config("folder", path=str(folder), on_bad_image="skip")
    whole = prepare(found, tmp_path / "elsewhere")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_write_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(found, tmp_path / "cache")
    resumed = prepare(found, tmp_path / "cache")
    assert resumed.sizes == {"train": 7, "val": 8, "test": 8}
    assert resumed.fingerprint == whole.fingerprint
    for split in ("train", "val"):
        assert np.array_equal(resumed.split(split).images, whole.split(split).images)


def test_what_is_written_already_needs_no_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_ROWS", 4)
    found = config("folder", path=str(class_folders(tmp_path / "set")), image_size=128)
    whole = 24 * 128 * 128

    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(found, tmp_path / "cache", progress=interrupt)
    free = 16 * 128 * 128
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(RunError, match="are needed"):
        prepare(found, tmp_path / "elsewhere")
    assert sum(prepare(found, tmp_path / "cache").sizes.values()) * 128 * 128 == whole


def test_an_array_of_another_form_is_made_anew(tmp_path: Path) -> None:
    path, dtype = tmp_path / "rows.npy", np.dtype(np.uint16)
    rows = np.arange(1200, dtype=np.uint16).reshape(100, 3, 4)
    array = ArrayFile(path, rows.shape, dtype)
    for row, values in enumerate(rows):
        array.write(row, values)
    array.keep(list(range(1, 10)))
    array.write(0, rows[50])
    array.close()
    assert np.array_equal(np.load(path), rows[[50, *range(2, 10)]])
    ArrayFile(path, (9, 3, 4), dtype).close()
    assert np.load(path)[0, 0, 0] == rows[50, 0, 0]  # the same form: opened as it is
    for shape, other in (((100, 3, 4), dtype), ((100, 4, 3), dtype), ((100, 4, 3), np.dtype(np.int16))):
        ArrayFile(path, shape, other).close()
        assert (np.load(path).shape, np.load(path).dtype, np.load(path).max()) == (shape, other, 0)
        path.write_bytes(path.read_bytes().replace(b"\0", b"\1"))
    path.write_bytes(b"")
    ArrayFile(path, rows.shape, dtype).close()
    assert np.load(path).shape == rows.shape


@pytest.mark.large
def test_a_killed_preparation_goes_on(tmp_path: Path) -> None:
    keys = {
        "n_train": 1200,
        "n_val": 30,
        "n_test": 30,
        "image_size": 32,
        "source": "phantom-oct",
        "modality": "OCT",
    }
    program = (
        "import sys, json; from pathlib import Path\n"
        "from medfathom.definitions.dataset import PhantomDataset\n"
        "from medfathom.data.prepare import prepare\n"
        "prepare(PhantomDataset(**json.loads(sys.argv[1])), Path(sys.argv[2]),"
        " progress=lambda done, total: print(done, flush=True))"
    )
    arguments = [sys.executable, "-c", program, json.dumps(keys), str(tmp_path / "cache")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 512:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert list((tmp_path / "cache").rglob("*.partial"))
    calls: list[int] = []
    data = prepare(config(**keys), tmp_path / "cache", progress=lambda done, total: calls.append(done))
    assert 512 <= calls[0] < 1260
    assert data.split("train").images[::100].std(axis=(1, 2, 3)).min() > 5
    assert len(set(read_manifest(data.folder).pixels_sha256)) == 1260


def test_two_processes_at_once_prepare_one_data_set(tmp_path: Path) -> None:
    found = config("npz", path=str(npz(tmp_path)))
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(prepare(found, tmp_path / "cache"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(map(str, results))) == 1


def test_a_damaged_cache_says_which_folder_to_delete(tmp_path: Path) -> None:
    data = prepare(config("npz", path=str(npz(tmp_path))), tmp_path / "cache")
    (data.folder / "train_images.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"is damaged .* delete the folder"):
        data.split("train")
    (data.folder / "prepared.json").write_text("{")
    with pytest.raises(DataError, match=r"is damaged .* delete the folder"):
        prepare(config("npz", path=str(tmp_path / "set.npz")), tmp_path / "cache")


def test_large_images_are_decoded_one_at_a_time() -> None:
    gate = MemoryGate(100)
    held: list[int] = []
    most: list[int] = []

    def work(amount: int) -> None:
        with gate.hold(amount):
            held.append(amount)
            most.append(sum(held))
            time.sleep(0.001)
            held.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (60, 60, 30, 30, 150, 60, 40) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 150
    assert max(total for total in most if total != 150) <= 100


def test_real_images_are_prepared_as_they_are(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "histidc_64.npz"
    data = prepare(config("npz", path=str(path), image_size=64), tmp_path / "cache")
    assert data.sizes == {"train": 1966, "val": 298, "test": 536}
    assert (data.task, data.channels) == ("binary", 3)
    content = np.load(path)
    assert np.array_equal(data.split("train").images, content["train_images"])
    assert np.array_equal(data.split("val").labels, content["val_labels"].ravel())
    assert np.array_equal(open_test(data).images, content["test_images"])
    groups = data.split("train").groups
    assert groups is not None
    assert len(np.unique(groups)) == len(np.unique(content["train_groups"]))


def deep_files(folder: Path, tops: dict[str, int]) -> Path:
    """12 images of each class, of a class's largest value; 8 bits where that is 255."""
    for label, top in tops.items():
        for row in range(12):
            drawn = np.random.default_rng(row).integers(0, top + 1, (16, 16))
            drawn[0, 0] = top
            save(folder / label / f"{row}.png", drawn.astype(np.uint8 if top == 255 else np.uint16))
    return folder


@pytest.mark.parametrize("tops", [(4095, 4095), (4095, 255), (65535, 4095)])
def test_deep_images_that_stay_dark_need_a_word(tmp_path: Path, tops: tuple[int, int]) -> None:
    folder = str(deep_files(tmp_path / "set", dict(zip("ab", tops, strict=True))))
    said = r"use at most 12 of them \(values to 4095\).*dataset.bits = 12 .*dataset.bits = 16 "
    if 65535 in tops:  # no bits = 12: then the others could not be used
        said = (
            r"^12 of 24 images .* \(b/.* use at most 12 of 16 bits \(values to 4095 of 65535\): [^=]*= 16 to"
        )
    with pytest.raises(DataError, match=said):
        prepare(config("folder", path=folder), tmp_path / "cache")
    data = prepare(config("folder", path=folder, bits=16), tmp_path / "cache")
    assert data.split("train").images.max() == (65535 if max(tops) == 65535 or 255 in tops else 4095)


def test_8_bits_in_files_of_16_are_told_what_can_be_given(tmp_path: Path) -> None:
    """The key takes 9 bits or more."""
    folder = str(deep_files(tmp_path / "set", {"a": 254, "b": 254}))
    with pytest.raises(DataError, match=r"use at most 8 of them .*; save them with 8 bits, or give .* = 16 "):
        prepare(config("folder", path=folder), tmp_path / "cache")


def test_12_bits_beside_14_are_told_with_and_without_the_key(tmp_path: Path) -> None:
    folder = str(deep_files(tmp_path / "set", {"a": 16383, "b": 4095}))
    told = r"12 of 24 images with more than 8 bits \(b/0.png, .* use at most 12 of 14 bits"
    with pytest.raises(DataError, match=rf"give dataset.bits = 14 if .*; with 14, {told}"):
        prepare(config("folder", path=folder), tmp_path / "cache")
    data = prepare(config("folder", path=folder, bits=14), tmp_path / "cache")
    assert any(re.match(told, note) for note in read_facts(data.folder).notes)


@pytest.mark.parametrize("tops", [(16383, 8191), (4095, 2047)])
def test_darker_images_of_the_same_depth_are_not_told(tmp_path: Path, tops: tuple[int, int]) -> None:
    folder = str(deep_files(tmp_path / "set", dict(zip("ab", tops, strict=True))))
    data = prepare(config("folder", path=folder, bits=14), tmp_path / "cache")
    assert not any("bits" in note for note in read_facts(data.folder).notes)


def test_12_bits_beside_8_reach_the_same_white(tmp_path: Path) -> None:
    folder = str(deep_files(tmp_path / "set", {"a": 4095, "b": 255}))
    data = prepare(config("folder", path=folder, bits=12), tmp_path / "cache")
    train = data.split("train")
    assert all(image.max() == 65535 for image in train.images)
    assert set(read_manifest(data.folder).bits_used.tolist()) == {0, 12}
