"""Results of any origin -> one frame of rows, with every exclusion counted.

Rows come from published tables (`read_tables`), from a study's trials (`from_trials`), or from the
caller. `rows.py` then checks and completes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Floats
from medfathom.errors import ResultsError, did_you_mean
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
WIDE_SHARE, FEWEST_WIDE = 0.8, 4
"""A table with so many columns that are numbers in this share of its rows has a data set a column."""

MEDMNIST = {
    "pathmnist": "WSI", "chestmnist": "CXR", "dermamnist": "dermatoscopy", "octmnist": "OCT",
    "pneumoniamnist": "CXR", "retinamnist": "fundus", "breastmnist": "US", "bloodmnist": "microscopy",
    "tissuemnist": "microscopy", "organamnist": "CT", "organcmnist": "CT", "organsmnist": "CT",
}  # fmt: skip
"""The modality of MedMNIST's data sets, for tables that leave it out (Yang et al., Scientific Data 2023)."""

TRIALS = "trials"
"""The source of rows that come from studies."""


@dataclass(frozen=True)
class Exclusion:
    """Rows left out, and why."""

    reason: str
    rows: int
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How tables are read.

    Attributes:
        maps: pairs of a column of the contract and a column of the file, in either order.
        wheres: column -> value (or several, separated by commas) that rows must have.
        fixed: column of the contract -> its value in all rows, or by data set (`a:CXR,b:OCT`).
        names: the table's name of an architecture -> the architecture.
        settings: columns within whose values architectures are compared.
        best_by: a column, `-` before it where lower is better: of rows that differ in nothing but how
            they were tuned, only the best stays.
        percent: AUCs, training AUCs and their standard errors are in per cent.
    """

    maps: Mapping[str, str] = field(default_factory=dict)
    wheres: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()
    best_by: str | None = None
    percent: bool = False


def read_tables(
    paths: Sequence[Path],
    maps: Mapping[str, str] | None = None,
    wheres: Mapping[str, str] | None = None,
    *,
    percent: bool = False,
    reading: Reading | None = None,
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Published results from CSV files.

    Args:
        paths: files (`.csv`, `.csv.gz`), read one after the other into one frame.
        maps: as in `Reading`.
        wheres: as in `Reading`.
        percent: as in `Reading`.
        reading: all of these and more; replaces them.

    Returns:
        Rows as `prepare` takes them, and what was left out.

    Raises:
        ResultsError: in one line, for a file, column or value that cannot be used.
    """
    if not paths:
        raise ResultsError("no table given: name a CSV file with --table")
    how = reading or Reading(maps=maps or {}, wheres=wheres or {}, percent=percent)
    frames, exclusions = [], []
    for path in paths:
        frame, left_out = _read_one(Path(path), how)
        frames.append(frame)
        exclusions += left_out
    whole = pd.concat(frames, ignore_index=True)
    for column in (c for c in (*AUCS, "auc_se") if how.percent and c in whole):
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


def _read_one(path: Path, how: Reading) -> tuple[pd.DataFrame, list[Exclusion]]:
    raw = _csv(path)
    frame = raw.rename(columns=lambda name: str(name).strip())
    frame = frame[[c for c in frame if not str(c).startswith("Unnamed:")]]
    frame["_row"] = np.arange(2, len(frame) + 2)
    frame["_source"] = path.name
    frame = _with_fixed(_mapped(frame, how.maps, path), how.fixed, path)
    frame, exclusions = _chosen(frame, how.wheres, path)
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ResultsError(_no_column(path, missing[0], raw))
    frame["architecture"] = frame["architecture"].replace(dict(how.names))
    for column in how.settings:
        frame = _as_setting(frame, column, path)
    if how.best_by:
        frame, merged = _best_of_search(frame, how.best_by, path)
        exclusions.append(merged)
    return frame, exclusions


def _with_fixed(frame: pd.DataFrame, fixed: Mapping[str, str], path: Path) -> pd.DataFrame:
    """The frame with columns that are given, and MedMNIST's modalities where the table has none."""
    for column, value in fixed.items():
        by_dataset = dict(pair.split(":", 1) for pair in value.split(",") if ":" in pair)
        if not by_dataset or "dataset" not in frame:
            frame = frame.assign(**{column: value})
            continue
        lacking = sorted(set(frame["dataset"].dropna().astype(str)) - set(by_dataset))
        if lacking:
            raise ResultsError(
                f"{path}: --set {column}={value}: no {column} for data set {lacking[0]!r}; "
                f"add {lacking[0]}:VALUE"
            )
        frame = frame.assign(**{column: frame["dataset"].astype(str).map(by_dataset)})
    if "modality" not in frame and "dataset" in frame:
        known = frame["dataset"].astype(str).str.lower().map(MEDMNIST)
        if known.notna().all():
            frame = frame.assign(modality=known)
    return frame


