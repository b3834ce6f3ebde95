"""How often the test split of a study was opened, and for which models: the storage remembers all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study

from medfathom.confirmation.json_forms import OpeningJson

OPENINGS = "test_openings"
"""Attribute of a study: every opening of its test split, in order."""

JobKey = tuple[int, int]
"""Number of a search trial, and index of a seed."""


@dataclass(frozen=True)
class Opening:
    """One opening of the test split.

    Attributes:
        when: local time, "2026-01-31 23:59:59".
        by: the command.
        models: what it was opened for.
        n_images: of the test split.
    """

    when: str
    by: str
    models: tuple[JobKey, ...]
    n_images: int

    def to_dict(self) -> OpeningJson:
        """JSON form, as the study's attribute has it."""
        models = [list(key) for key in self.models]
        return {"when": self.when, "by": self.by, "models": models, "n_images": self.n_images}


def read_openings(study: Study) -> list[Opening]:
    """All openings so far, in order."""
    return [
        Opening(o["when"], o["by"], tuple((trial, seed) for trial, seed in o["models"]), o["n_images"])
        for o in study.user_attrs.get(OPENINGS, [])
    ]


def remember_opening(study: Study, models: Sequence[JobKey], n_images: int) -> None:
    """Write down that `confirm` opens the test split, unless it was opened for all of these models before."""
    openings = read_openings(study)
    before = {key for opening in openings for key in opening.models}
    new = tuple(key for key in models if key not in before)
    if new:
        openings.append(Opening(time.strftime("%Y-%m-%d %H:%M:%S"), "confirm", new, n_images))
        study.set_user_attr(OPENINGS, [opening.to_dict() for opening in openings])
