"""`evaluate --copies`: training images that are cut and squashed among other images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import making
import medfathom
from evaluating import write
from medfathom.data.check.near_copies import NearCopy
from medfathom.data.heldout import open_test
from medfathom.data.prepare import prepare
from medfathom.data.prints import prints_of, write_prints
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError
from medfathom.evaluation import copies
from medfathom.evaluation.copies import copies_by_image
from medfathom.evaluation.words import looked_for
from medfathom.models.folder import CONFIG_FILE, PRINTS_FILE, read_config, write_config, write_manifest


class Given:
    """Stands for a reader of images that are there."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self._images = images

    def images(self, rows: list[int]) -> np.ndarray:
        return np.stack([self._images[row] for row in rows])


def squashed(image: np.ndarray) -> np.ndarray:
    """The middle 80 % of the width and 95 % of the height, squashed into a square."""
    side = len(image)
    box = (0.1 * side, 0.02 * side, 0.9 * side, 0.97 * side)
    cut = Image.fromarray(image[:, :, 0]).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(cut)[:, :, None]


def test_parts_of_training_images_are_found_and_new_images_are_not(workdir: Path) -> None:
    sizes = ["image_size=96", "n_train=16", "n_val=8", "n_test=8"]
    config = load_definition("demo", [f"dataset.{size}" for size in sizes])
    data = prepare(config.dataset, workdir / "cache")  # type: ignore[arg-type]
    learned = [*data.split("train").images[:3], data.split("val").images[0]]
    others = [*(squashed(image) for image in learned), *open_test(data).images]
    told: list[tuple[int, int]] = []
    reader: Any = Given(others)
    found = copies_by_image(data, reader, np.arange(12), lambda done, total: told.append((done, total)))
    assert found.tolist() == [True] * 4 + [False] * 8
    assert told[-1][0] == told[-1][1]


def test_what_is_found_by_image_counts_as_near(
    model: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (70, 16, 16), dtype=np.uint8)
    content = {
        f"{name}_{key}": value
        for name, rows in (("train", slice(0, 20)), ("val", slice(20, 30)), ("test", slice(30, 40)))
        for key, value in (("images", pixels[rows]), ("labels", np.arange(len(pixels[rows]))[:, None] % 2))
    }
    np.savez(workdir / "own.npz", **content)
    definition = write(workdir, images=pixels[40:], labels=np.arange(30)[:, None] % 2)
    with pytest.raises(
        DataError, match=r"--copies: the prepared training data of .* are not on this machine"
    ):
        medfathom.evaluate(model, definition, copies=True)
    data = prepare(making.config("npz", path=str(workdir / "own.npz")), copies.home() / "cache")
    own = read_config(model).model_copy(update={"dataset_fingerprint": data.fingerprint})
    write_config(model, own)
    write_prints(model / PRINTS_FILE, prints_of(data))
    write_manifest(model)
    assert (model / CONFIG_FILE).is_file()

    def found(first: Any, second: Any, progress: Any) -> Any:
        assert (len(first), len(second)) == (30, 30)
        return type("Across", (), {"pairs": [NearCopy(3, 7, 0.95), NearCopy(4, 7, 0.94)]})()

    monkeypatch.setattr(copies, "near_across", found)
    plain = medfathom.evaluate(model, definition)
    thorough = medfathom.evaluate(model, definition, copies=True)
    assert (plain.overlap.near, thorough.overlap.near) == (0, 1)
    assert thorough.overlap.auc_without is not None
    assert "--copies" in looked_for(plain)
    assert "60 % or more of the width" in looked_for(thorough)
