"""Images that are not like the others: planted ones are found, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image

from making import config, npz
from medfathom.data.check.all_splits import AllSplits
from medfathom.data.check.unlike import STRANGE, by_look, strangeness
from medfathom.data.prepare import prepare
from medfathom.errors import WeightsError
from medfathom.models.look import look

PICTURES = Path(skimage.__file__).parent / "data"


def en_face(n: int, side: int) -> NDArray[Any]:
    """What a scanning laser shows of a retina: the green channel of a photograph, in parts."""
    green = Image.open(PICTURES / "retina.jpg").getchannel("G")
    corners = [(300 + 60 * i, 300 + 90 * (i % 4)) for i in range(n)]
    parts = [green.crop((x, y, x + 600, y + 600)).resize((side, side)) for x, y in corners]
    return np.stack([np.asarray(part) for part in parts])


def photographs(side: int) -> NDArray[Any]:
    files = [PICTURES / f"{name}.png" for name in ("astronaut", "chelsea", "coffee", "motorcycle_left")]
    return np.stack([np.asarray(Image.open(file).convert("L").resize((side, side))) for file in files])


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> NDArray[Any]:
    sizes = {"n_train": 120, "n_val": 20, "n_test": 20}
    data = prepare(config("phantom-cxr", image_size=64, **sizes), tmp_path_factory.mktemp("cxr"))
    return np.array(data.split("train").images[..., 0])


def test_photographs_and_en_face_images_among_radiographs_are_found(
    radiographs: NDArray[Any], tmp_path: Path
) -> None:
    planted = np.concatenate([photographs(64), en_face(2, 64)])
    content = {"val_images": radiographs[:8], "test_images": radiographs[8:16]}
    content["train_images"] = np.concatenate([radiographs[16:], planted])
    labels = {f"{name[:-7]}_labels": np.arange(len(some))[:, None] % 2 for name, some in content.items()}
    data = prepare(config("npz", path=str(npz(tmp_path, **content, **labels)), image_size=64), tmp_path)
    (finding,) = by_look(AllSplits(data), look, 0, lambda *_: None)
    n = len(radiographs) - 16
    assert {str(vars(item)["name"]) for item in finding.items} == {
        f"train_images[{n + i}]" for i in range(len(planted))
    }
    assert finding.message.startswith(f"{len(planted)} images look unlike the others: train_images[")
    alone = look(lambda row: radiographs[row][..., None], range(len(radiographs)), 1)
    assert not (strangeness(alone, np.random.default_rng(0)) > STRANGE).any()


def test_en_face_images_among_real_b_scans_are_found(shared: Path) -> None:
    with np.load(shared / "data" / "octmh_64.npz") as content:
        scans = np.concatenate([content["train_images"], content["test_images"]])
    both = np.concatenate([scans, en_face(8, 64)])[..., None]
    strange = (
        strangeness(look(lambda row: both[row], range(len(both)), 1), np.random.default_rng(0)) > STRANGE
    )
    assert strange[len(scans) :].sum() >= 6
    assert strange[: len(scans)].sum() <= 1


def test_a_few_images_of_another_kind_do_not_vouch_for_one_another() -> None:
    random = np.random.default_rng(0)
    own = random.normal(0, 1, (200, 30)).astype(np.float32)
    others = (20 + random.normal(0, 0.01, (12, 30))).astype(np.float32)
    strange = strangeness(np.concatenate([own, others]), np.random.default_rng(0)) > STRANGE
    assert strange.tolist() == [False] * 200 + [True] * 12


def test_without_weights_a_sentence_says_so(tmp_path: Path) -> None:
    data = prepare(config("phantom-cxr", image_size=16, n_train=60, n_val=20, n_test=20), tmp_path)

    def none(*_: Any) -> Any:
        raise WeightsError("no weights here")

    (finding,) = by_look(AllSplits(data), none, 0, lambda *_: None)
    assert finding.severity == "note"
    assert "no weights here" in finding.message
