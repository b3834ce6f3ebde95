"""`evaluate`: what it says of other data, what it warns of, where it keeps it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import making
import medfathom
from evaluating import images, write
from json_holds import holds
from medfathom import cli
from medfathom.confirmation import grad_cam
from medfathom.confirmation.find import MISTAKES, NO_MAP
from medfathom.data.prepare import prepare
from medfathom.data.prints import prints_of, write_prints
from medfathom.errors import ExportedModelError, InputError
from medfathom.metrics.auc import roc_auc_score
from medfathom.models.folder import CARD_FILE, EVALUATIONS_FILE, PRINTS_FILE, write_manifest


def test_metrics_drop_and_calibration(model: Path, workdir: Path) -> None:
    pixels, labels = images(120)
    found = medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None]))
    expected = float(roc_auc_score(labels, pixels.mean(axis=(1, 2)))[0])
    assert found.metrics.auc == pytest.approx(expected)
    assert found.drop["auc"].value == pytest.approx(0.9 - expected)
    assert found.drop["auc"].low < 0.9 - expected < found.drop["auc"].high  # type: ignore[operator]
    assert set(found.drop) == {"auc", "sensitivity"}  # all that the folder tells of its own test split
    called = pixels.mean(axis=(1, 2)) >= 127.5
    assert found.metrics.sensitivity == pytest.approx(called[labels == 1].mean())
    assert found.metrics.npv == pytest.approx((labels[~called] == 0).mean())
    assert found.counts == {"well": 60, "ill": 60}
    (line,) = found.calibration
    assert line.name == "ill"
    assert line.share == 0.5
    assert sum(found.histograms[0].of_class) == 60


def test_it_is_kept_in_the_folder_and_the_card_and_replaced(model: Path, workdir: Path) -> None:
    pixels, labels = images(60)
    other = write(workdir, images=pixels, labels=labels[:, None])
    medfathom.evaluate(model, other)
    medfathom.evaluate(model, other)
    kept = json.loads((model / EVALUATIONS_FILE).read_text())
    assert list(kept) == ["other"]
    card = (model / CARD_FILE).read_text()
    assert card.startswith("# A card\n")
    assert card.count("## On other data") == card.count("### other") == 1
    medfathom.load(model)  # its hashes are those of the files as they are now


def test_intervals_count_patients(model: Path, workdir: Path) -> None:
    pixels, labels = images(40)
    pixels, labels = np.repeat(pixels, 4, axis=0), np.repeat(labels, 4)
    alone = medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None]))
    groups = np.repeat(np.arange(40), 4).astype(np.str_)
    known = medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None], groups=groups))
    assert (alone.n_patients, known.n_patients) == (None, 40)
    assert any("do not name patients" in remark for remark in alone.remarks)
    width = lambda e: e.metrics.auc_ci_high - e.metrics.auc_ci_low  # noqa: E731
    assert width(known) > 1.5 * width(alone)
    slopes = [found.calibration[0].slope for found in (alone, known)]
    assert slopes[1].high - slopes[1].low > 1.5 * (slopes[0].high - slopes[0].low)  # type: ignore[operator]


def test_an_inverted_polarity_is_said_first(model: Path, workdir: Path) -> None:
    pixels, labels = images(120, overlap=0.5)
    found = medfathom.evaluate(model, write(workdir, images=255 - pixels, labels=labels[:, None]))
    assert found.flipped is not None
    assert found.metrics.auc < 0.2  # type: ignore[operator]
    assert found.flipped.inverted > 0.8  # type: ignore[operator]
    assert "black and white" in (model / CARD_FILE).read_text()


@pytest.mark.parametrize("trained_on", ["val-3", "VAL_3", "val 003"])
def test_training_images_among_the_data_are_found(model: Path, workdir: Path, trained_on: str) -> None:
    rng = np.random.default_rng(3)
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    seen = np.stack([gaussian_filter(rng.normal(0, 1, (16, 16)), 1) for _ in range(60)])
    seen = np.clip(128 + 160 * seen, 0, 255).astype(np.uint8)
    splits = {"train": seen[:30], "val": seen[30:40], "test": seen[40:50]}
    content = {f"{name}_images": part for name, part in splits.items()}
    content |= {f"{name}_labels": np.arange(len(part))[:, None] % 2 for name, part in splits.items()}
    content |= {
        f"{name}_groups": np.array([f"{name}-{k}" for k in range(len(p))]) for name, p in splits.items()
    }
    np.savez(workdir / "own.npz", **content)
    data = prepare(making.config("npz", path=str(workdir / "own.npz")), workdir / "cache")
    write_prints(model / PRINTS_FILE, prints_of(data))
    write_manifest(model)
    new = seen[40:]  # the model's own test images are no training images
    again = np.clip(seen[3].astype(float) * 0.8 + 30, 0, 255).astype(np.uint8)
    pixels = np.concatenate([new, seen[:2], again[None, :, ::-1]])
    groups = np.array([*(f"new-{k}" for k in range(22)), trained_on])
    labels = np.arange(len(pixels)) % 2
    found = medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None], groups=groups))
    overlap = found.overlap
    assert (overlap.compared, overlap.exact, overlap.near, overlap.patients) == (40, 2, 1, 1)
    assert overlap.auc_without is not None
    expected = roc_auc_score(labels[:20], pixels[:20].mean(axis=(1, 2)))[0]
    assert overlap.auc_without.value == pytest.approx(expected)


def test_recalibration_is_judged_on_other_patients(model: Path, workdir: Path) -> None:
    pixels, labels = images(800, seed=2)
    labels = np.where(np.random.default_rng(0).random(800) < 0.8, 0, labels)  # much rarer than it was
    evaluated = medfathom.evaluate(
        model, write(workdir, images=pixels, labels=labels[:, None]), recalibrate=400
    )
    holds("evaluate", evaluated.to_dict())
    found = evaluated.recalibrated
    assert found is not None
    assert (found.n_used, found.n_judged) == (400, 400)
    assert found.after["log_loss"] < found.before["log_loss"] - 0.1
    assert abs(found.lines_after[0].in_the_large.value) < 0.5  # type: ignore[arg-type]
    assert found.lines_before[0].in_the_large.high < 0  # type: ignore[operator]


def test_other_names_are_mapped_and_what_is_unknown_is_counted(model: Path, workdir: Path) -> None:
    pixels, labels = images(60)
    labels = np.where(np.arange(60) < 6, 2, labels)
    write(workdir, images=pixels, labels=labels[:, None])
    text = '[map]\nNORMAL = "well"\nPneumonia = "ill"\n[dataset]\nsource = "npz"\npath = "other.npz"\n'
    Path("mapped.toml").write_text(text + 'class_names = ["NORMAL", "Pneumonia", "covid"]\n')
    found = medfathom.evaluate(model, "mapped.toml")
    assert found.left_out == {"covid": 6}
    assert found.n_images == 54


def test_pictures_are_drawn_of_the_images_as_read(model: Path, workdir: Path) -> None:
    pixels, labels = images(60)
    other = write(workdir, images=pixels, labels=labels[:, None])
    medfathom.evaluate(model, other, pictures=workdir / "shown")
    drawn = {file.name for file in (workdir / "shown").iterdir()}
    assert {"roc.png", "calibration.png", "confusion.png", "gradcam.png", "mistakes.png"} <= drawn
    assert not list(model.glob("*.png"))  # a model folder travels, patients do not
    assert not (model / MISTAKES).exists()


def test_mistakes_are_a_page_of_their_own(model: Path, workdir: Path) -> None:
    pixels, labels = images(60)
    medfathom.evaluate(
        model, write(workdir, images=pixels, labels=labels[:, None]), pictures=workdir / "shown"
    )
    page = (workdir / "shown" / MISTAKES).read_text(encoding="utf-8")
    wrong = np.flatnonzero((pixels.mean(axis=(1, 2)) >= 127.5) != labels)
    figures = page.split("<figure>")[1:]
    assert len(figures) == min(len(wrong), grad_cam.MISTAKES)
    assert all(figure.count("<img") == 2 for figure in figures)  # the image, and its map
    shown = {int(re.search(r"train_images\[(\d+)\]", figure)[1]) for figure in figures}  # type: ignore[index]
    assert shown <= set(wrong.tolist())
    confident = [float(re.search(r"\((\d\.\d\d)\), is", figure)[1]) for figure in figures]  # type: ignore[index]
    assert confident == sorted(confident, reverse=True)
    assert "http" not in page
    assert "<script" not in page


def test_it_is_said_why_there_is_no_map(model: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = images(60)
    other = write(workdir, images=pixels, labels=labels[:, None])
    assert NO_MAP not in medfathom.evaluate(model, other, pictures=workdir / "shown").remarks
    monkeypatch.setattr(grad_cam, "target_layer", lambda model: None)
    assert NO_MAP in medfathom.evaluate(model, other, pictures=workdir / "others").remarks
    assert not (workdir / "others" / "gradcam.png").exists()


BAD = {
    "other names": (
        'class_names = ["NORMAL", "ILL"]',
        "class 'NORMAL' of the data is not one of the model's",
    ),
    "nearest": ('class_names = ["NORMAL", "ILL"]', '[map] "NORMAL" = "well"'),
    "one class": ('class_names = ["well", "other"]\n[map]\nother = ""', "no image is of class 'ill'"),
    "map target": (
        'class_names = ["well", "sick"]\n[map]\nsick = "il"',
        "the model has no class 'il'; did",
    ),
    "map source": ('class_names = ["well", "ill"]\n[map]\nsik = "ill"', "no image has the class 'sik'"),
    "key": ("imagesize = 3", "imagesize: unknown key; did you mean 'image_size'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(
    model: Path, workdir: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, labels = images(20)
    write(workdir, images=pixels, labels=labels[:, None])
    lines, message = BAD[case]
    Path("bad.toml").write_text(f'[dataset]\nsource = "npz"\npath = "other.npz"\n{lines}\n')
    monkeypatch.setattr(sys, "argv", ["medfathom", "evaluate", str(model), "bad.toml"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    error = capsys.readouterr().err
    own = [line for line in error.splitlines() if not line.startswith("Log: ")]  # and the log file
    assert (exit_.value.code, len(own)) == (2, 1)
    assert message in error
    assert not (model / EVALUATIONS_FILE).exists()


def test_one_patient_is_refused(model: Path, workdir: Path) -> None:
    pixels, labels = images(20)
    file = write(workdir, images=pixels, labels=labels[:, None], groups=np.full(20, "P1"))
    with pytest.raises(InputError, match="all 20 images are of one patient"):
        medfathom.evaluate(model, file)


def test_colour_is_made_grey_and_said(model: Path, workdir: Path) -> None:
    pixels, labels = images(20)
    colour = np.repeat(pixels[..., None], 3, axis=3)
    found = medfathom.evaluate(model, write(workdir, images=colour, labels=labels[:, None]))
    assert (
        found.remarks[0] == "20 images converted from colour to grey, as the model was trained on grey images"
    )


@pytest.mark.parametrize("n", [20, 30])
def test_recalibration_on_all_is_refused(model: Path, workdir: Path, n: int) -> None:
    pixels, labels = images(20)
    with pytest.raises(InputError, match=f"--recalibrate {n}: the data have 20"):
        medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None]), recalibrate=n)


def test_an_altered_folder_and_no_folder(model: Path, workdir: Path) -> None:
    pixels, labels = images(20)
    file = write(workdir, images=pixels, labels=labels[:, None])
    (model / CARD_FILE).write_text("changed")
    with pytest.raises(ExportedModelError, match="changed since the export"):
        medfathom.evaluate(model, file)
    with pytest.raises(ExportedModelError, match="no such model folder"):
        medfathom.evaluate("absent/model", file)
