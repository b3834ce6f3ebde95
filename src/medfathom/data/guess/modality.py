"""Which modality images have, as DICOM files and names tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

NAMES = {
    "CXR": r"cxr|chest|x[-_ ]?rays?|pneumo\w*|chexpert|mimic|padchest|tubercul\w*|cardiomegaly|covid\w*",
    "OCT": r"octa?|octmnist|octmh|macul\w*|drusen|dme|cnv|amd",
    "WSI": r"wsi|histo(?!gram|ry)\w*|patholog\w*|pcam|camelyon\w*|slides?|biops\w*|idc|breakhis|tissue",
    "fundus": r"fundus|aptos|eyepacs|messidor|odir|rfmid|retinopathy",
    "dermoscopy": r"isic|ham10000|derm\w*|melanoma|nev(?:us|i)",
    "ultrasound": r"ultrasound|sono\w*|busi",
}
"""Modality -> words in names of folders, files, classes and columns that speak for it."""

CODES = {"CR": "CXR", "DX": "CXR", "OPT": "OCT", "SM": "WSI", "OP": "fundus", "US": "ultrasound"}
"""DICOM's code -> our word; other codes (CT, MR, MG) are taken as they are."""


def guess_modality(names: Iterable[str], first: Path | None) -> tuple[str, str] | None:
    """A modality and the evidence; None where nothing speaks for one, or something for several.

    Args:
        names: of the place, of classes and columns.
        first: an image file, if images are files.
    """
    code = None if first is None else _dicom_code(first)
    if code:
        return CODES.get(code, code), f"the DICOM files say {code}"
    found: dict[str, str] = {}
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
        for modality, words in NAMES.items():
            if match := re.search(rf"(?i)(?<![a-z])(?:{words})(?![a-z])", spaced):
                found.setdefault(modality, f"the word {match.group()!r} in {name!r}")
    return next(iter(found.items())) if len(found) == 1 else None


def _dicom_code(file: Path) -> str:
    """The code of a DICOM file's modality; "" for another file, or where nothing can read it."""
    try:
        import pydicom  # noqa: PLC0415  an extra
    except ImportError:
        return ""
    try:
        return str(pydicom.dcmread(file, specific_tags=["Modality"], stop_before_pixels=True).Modality)
    except (pydicom.errors.InvalidDicomError, AttributeError, OSError):
        return ""
