"""`evaluate` where a class of the model is missing outside, and where cases are judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
import medfathom
from evaluating import images, write
from medfathom.data.prepare import prepare
from medfathom.data.prints import prints_of, write_prints
from medfathom.evaluation.judging import OVER_LABELS, drops, over_same_classes
from medfathom.evaluation.words import warnings_of
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.classification import evaluate
from medfathom.metrics.unknown import UNKNOWN
from medfathom.models.folder import METRICS_FILE, PRINTS_FILE, write_manifest
from medfathom.trial.record import SplitMetrics


def levels(labels: np.ndarray, step: int, seed: int = 0) -> np.ndarray:
    """Images (n, 16, 16) that are brighter the higher the class, with noise."""
    random = np.random.default_rng(seed)
    level = 60 + step * labels + random.normal(0, 20, len(labels))
    noise = random.normal(0, 10, (len(labels), 16, 16))
    return np.clip(level[:, None, None] + noise, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


def test_a_class_that_is_missing_outside_is_told_and_the_others_are_judged(
    model_of_three: Path, workdir: Path
) -> None:
    labels = np.arange(90) % 2  # no image is bright
    file = write(workdir, images=levels(labels, 60), labels=labels[:, None])
    Path(file).write_text(Path(file).read_text().replace('["well", "ill"]', '["dark", "grey"]'))
    found = medfathom.evaluate(model_of_three, file)
    assert found.missing == ["bright"]
    assert found.counts == {"dark": 45, "grey": 45, "bright": 0}
    assert found.metrics.per_class is not None
    assert "auc" not in found.metrics.per_class["bright"]
    assert found.metrics.per_class["dark"]["auc"] > 0.9
    known = [found.metrics.per_class[name]["auc"] for name in ("dark", "grey")]
    assert found.metrics.auc == pytest.approx(np.mean(known))
    card = (model_of_three / "README.md").read_text()
    assert "The data have no image of class bright" in card


def test_a_drop_is_between_means_over_the_same_classes(model_of_three: Path, workdir: Path) -> None:
    """The class that is missing outside was the worst inside: left in, it would hide the drop."""
    ends = {"dark": (0.98, 0.96, 0.99), "grey": (0.96, 0.94, 0.98), "bright": (0.55, 0.4, 0.7)}
    keys = ("auc", "auc_ci_low", "auc_ci_high")
    own = {name: dict(zip(keys, values, strict=True)) for name, values in ends.items()}
    test = {"auc": 0.83, "auc_ci_low": 0.77, "auc_ci_high": 0.89, "per_class": own}
    (model_of_three / METRICS_FILE).write_text(json.dumps({"model": {"test": test}}))
    write_manifest(model_of_three)
    labels = np.arange(90) % 2
    file = write(workdir, images=levels(labels, 30), labels=labels[:, None])
    Path(file).write_text(Path(file).read_text().replace('["well", "ill"]', '["dark", "grey"]'))
    found = medfathom.evaluate(model_of_three, file)
    assert found.metrics.auc is not None
    assert found.internal is not None
    assert found.internal.auc == pytest.approx(0.97)
    assert found.internal.auc_ci_low == pytest.approx(0.95)
    assert found.drop["auc"].value == pytest.approx(0.97 - found.metrics.auc)
    assert "over the classes that these data have too" in (model_of_three / "README.md").read_text()
    # An older folder tells no classes: nothing to compare with.
    (model_of_three / METRICS_FILE).write_text(json.dumps({"model": {"test": {**test, "per_class": None}}}))
    write_manifest(model_of_three)
    assert "auc" not in medfathom.evaluate(model_of_three, file).drop


def test_accuracy_and_losses_of_other_labels_are_no_comparison() -> None:
    """They are of all labels together: of two inside and one outside there is no drop."""
    random = np.random.default_rng(0)
    labels, values = random.integers(0, 2, (80, 2), dtype=np.uint8), random.random((80, 2))
    outside = labels.copy()
    outside[:, 1] = UNKNOWN

    def measured(known: np.ndarray) -> SplitMetrics:
        found = evaluate("multilabel", known, values, ["mass", "edema"], thresholds=np.array([0.5, 0.5]))
        return SplitMetrics.measured(found, None, None)

    own = over_same_classes(measured(labels), measured(outside))
    assert own is not None
    assert [getattr(own, name) for name in OVER_LABELS] == [None] * 4
    assert "accuracy" not in drops(own, measured(outside))
    assert own.auc == pytest.approx(roc_auc_score(labels[:, :1], values[:, :1])[0])
    # With a few unknown labels all are still there.
    outside[:40, 1] = labels[:40, 1]
    assert "accuracy" in drops(over_same_classes(measured(labels), measured(outside)), measured(outside))


def test_an_auc_without_copies_is_over_the_same_classes(model_of_three: Path, workdir: Path) -> None:
    """All bright images were trained on: without them the AUC would be a mean over the other two."""
    labels = np.arange(90) % 3
    pixels = levels(labels, 60)
    bright = pixels[labels == 2]
    content = {"train_images": bright[:20], "val_images": bright[20:], "test_images": pixels[:3]}
    own = {
        f"{name}_labels": np.arange(n)[:, None] % 3 for name, n in (("train", 20), ("val", 10), ("test", 3))
    }
    np.savez(workdir / "own.npz", **content, **own)
    data = prepare(making.config("npz", path=str(workdir / "own.npz")), workdir / "cache")
    write_prints(model_of_three / PRINTS_FILE, prints_of(data))
    write_manifest(model_of_three)
    file = write(workdir, images=pixels, labels=labels[:, None])
    Path(file).write_text(Path(file).read_text().replace('["well", "ill"]', '["dark", "grey", "bright"]'))
    found = medfathom.evaluate(model_of_three, file)
    assert found.overlap.exact == 30
    assert found.overlap.auc_without is None
    assert any("Too few images remain without them" in warning for warning in warnings_of(found))


def volumes(folder: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n volumes of 3 slices, `CLASS/VOLUME/SLICE.png`: each slice's brightness (n, 3), and the labels."""
    labels = np.arange(n) % 2
    pixels = levels(np.repeat(labels, 3), 50).reshape(n, 3, 16, 16)
    for number, (slices, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / ("well", "ill")[label] / f"volume{number:03d}"
        place.mkdir(parents=True)
        for k, image in enumerate(slices):
            Image.fromarray(image).save(place / f"{k}.png")
    return pixels.mean(axis=(2, 3)) / 255, labels


def test_cases_are_judged_by_the_mean_of_their_images(model_of_volumes: Path, workdir: Path) -> None:
    bright, labels = volumes(workdir / "scans", 60)
    (workdir / "scans.toml").write_text(
        '[dataset]\nsource = "folder"\npath = "scans"\nclass_names = ["well", "ill"]\n'
    )
    found = medfathom.evaluate(model_of_volumes, "scans.toml")
    assert (found.unit, found.n_units, found.n_images) == ("volume", 60, 180)
    assert found.counts == {"well": 30, "ill": 30}
    probability = (1 / (1 + np.exp(-8 * (bright - 0.5)))).mean(axis=1)
    assert found.metrics.auc == pytest.approx(float(roc_auc_score(labels, probability)[0]))
    called = probability >= 0.5
    assert found.metrics.sensitivity == pytest.approx(called[labels == 1].mean())
    assert sum(found.histograms[0].of_class) == 30


def test_a_model_of_volumes_does_not_judge_single_images(model_of_volumes: Path, workdir: Path) -> None:
    pixels, labels = images(20)
    file = write(workdir, images=pixels, labels=labels[:, None])
    with pytest.raises(medfathom.InputError, match=r'give dataset\.unit = "volume"'):
        medfathom.evaluate(model_of_volumes, file)


def test_subgroups_of_volumes_count_volumes(model_of_volumes: Path, workdir: Path) -> None:
    volumes(workdir / "scans", 60)
    places = sorted((workdir / "scans").glob("*/*"))
    rows = [
        f"{place.relative_to(workdir)},{place.parent.name},{'FM'[k // 2 % 2]}"
        for k, place in enumerate(places)
    ]
    (workdir / "scans.csv").write_text("\n".join(["path,label,sex", *rows]) + "\n")
    Path("by.toml").write_text(
        '[dataset]\nsource = "csv"\npath = "scans.csv"\nclass_names = ["well", "ill"]\nkeep = ["sex"]\n'
    )
    found = medfathom.evaluate(model_of_volumes, "by.toml", by="sex").subgroups
    assert found is not None
    assert [(each.value, each.n) for each in found.groups] == [("F", 30), ("M", 30)]
    assert all(each.auc is not None for each in found.groups)
