"""`data check` finds what is planted, all of it, and nothing where nothing is."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from making import class_folders, config, images, npz, repeats_and_some, save
from medfathom.data.check import neighbours, statistics
from medfathom.data.check.check import CheckReport, check_data
from medfathom.data.check.near_copies import near_copies
from medfathom.data.check.neighbours import candidates, thumbnail
from medfathom.data.check.page import write_page
from medfathom.data.check.shortcuts import shortcut_auc
from medfathom.data.check.statistics import split_statistics
from medfathom.data.copies import exact_copies
from medfathom.data.heldout import open_test
from medfathom.data.leakage import groups_across
from medfathom.data.manifest import read_manifest
from medfathom.data.prepare import prepare

SIDE = 64
N = {"train": 150, "val": 60, "test": 60}

Change = Callable[[Image.Image], Image.Image]


def saved_again(image: Image.Image, quality: int = 50) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((2, 2, SIDE - 2, SIDE - 2)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(float) + np.random.default_rng(0).normal(0, 5, np.asarray(image).shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "saved again": saved_again,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noisy": noisy,
    "cropped": cropped,
    "shifted": lambda image: Image.fromarray(np.roll(np.asarray(image), 2, axis=1)),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """Arrays of a phantom set, every image its own patient."""
    folder = tmp_path_factory.mktemp("clean")
    sizes = {f"n_{split}": n for split, n in N.items()}
    data = prepare(config("phantom-oct", image_size=SIDE, **sizes), folder)
    found: dict[str, NDArray[Any]] = {}
    for split in N:
        content = open_test(data) if split == "test" else data.split(split)  # type: ignore[arg-type]
        found[f"{split}_images"] = np.array(content.images[..., 0])
        found[f"{split}_labels"] = content.labels[:, None]
        found[f"{split}_groups"] = np.array([f"{split} {row}" for row in range(len(content))])
    return found


def check(folder: Path, content: dict[str, Any], **keys: Any) -> CheckReport:
    path = npz(folder, **content)
    return check_data(config("npz", path=str(path), image_size=SIDE, **keys), folder / "cache")


def found(report: CheckReport, name: str) -> list[dict[str, Any]]:
    """Items of the findings of a check, as in the JSON."""
    findings = json.loads(json.dumps(report.to_dict()))["findings"]
    return [item for finding in findings if finding["check"] == name for item in finding["items"]]


def test_nothing_is_found_where_nothing_is(clean: dict[str, Any], tmp_path: Path) -> None:
    report = check(tmp_path, clean)
    assert [row for row in report.rows() if row[0] != "note"] == []
    assert report.exit_code == 0
    assert report.near.pairs == []
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_every_planted_copy_across_splits_is_found(clean: dict[str, Any], tmp_path: Path) -> None:
    content = {name: np.array(values) for name, values in clean.items()}
    planted = {}
    for row, (name, change) in enumerate(CHANGES.items()):
        original = Image.fromarray(content["train_images"][row])
        content["test_images"][row] = np.asarray(change(original).convert("L"))
        planted[(f"train_images[{row}]", f"test_images[{row}]")] = name
    for row in (20, 21, 22):
        content["val_images"][row] = content["train_images"][row]
    content["train_images"][101] = content["train_images"][100]
    report = check(tmp_path, content)
    exact = {tuple(i["name"] for i in item["images"]) for item in found(report, "exact copies across splits")}
    assert exact == {(f"train_images[{row}]", f"val_images[{row}]") for row in (20, 21, 22)}
    within = {
        tuple(i["name"] for i in item["images"]) for item in found(report, "exact copies within a split")
    }
    assert within == {("train_images[100]", "train_images[101]")}
    near = {tuple(i["name"] for i in item["images"]) for item in found(report, "near copies across splits")}
    assert {planted[pair] for pair in planted.keys() - near} == set()
    assert near == planted.keys()
    assert report.exit_code == 1


def test_groups_in_two_splits_are_all_found(clean: dict[str, Any], tmp_path: Path) -> None:
    content = {
        name: np.array(values, dtype="<U12" if "groups" in name else None) for name, values in clean.items()
    }
    for row in range(7):
        content["test_groups"][row] = content["train_groups"][row]
    report = check(tmp_path, content)
    assert {item["group"] for item in found(report, "groups across splits")} == {
        f"train {r}" for r in range(7)
    }
    assert report.exit_code == 1
    message = next(f.message for f in report.findings if f.check == "groups across splits")
    assert "7 of 263 groups are in several splits, with 14 images" in message


def test_groups_across_passes_over_unknown_ones() -> None:
    across = groups_across(
        np.array(["a", "a", "", "", "b"]), np.array(["train", "val", "train", "val", "val"])
    )
    assert across == {"a": {"train": 1, "val": 1}}


def test_conflicts_blanks_and_rare_classes_are_warnings(clean: dict[str, Any], tmp_path: Path) -> None:
    content = {name: np.array(values) for name, values in clean.items()}
    content["train_images"][1] = content["train_images"][0]  # of another class
    content["train_images"][5] = 0
    content["train_images"][6, :, :] = 100
    content["train_images"][6, 3, 3] = 102
    of_last = np.flatnonzero(content["train_labels"][:, 0] == 2)
    content["train_labels"][of_last[2:], 0] = 0
    report = check(tmp_path, content)
    messages = [message for severity, _, message in report.rows() if severity == "warning"]
    assert any(
        m.startswith(
            "the same image with different labels in 1 set: train_images[0] is 0 / train_images[1] is 1"
        )
        for m in messages
    )
    assert "1 image is constant: train_images[5]" in messages
    assert "1 image is nearly blank: train_images[6]" in messages
    assert any("class '2' is rare: 2 training images" in message for message in messages)
    assert any("fewer than 20 train images of a class: 2 2" in message for message in messages)
    assert report.exit_code == 0


def test_unusable_files_are_findings_not_the_end(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", per_class=8)
    (folder / "train" / "ill" / "broken.png").write_bytes(b"no image")
    report = check_data(config("folder", path=str(folder)), tmp_path / "cache")
    assert found(report, "unusable")[0]["name"] == "train/ill/broken.png"
    assert report.exit_code == 1


def test_files_that_the_definition_leaves_out_are_told_and_no_error(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", per_class=8)
    (folder / "train" / "ill" / "broken.png").write_bytes(b"no image")
    skips = config("folder", path=str(folder), on_bad_image="skip")
    report = check_data(skips, tmp_path / "cache")
    assert found(report, "left out")[0]["name"] == "train/ill/broken.png"
    told = [
        message for severity, name, message in report.rows() if (severity, name) == ("warning", "left out")
    ]
    assert told[0].startswith("left out: 1 image or row that cannot be used: train/ill/broken.png: ")
    assert report.exit_code == 0
    assert not any("on_bad_image" in line for line in report.verdict.to_do)


def test_the_size_of_the_file_can_give_the_label_away(tmp_path: Path) -> None:
    for label, (name, size) in enumerate((("ill", 40), ("well", 44))):
        for row, pixels in enumerate(images(60, side=size, seed=label)):
            save(tmp_path / "set" / name / f"{row}.png", pixels)
    report = check_data(config("folder", path=str(tmp_path / "set")), tmp_path / "cache")
    shortcut = {s.predictor: s for s in report.shortcuts}["file and image size"]
    assert shortcut.auc > 0.95
    assert any("file and image size alone predict the label" in row[2] for row in report.rows())


def test_a_mark_at_the_border_gives_the_label_away(clean: dict[str, Any], tmp_path: Path) -> None:
    content = {name: np.array(values) for name, values in clean.items()}
    marked = content["train_labels"][:, 0] == 1
    content["train_images"][marked, :4, :4] = 255
    content["val_images"][content["val_labels"][:, 0] == 1, :4, :4] = 255
    report = check(tmp_path, content)
    assert any("border pixels alone predict the label" in row[2] for row in report.rows())


def test_shortcuts_of_noise_are_near_chance_and_of_nothing_none() -> None:
    random = np.random.default_rng(0)
    labels, features = np.arange(300) % 3, random.normal(size=(300, 4))
    result = shortcut_auc("noise", features, labels, None, seed=0)
    assert result is not None
    assert result.ci_low < 0.5 < result.ci_high
    assert shortcut_auc("nothing", np.zeros((300, 2)), labels, None, seed=0) is None
    assert shortcut_auc("few", features[:8], labels[:8], None, seed=0) is None
    columns = (np.arange(300)[:, None] >> np.arange(2)) & 1
    given = shortcut_auc(
        "given", columns + 0.0, columns.astype(np.uint8), np.repeat(np.arange(100), 3), seed=0
    )
    assert given is not None
    assert given.auc > 0.99


def test_dark_16_bit_images_and_darker_splits_are_said(tmp_path: Path) -> None:
    content = {
        f"{s}_images": images(n, side=16, deep=True, seed=i) // 16 for i, (s, n) in enumerate(N.items())
    }
    content["test_images"] = content["test_images"] // 2
    labels = {f"{split}_labels": (np.arange(n) % 2)[:, None] for split, n in N.items()}
    dark = config("npz", path=str(npz(tmp_path, **content, **labels)), bits=16)
    report = check_data(dark, tmp_path / "cache")
    messages = [row[2] for row in report.rows()]
    assert any("16-bit images use the lowest 6% of the range: give dataset.bits" in m for m in messages)
    assert any("test images are darker than training images" in m for m in messages)


def test_the_page_shows_everything_and_asks_for_nothing(clean: dict[str, Any], tmp_path: Path) -> None:
    content = {name: np.array(values) for name, values in clean.items()}
    content["test_images"][0] = content["train_images"][0]
    report = check(tmp_path, content, class_names=["<b>none</b>", "drusen", "fluid"])
    write_page(report, tmp_path / "out" / "page.html", title="A & B")
    page = (tmp_path / "out" / "page.html").read_text()
    assert "A &amp; B" in page
    assert "&lt;b&gt;none&lt;/b&gt;" in page
    assert "<b>none</b>" not in page
    assert "exact copies across splits (1)" in page
    assert "test_images[0]: test, " in page
    assert page.count("data:image/jpeg;base64,") == 2 + 3
    assert not re.search(r"(src|href)='?\"?https?:", page)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["page.html"]


class Reader(HTMLParser):
    """The tags of a page, its texts, and every attribute's value."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))