def _csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", "NA", "NaN", "nan"])
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file") from None
    except pd.errors.EmptyDataError:
        raise ResultsError(f"{path}: the table is empty; give a header and one row per result") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from None


def _chosen(
    frame: pd.DataFrame, wheres: Mapping[str, str], path: Path
) -> tuple[pd.DataFrame, list[Exclusion]]:
    exclusions = []
    for column, value in wheres.items():
        keep = _matches(frame, column, value, path)
        if not keep.all():
            exclusions.append(Exclusion(f"{column} is not {value} (--where)", int((~keep).sum()), path.name))
        frame = frame[keep]
    if frame.empty:
        also = f" with {', '.join(f'{c}={v}' for c, v in wheres.items())}" if wheres else ""
        raise ResultsError(f"{path}: no rows{also}; nothing to analyse")
    return frame.copy(), exclusions


OTHER_NAMES = {
    "architecture": ("model", "network", "method", "backbone", "arch", "encoder", "source", "name"),
    "dataset": ("data", "data_set", "target", "task", "benchmark"),
    "auc": ("test_auc", "auroc", "roc_auc", "val_auc"),
    "modality": ("domain", "imaging"),
}
"""What tables call a column of the contract, likeliest first."""


def _no_column(path: Path, column: str, raw: pd.DataFrame) -> str:
    """What to do about a required column that the table lacks."""
    shown = [str(c) for c in raw.columns if not str(c).startswith("_")]
    numeric = [c for c in shown if pd.to_numeric(raw[c], errors="coerce").notna().mean() > WIDE_SHARE]
    lower = {c.lower().strip(): c for c in shown}
    if "auc" not in lower and not _likely("auc", lower) and len(numeric) >= FEWEST_WIDE:
        hint = (
            f"the table looks wide ({', '.join(numeric[:4])}, …): write one row per result, with the columns "
            "architecture, dataset, modality and auc (pandas: DataFrame.melt)"
        )
    elif _likely(column, lower):
        hint = f"map one with --map {column}={_likely(column, lower)}"
    elif column in ("modality", "dataset"):
        hint = f"map one with --map {column}=NAME, or give all rows one with --set {column}=VALUE"
        hint += ", or one by data set with --set modality=DATASET:VALUE,…" if column == "modality" else ""
    else:
        hint = f"map one with --map {column}=NAME"
    return f"{path}: no column {column!r}; {hint}. The table has: {', '.join(shown)}"


def _likely(column: str, lower: Mapping[str, str]) -> str:
    """The table's column that a column of the contract may be; empty for none."""
    return next((lower[other] for other in OTHER_NAMES[column] if other in lower), "")


def _as_setting(frame: pd.DataFrame, column: str, path: Path) -> pd.DataFrame:
    if column not in frame:
        shown = [str(c) for c in frame if not str(c).startswith("_")]
        raise ResultsError(f"{path}: --setting {column}: no such column; {did_you_mean(column, shown)}")
    own = column + "=" + frame[column].fillna("not given").astype(str)
    return frame.assign(setting=frame["setting"] + ", " + own if "setting" in frame else own)


def _best_of_search(frame: pd.DataFrame, best_by: str, path: Path) -> tuple[pd.DataFrame, Exclusion]:
    """One row for each architecture, data set and setting: that with the best value of a column."""
    column, lower = best_by.lstrip("-"), best_by.startswith("-") or "loss" in best_by or "error" in best_by
    if column not in frame:
        shown = [str(c) for c in frame if not str(c).startswith("_")]
        raise ResultsError(f"{path}: --best-by {best_by}: no such column; {did_you_mean(column, shown)}")
    keys = [c for c in ("architecture", "dataset", "init", "unfreeze_depth", "setting", "seed") if c in frame]
    value = numbers(frame, column) * (-1 if lower else 1)
    ranked = frame.assign(_value=value).dropna(subset=["_value"]).sort_values("_value", kind="stable")
    best = ranked.drop_duplicates(keys, keep="last").drop(columns="_value").sort_index()
    runs = ranked.groupby(keys, dropna=False).size()
    spread = (
        f"{runs.min()} to {runs.max()} runs each" if runs.min() < runs.max() else f"{runs.max()} runs each"
    )
    optimism = (
        "; chosen by the AUC that is analysed: optimistic, the more so the more runs"
        if column == "auc"
        else ""
    )
    reason = f"not the best of its search by {'lowest' if lower else 'highest'} {column} ({spread}{optimism})"
    return best, Exclusion(reason, len(frame) - len(best), path.name)


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
