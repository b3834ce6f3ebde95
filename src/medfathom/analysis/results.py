"""Results of any origin -> one frame of rows, with every exclusion counted.

Rows come from published tables (`read_tables`), from a study's trials (`from_trials`), or from the
caller. `rows.py` then checks and completes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Floats
from medfathom.errors import ResultsError, did_you_mean

REQUIRED = ("architecture", "dataset", "modality", "auc")
TEXTS = ("init", "unfreeze_depth", "seed", "family")
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
)
COLUMNS = REQUIRED + TEXTS + NUMBERS
AUCS = ("auc", "train_auc")
TRIALS = "trials"
"""The source of rows that come from studies."""


@dataclass(frozen=True)
class Exclusion:
    """Rows left out, and why."""

    reason: str
    rows: int
    source: str = ""


def read_tables(
    paths: Sequence[Path],
    maps: Mapping[str, str] | None = None,
    wheres: Mapping[str, str] | None = None,
    *,
    percent: bool = False,
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Published results from CSV files.

    Args:
        paths: files, read one after the other into one frame.
        maps: pairs of a column of the contract and a column of the file, in either order.
        wheres: column -> value (or several, separated by commas) that rows must have.
        percent: AUCs, training AUCs and their standard errors are in per cent.

    Returns:
        Rows as `prepare` takes them, and what was left out.

    Raises:
        ResultsError: in one line, for a file, column or value that cannot be used.
    """
    if not paths:
        raise ResultsError("no table given: name a CSV file with --table")
    frames, exclusions = [], []
    for path in paths:
        frame, left_out = _read_one(Path(path), maps or {}, wheres or {})
        frames.append(frame)
        exclusions += left_out
    whole = pd.concat(frames, ignore_index=True)
    for column in (c for c in (*AUCS, "auc_se") if percent and c in whole):
        whole[column] = numbers(whole, column) / 100
    return whole, exclusions


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
    wrong = number.isna() & given.notna()
    if wrong.any():
        first = wrong.index[wrong][0]
        raise ResultsError(f"{place(rows, first)}: {column} = {given[first]!r} is not a number")
    return number


def _read_one(
    path: Path, maps: Mapping[str, str], wheres: Mapping[str, str]
) -> tuple[pd.DataFrame, list[Exclusion]]:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", "NA", "NaN", "nan"])
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file") from None
    except pd.errors.EmptyDataError:
        raise ResultsError(f"{path}: the table is empty; give a header and one row per result") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from None
    frame = raw.rename(columns=lambda name: str(name).strip())
    frame["_row"] = np.arange(2, len(frame) + 2)
    frame["_source"] = path.name
    frame = _mapped(frame, maps, path)
    exclusions = []
    for column, value in wheres.items():
        keep = _matches(frame, column, value, path)
        if not keep.all():
            exclusions.append(Exclusion(f"{column} is not {value} (--where)", int((~keep).sum()), path.name))
        frame = frame[keep]
    if frame.empty:
        also = f" with {', '.join(f'{c}={v}' for c, v in wheres.items())}" if wheres else ""
        raise ResultsError(f"{path}: no rows{also}; nothing to analyse")
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ResultsError(
            f"{path}: no column {missing[0]!r}; map one with --map {missing[0]}=NAME. "
            f"The table has: {', '.join(c for c in raw.columns if not c.startswith('_'))}"
        )
    return frame, exclusions


def _mapped(frame: pd.DataFrame, maps: Mapping[str, str], path: Path) -> pd.DataFrame:
    for left, right in maps.items():
        if left in COLUMNS and right in frame:
            ours, theirs = left, right
        elif right in COLUMNS and left in frame:
            ours, theirs = right, left
        elif left in COLUMNS:
            raise ResultsError(
                f"{path}: --map {left}={right}: no column {right!r}; "
                f"{did_you_mean(right, map(str, frame.columns))}"
            )
        else:
            raise ResultsError(
                f"{path}: --map {left}={right}: unknown {left!r}; {did_you_mean(left, COLUMNS)}"
            )
        frame = frame.assign(**{ours: frame[theirs]})
    return frame


