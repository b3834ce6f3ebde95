"""Confirmed models that were never trained: what the tests of `confirm` let workers do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fake_work
from made_confirmations import FACTS
from medfathom.metrics.auc import roc_auc_score
from medfathom.models.folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.scheduling.messages import Order, Result, RunSettings

BEGUN = "begun.txt"


def keep(folder: Path, number: int) -> dict[str, Any]:
    """Write the files of a confirmed model, its predictions made up. Returns its attributes."""
    own = folder / f"trial-{number:05d}"
    own.mkdir(parents=True, exist_ok=True)
    labels = np.arange(40) % 2
    scores = labels + np.random.default_rng(number).normal(0, 1, 40)
    table = {"name": list(map(str, range(40))), "group": None, "label": labels, "probability:ill": scores}
    pd.DataFrame(table).to_parquet(own / "test.parquet")
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        (own / name).touch()
    return {**FACTS, "test_auc": float(roc_auc_score(labels, scores)[0]), "folder": own.name, "n_test": 40}


def results(
    settings: RunSettings,
    order: Order,
    *,
    study: str,
    folder: Path,
    pictures: frozenset[int],
    objective: str,
) -> Iterator[Result]:
    """As `confirmation.worker.confirmed_results`; leaves a line for each trial that begins."""
    number = order.assignment.number
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / BEGUN).open("a") as file:
        file.write(f"{number}\n")
    for each in fake_work.quick(settings, order):
        if not each.record.finished:
            yield each
    last = settings.config.budget.epochs
    yield fake_work.result(settings, last, 0.9, **keep(folder, number))


def begun(folder: Path) -> list[int]:
    """Numbers of the trials that workers began, in order."""
    return [int(line) for line in (folder / BEGUN).read_text().split()]
