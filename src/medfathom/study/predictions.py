"""Validation predictions of finished trials: a small file each, in the home folder of the trial's driver."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from optuna.study import Study

from medfathom.files import home, write_atomically
from medfathom.trial.validation import ValidationPredictions


def predictions_path(study: Study, number: int) -> Path:
    """Where a trial's predictions are, by the study's own id: another name changes nothing."""
    return _file(_folder(study), number)


def _folder(study: Study) -> Path:
    return home() / "validation" / str(study.user_attrs.get("uid", study.study_name))


def _file(folder: Path, number: int) -> Path:
    return folder / f"trial-{number:05d}.npz"


def keep_predictions(study: Study, number: int, content: bytes) -> None:
    """Write a trial's predictions; nothing where there are none. Raises OSError on a full disk."""
    if not content:
        return
    path = predictions_path(study, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def read_predictions_of(study: Study, numbers: Iterable[int]) -> dict[int, ValidationPredictions]:
    """Predictions of trials, by number; without those of an earlier version or another machine's driver, that
    were too large, or are damaged.
    """
    folder, found = _folder(study), {}
    for number in numbers:
        with suppress(OSError):
            found[number] = ValidationPredictions.from_bytes(_file(folder, number).read_bytes())
    return {number: each for number, each in found.items() if each is not None}
