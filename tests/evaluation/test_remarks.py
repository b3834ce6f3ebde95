"""What `evaluate` remarks on data whose numbers mislead."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medfathom
from evaluating import images, write
from medfathom.errors import DataError, InputError


def folder_of(
    workdir: Path, pixels: np.ndarray, labels: np.ndarray, names: tuple[str, str], extra: str
) -> str:
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        file = workdir / "data" / names[label] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    (workdir / "own.toml").write_text(f'[dataset]\nsource = "folder"\npath = "data"\n{extra}')
    return str(workdir / "own.toml")


def test_images_of_12_bits_in_16_are_not_judged_as_black_ones(model: Path, workdir: Path) -> None:
    pixels, labels = images(60)
    deep = pixels.astype(np.uint16) * 16
    file = write(workdir, images=deep, labels=labels[:, None])
    with pytest.raises(DataError, match=r"at most 12 of them .* give dataset\.bits = 12 "):
        medfathom.evaluate(model, file)
    assert not (model / "evaluations.json").exists()
    given = Path(file).read_text()
    Path(file).write_text(given + "bits = 12\n")
    found = medfathom.evaluate(model, file)
    plain = medfathom.evaluate(model, write(workdir, "plain", images=pixels, labels=labels[:, None]))
    assert found.metrics.auc == pytest.approx(plain.metrics.auc, abs=0.01)
    Path(file).write_text(given + "bits = 16\n")
    as_it_is = medfathom.evaluate(model, file)  # as asked for, dark
    assert as_it_is.calibration[0].mean_probability < 0.1 < plain.calibration[0].mean_probability


def test_images_that_repeat_are_counted(model: Path, workdir: Path) -> None:
    pixels, labels = images(40)
    pixels, labels = np.repeat(pixels, 2, axis=0), np.repeat(labels, 2)
    found = medfathom.evaluate(model, write(workdir, images=pixels, labels=labels[:, None]))
    assert any(remark.startswith("40 images of 80 repeat another one") for remark in found.remarks)


def test_the_positive_class_is_the_models(model: Path, workdir: Path) -> None:
    """A note that `dataset.positive` would change it would be wrong here."""
    other = folder_of(workdir, *images(30), ("a_sick", "normal"), "")
    file = Path(other)
    file.write_text('[map]\nnormal = "well"\na_sick = "ill"\n' + file.read_text())
    assert not any("dataset.positive" in remark for remark in medfathom.evaluate(model, other).remarks)


def test_a_class_in_other_case_is_proposed_as_the_model_writes_it(model: Path, workdir: Path) -> None:
    other = folder_of(workdir, *images(30), ("WELL", "ILL"), "")
    with pytest.raises(InputError, match='"ILL" = "ill"'):
        medfathom.evaluate(model, other)
