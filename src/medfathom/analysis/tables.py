"""Published tables -> rows: columns under any name, wide tables, searches of which the best run stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medfathom.analysis.results import AUCS, COLUMNS, REQUIRED, VALIDATION, Exclusion, numbers, place
from medfathom.errors import ResultsError, did_you_mean

MISSING = ["", "NA", "NaN", "nan", "-", "n/a", "N/A"]
"""What stands in a cell without a value."""

WIDE_SHARE, FEWEST_WIDE = 0.8, 4
"""A table with so many columns that are numbers in this share of its rows has a data set a column."""

MEDMNIST = {
    "pathmnist": "WSI", "chestmnist": "CXR", "dermamnist": "dermatoscopy", "octmnist": "OCT",
    "pneumoniamnist": "CXR", "retinamnist": "fundus", "breastmnist": "US", "bloodmnist": "microscopy",
    "tissuemnist": "microscopy", "organamnist": "CT", "organcmnist": "CT", "organsmnist": "CT",
}  # fmt: skip
"""The modality of MedMNIST's data sets, for tables that leave it out (Yang et al., Scientific Data 2023)."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How tables are read.

    Attributes:
        maps: pairs of a column of the contract and a column of the file, in either order.
        wheres: column -> value (or several, separated by commas) that rows must have.
        fixed: column of the contract -> its value in all rows, or by data set or architecture
            (`a:CXR,b:OCT`); empty: the table's own column is left out.
        names: the table's name of an architecture -> the architecture.
        settings: columns within whose values architectures are compared.
        best_by: a column, `-` before it where lower is better: of rows that differ in nothing but how
            they were tuned, only the best stays.
        wide: columns that are data sets, with their AUCs.
        percent: AUCs, training AUCs and their standard errors are in per cent.
    """

    maps: Mapping[str, str] = field(default_factory=dict)
    wheres: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()
    best_by: str | None = None
    wide: Sequence[str] = ()
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
    for column in (c for c in (*AUCS, VALIDATION, "auc_se") if how.percent and c in whole):
        whole[column] = _of_percent(whole, column)
    return whole, exclusions


def _of_percent(whole: pd.DataFrame, column: str) -> pd.Series[float]:
    """Percentages as fractions. An AUC of 1 % or less does not occur: such a value is a fraction already."""
    values = numbers(whole, column)
    fraction = (values > 0) & (values <= 1) & (column != "auc_se")
    if fraction.any():
        first = fraction.index[fraction][0]
        raise ResultsError(
            f"{place(whole, first)}: {column} = {values[first]:g} is a fraction, but with --percent all are "
            "in per cent; write all in per cent, or leave out --percent"
        )
    return values / 100


def _read_one(path: Path, how: Reading) -> tuple[pd.DataFrame, list[Exclusion]]:
    raw = _csv(path)
    frame = raw.rename(columns=lambda name: str(name).strip())
    frame = _headed(frame[[c for c in frame if not str(c).startswith("Unnamed:")]], how, path)
    frame["_row"] = np.arange(2, len(frame) + 2)
    frame = frame.dropna(how="all", subset=frame.columns[:-1])  # ",,," at the end of many a spreadsheet
    frame["_source"] = path.name
    frame = _long(_mapped(frame, how.maps, path), how.wide, path)
    frame = _counted(_with_fixed(frame, how.fixed, path))
    frame, exclusions = _chosen(frame, how.wheres, path)
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ResultsError(_no_column(path, missing[0], raw))
    frame["architecture"] = frame["architecture"].replace(dict(how.names))
    for column in how.settings:
        frame = _as_setting(frame, column, path)
    if how.best_by:
        frame, left_out = _best_of_search(frame, how.best_by, path, percent=how.percent)
        exclusions += left_out
    return frame, exclusions


def _with_fixed(frame: pd.DataFrame, fixed: Mapping[str, str], path: Path) -> pd.DataFrame:
    """The frame with columns that are given, and MedMNIST's modalities where the table has none."""
    for column, value in fixed.items():
        if not value:
            frame = frame.drop(columns=column, errors="ignore")
            continue
        given = dict(pair.split(":", 1) for pair in value.split(",") if ":" in pair)
        by = _named_by(frame, given)
        if not by:
            frame = frame.assign(**{column: value})
            continue
        lacking = sorted(set(frame[by].dropna().astype(str)) - set(given))
        if lacking:
            raise ResultsError(
                f"{path}: --set {column}={value}: no {column} for {NOUNS[by]} {lacking[0]!r}; "
                f"add {lacking[0]}:VALUE"
            )
        frame = frame.assign(**{column: frame[by].astype(str).map(given)})
    if "modality" not in frame and "dataset" in frame:
        known = frame["dataset"].astype(str).str.lower().map(MEDMNIST)
        if known.notna().all():
            frame = frame.assign(modality=known)
    return frame


