"""MedMNIST and MedMNIST+ sets, with their official splits, class names and tasks."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medfathom.data.sources.base import Listing
from medfathom.data.sources.npz import NpzSource
from medfathom.definitions.dataset import MedmnistDataset, NpzDataset
from medfathom.errors import DataError, did_you_mean

SIZES = (28, 64, 128, 224)
"""Sides of MedMNIST+'s versions, pixels."""


@dataclass(frozen=True)
class MedmnistSet:
    """What the medmnist package knows of a set."""

    class_names: tuple[str, ...]
    multilabel: bool
    python_class: str


class MedmnistSource(NpzSource):
    """The npz file of a set: given, found where the medmnist package puts it, or downloaded by it."""

    def __init__(self, config: MedmnistDataset) -> None:
        known = known_sets()
        if config.name not in known:
            raise DataError(
                f"dataset.name = {config.name!r}: no 2-D MedMNIST set; {did_you_mean(config.name, known)}"
            )
        self._set = known[config.name]
        path = Path(config.path) if config.path is not None else _find_or_download(config, self._set)
        super().__init__(
            NpzDataset(
                source="npz",
                modality=config.modality,
                image_size=config.image_size,
                fit=config.fit,
                bits=config.bits,
                path=str(path),
                class_names=list(self._set.class_names),
            )
        )

    def listing(self) -> Listing:
        """The file's listing, after a check that its labels are those of this set."""
        if "train_labels" in self._archive.names:
            width = self._archive.head("train_labels").shape[1:]
            expected = (len(self._set.class_names) if self._set.multilabel else 1,)
            if width != expected:
                raise DataError(
                    f"{self.path}: train_labels has rows of shape {width}, but this set has {expected}"
                )
        return super().listing()


def known_sets() -> dict[str, MedmnistSet]:
    """Every 2-D set that the medmnist package knows, by name.

    Only the package's table is imported: the package itself would import torch, torchvision and skimage.
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
    with _quiet_where_home_is_read_only():
        table.loader.exec_module(module)
    return {
        name: MedmnistSet(
            class_names=tuple(facts["label"][str(index)] for index in range(len(facts["label"]))),
            multilabel="multi-label" in facts["task"],
            python_class=facts["python_class"],
        )
        for name, facts in module.INFO.items()
        if not name.endswith("3d")
    }


@contextmanager
def _quiet_where_home_is_read_only() -> Iterator[None]:
    """The package makes `~/.medmnist` when it is imported, and warns where it cannot."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to setup default root", category=UserWarning)
        yield


def _find_or_download(config: MedmnistDataset, known: MedmnistSet) -> Path:
    large_enough = [side for side in SIZES if side >= config.image_size]
    size: int = config.size or (large_enough or SIZES[-1:])[0]
    folder = Path.home() / ".medmnist"
    path = folder / _file_name(config.name, size)
    if path.is_file():
        return path
    with _quiet_where_home_is_read_only():
        import medmnist  # noqa: PLC0415  takes seconds

    try:
        getattr(medmnist, known.python_class)(split="train", download=True, size=size, mmap_mode="r")
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
