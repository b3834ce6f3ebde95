"""Attributes of DICOM files that are carried along for subgroups: sex, age, device. Never who it is.

pydicom is imported when an attribute is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medfathom.data.dicom import INSTALL, is_dicom
from medfathom.data.labels import normal_word
from medfathom.errors import DataError, did_you_mean
from medfathom.machine import cpus
from medfathom.text import printable

VALUES = ("AS", "CS", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US")
"""Value representations (PS3.5 6.2) that are read: ages, codes and numbers. Names, dates, identifiers and
free text may say who a patient is."""

TEXTS = (
    *("EthnicGroup", "InstitutionName", "InstitutionalDepartmentName", "Manufacturer"),
    *("ManufacturerModelName", "ProtocolName", "SoftwareVersions", "StationName"),
)
"""Attributes of text that are read nevertheless: they say where and how an image was made."""

YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
"""Years in each unit of an age string (PS3.5 6.2)."""

SAMPLES = ("PatientSex", "PatientAge", "ViewPosition", *TEXTS)
"""For hints."""

START = 132
"""Bytes that say whether a file is DICOM."""


def is_tag(name: str) -> bool:
    """Whether DICOM has an attribute of this keyword; False where pydicom is not installed."""
    try:
        from pydicom.datadict import tag_for_keyword  # noqa: PLC0415  an extra
    except ImportError:
        return False
    return tag_for_keyword(name) is not None


def read_tags(paths: Sequence[Path], names: Sequence[str]) -> dict[str, list[str]]:
    """Attribute -> each file's value as text, "" where it has none, is not DICOM or cannot be read.

    Ages are in years: `063Y` is 63, `006M` is 0.5.

    Args:
        paths: files.
        names: keywords, such as `PatientSex`.

    Raises:
        DataError: pydicom is not installed; no such attribute, or one that may say who a patient is; no file
            is DICOM.
    """
    if not names:
        return {}
    _check(names)
    with ThreadPoolExecutor(cpus()) as pool:
        found = list(pool.map(lambda path: _cells(path, names), paths))
    if not any(cells is not None for cells in found):
        raise DataError(f"dataset.keep: {names[0]!r} is an attribute of DICOM files, but no file is DICOM")
    return {name: ["" if cells is None else cells[k] for cells in found] for k, name in enumerate(names)}


def _check(names: Sequence[str]) -> None:
    try:
        from pydicom.datadict import dictionary_VR, tag_for_keyword  # noqa: PLC0415  an extra
    except ImportError:
        raise DataError(f"dataset.keep = {list(names)} names attributes of DICOM files; {INSTALL}") from None
    for name in names:
        tag = tag_for_keyword(name)
        if tag is None:
            hint = did_you_mean(name, SAMPLES)
            raise DataError(f"dataset.keep: {name!r} is no attribute of DICOM files; {hint}")
        if name not in TEXTS and dictionary_VR(tag) not in VALUES:
            raise DataError(
                f"dataset.keep: {name!r} may say who a patient is, and makes no subgroups; of text only "
                f"{', '.join(TEXTS)} can be kept"
            )


def _cells(path: Path, names: Sequence[str]) -> list[str] | None:
    """One file's values; None: it is not DICOM, or cannot be read, which its header's reader tells."""
    from pydicom import dcmread  # noqa: PLC0415  an extra
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415  an extra

    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(START)):
                return None
            file.seek(0)
            dataset = dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(names))
            return [_text(dataset.get(name)) for name in names]
    except (OSError, InvalidDicomError, ValueError, EOFError):
        return None


def _text(value: object) -> str:
    """One value as a cell; several are joined as DICOM writes them."""
    if value is None:
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    text = normal_word(printable("\\".join(map(str, value)) if several else str(value)))  # type: ignore[call-overload]
    number, unit = text[:-1], text[-1:]
    return (
        f"{int(number) * YEARS[unit]:.4g}"
        if len(text) == 4 and number.isdecimal() and unit in YEARS
        else text
    )
