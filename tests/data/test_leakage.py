"""Copies and patients in two splits are counted at preparation; `run` stops for them, or says them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from making import config, images, npz, repeats_and_some, save, table
from medfathom import scheduling
from medfathom.data.copies import read_near, to_drop
from medfathom.data.leakage import DEFINED_IN, LEAKAGE, leakage_note, refuse_leakage
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare
from medfathom.data.prepared import Leaks, read_facts
from medfathom.data.sources.base import Listing
from medfathom.definitions.dataset import FolderDataset
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError
from medfathom.run import run_study
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from medfathom.study.watcher import Watcher

DEFINITION = """
version = 1
name = "leaking"
question = "?"
sampler = "random"
scheduler = "none"

[dataset]
source = "csv"
modality = "CXR"
image_size = 32
path = "table.csv"
split_column = "split"
group_column = "patient"

[space.architecture]
value = "tf_efficientnet_lite0"

[space.init]
value = "random"

[budget]
trials = 1
epochs = 1
"""


def leaking(folder: Path) -> Path:
    """A table where two files are in two splits, and one patient is; one copy within a split is no leak."""
    path = table(folder)
    save(folder / "images" / "again.png", images(1)[0])  # as 0.png, in train
    for row in range(4):
        save(folder / "copies" / f"{row}.png", images(4)[row])
    rows = ["images/again.png,well,train,0", "copies/0.png,well,test,90", "copies/1.png,ill,val,91"]
    rows += ["copies/2.png,well,val,92", "copies/3.png,ill,val,3"]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    return path


SAID = (
    "Leakage: 4 images have exact copies in several splits (3 in train and val, 1 in train and test), "
    "and 1 patient or slide is in several splits (1 in val and test): AUCs look better than they are; "
    "`medfathom data check leaking` lists them"
)

ACCEPTED = f"{SAID}; the definition accepts it (dataset.leakage)"


def note(found: Any, folder: Path) -> str:
    return leakage_note(prepare(found, folder / "cache"), found, "leaking")


def test_copies_and_patients_in_two_splits_are_counted(tmp_path: Path) -> None:
    found = config("csv", path=str(leaking(tmp_path)), split_column="split", group_column="patient")
    assert note(found, tmp_path) == SAID
    groupless = note(config("csv", path=found.path, split_column="split"), tmp_path)
    assert "patients" not in groupless
    assert "3 in train and val, 1 in train and test" in groupless


def test_nothing_is_said_where_nothing_is_in_two_splits(tmp_path: Path) -> None:
    assert note(config("npz", path=str(npz(tmp_path))), tmp_path) == ""


def ran(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[list[str], Any]:
    """What a run says, up to its trials; and the study's attribute."""
    said, attributes = ran_by(monkeypatch, load_definition("leaking.toml", list(overrides)))
    return said, attributes[LEAKAGE]


def ran_by(
    monkeypatch: pytest.MonkeyPatch, definition: Any, overrides: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, Any]]:
    events: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            events.append(text)

    def run_trials(*_: Any) -> str:
        events.append("trials")
        return ""

    monkeypatch.setattr(scheduling, "run_trials", run_trials)
    run_study(definition, overrides, watcher=Listening())
    return events[: events.index("trials") + 1], read_study(default_url(), "leaking").user_attrs


