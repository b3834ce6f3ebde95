"""MedMNIST and MedMNIST+ sets, with their official splits, class names and tasks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from medfathom.data.sources.base import Listing
from medfathom.data.sources.npz import NpzSource
from medfathom.definitions.dataset import MedmnistDataset, NpzDataset
from medfathom.errors import DataError, did_you_mean

SIZES = (28, 64, 128, 224)
"""Sides of MedMNIST+'s versions, pixels."""


class MedmnistSource(NpzSource):
    """The npz file of a set: given, found where the medmnist package puts it, or downloaded by it."""

    def __init__(self, config: MedmnistDataset) -> None:
        known = known_sets()
        if config.name not in known:
            raise DataError(
                f"dataset.name = {config.name!r}: no 2-D MedMNIST set; {did_you_mean(config.name, known)}"
            )
        facts = known[config.name]
        self._multilabel = "multi-label" in facts["task"]
        path = Path(config.path) if config.path is not None else _find_or_download(config)
        super().__init__(
            NpzDataset(
                source="npz",
                modality=config.modality,
                image_size=config.image_size,
                fit=config.fit,
                bits=config.bits,
                path=str(path),
                class_names=[facts["label"][str(index)] for index in range(len(facts["label"]))],
            )
        )

    def listing(self) -> Listing:
        """The file's, once its labels are those of this set."""
        if "train_labels" in self._archive.names:
            width = self._archive.head("train_labels").shape[1:]
            expected = (len(self.class_names or ()) if self._multilabel else 1,)
            if width != expected:
                raise DataError(
                    f"{self.path}: train_labels has rows of shape {width}, but this set has {expected}"
                )
        return super().listing()


def known_sets() -> dict[str, Any]:
    """Name -> facts of every 2-D set the medmnist package knows.

    The package's table is read without the package, whose import takes torch, torchvision and skimage along.
    """
    spec = importlib.util.find_spec("medmnist")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("dataset.source = 'medmnist': the medmnist package is not installed")
    table = importlib.util.spec_from_file_location(
        "_medmnist_info", Path(spec.submodule_search_locations[0], "info.py")
    )
    if table is None or table.loader is None:
        raise DataError(
            "dataset.source = 'medmnist': the installed medmnist package has no table of its sets"
        )
    module = importlib.util.module_from_spec(table)
    table.loader.exec_module(module)
    return {name: facts for name, facts in module.INFO.items() if not name.endswith("3d")}


def _find_or_download(config: MedmnistDataset) -> Path:
    large_enough = [side for side in SIZES if side >= config.image_size]
    size: int = config.size or (large_enough or SIZES[-1:])[0]
    folder = Path.home() / ".medmnist"
    path = folder / _file_name(config.name, size)
    if path.is_file():
        return path
    import medmnist  # noqa: PLC0415  takes seconds

    python_class = getattr(medmnist, medmnist.INFO[config.name]["python_class"])
    try:
        python_class(split="train", download=True, size=size, mmap_mode="r")
    except RuntimeError:
        there = [side for side in SIZES if (folder / _file_name(config.name, side)).is_file()]
        hint = f"; {folder} has it at {there[0]} px: dataset.size = {there[0]}" if there else ""
        raise DataError(
            f"dataset.name = {config.name!r}: {path} is not there and could not be downloaded; "
            f"get {path.name} from MedMNIST's Zenodo page and give it as dataset.path{hint}"
        ) from None
    return path


def _file_name(name: str, size: int) -> str:
    return f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz"