NOUNS = {"dataset": "data set", "architecture": "architecture"}


def _named_by(frame: pd.DataFrame, given: Mapping[str, str]) -> str:
    """What the names of a `--set COLUMN=NAME:VALUE,…` are: data sets or architectures; empty: it has none."""
    if not given:
        return ""
    known = {column: set(frame[column].dropna().astype(str)) for column in NOUNS if column in frame}
    return max(known, key=lambda column: len(known[column] & set(given)), default="")


def _csv(path: Path) -> pd.DataFrame:
    """The file as texts; cells are parted by commas, or by semicolons or tabs if the header has no comma."""
    try:
        whole = pd.read_csv(path, dtype=str, nrows=0, sep="\x01", encoding="utf-8-sig")
        header = str(whole.columns[0])
        sep = next((s for s in (",", ";", "\t") if s in header), ",")
        frame = pd.read_csv(
            path, sep=sep, dtype=str, keep_default_na=False, na_values=MISSING, encoding="utf-8-sig"
        )
        frame = _unshifted(frame)
        return frame.replace(r"^(\d+),(\d+)$", r"\1.\2", regex=True) if sep == ";" else frame
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file") from None
    except pd.errors.EmptyDataError:
        raise ResultsError(f"{path}: the table is empty; give a header and one row per result") from None
    except UnicodeDecodeError:
        raise ResultsError(
            f"{path}: cannot be read as CSV, as it is no text in UTF-8 (a workbook, Parquet, or another "
            "encoding?); save it as CSV in UTF-8"
        ) from None
    except (OSError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from None


def _unshifted(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells under their own columns where each row, but not the header, ends with a separator.

    pandas takes the first cell of rows that are longer than the header for a row's name, which it is in
    tables of R: there names are numbers, or the last column has cells.
    """
    names = frame.index
    if isinstance(names, pd.RangeIndex) or names.nlevels > 1 or not frame.iloc[:, -1].isna().all():
        return frame
    if all(str(name).isdigit() for name in names):
        return frame
    return frame.reset_index().iloc[:, :-1].set_axis(frame.columns, axis=1)


def _headed(frame: pd.DataFrame, how: Reading, path: Path) -> pd.DataFrame:
    """Columns of the contract under their own names, as `AUC` or `Unfreeze depth`, too.

    Raises:
        ResultsError: two columns with different cells have one such name (pandas calls the second `auc.1`),
            and no option says which one is meant.
    """
    plain = {str(c): re.sub(r"[\s-]+", "_", str(c).lower()) for c in frame}
    said = {*how.maps, *how.maps.values(), *how.fixed}
    found: dict[str, str] = {}
    for column, word in plain.items():
        name = re.sub(r"\.\d+$", "", word)
        if name not in COLUMNS or name in said:
            continue
        first = found.setdefault(name, column)
        if not frame[column].equals(frame[first]):
            raise ResultsError(
                f"{path}: two columns are {name!r}, {first!r} and {column!r}, and their cells differ; say "
                f"which one is meant with --map {name}={first} or --map {name}={column}"
            )
    return frame.rename(columns={column: name for name, column in found.items() if name not in frame})


def _long(frame: pd.DataFrame, wide: Sequence[str], path: Path) -> pd.DataFrame:
    """A wide table with one row for each result."""
    if not wide:
        return frame
    shown = [str(c) for c in frame if not str(c).startswith("_")]
    for column in wide:
        if column not in frame:
            raise ResultsError(f"{path}: --wide {column}: no such column; {did_you_mean(column, shown)}")
    for column in ("dataset", "auc"):
        if column in frame:
            raise ResultsError(
                f"{path}: --wide makes the column {column!r} from names and values of columns, but the table "
                f"has one; leave it out with --set {column}= or leave out --wide"
            )
    others = [c for c in frame if c not in wide]
    return frame.melt(others, list(wide), "dataset", "auc")


COUNTS = ("n_params", "n_trainable_params", "macs")
THOUSANDS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts as plain numbers: `25.6M` is 25,600,000, and so is `25,600,000`."""

    def plain(value: object) -> object:
        found = re.fullmatch(r"([\d.]+) *([kmgb])", str(value).lower())
        if found and found[1].count(".") < 2:
            return str(float(found[1]) * THOUSANDS[found[2]])
        return (
            re.sub(r"[,_ ]", "", str(value)) if re.fullmatch(r"\d{1,3}([,_ ]\d{3})+", str(value)) else value
        )

    return frame.assign(**{c: frame[c].map(plain, na_action="ignore") for c in COUNTS if c in frame})


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
        hint = "the table seems to have one column of AUCs for each data set; "
        if column == "architecture":
            named = _likely(column, lower) or next((c for c in shown if c not in numeric), "NAME")
            hint += f"give the column of networks with --map architecture={named}, and "
        hint += f"give the columns that are data sets, of these: --wide {','.join(numeric)}"
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


LOWER_IS_BETTER = re.compile(r"loss|error|(?<![a-z])(err|nll|brier|ece|mse|rmse|mae)(?![a-z])")
"""Found in the names, in lower case, of columns whose lowest value is the best."""


def _best_of_search(
    frame: pd.DataFrame, best_by: str, path: Path, *, percent: bool
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """One row for each architecture, data set and setting: that with the best value of a column."""
    column = best_by.lstrip("-")
    lower = best_by.startswith("-") or bool(LOWER_IS_BETTER.search(column.lower()))
    if column not in frame:
        shown = [str(c) for c in frame if not str(c).startswith("_")]
        raise ResultsError(f"{path}: --best-by {best_by}: no such column; {did_you_mean(column, shown)}")
    keys = [c for c in ("architecture", "dataset", "init", "unfreeze_depth", "setting", "seed") if c in frame]
    value, auc = numbers(frame, column) * (-1 if lower else 1), numbers(frame, "auc")
    ranked = frame.assign(_value=value).dropna(subset=["_value"]).sort_values("_value", kind="stable")
    if ranked.empty:
        raise ResultsError(
            f"{path}: --best-by {best_by}: no row has a number there; choose by another column"
        )
    best = ranked.drop_duplicates(keys, keep="last").drop(columns="_value").sort_index()
    runs = ranked.groupby(keys, dropna=False).size()
    spread = (
        f"{runs.min()} to {runs.max()} runs each" if runs.min() < runs.max() else f"{runs.max()} runs each"
    )
    reason = f"not the best of its search by {'lowest' if lower else 'highest'} {column} ({spread}; "
    aucs = auc / 100 if percent else auc
    reason += _optimism(ranked.assign(_auc=aucs), best.index, keys, by_auc=value.equals(auc)) + ")"
    exclusions = [Exclusion(reason, len(ranked) - len(best), path.name)]
    if unknown := len(frame) - len(ranked):
        searches = pd.MultiIndex.from_frame(frame[keys].fillna(""))
        gone = ~searches.isin(searches[frame.index.isin(best.index)])
        names = ", ".join(sorted(set(frame["architecture"][gone].dropna())))
        whole = f"; searches without any: of {names}" if names else ""
        exclusions.append(Exclusion(f"no {column} to choose by{whole}", unknown, path.name))
    return best, exclusions


def _optimism(ranked: pd.DataFrame, best: pd.Index, keys: list[str], *, by_auc: bool) -> str:
    """What the choice of the best runs does to their AUC, in numbers."""
    of_search = ranked.groupby(keys, dropna=False)["_auc"].transform
    mean, most = (float((ranked["_auc"] - of_search(how))[best].mean()) for how in ("mean", "max"))
    if by_auc:
        return (
            "chosen by the AUC that is analysed, which is optimistic: on average the chosen runs are "
            f"{mean:.4f} above the mean of their search, and up to all of that may be chance"
        )
    return (
        f"on average the AUC of the chosen runs differs by {mean:+.4f} from the mean of their search and by "
        f"{most:+.4f} from its best; this is not optimistic if the choice was made on other images"
    )


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