def _matches(frame: pd.DataFrame, column: str, value: str, path: Path) -> pd.Series[bool]:
    if column not in frame:
        shown = [str(c) for c in frame if not str(c).startswith("_")]
        raise ResultsError(f"{path}: --where {column}={value}: no such column; {did_you_mean(column, shown)}")
    text = frame[column].astype(str).str.strip()
    wanted = {value.strip()} if (text == value.strip()).any() else {part.strip() for part in value.split(",")}
    return text.isin(wanted)


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
            model. A search tries some strata (architecture, init, unfreeze depth) more often than
            others, and the best of many is better than the best of few; so each stratum stands with the
            expected best validation AUC of m of its trials, m the smallest number of complete trials in
            any stratum of its data set (Dodge et al. 2019, eq. 8, without replacement), and with the
            training AUC expected of that best trial. What is left is that an adaptive sampler also tunes
            more where it looks more: such results suggest, `confirm` decides.
            False: confirmed results, taken as they are, one row per seed.
        dataset: where records have none.
        modality: where records have none.
    """
    listed = [dict(record) for record in records]
    complete = [r for r in listed if _state(r) == "COMPLETE"]
    exclusions = []
    for state, reason in (
        ("PRUNED", "stopped early: not a finished model"),
        ("FAIL", "failed"),
        ("RUNNING", "still running"),
        ("WAITING", "not started"),
    ):
        count = sum(_state(r) == state for r in listed)
        if count:
            exclusions.append(Exclusion(reason, count, TRIALS))
    usable = [r for r in complete if r.get("auc") is not None and np.isfinite(float(r["auc"]))]
    if len(usable) < len(complete):
        exclusions.append(Exclusion("complete but without an AUC", len(complete) - len(usable), TRIALS))
    if not usable:
        raise ResultsError(f"no complete trial with an AUC among {len(listed)}: nothing to analyse")
    frame = pd.DataFrame(usable)
    for column, given in (("dataset", dataset), ("modality", modality)):
        if column not in frame:
            frame[column] = given
        if frame[column].isna().any():
            raise ResultsError(f"trials: {column} is not known for every trial; pass {column}=")
    frame["_row"], frame["_source"] = np.arange(1, len(frame) + 1), TRIALS
    if exploratory:
        frame, merged = _equal_tuning(frame)
        exclusions += merged
    return frame.reset_index(drop=True), exclusions


def _state(record: Mapping[str, Any]) -> str:
    return str(getattr(record.get("state"), "name", record.get("state"))).upper().removeprefix("TRIALSTATE.")


def _equal_tuning(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    keys = ["dataset", "architecture", *(c for c in ("init", "unfreeze_depth") if c in frame)]
    smallest = frame.groupby(keys).size().groupby("dataset").min()
    rows, notes = [], []
    for key, part in frame.groupby(keys, sort=True):
        m = int(smallest[str(next(iter(key)))])
        best, aucs = part.sort_values("auc").iloc[-1].copy(), part["auc"].to_numpy(float)
        best["auc"] = expected_best(aucs, m)
        if "train_auc" in part:  # of the same trial: the difference is then the gap of the trial chosen
            best["train_auc"] = expected_best(aucs, m, of=part["train_auc"].to_numpy(float))
        best["seed"] = None
        rows.append(best)
    merged = len(frame) - len(rows)
    if merged:
        ms = ", ".join(f"{name}: best of {m}" for name, m in smallest.items())
        notes.append(Exclusion(f"search trials merged, one result per stratum ({ms})", merged, TRIALS))
    return pd.DataFrame(rows), notes


def expected_best(values: Floats, m: int, of: Floats | None = None) -> float:
    """Mean, over all ways to draw m of the values without replacement, of the largest.

    Args:
        values: shape (n,).
        m: how many are drawn, at most n.
        of: shape (n,), what is averaged instead: what belongs to the value that is the largest.

    >>> round(expected_best(np.array([0.7, 0.8, 0.9]), 2), 6)
    0.866667
    """
    ways = comb(len(values), m)
    chances = np.array([comb(i, m - 1) / ways for i in range(len(values))])
    return float(chances @ (values if of is None else of)[np.argsort(values, kind="stable")])
