"""For whom a model works: metrics per subgroup, differences, the largest gap. Never a single patient."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from medfathom.analysis.size.multiplicity import holm
from medfathom.data.labels import alike
from medfathom.errors import InputError, did_you_mean
from medfathom.evaluation.judging import Predictions, calibration_of, metrics_of
from medfathom.evaluation.results import Calibration, Value, difference, metric
from medfathom.metrics.intervals import Z95
from medfathom.metrics.unknown import is_absent, is_present

LEAST = 10
"""Positives, and negatives, below which a subgroup gets no metrics: images or cases, and patients who have
one, where they are known."""

MOST = 20
"""Subgroups of a column."""

UNKNOWN_VALUES = ("", "nan", "na", "n/a", "none", "unknown")
"""Cells that name no subgroup."""


@dataclass(frozen=True)
class Subgroup:
    """One value (or range) of a column.

    Attributes:
        column, value: which subgroup; a range is "[40, 50)".
        n: images (or cases); n_patients: None: not known.
        positives, negatives: of the rarest class, where there are several.
        why: why there are no metrics; empty: there are.
        auc, sensitivity, specificity: with intervals; of several classes the mean.
        calibration: of each class.
        difference: AUC less that of all other images of the column with a known value.
        p_value, p_holm: of that difference, alone and adjusted by Holm over all subgroups asked for.
    """

    column: str
    value: str
    n: int
    n_patients: int | None
    positives: int
    negatives: int
    why: str = ""
    auc: Value | None = None
    sensitivity: Value | None = None
    specificity: Value | None = None
    calibration: Sequence[Calibration] = ()
    difference: Value | None = None
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class LargestGap:
    """The two subgroups of a column whose AUCs are farthest apart.

    Attributes:
        best, worst: their values.
        gap: of the AUCs; the interval holds for all pairs of the column together (Bonferroni).
    """

    column: str
    best: str
    worst: str
    gap: Value


@dataclass(frozen=True)
class Subgroups:
    """All that was asked for; `left_out` has images without a value, by column."""

    groups: Sequence[Subgroup]
    gaps: Sequence[LargestGap]
    left_out: Mapping[str, int]


def columns_of(by: str, kept: Mapping[str, NDArray[np.str_]]) -> dict[str, NDArray[np.str_]]:
    """Column -> each image's subgroup, "" where it has none, from what `--by` says.

    Args:
        by: `sex,age:10`: a column, or a column of numbers with the width of its ranges.
        kept: the columns that the data carry along.

    Raises:
        InputError: no such column, one with too many values or two spellings of one, or one that has no
            numbers to be cut.
    """
    found = {}
    for word in filter(None, (part.strip() for part in by.split(","))):
        name, _, width = word.partition(":")
        own = {column.lower(): column for column in kept}
        if name.lower() not in own:
            hint = did_you_mean(name, kept) if kept else "the data keep none"
            raise InputError(
                f"--by {name}: the data keep no such column ({hint}); add it to the definition: "
                f'[dataset] keep = ["{name}"] (columns of csv, npz and hdf5; attributes of DICOM files)'
            )
        column = own[name.lower()]
        cells = kept[column]
        values = _ranges(word, cells, width) if width else _plain(cells)
        if not width and (sets := alike(set(values.tolist()) - {""})):
            counted = ", ".join(f"{value!r} ({int((values == value).sum())} images)" for value in sets[0])
            raise InputError(
                f"--by {name}: values of {column} differ only in their spelling and would be subgroups of "
                f"their own: {counted}; write them alike in the data"
            )
        if len(names := set(values.tolist()) - {""}) > MOST:
            raise InputError(
                f"--by {name}: {column} has {len(names)} values, but at most {MOST} subgroups are "
                f"allowed; if they are numbers, group them in ranges: --by {name}:10"
            )
        found[column] = values
    return found


def _plain(cells: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.array(
        ["" if cell.lower() in UNKNOWN_VALUES else cell for cell in cells.tolist()], dtype=np.str_
    )


def _ranges(word: str, cells: NDArray[np.str_], width: str) -> NDArray[np.str_]:
    """Each number's range, [low, high)."""
    step = _number(width)
    if step is None or step <= 0:
        raise InputError(f"--by {word}: the width of ranges must be a number above 0, but got {width!r}")
    numbers = [_number(cell) for cell in cells.tolist()]
    if all(number is None for number in numbers):
        raise InputError(
            f"--by {word}: the column has no numbers, but for example {str(cells[0])!r}; leave out :{width}"
        )
    return np.array(["" if n is None else _range(Decimal(repr(n)), Decimal(repr(step))) for n in numbers])


def _range(number: Decimal, step: Decimal) -> str:
    """In decimals: 0.3 / 0.1 is below 3 in floating point, and six digits do not tell 2015031 of 2015035."""
    start = (number / step).to_integral_value(ROUND_FLOOR) * step
    low, high = (f"{(end + 0).normalize():f}" for end in (start, start + step))
    return f"[{low}, {high})"