def test_names_in_the_page_are_text_and_never_markup(tmp_path: Path) -> None:
    classes = ("<script>alert(1)", 'ill & "well"\'')
    file = "<img src=x onerror=alert(2)>&amp; {{ title }}.png"
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        for label, name in enumerate(classes):
            for row, pixels in enumerate(images(8, side=16, seed=2 * seed + label)):
                save(tmp_path / "set" / split / name / f"{row}.png", pixels)
    copied = images(1, side=16, seed=9)[0]
    for split in ("train", "val"):
        save(tmp_path / "set" / split / classes[1] / file, copied)
    report = check_data(config("folder", path=str(tmp_path / "set")), tmp_path / "cache")
    write_page(report, tmp_path / "page.html", title="<title> & study")
    page = Reader((tmp_path / "page.html").read_text())
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 2 + 2  # one set of two copies, two classes
    assert all((value or "").startswith("data:image/") for name, value in page.attributes if name == "src")
    assert "<title> & study: data check" in page.texts
    assert f"of class {classes[0]}" in page.texts
    assert f"train/{classes[1]}/{file}: train, {classes[1]}" in page.texts


def test_multilabel_sets_are_checked_too(tmp_path: Path) -> None:
    sizes = {"n_train": 60, "n_val": 30, "n_test": 30}
    report = check_data(config("phantom-wsi", task="multilabel", **sizes), tmp_path / "cache")
    assert report.exit_code == 0
    write_page(report, tmp_path / "page.html", title="wsi")
    assert set(report.splits[0].classes) == {"crowded", "enlarged"}


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved_again(image, 40),
        lambda image: image.resize((20, 20), Image.Resampling.BILINEAR).resize((28, 28)),
        lambda image: saved_again(
            image.resize((28, 28), Image.Resampling.BILINEAR, (0.4, 0.4, 27.6, 27.6)), 60
        ),
    ],
    ids=["saved again", "resized", "cropped and saved again"],
)
def test_copies_of_images_of_28_pixels_are_found_and_no_others(shared: Path, change: Change) -> None:
    with np.load(shared / "data" / "pneumoniamnist.npz") as content:
        originals = content["train_images"][:200]
    copies = [np.asarray(change(Image.fromarray(image))) for image in originals[:40]]
    found = near_copies(image[:, :, None] for image in [*originals, *copies])
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    planted = {(row, 200 + row) for row in range(40)}
    assert len(pairs & planted) >= 30
    assert pairs <= planted


