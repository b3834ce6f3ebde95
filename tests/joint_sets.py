"""Definitions of several small data sets, and tasks on them."""

from __future__ import annotations

from pathlib import Path

from medfathom.data.joint import prepare_study
from medfathom.data.prepared import JointData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.joint import JointDataset
from medfathom.trial.task import TrialTask

SIZES = {"image_size": 32, "n_val": 16, "n_test": 16, "difficulty": 0.2}


def chest(**changes: object) -> dict[str, object]:
    """Grey images, three classes."""
    own = {"source": "phantom-cxr", "name": "chest", "modality": "CXR", "n_train": 24}
    return {**own, **SIZES, **changes}


def retina(**changes: object) -> dict[str, object]:
    """Grey images, two labels."""
    own = {"source": "phantom-oct", "name": "retina", "modality": "OCT", "n_train": 16, "task": "multilabel"}
    return {**own, **SIZES, **changes}


def tissue(**changes: object) -> dict[str, object]:
    """Images in colour, of patients; two classes."""
    own = {"source": "phantom-wsi", "name": "tissue", "modality": "WSI", "n_train": 20}
    patients = {"patients_train": 10, "patients_val": 8, "patients_test": 8}
    return {**own, **SIZES, **patients, "classes": ["normal", "crowded"], **changes}


def joined(*tables: dict[str, object], channels: int | None = 3) -> JointDataset:
    return JointDataset.model_validate({"source": "joint", "datasets": list(tables), "channels": channels})


def prepared(dataset: JointDataset, cache: Path) -> JointData:
    data = prepare_study(dataset, cache)
    assert isinstance(data, JointData)
    return data


def task_on(data: object, folder: Path, epochs: int = 2) -> TrialTask:
    training = TrainingConfig(precision="float32", cached_views=2)
    return TrialTask(data, training, epochs, 7, folder / "cache", folder / "trial.pt", "cpu", 1)  # type: ignore[arg-type]