def _number(text: str) -> float | None:
    """Also with a decimal comma; "1,000" would be a thousand."""
    try:
        number = float(re.sub(r"^([+-]?\d+),(\d{1,2})$", r"\1.\2", text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def subgroups_of(found: Predictions, columns: Mapping[str, NDArray[np.str_]]) -> Subgroups:
    """Metrics of every subgroup, and the differences between them.

    Args:
        found: all images (or cases).
        columns: column -> the subgroup of each, (m,).
    """
    groups, gaps = [], []
    judged = np.all([flags.any(axis=0) for flags in _flags(found)], axis=0)
    for column, values in columns.items():
        known = values != ""
        own = [
            _subgroup(found, column, name, values == name, known, judged)
            for name in np.unique(values[known]).tolist()
        ]
        groups += own
        gaps += _largest(column, [each for each in own if not each.why])
    tested = [k for k, each in enumerate(groups) if each.p_value is not None]
    adjusted = (
        dict(zip(tested, holm([groups[k].p_value or 0.0 for k in tested]), strict=True)) if tested else {}
    )
    whole = [Subgroup(**{**vars(each), "p_holm": adjusted.get(k)}) for k, each in enumerate(groups)]
    return Subgroups(whole, gaps, {column: int((values == "").sum()) for column, values in columns.items()})


def _subgroup(
    found: Predictions,
    column: str,
    name: str,
    rows: NDArray[np.bool_],
    known: NDArray[np.bool_],
    judged: NDArray[np.bool_],
) -> Subgroup:
    """`judged`: which classes all images together can judge."""
    part = found.part(rows)
    positives, negatives, why = _enough(part, judged)
    patients = None if part.groups is None else len(np.unique(part.groups))
    plain = Subgroup(column, name, len(part), patients, positives, negatives, why)
    if why:
        return plain
    metrics = metrics_of(part)
    auc = metric(metrics, "auc")
    rest = found.part(known & ~rows)
    compared = None if _enough(rest, judged)[2] else difference(auc, metric(metrics_of(rest), "auc"))
    return Subgroup(
        **{
            **vars(plain),
            "auc": auc,
            "sensitivity": metric(metrics, "sensitivity"),
            "specificity": metric(metrics, "specificity"),
            "calibration": calibration_of(part),
            "difference": compared,
            "p_value": None if compared is None else _p_value(compared),
        }
    )


def _flags(part: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images (or cases) are positives and which negatives of each class, (m, C) each."""
    labels = part.labels
    flags = labels if labels.ndim == 2 else labels[:, None] == np.arange(len(part.config.class_names))
    if part.task == "binary":
        flags = flags[:, 1:]
    return is_present(flags), is_absent(flags)


def _enough(part: Predictions, judged: NDArray[np.bool_]) -> tuple[int, int, str]:
    """Positives and negatives of the rarest of these classes, and why they are too few."""
    flags = [each[:, judged] for each in _flags(part)]
    positives, negatives = min(zip(*(each.sum(axis=0).tolist() for each in flags), strict=True), key=min)
    needed = f"at least {LEAST} each are needed"
    if min(positives, negatives) < LEAST:
        return positives, negatives, f"too few: {positives} positive and {negatives} negative, {needed}"
    if (patients := part.groups) is not None:
        who = [[len(np.unique(patients[column])) for column in each.T] for each in flags]
        ill, well = min(zip(*who, strict=True), key=min)
        if min(ill, well) < LEAST:
            few = f"too few patients: {ill} with a positive and {well} with a negative one, {needed}"
            return positives, negatives, few
    return positives, negatives, ""


def _p_value(difference: Value) -> float:
    """Two-sided, by the normal distribution, from the side of the interval that faces 0."""
    value, low, high = difference.value or 0.0, difference.low or 0.0, difference.high or 0.0
    error = (value - low if value > 0 else high - value) / Z95
    return math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else float(value == 0)


def _largest(column: str, groups: Sequence[Subgroup]) -> list[LargestGap]:
    """Of a column with at least two subgroups that have an AUC."""
    known = {each.value: each.auc for each in groups if each.auc and each.auc.low is not None}
    if len(known) < 2:
        return []
    aucs = {name: each.value or 0.0 for name, each in known.items()}
    best, worst = max(aucs, key=aucs.__getitem__), min(aucs, key=aucs.__getitem__)
    gap = difference(known[best], known[worst])
    if gap is None or gap.value is None or gap.low is None or gap.high is None:
        return []
    wider = NormalDist().inv_cdf(1 - 0.025 / math.comb(len(known), 2)) / Z95
    low, high = gap.value - wider * (gap.value - gap.low), gap.value + wider * (gap.high - gap.value)
    return [LargestGap(column, best, worst, Value(gap.value, low, high))]
