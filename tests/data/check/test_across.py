"""Copies in two data sets: planted on real images with other crop, aspect, contrast and resolution."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.across import SCALES, near_across, small, windows
from medfathom.errors import InputError
from medfathom.terminal.data import print_shared

N = 40

Made = NDArray[np.uint8]


def changed(image: Made, kind: str, random: np.random.Generator) -> Made:
    """A copy of a grey image (h, w), changed as another publisher would."""
    height, width = image.shape
    wide, high = {
        "crop": (random.uniform(0.65, 0.95),) * 2,
        "aspect": (random.uniform(0.65, 0.95), 1.0),
        "all": (random.uniform(0.65, 1), random.uniform(0.65, 1)),
    }.get(kind, (1.0, 1.0))
    left, upper = ((1 - part) * (0.5 if kind == "aspect" else random.uniform()) for part in (wide, high))
    box = (left * width, upper * height, (left + wide) * width, (upper + high) * height)
    side = 28 if kind in ("resolution", "all") else width
    found = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=box))
    if kind in ("contrast", "all"):
        found = np.clip(200 * (found / 255) ** random.uniform(0.7, 1.4) + random.uniform(0, 40), 0, 255)
    return (np.rot90(found) if kind == "turned" else found).astype(np.uint8)


@pytest.fixture(scope="module")
def scans(shared: Path) -> Made:
    with np.load(shared / "data" / "octmh_128.npz") as content:
        images = content["train_images"]
    return images[np.random.default_rng(0).permutation(len(images))[: 2 * N]]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["crop", "aspect", "contrast", "resolution", "turned", "all"])
def test_planted_copies_are_found_and_no_others(scans: Made, kind: str) -> None:
    """Half of the first set are changed copies of images of the second, half are changed strangers."""
    random = np.random.default_rng(1)
    half = N // 2
    first = [changed(scan, kind, random) for scan in np.concatenate([scans[:half], scans[N : N + half]])]
    found = near_across(
        small(scan[:, :, None] for scan in first), small(scan[:, :, None] for scan in scans[:N])
    )
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    assert [pair for pair in pairs if pair[0] != pair[1] or pair[0] >= half] == []
    assert len(pairs) >= 0.9 * half


def test_it_does_not_matter_which_set_is_the_first(scans: Made) -> None:
    random = np.random.default_rng(2)
    cut = small(changed(scan, "crop", random)[:, :, None] for scan in scans[:8])
    whole = small(scan[:, :, None] for scan in scans[:N])
    one, other = near_across(cut, whole), near_across(whole, cut)
    assert {(p.first, p.second) for p in one.pairs} == {(p.second, p.first) for p in other.pairs}


def test_windows_reach_from_edge_to_edge() -> None:
    frames = windows()
    assert frames[0] == (0.0, 0.0, 1.0, 1.0)
    assert len(set(frames)) == len(frames)
    for left, upper, right, lower in frames:
        assert 0 <= left < right <= 1 + 1e-9
        assert 0 <= upper < lower <= 1 + 1e-9
    assert {round(right - left, 6) for left, _, right, _ in frames} == set(SCALES)


def definition(name: str, images: Made, labels: NDArray[Any], class_names: str) -> str:
    np.savez(f"{name}.npz", train_images=images, train_labels=labels)
    Path(f"{name}.toml").write_text(
        f'version = 1\nname = "{name}"\n[dataset]\nsource = "npz"\npath = "{name}.npz"\nmodality = "OCT"\n'
        f"image_size = {images.shape[1]}\nclass_names = {class_names}\n"
    )
    return f"{name}.toml"


def test_two_definitions_of_which_one_has_cut_and_squashed_images_of_the_other(
    workdir: Path, scans: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """28 pixels, cut to the centre, against 128 pixels, squashed: public collections share images so."""
    labels = np.arange(N) % 2
    box = (0.12 * 128, 0, 0.88 * 128, 128)
    cut = [np.asarray(Image.fromarray(scan).resize((28, 28), box=box)) for scan in scans[:N]]
    first = definition("small", np.stack(cut), labels, '["well", "ill"]')
    second = definition("large", scans[10 : 10 + N], (np.arange(N) + 10) % 2, '["Well", "Ill"]')
    assert print_shared([first, second], [], as_json=True) == 1
    (found,) = json.loads(capsys.readouterr().out)["sets"]
    assert found["names"] == ["small", "large"]
    assert found["with_copy"][0] >= 0.9 * (N - 10)
    assert found["exact"] == 0
    assert found["same_label"] == len(found["pairs"])

    assert print_shared([first, second], [], as_json=False) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "images of small" in told
    assert "It does not find smaller parts" in told


def test_exact_copies_and_none_at_all(workdir: Path, scans: Made, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(12) % 2
    first = definition("one", scans[:12], labels, '["well", "ill"]')
    same = definition("same", scans[6:18], labels, '["well", "ill"]')
    other = definition("other", scans[N : N + 12], labels, '["well", "ill"]')
    assert print_shared([first, same, other], [], as_json=True) == 1
    found = {tuple(each["names"]): each for each in json.loads(capsys.readouterr().out)["sets"]}
    assert found["one", "same"]["exact"] == 6
    assert found["one", "same"]["with_copy"] == [6, 6]
    assert found["one", "other"]["pairs"] == []
    assert print_shared([first, other], [], as_json=False) == 0
    assert "no copies found" in capsys.readouterr().out
    with pytest.raises(InputError, match="have the name 'one'"):
        print_shared([first, first], [], as_json=True)
