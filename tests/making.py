"""Data sets for tests: made on the spot, small."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from medfathom.definitions.dataset import DatasetConfig

SIZES = {"train": 12, "val": 6, "test": 6}


def config(source: str, **keys: Any) -> Any:
    """A `[dataset]` table, as a definition would give it."""
    table = {"modality": "CXR", "image_size": 16, "source": source, **keys}
    return TypeAdapter(DatasetConfig).validate_python(table)


def images(n: int, *, side: int = 20, channels: int = 1, seed: int = 0, deep: bool = False) -> NDArray[Any]:
    """Random images (n, side, side[, 3])."""
    random = np.random.default_rng(seed)
    shape = (n, side, side) if channels == 1 else (n, side, side, 3)
    return random.integers(0, 2**16 if deep else 2**8, shape, dtype=np.uint16 if deep else np.uint8)


def arrays(
    *, channels: int = 1, n_classes: int = 2, multilabel: bool = False, groups: bool = False
) -> dict[str, Any]:
    """The arrays of an npz file in MedMNIST's layout."""
    found: dict[str, Any] = {}
    for seed, (split, n) in enumerate(SIZES.items()):
        found[f"{split}_images"] = images(n, channels=channels, seed=seed)
        found[f"{split}_labels"] = (
            label_columns(n, n_classes) if multilabel else (np.arange(n) % n_classes)[:, None]
        )
        if groups:
            found[f"{split}_groups"] = np.array([f"{split}-{row // 2}" for row in range(n)])
    return found


def label_columns(n: int, n_labels: int) -> NDArray[np.uint8]:
    """Zeros and ones, (n, n_labels): every label sometimes there, sometimes not."""
    return ((np.arange(n)[:, None] >> np.arange(n_labels)) & 1).astype(np.uint8)


def npz(folder: Path, **changes: Any) -> Path:
    """An npz file; `changes` replaces arrays, None leaves one out."""
    content = {**arrays(), **changes}
    path = folder / "set.npz"
    np.savez_compressed(path, **{name: value for name, value in content.items() if value is not None})
    return path


def save(path: Path, pixels: NDArray[Any]) -> Path:
    """An image file of the kind its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def class_folders(folder: Path, classes: tuple[str, ...] = ("ill", "well"), *, per_class: int = 4) -> Path:
    """`{train,val,test}/CLASS/*.png`."""
    for seed, split in enumerate(SIZES):
        for index, name in enumerate(classes):
            for row, pixels in enumerate(images(per_class, seed=10 * seed + index)):
                save(folder / split / name / f"{split}-p{row // 2}-{row}.png", pixels)
    return folder


def table(folder: Path, *, n: int = 40, header: str = "path,label,split,patient") -> Path:
    """`table.csv` and its image files: labels and splits take turns, two images to a patient."""
    lines = [header]
    for row, pixels in enumerate(images(n)):
        save(folder / "images" / f"{row}.png", pixels)
        split = ("train", "train", "val", "test")[(row // 4) % 4]
        lines.append(f"images/{row}.png,{('well', 'ill')[row % 2]},{split},{row // 4}")
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def hdf5(folder: Path, *, channels: int = 3, labels_of: dict[str, int] | None = None) -> Path:
    """PatchCamelyon's files: `..._split_{train,valid,test}_{x,y}.h5`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, n) in enumerate(SIZES.items()):
        word = "valid" if split == "val" else split
        stem = f"camelyonpatch_level_2_split_{word}"
        with h5py.File(folder / f"{stem}_x.h5", "w") as file:
            file["x"] = images(n, channels=channels, seed=seed)
        with h5py.File(folder / f"{stem}_y.h5", "w") as file:
            n_labels = (labels_of or {}).get(split, n)
            file["y"] = (np.arange(n_labels) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
    return folder


def repeats_and_some(path: Path, folder: Path, every: int = 12) -> Path:
    """A copy of an npz file with all images that it has several times, and one in `every` of the others."""
    with np.load(path) as whole:
        arrays = {name: whole[name] for name in whole.files}
    splits = ("train", "val", "test")
    contents = [image.tobytes() for split in splits for image in arrays[f"{split}_images"]]
    seen, start = Counter(contents), 0
    for split in splits:
        n = len(arrays[f"{split}_images"])
        kept = [row for row in range(n) if seen[contents[start + row]] > 1 or row % every == 0]
        start += n
        for name in (name for name in arrays if name.startswith(split)):
            arrays[name] = arrays[name][kept]
    np.savez(folder / "some.npz", **arrays)
    return folder / "some.npz"
