"""The grey scale of DICOM: modality LUT, then VOI LUT or window (PS3.3 C.11.1 and C.11.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.pixels import UnreadableImageError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class Values:
    """Values after the modality LUT, (rows, columns), and which of them are padding."""

    values: NDArray[np.float64]
    padding: NDArray[np.bool_]


def modality(dataset: Dataset, frame: int, stored: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Stored values in the units of the modality LUT: HU for CT (PS3.3 C.11.1.1)."""
    table = _first(dataset, "ModalityLUTSequence")
    if table is not None:
        return _looked_up(table, stored.astype(np.float64))[0]
    place = _macro(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = _number(place, "RescaleSlope"), _number(place, "RescaleIntercept")
    return stored.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)


def shown(
    dataset: Dataset, frame: int, values: Values, window: tuple[float, float] | None
) -> NDArray[np.float64]:
    """Grey from 0 to 1: by the given window, the file's VOI LUT, its first window, or its range."""
    if window is not None:
        return linear(values.values, *window)
    place = _macro(dataset, frame, "FrameVOILUTSequence")
    table = _first(place, "VOILUTSequence")
    if table is not None:
        grey, white = _looked_up(table, values.values)
        return grey / white
    centre, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
    name = str(place.get("VOILUTFunction") or "LINEAR").strip().upper()
    if name not in FUNCTIONS:
        raise UnreadableImageError(f"DICOM with VOI LUT function {name}, which is not read")
    # A width of zero stands in files that know of no window.
    if centre is None or width is None or width < (1 if name == "LINEAR" else np.finfo(float).tiny):
        return _range(values)
    return FUNCTIONS[name](values.values, centre, width)


def linear(values: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1, with 0 and 1 for the ends of the output.

    0 where x <= c - 0.5 - (w - 1)/2, 1 where x > c - 0.5 + (w - 1)/2, else ((x - (c - 0.5))/(w - 1) + 0.5).
    A width of 1 is a threshold.
    """
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def linear_exact(values: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.3.2: 0 where x <= c - w/2, 1 where x > c + w/2, else (x - c)/w + 0.5."""
    return np.clip((values - centre) / width + 0.5, 0, 1)


def sigmoid(values: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.3.1: 1/(1 + exp(-4 (x - c)/w))."""
    exponent = np.clip(-4 * (values - centre) / width, -700, 700)  # beyond, exp overflows
    grey: NDArray[np.float64] = 1 / (1 + np.exp(exponent))
    return grey


FUNCTIONS: dict[str, Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]] = {
    "LINEAR": linear,
    "LINEAR_EXACT": linear_exact,
    "SIGMOID": sigmoid,
}
"""By VOILUTFunction."""


def _range(values: Values) -> NDArray[np.float64]:
    """From the smallest value to the largest; an image of one value is black."""
    inside = values.values[~values.padding]
    if not inside.size or inside.min() == inside.max():
        return np.zeros(values.values.shape)
    low, high = float(inside.min()), float(inside.max())
    return np.clip((values.values - low) / (high - low), 0, 1)


def _looked_up(table: Dataset, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Each value's entry, and the largest value that an entry may have (PS3.3 C.11.1.1, C.11.2.1.1)."""
    n, first, bits = (int(part) for part in table.LUTDescriptor)
    n = n % 65536 or 65536
    entries = _entries(table, n)
    if first > 32767 and values.min() < 0:  # a signed number written as an unsigned one
        first -= 65536
    at = np.clip(np.rint(values) - first, 0, n - 1).astype(np.int64)
    # Some descriptors tell fewer bits than their entries have.
    white = max(2**bits - 1, 2 ** int(entries.max()).bit_length() - 1)
    return entries[at].astype(np.float64), white


def _entries(table: Dataset, n: int) -> NDArray[np.integer[Any]]:
    """The n entries, which are bytes or words."""
    data = table.LUTData
    if isinstance(data, bytes):
        order = "<" if table.original_encoding[1] in (True, None) else ">"
        packed = len(data) in (n, n + n % 2) and n > 1
        entries = np.frombuffer(data, dtype="u1" if packed else f"{order}u2")
    else:
        words = np.atleast_1d(np.array(data, dtype=np.int64)) % 65536
        packed = len(words) == (n + 1) // 2 and n > 1
        entries = words.astype("<u2").view("u1") if packed else words
    if len(entries) < n:
        raise UnreadableImageError(f"damaged (a DICOM LUT of {n} entries, of which {len(entries)} are there)")
    return entries[:n]


def _macro(dataset: Dataset, frame: int, name: str) -> Dataset:
    """Where a frame's values stand: in the enhanced objects' functional groups, else at the top."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    own = frames[frame] if frame < len(frames) else None
    for groups in (own, _first(dataset, "SharedFunctionalGroupsSequence")):
        found = None if groups is None else _first(groups, name)
        if found is not None:
            return found
    return dataset


def _first(dataset: Dataset, name: str) -> Dataset | None:
    """The first item of a sequence."""
    items = dataset.get(name)
    return items[0] if items else None


def _number(dataset: Dataset, name: str) -> float | None:
    """The first of an attribute's numbers; None where it has none."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        if not len(value):
            return None
        value = value[0]
    return float(value)
