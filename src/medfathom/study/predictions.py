"""Validation predictions of finished trials: a small file each, in the home folder of the trial's driver."""

from __future__ import annotations

from pathlib import Path

from optuna.study import Study

from medfathom.files import home, write_atomically
from medfathom.trial.validation import ValidationPredictions


def predictions_path(study: Study, number: int) -> Path:
    """Where a trial's predictions are, by the study's own id: another name changes nothing."""
    return (
        home() / "validation" / str(study.user_attrs.get("uid", study.study_name)) / f"trial-{number:05d}.npz"
    )


def keep_predictions(study: Study, number: int, content: bytes) -> None:
    """Write a trial's predictions; nothing where there are none. Raises OSError on a full disk."""
    if not content:
        return
    path = predictions_path(study, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def read_predictions_of(study: Study, number: int) -> ValidationPredictions | None:
    """A trial's predictions; None: an earlier version, another machine's driver, too large, or damaged."""
    try:
        return ValidationPredictions.from_bytes(predictions_path(study, number).read_bytes())
    except OSError:
        return None