def test_empty_images_with_a_corner_of_tissue_are_no_copies(shared: Path) -> None:
    """Quarters of histology patches of four patients: any blob lies on any other."""
    with np.load(shared / "data" / "histidc_64.npz") as content:
        patches = np.concatenate([content[f"{split}_images"] for split in ("train", "val", "test")])
    _, first = np.unique(patches.reshape(len(patches), -1), axis=0, return_index=True)
    patches = patches[np.sort(first)]
    quarters = [(2247, 0, 0), (2056, 32, 0), (154, 32, 0), (1241, 32, 0)]
    assert near_copies(patches[row][y : y + 32, x : x + 32] for row, y, x in quarters).pairs == []


def test_flat_images_are_no_copies_of_one_another() -> None:
    flat = [np.full((16, 16, 1), value, dtype=np.uint8) for value in (0, 50, 100, 150)]
    assert near_copies(flat).pairs == []


def test_many_images_are_compared_in_parts_and_large_ones_read_in_parts(
    clean: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare(config("npz", path=str(npz(tmp_path, **clean)), image_size=SIDE), tmp_path / "cache")
    split, manifest = data.split("train"), read_manifest(data.folder)
    thumbnails = np.stack([thumbnail(image) for image in split.images])
    whole = candidates(thumbnails)
    described = split_statistics("train", split, manifest, data)
    monkeypatch.setattr(neighbours, "OTHERS", 40)
    monkeypatch.setattr(statistics, "BLOCK_VALUES", 7 * SIDE * SIDE)
    assert len(whole) > len(split)
    assert candidates(thumbnails) == whole
    sizes: list[int] = []
    histogram = np.histogram

    def measured(block: NDArray[Any], **keys: Any) -> Any:
        sizes.append(len(block))
        return histogram(block, **keys)

    monkeypatch.setattr(np, "histogram", measured)
    again = split_statistics("train", split, manifest, data)
    assert sizes == [7] * 21 + [3]
    assert asdict(again.intensities) == pytest.approx(asdict(described.intensities))


def test_real_chest_x_rays_and_their_known_repeats(shared: Path, tmp_path: Path) -> None:
    """SOURCES.md: 8 validation images also in train, 18 exact repeats inside train, 3 inside test."""
    path = repeats_and_some(shared / "data" / "pneumoniamnist.npz", tmp_path)
    data = prepare(config("npz", path=str(path), image_size=28), tmp_path / "cache")
    manifest = read_manifest(data.folder)
    sets = exact_copies(*manifest.hashes)
    splits = [[str(manifest.split[row]) for row in members] for members in sets]
    assert sum("val" in s and "train" in s for s in splits) == 8
    assert sum(s.count("train") - 1 for s in splits if "train" in s) == 18
    assert sum(s.count("test") - 1 for s in splits if "test" in s) == 3
    with np.load(path) as content:
        assert len(manifest) == sum(len(content[f"{split}_images"]) for split in N)


def test_slices_of_a_volume_may_be_alike_and_volumes_may_not(tmp_path: Path) -> None:
    """Neighbouring slices are alike by nature; two volumes that share a slice are a finding."""
    pixels = images(9, side=SIDE, seed=5)
    smooth = [np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(2))) for p in pixels]
    for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        folder = tmp_path / "set" / split / ("ill", "well")[number % 2] / f"v{number}"
        for k in range(6):  # slices that hardly differ
            save(folder / f"{k}.png", np.clip(smooth[number].astype(int) + k, 0, 255).astype(np.uint8))
    shared = tmp_path / "set" / "val" / "ill" / "v4"
    save(shared / "6.png", np.clip(smooth[0].astype(int) + 9, 0, 255).astype(np.uint8))
    report = check_data(config("folder", path=str(tmp_path / "set"), unit="volume"), tmp_path / "cache")
    found = {finding.check: finding for finding in report.findings}
    assert "near copies within a split" not in found
    assert found["near copies across splits"].severity == "error"
    assert [split.n_cases for split in report.splits] == [4, 2, 2]
    assert found["cases"].message.endswith("test 2 volumes of unknown patients, 12 images")


def test_localisers_among_b_scans_and_six_subjects_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for row, pixels in enumerate(images(48, side=64)):
        shape = (96, 96) if row in (5, 30) else (62, 64)
        split = ("train", "train", "val", "test")[row % 4]
        name = f"s{row % 4}{row // 4 % 3}-{row}.png"
        resized = np.asarray(Image.fromarray(pixels).resize(shape[::-1]))
        save(folder / split / ("ill", "well")[row // 4 % 2] / name, resized)
    found_config = config("folder", path=str(folder), group_pattern="(s[0-9]+)-")
    report = check_data(found_config, tmp_path / "cache")
    assert {item["name"].split("-")[1] for item in found(report, "unlike the others")} == {"5.png", "30.png"}
    assert found(report, "groups") == [{"split": "val", "groups": 3}, {"split": "test", "groups": 3}]
