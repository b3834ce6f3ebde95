"""Results of any origin -> one frame of checked rows, with every exclusion counted.

Rows come from published tables (`read_tables`), from a study's trials (`from_trials`), or from the
caller. They end up in the same columns, the predictors filled from the catalog of architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from medfathom.errors import InputError, ResultsError, did_you_mean

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
NOT_GIVEN = "not given"

UNFREEZE_WORDS = {
    "end-to-end": "5", "fine-tuning": "5", "full": "5", "all": "5",
    "linear-probing": "0", "linear probing": "0", "frozen": "0", "none": "0",
}  # fmt: skip
"""What papers call the two ends of the unfreeze depth."""


class Facts(Protocol):
    """What the catalog knows of an architecture."""

    family: str
    n_params: int
    depth: int
    macs: int


Lookup = Callable[[str], Facts]


@dataclass(frozen=True)
class Exclusion:
    """Rows left out, and why."""

    reason: str
    rows: int
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


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
        percent: AUCs are in per cent.

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
    if percent:
        whole["auc"] = pd.to_numeric(whole["auc"], errors="coerce") / 100
    return whole, exclusions


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
                f"{path}: --map {left}={right}: no column {right!r}; {did_you_mean(right, frame)}"
            )
        else:
            raise ResultsError(
                f"{path}: --map {left}={right}: unknown {left!r}; {did_you_mean(left, COLUMNS)}"
            )
        frame = frame.assign(**{ours: frame[theirs]})
    return frame


def _matches(frame: pd.DataFrame, column: str, value: str, path: Path) -> pd.Series[bool]:
    if column not in frame:
        shown = [c for c in frame if not str(c).startswith("_")]
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
            any stratum of its data set (Dodge et al. 2019, eq. 8, without replacement). What is left is
            that an adaptive sampler also tunes more where it looks
            more: such results suggest, `confirm` decides.
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
            exclusions.append(Exclusion(reason, count, "trials"))
    usable = [r for r in complete if r.get("auc") is not None and np.isfinite(float(r["auc"]))]
    if len(usable) < len(complete):
        exclusions.append(Exclusion("complete but without an AUC", len(complete) - len(usable), "trials"))
    if not usable:
        raise ResultsError(f"no complete trial with an AUC among {len(listed)}: nothing to analyse")
    frame = pd.DataFrame(usable)
    for column, given in (("dataset", dataset), ("modality", modality)):
        if column not in frame:
            frame[column] = given
        if frame[column].isna().any():
            raise ResultsError(f"trials: {column} is not known for every trial; pass {column}=")
    frame["_row"], frame["_source"] = np.arange(1, len(frame) + 1), "trials"
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
        m = int(smallest[key[0]])
        best = part.sort_values("auc").iloc[-1].copy()
        best["auc"] = expected_best(part["auc"].to_numpy(float), m)
        best["seed"] = None
        rows.append(best)
    merged = len(frame) - len(rows)
    if merged:
        ms = ", ".join(f"{name}: best of {m}" for name, m in smallest.items())
        notes.append(Exclusion(f"search trials merged, one result per stratum ({ms})", merged, "trials"))
    return pd.DataFrame(rows), notes


def expected_best(values: np.ndarray, m: int) -> float:
    """Mean, over all ways to draw m of the values without replacement, of the largest.

    >>> expected_best(np.array([0.7, 0.8, 0.9]), 2)
    0.8666666666666667
    """
    ordered, n = np.sort(values), len(values)
    ways = [comb(i, m - 1) for i in range(n)]
    return float(sum(w * v for w, v in zip(ways, ordered, strict=True)) / comb(n, m))


def prepare(frame: pd.DataFrame, lookup: Lookup | None = None) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Check rows and fill what the catalog knows.

    Args:
        frame: columns `architecture dataset modality auc`, and any of `COLUMNS`.
        lookup: architecture name -> facts; by default `medfathom.models.catalog.lookup`.

    Returns:
        Rows with all of `COLUMNS`, and what was left out.

    Raises:
        ResultsError: in one line naming the row, for values that cannot be used.
    """
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ResultsError(f"results: no column {missing[0]!r}; required: {', '.join(REQUIRED)}")
    if frame.empty:
        raise ResultsError("results: the table is empty; nothing to analyse")
    rows = frame.copy()
    if "_row" not in rows:
        rows["_row"] = np.arange(len(rows))
    if "_source" not in rows:
        rows["_source"] = "results"
    exclusions = []
    rows = _texts(rows)
    rows, without = _aucs(rows)
    exclusions += without
    rows, repeated = _duplicates(rows)
    exclusions += repeated
    _one_modality_per_dataset(rows)
    rows = _filled(rows, lookup)
    return rows, exclusions


def _where(rows: pd.DataFrame, index: Any) -> str:
    row = rows.loc[index]
    return f"{row['_source']}, row {row['_row']} ({row['architecture']} on {row['dataset']})"


