"""Images written to be looked at."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from making import config, images, npz
from medfathom.data.prepare import prepare
from medfathom.data.samples import write_samples
from medfathom.errors import InputError


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_samples_are_the_prepared_validation_images(tmp_path: Path, channels: int, deep: bool) -> None:
    sizes = {"train": 12, "val": 9, "test": 6}
    pixels = {f"{k}_images": images(n, channels=channels, seed=n, deep=deep) for k, n in sizes.items()}
    path = npz(tmp_path, **pixels, val_labels=np.arange(9)[:, None] % 2)
    data = prepare(config("npz", path=str(path)), tmp_path / "cache")
    files = write_samples(data, tmp_path / "samples", n=3)
    assert [file.name for file in files] == ["val-00000.png", "val-00004.png", "val-00008.png"]
    for file, number in zip(files, (0, 4, 8), strict=True):
        prepared = data.split("val").images[number]
        expected = prepared >> 8 if prepared.dtype == np.uint16 else prepared
        assert np.array_equal(np.asarray(Image.open(file)), expected.squeeze())


def test_a_small_split_is_written_whole(tmp_path: Path) -> None:
    data = prepare(config("npz", path=str(npz(tmp_path))), tmp_path / "cache")
    assert len(write_samples(data, tmp_path / "samples", n=1000)) == data.sizes["val"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    data = prepare(config("npz", path=str(npz(tmp_path))), tmp_path / "cache")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"--samples .*file: cannot be written \(File exists\)"):
        write_samples(data, tmp_path / "file")
