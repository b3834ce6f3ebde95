"""Results of any origin -> one frame of rows, with every exclusion counted.

Rows come from published tables (`tables.py`), from a study's trials (`from_trials`), or from the caller.
`rows.py` then checks and completes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Floats
from medfathom.definitions.strategies import DEFAULT
from medfathom.errors import ResultsError
from medfathom.metrics.choice import best_first
from medfathom.metrics.rules import By
from medfathom.metrics.tuning import chances_of_choice

REQUIRED = ("architecture", "dataset", "modality", "auc")
TEXTS = ("init", "unfreeze_depth", "setting", "seed", "family")
NUMBERS = (
    "n_params",
    "depth",
    "n_test",
    "auc_se",
    "n_trainable_params",
    "macs",
    "train_auc",
    "n_train",
    "domain_shift",
    "imagenet_top1",
    "year",
    "attention",
)
COLUMNS = REQUIRED + TEXTS + NUMBERS
AUCS = ("auc", "train_auc")
VALIDATION = "val_auc"
"""Column of the validation AUC, by which a choice may be made that the test AUC judges."""

TRIALS = "trials"
"""The source of rows that come from studies."""


NOT_GIVEN = "not given"
"""An init or unfreeze depth that a table does not tell."""

JOINT = "joint"
"""Column of the data sets that a row's model was trained on together; empty where it was one."""


@dataclass(frozen=True)
class Exclusion:
    """Rows left out, and why."""

    reason: str
    rows: int
    source: str = ""


def place(rows: pd.DataFrame, index: Any) -> str:
    """Where a row comes from and what it is about, for errors."""
    row = rows.loc[index]
    return f"{row['_source']}, row {row['_row']} ({row['architecture']} on {row['dataset']})"


def numbers(rows: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column as numbers, NaN where nothing is given.

    Raises:
        ResultsError: naming the first row that has something else.
    """
    given = rows[column]
    number = pd.to_numeric(given, errors="coerce").astype(float)
    wrong = (number.isna() | number.isin([np.inf, -np.inf])) & given.notna()
    if wrong.any():
        first = wrong.index[wrong][0]
        hint = _hint(str(given[first]))
        raise ResultsError(f"{place(rows, first)}: {column} = {given[first]!r} is not a number{hint}")
    return number


def _hint(cell: str) -> str:
    """What to write instead of a cell that has more than a number, or a comma for a point."""
    if re.fullmatch(r"\s*[\d.]+\s*%\s*", cell):
        return "; leave out the sign % and give --percent"
    if re.fullmatch(r"-?\d+,\d+", cell):
        return "; write the decimal point, or no sign for thousands"
    return "; leave only the number in the cell" if re.match(r"\W*\d", cell) else ""


def from_trials(
    records: Iterable[Mapping[str, Any]],
    *,
    exploratory: bool = True,
    dataset: str | None = None,
    modality: str | None = None,
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """A study's trials as rows.

    Args:
        records: one mapping per trial: the user attributes of DESIGN's contract, `state`, and (unless
            given here) `dataset` and `modality`.
        exploratory: search trials. Only complete ones count: an early-stopped trial is no finished
            model. A search tries some strata (architecture, init, unfreeze depth, setting) more often than
            others, and the best of many is better than the best of few; so each stratum stands with the
            expected validation AUC of the best of m of its trials by the study's rule, m the smallest number
            of complete trials in any stratum of its data set (Dodge et al. 2019, eq. 8, without replacement),
            and with the training AUC expected of that best trial. What is left is that an adaptive sampler
            also tunes more where it looks more: such results suggest, `confirm` decides.
            False: confirmed results, taken as they are, one row per seed.
        dataset: where records have none.
        modality: where records have none.
    """
    listed = [dict(record) for record in records]
    complete = [r for r in listed if _state(r) == "COMPLETE"]
    exclusions = []
    for state, reason in (
        ("PRUNED", "stopped early, so not a finished model"),
        ("FAIL", "failed"),
        ("RUNNING", "still running"),
        ("WAITING", "not started"),
    ):
        count = sum(_state(r) == state for r in listed)
        if count:
            exclusions.append(Exclusion(reason, count, TRIALS))
    usable = [r for r in complete if r.get("auc") is not None and np.isfinite(float(r["auc"]))]
    if len(usable) < len(complete):
        exclusions.append(Exclusion("complete, but without an AUC", len(complete) - len(usable), TRIALS))
    if not usable:
        raise ResultsError(f"no complete trial with an AUC among {len(listed)}: nothing to analyse")
    frame = pd.DataFrame(usable)
    for column, given in (("dataset", dataset), ("modality", modality)):
        if column not in frame:
            frame[column] = given
        if frame[column].isna().any():
            raise ResultsError(f"trials: {column} is not known for every trial; pass {column}=")
    frame["_row"], frame["_source"] = np.arange(1, len(frame) + 1), TRIALS
    frame = _strategy_as_setting(frame)
    if exploratory:
        frame, merged = _equal_tuning(frame)
        exclusions += merged
    return frame.reset_index(drop=True), exclusions


def _state(record: Mapping[str, Any]) -> str:
    return str(getattr(record.get("state"), "name", record.get("state"))).upper().removeprefix("TRIALSTATE.")


STRATEGY = "strategy"
"""What a setting begins with where results differ in their transfer strategy."""


def _strategy_as_setting(frame: pd.DataFrame) -> pd.DataFrame:
    """Different transfer strategies are different settings, named first; nothing where all are `fixed`."""
    if "strategy" not in frame:
        return frame
    strategy = frame["strategy"].fillna(DEFAULT)
    if (strategy == DEFAULT).all():
        return frame
    others = frame["setting"].fillna("") if "setting" in frame else pd.Series("", index=frame.index)
    return frame.assign(setting=f"{STRATEGY}=" + strategy + others.map(lambda text: text and f", {text}"))


def _equal_tuning(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    keys = ["dataset", "architecture", *(c for c in ("init", "unfreeze_depth", "setting") if c in frame)]
    smallest = frame.groupby(keys).size().groupby("dataset").min()
    rows, notes = [], []
    for key, part in frame.groupby(keys, sort=True):
        m = int(smallest[str(next(iter(key)))])
        aucs, losses, by = part["auc"].to_numpy(float), _losses(part), _rule(part)
        best = part.iloc[best_first(aucs, losses, by)[0]].copy()
        chances = chances_of_choice(aucs, losses, m, by)
        best["auc"] = float(chances @ aucs)
        if "train_auc" in part:  # of the same trial: the difference is then the gap of the trial chosen
            best["train_auc"] = float(chances @ part["train_auc"].to_numpy(float))
        best["seed"] = None
        rows.append(best)
    merged = len(frame) - len(rows)
    if merged:
        ms = ", ".join(f"{name}: best of {m}" for name, m in smallest.items())
        notes.append(Exclusion(f"search trials merged, one result per stratum ({ms})", merged, TRIALS))
    return pd.DataFrame(rows), notes


def _losses(part: pd.DataFrame) -> Floats:
    """Validation log loss of each trial; NaN: not recorded."""
    if "log_loss" not in part:
        return np.full(len(part), np.nan)
    return pd.to_numeric(part["log_loss"], errors="coerce").to_numpy(float)


def _rule(part: pd.DataFrame) -> By:
    """By what the study of these trials chooses the best."""
    by: By = part["choice_by"].iloc[0] if "choice_by" in part else "auc"
    return by