def _texts(rows: pd.DataFrame) -> pd.DataFrame:
    for column in (*REQUIRED[:3], *TEXTS):
        if column not in rows:
            rows[column] = None
        text = rows[column].map(_as_text)
        if column in REQUIRED and text.isna().any():
            first = text.index[text.isna()][0]
            raise ResultsError(
                f"{rows.loc[first, '_source']}, row {rows.loc[first, '_row']}: no {column}; give it a value"
            )
        rows[column] = text
    rows["init"] = rows["init"].fillna(NOT_GIVEN)
    depth = rows["unfreeze_depth"].fillna(NOT_GIVEN)
    rows["unfreeze_depth"] = depth.map(lambda word: UNFREEZE_WORDS.get(word.lower(), word))
    return rows


def _as_text(value: Any) -> str | None:
    """Text of a label; 5 and 5.0 and "5" are one."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _aucs(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    for column in ("auc", *NUMBERS):
        given = rows[column] if column in rows else pd.Series(np.nan, index=rows.index)
        number = pd.to_numeric(given, errors="coerce").astype(float)
        wrong = number.isna() & given.notna()
        if wrong.any():
            first = wrong.index[wrong][0]
            raise ResultsError(f"{_where(rows, first)}: {column} = {given[first]!r} is not a number")
        rows[column] = number
    auc = rows["auc"]
    outside = (auc < 0) | (auc > 1)
    if outside.any():
        first = outside.index[outside][0]
        hint = "; AUCs in per cent? give --percent" if 1 < auc[first] <= 100 else ""
        raise ResultsError(f"{_where(rows, first)}: auc = {auc[first]:g} is outside [0, 1]{hint}")
    for column in ("n_params", "depth", "macs", "n_trainable_params", "n_test", "n_train", "auc_se"):
        low = rows[column] < 0 if column in ("n_trainable_params", "auc_se") else rows[column] <= 0
        if low.any():
            first = low.index[low][0]
            raise ResultsError(f"{_where(rows, first)}: {column} = {rows[column][first]:g} must be positive")
    exclusions = [
        Exclusion("no AUC", int(part["auc"].isna().sum()), str(source))
        for source, part in rows.groupby("_source")
        if part["auc"].isna().any()
    ]
    rows = rows[rows["auc"].notna()]
    if rows.empty:
        raise ResultsError("results: no row has an AUC; nothing to analyse")
    return rows, exclusions


def _duplicates(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Leave out repeats of a whole row; refuse rows that only an unknown setting tells apart."""
    content = [c for c in rows if not str(c).startswith("_")]
    repeats = rows.astype(dict.fromkeys(content, str)).duplicated(content)
    exclusions = [
        Exclusion("a repeat of an earlier row", int(repeats.loc[part.index].sum()), str(source))
        for source, part in rows.groupby("_source")
        if repeats.loc[part.index].any()
    ]
    rows = rows[~repeats]
    keys = ["architecture", "dataset", "init", "unfreeze_depth", "seed"]
    clash = rows.duplicated(keys, keep=False)
    if clash.any():
        first = rows[clash].iloc[0]
        same = rows[(rows[keys].fillna("") == first[keys].fillna("")).all(axis=1)]
        differ = [c for c in content if c not in (*keys, "auc", *NUMBERS) and same[c].nunique() > 1]
        way = (
            f"--where {differ[0]}={same[differ[0]].iloc[0]} or --map seed={differ[0]}" if differ else "a seed"
        )
        raise ResultsError(
            f"{first['_source']}, rows {first['_row']} and {same['_row'].iloc[1]}: {first['architecture']} on "
            f"{first['dataset']} twice with the same init, unfreeze_depth and seed; tell them apart with {way}"
        )
    return rows, exclusions


def _one_modality_per_dataset(rows: pd.DataFrame) -> None:
    kinds = rows.groupby("dataset")["modality"].unique()
    mixed = kinds[kinds.map(len) > 1]
    if len(mixed):
        raise ResultsError(
            f"data set {mixed.index[0]!r} has several modalities: {', '.join(sorted(mixed.iloc[0]))}; "
            "a data set has one"
        )


def _filled(rows: pd.DataFrame, lookup: Lookup | None) -> pd.DataFrame:
    lacking = rows[["n_params", "depth", "family"]].isna().any(axis=1)
    for name in rows.loc[lacking, "architecture"].unique():
        index = rows.index[rows["architecture"] == name]
        try:
            facts = (lookup or _catalog())(str(name))
        except InputError as error:
            first = rows.index[lacking & (rows["architecture"] == name)][0]
            raise ResultsError(
                f"{_where(rows, first)}: {error}; or give its n_params, depth and family in the table"
            ) from None
        for column in ("family", "n_params", "depth"):
            rows.loc[index, column] = rows.loc[index, column].fillna(getattr(facts, column))
        rows.loc[index, "macs"] = rows.loc[index, "macs"].fillna(float(facts.macs))
    several = rows.groupby("architecture")["family"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        families = sorted(rows.loc[rows["architecture"] == name, "family"].unique())
        raise ResultsError(f"architecture {name!r} has several families: {', '.join(families)}; it has one")
    return rows


def _catalog() -> Lookup:
    from medfathom.models import catalog  # noqa: PLC0415

    found: Lookup = catalog.lookup
    return found
