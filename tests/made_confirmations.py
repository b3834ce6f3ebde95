"""Searches and confirmations that were never trained: as typed values, and in a storage."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfathom.confirmation.find import (
    CONFIRMS,
    confirmation_name,
    confirmed_folder,
    find_confirmation,
    predictions_file,
)
from medfathom.confirmation.jobs import list_jobs
from medfathom.confirmation.results import ConfirmedModel, StratumResult
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.metrics.auc import roc_auc_score
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.read import read_study
from medfathom.trial.record import SplitMetrics, TrialRecord

FACTS = {"family": "efficientnet", "n_params": 4_652_008, "n_trainable_params": 2, "depth": 53, "macs": 5}
"""Attributes that every finished trial has, for trials that nobody trained."""


def small_search() -> StudyConfig:
    """A search of two architectures at two depths, to be confirmed."""
    return load_definition(
        "demo",
        [
            "sampler=random",
            "space.architecture.role='scientific'",
            "space.architecture.choices=['tf_efficientnet_lite0', 'tf_efficientnet_lite1']",
            "space.init.value='imagenet'",
            "space.unfreeze_depth.role='scientific'",
            "space.unfreeze_depth.low=0",
            "space.unfreeze_depth.high=1",
            "budget.trials=8",
            "budget.epochs=2",
            "dataset.image_size=32",
            "dataset.n_train=24",
            "dataset.n_val=12",
            "dataset.n_test=12",
        ],
    )


def made_model(**changes: Any) -> ConfirmedModel:
    values = {
        "trial": 0,
        "seed": 0,
        "folder": Path("trial-00000"),
        "val_auc": 0.85,
        "test_auc": 0.8,
        "n_test": 100,
        "test": SplitMetrics(auc=0.8),
        "record": TrialRecord(),
        "row": {},
    }
    return ConfirmedModel(**values | changes)


def made_result(**changes: Any) -> StratumResult:
    values = {
        "stratum": "all",
        "search_trial": 0,
        "chosen": True,
        "architecture": "tf_efficientnet_lite0",
        "init": "imagenet",
        "unfreeze_depth": 1,
        **FACTS,
        "params": {},
        "search_auc": 0.85,
        "val_auc": 0.85,
        "test_auc": 0.8,
        "seed_sd": None,
        "sampling_ci": (0.7, 0.9),
        "ci": (0.7, 0.9),
        "metric_means": {},
        "models": (made_model(),),
    }
    return StratumResult(**values | changes)


def load(name: str, url: str | None = None) -> Any:
    return read_study(url or default_url(), name)


def searched(
    config: StudyConfig, *, complete: bool = True, fingerprint: str = "data", url: str = "", ended: int = 8
) -> Any:
    """Eight trials: those of lite0 complete with rising AUC, those of lite1 stopped, the last one failed."""
    with open_study(config, url or default_url(), fingerprint) as driver:
        for assignment in islice(iter(driver.assign, None), ended):
            number = assignment.number
            if number == 7:
                driver.fail(number, "out of memory", FACTS)
            elif complete and assignment.params.architecture.endswith("0"):
                driver.complete(number, 0.7 + number / 100, FACTS | {"positive": "1"})
            else:
                driver.report(number, 1, 0.99)
                driver.prune(number, FACTS, "stopped by asha at epoch 1")
    return load(config.name, url)


def confirmed(config: StudyConfig, study: Any, seeds: int = 3) -> Any:
    """A made confirmation: known predictions of each model."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    jobs = list_jobs(study, seeds, None, [])
    with open_study(other, default_url(), "data") as driver:
        driver.study.set_user_attr(CONFIRMS, study.user_attrs["uid"])
        driver.budget = len(jobs)
        for job in jobs:
            keys = {"search_trial": job.trial.number, "seed_index": job.seed_index, "seed": job.seed_index}
            driver.study.enqueue_trial(
                job.trial.params, user_attrs={**keys, "stratum": job.trial.user_attrs["stratum"]}
            )
            assignment = driver.assign()
            assert assignment is not None
            assert assignment.seed == job.seed_index
            scores = labels + random.normal(0, 1, 60)
            name = f"trial-{assignment.number:05d}"
            folder = confirmed_folder(study) / name
            folder.mkdir(parents=True)
            table = {
                "name": list(map(str, range(60))),
                "group": None,
                "label": labels,
                "probability:ill": scores,
            }
            pd.DataFrame(table).to_parquet(predictions_file(folder, "test"))
            auc = float(roc_auc_score(labels, scores)[0])
            driver.complete(assignment.number, 0.9, {**FACTS, "test_auc": auc, "folder": name, "n_test": 60})
    return find_confirmation(load(config.name))