def test_run_stops_for_leakage_and_leaves_nothing(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaking(workdir)
    (workdir / "leaking.toml").write_text(DEFINITION)
    with pytest.raises(DataError) as raised:
        ran(monkeypatch)
    assert str(raised.value).startswith(f"{SAID}. ")
    for way in (
        'dataset.leakage = "accept"',
        "dataset.drop_copies = true",
        'dataset.splits.given = "ignore"',
    ):
        assert way in str(raised.value)
    assert not list((workdir / "storage").glob("*.db"))


def test_accepted_leakage_is_told_and_kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaking(workdir)
    (workdir / "leaking.toml").write_text(DEFINITION)
    assert ran(monkeypatch, 'dataset.leakage="accept"') == (
        ["positive class: 'well'", ACCEPTED, "trials"],
        ACCEPTED,
    )


def test_hints_name_the_definition_s_file(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaking(workdir)
    file = workdir / "here" / "mine.toml"
    file.parent.mkdir()
    file.write_text(DEFINITION)
    said, attributes = ran_by(monkeypatch, "here/mine.toml", ('dataset.leakage="accept"',))
    assert any("`medfathom data check here/mine.toml` lists them" in line for line in said)
    assert attributes[DEFINED_IN] == "here/mine.toml"


def test_accepting_makes_no_other_study_and_no_other_data(workdir: Path) -> None:
    leaking(workdir)
    (workdir / "leaking.toml").write_text(DEFINITION)
    first, second = (load_definition("leaking.toml", o) for o in ([], ['dataset.leakage="accept"']))
    assert first.definition_hash == second.definition_hash
    folders = {prepare(each.dataset, workdir / "cache").folder for each in (first, second)}
    assert len(folders) == 1


def test_dropped_copies_are_named_and_the_test_image_stays(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking(workdir)
    (workdir / "leaking.toml").write_text(DEFINITION.replace('group_column = "patient"\n', ""))
    (_, unused, said, _), _ = ran(monkeypatch, "dataset.drop_copies=true")
    assert "column 'patient' names" in unused
    assert said.startswith(
        "5 copies were left out (dataset.drop_copies), the first images/0.png (line 2): copy"
    )
    found = load_definition("leaking.toml", ["dataset.drop_copies=true"]).dataset
    data = prepare(found, workdir / "storage" / "cache")
    manifest = read_manifest(data.folder)
    assert len(manifest) == len(np.unique(manifest.pixels_sha256)) == 40
    assert read_facts(data.folder).leaks.images == {}
    (kept,) = [split for name, split in zip(manifest.name, manifest.split, strict=True) if "/0.png" in name]
    assert kept == "test"


def test_a_copy_with_another_label_is_said_to_have_one() -> None:
    splits, labels = np.array(["train", "val", "train"]), np.array([0, 0, 1])
    listing = Listing(["a", "b", "c"], labels, splits, None, "binary", ("ill", "well"), 1, np.dtype("uint8"))
    dropped = to_drop([[0, 1, 2]], listing)
    assert {row: str(problem) for row, problem in dropped.items()} == {
        0: "a: copy of b",
        2: "c: copy of b, which has another label",
    }


def test_a_label_that_is_not_known_is_no_other_label() -> None:
    labels = np.array([[1, 255], [1, 0], [0, 255]], dtype=np.uint8)
    listing = Listing(
        list("abc"), labels, np.array([""] * 3), None, "multilabel", ("x", "y"), 1, np.dtype("uint8")
    )
    reasons = [problem.reason for problem in to_drop([[0, 1, 2]], listing).values()]
    assert reasons == ["copy of a", "copy of a, which has another label"]


def volumes(root: Path) -> dict[str, Any]:
    """Twenty volumes of three slices: 0 has a slice twice, 2 has one of 0, and 4 nearly one of 6."""
    pixels = textured(60)
    pixels[1] = pixels[6] = pixels[0]
    pixels[12] = np.clip(pixels[18] * 0.8 + 10, 0, 255).astype(np.uint8)
    lines = ["path,label"]
    for volume in range(20):
        for k in range(3):
            save(root / f"v{volume}" / f"{k}.png", pixels[3 * volume + k])
        lines.append(f"v{volume},{('ill', 'well')[volume % 2]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return {"path": str(root / "table.csv"), "image_size": 64, "unit": "volume"}


def test_whole_volumes_that_share_an_image_go_to_one_split(tmp_path: Path) -> None:
    keys = volumes(tmp_path)
    apart = 0
    for seed in range(6):
        found = config("csv", **keys, splits={"seed": seed, "val_fraction": 0.3, "test_fraction": 0.3})
        data = prepare(found, tmp_path / "cache")
        manifest = read_manifest(data.folder)
        split: dict[str, set[str]] = {}
        for case, place in zip(manifest.case.tolist(), manifest.split.tolist(), strict=True):
            split.setdefault(case, set()).add(place)
        assert len(split) == 20
        assert {len(places) for places in split.values()} == {1}
        assert split["v0"] == split["v2"]
        assert split["v4"] == split["v6"]
        apart += split["v0"] != split["v4"]
        assert read_facts(data.folder).leaks == Leaks(near={})
    assert apart


def test_a_volume_loses_no_slice_for_a_copy_in_itself(tmp_path: Path) -> None:
    found = config("csv", **volumes(tmp_path), drop_copies=True)
    dropped = read_facts(prepare(found, tmp_path / "cache").folder).dropped
    copies = sorted(str(problem) for problem in dropped)
    assert [(*map(int, re.findall(r"v(\d+)", line)),) for line in copies] == [(2, 0), (6, 4)]


def textured(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random images of 64 pixels, all different."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(n, 64, 64)), (0, 1.5, 1.5))
    return np.clip(smooth * 200 + 128, 0, 255).astype(np.uint8)


def test_a_drawn_split_keeps_exact_and_near_copies_together(tmp_path: Path) -> None:
    """Six pairs among sixty images: an exact copy, and a brighter one, each in the split of its original."""
    pixels = textured(60)
    pixels[30:33] = pixels[:3]
    pixels[33:36] = np.clip(pixels[3:6] * 0.8 + 10, 0, 255).astype(np.uint8)
    labels = np.arange(60) % 2
    labels[30:36] = labels[:6]
    path = tmp_path / "set.npz"
    np.savez(path, train_images=pixels, train_labels=labels)
    for seed in range(4):
        found = config("npz", path=str(path), image_size=64, splits={"seed": seed})
        data = prepare(found, tmp_path / "cache")
        manifest = read_manifest(data.folder)
        split = dict(zip(manifest.name.tolist(), manifest.split.tolist(), strict=True))
        for row in range(6):
            assert split[f"train_images[{row}]"] == split[f"train_images[{row + 30}]"]
        near = read_near(data.folder)
        assert near is not None
        assert len(near.pairs) == 3
        assert read_facts(data.folder).leaks == Leaks(near={})
        for name in ("train", "val"):
            part = data.split(name)  # the pixels went with their rows
            rows = [int(row.split("[")[1][:-1]) for row in part.names]
            assert np.array_equal(part.images[..., 0], pixels[rows])


def test_copies_that_leave_no_split_are_told_and_divided(tmp_path: Path) -> None:
    """One image forty times: `run` stops, though each class must be in each split."""
    labels = np.arange(40) % 2
    np.savez(tmp_path / "set.npz", train_images=textured(1)[[0] * 40], train_labels=labels)
    found = config("npz", path=str(tmp_path / "set.npz"), image_size=64)
    data = prepare(found, tmp_path / "cache")
    assert data.sizes == {"train": 28, "val": 6, "test": 6}
    said = " ".join(read_facts(data.folder).notes)
    assert "1 set of copies could not be kept together: dataset.splits: train, val, test cannot be" in said
    with pytest.raises(DataError, match="1 image has exact copies in several splits"):
        refuse_leakage(data, found, "x")


def test_left_out_copies_are_the_cause_that_is_told(tmp_path: Path) -> None:
    """Test images that are all in training too: without them nothing is left of it."""
    pixels, labels = textured(12), np.arange(12) % 2
    content = {f"{split}_images": pixels for split in ("train", "test")}
    np.savez(tmp_path / "set.npz", **content, train_labels=labels, test_labels=labels)
    found = config("npz", path=str(tmp_path / "set.npz"), image_size=64, drop_copies=True)
    with pytest.raises(DataError, match=r"no train image once 12 are left out \(train_images\[0\]: copy of"):
        prepare(found, tmp_path / "cache")


def test_copies_with_different_labels_are_told(tmp_path: Path) -> None:
    pixels, labels = textured(60), np.arange(60) % 2
    pixels[[31, 32]] = pixels[[0, 2]]
    np.savez(tmp_path / "set.npz", train_images=pixels, train_labels=labels)
    data = prepare(config("npz", path=str(tmp_path / "set.npz"), image_size=64), tmp_path / "cache")
    assert list(read_facts(data.folder).notes) == [
        "1 set of exact copies has different labels: one of them is wrong (train_images[0] and "
        "train_images[31])"
    ]


def test_near_copies_in_several_splits_are_told_but_stop_nothing(tmp_path: Path) -> None:
    pixels, labels = textured(60), np.arange(60) % 2
    pixels[50] = np.clip(pixels[0] * 0.8 + 10, 0, 255).astype(np.uint8)
    parts = {"train": slice(0, 30), "val": slice(30, 45), "test": slice(45, 60)}
    content = {f"{s}_images": pixels[p] for s, p in parts.items()}
    content |= {f"{s}_labels": labels[p] for s, p in parts.items()}
    np.savez(tmp_path / "set.npz", **content)
    found = config("npz", path=str(tmp_path / "set.npz"), image_size=64)
    data = prepare(found, tmp_path / "cache")
    said = refuse_leakage(data, found, "x")
    assert said.startswith("Leakage: 1 pair of images is a near copy in several splits (1 in train and test)")
    dropping = found.model_copy(update={"drop_copies": True})
    fewer = prepare(dropping, tmp_path / "cache")
    assert fewer.sizes == {"train": 29, "val": 15, "test": 15}
    assert leakage_note(fewer, dropping, "x") == ""


def test_shipped_pneumoniamnist_says_what_it_takes(shared: Path, tmp_path: Path) -> None:
    """SOURCES.md: 8 validation images are in train too."""
    path = repeats_and_some(shared / "data" / "pneumoniamnist.npz", tmp_path)
    definition = load_definition("pneumoniamnist", [f"dataset.path={path}"])
    data = prepare(definition.dataset, tmp_path / "cache")
    said = refuse_leakage(data, definition.dataset, definition.name)
    assert "8 images have exact copies in several splits (8 in train and val)" in said
    assert said.endswith("the definition accepts it (dataset.leakage)")


def test_blank_slices_of_different_patients_are_no_copies(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "set" / ("ill", "well")[number % 2] / f"p{number}"
        for k in range(3):
            value = 0 if k < 2 else random.integers(0, 255, (32, 32)).astype(np.uint8)
            save(folder / f"{k}.png", np.zeros((32, 32), np.uint8) + value)
    keys = {"source": "folder", "path": str(tmp_path / "set"), "unit": "volume", "drop_copies": True}
    config = FolderDataset.model_validate({"modality": "CT", "image_size": 32} | keys)
    data = prepare(config, tmp_path / "cache")
    assert sum(data.sizes.values()) == 36
    facts = read_facts(data.folder)
    assert (facts.leaks.images, facts.dropped) == ({}, [])
    said = (
        "24 images have the same value in every pixel; these are not counted as copies: ill/p0/0.png, "
        "ill/p0/1.png, "
    )
    assert facts.notes[-1].startswith(said)
    assert int(read_manifest(data.folder).constant.sum()) == 24
