"""Images are read again as they were read first, in any order."""

from pathlib import Path

import numpy as np

import making
from evaluating import images
from made_models import CONFIG
from medfathom.data.sources.open import open_source
from medfathom.evaluation.reading import Reader, RowImages


def test_rows_in_any_order(workdir: Path) -> None:
    pixels, labels = images(130)
    np.savez(workdir / "own.npz", train_images=pixels, train_labels=labels[:, None])
    source = open_source(making.config("npz", path="own.npz"))
    source.listing()
    reader = Reader(source, CONFIG.model_copy(update={"image_size": 16}), thumbnails=True)
    read = {
        row: image
        for rows, found in reader.batches(range(130))
        for row, image in zip(rows, found, strict=True)
    }
    assert list(read) == list(range(130))
    assert all((read[row].pixels[:, :, 0] == pixels[row]).all() for row in read)
    again = RowImages(reader, np.array([7, 3, 100]))
    assert (again[[2, 0]][..., 0] == pixels[[100, 7]]).all()
    assert (again[1][..., 0] == pixels[3]).all()
    source.close()
