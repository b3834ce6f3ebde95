"""DICOM files made by pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

H, W = 40, 57


def ramp(bits: int, *, signed: bool = False, colour: bool = False) -> np.ndarray:
    """Smooth values from end to end of the range, so that lossy coding changes little."""
    low = -(2 ** (bits - 1)) if signed else 0
    across = np.linspace(0, 2**bits - 1, H * W).round().astype(np.int64).reshape(H, W) + low
    if not colour:
        return across
    return np.stack([across, across[::-1], np.full((H, W), 2 ** (bits - 1))], axis=2)


def dataset(values: np.ndarray, bits: int, *, signed: bool = False, **tags: Any) -> Dataset:
    """A file of these values, uncompressed, without a window."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made.StudyInstanceUID, made.PatientID, made.PatientName = "1.2.3", "PAT0017", "Doe^Jane"
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    if values.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsStored, made.HighBit = bits, bits - 1
    made.BitsAllocated = 8 if bits <= 8 else 16
    made.PixelRepresentation = int(signed)
    for name, value in tags.items():
        setattr(made, name, value)
    made.add_new(0x7FE00010, "OB" if made.BitsAllocated == 8 else "OW", b"")
    made.PixelData = values.astype(f"<{'i' if signed else 'u'}{made.BitsAllocated // 8}").tobytes()
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    return made


def saved(made: Dataset, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    content = io.BytesIO()
    if syntax == ExplicitVRBigEndian and made.BitsAllocated == 16:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(content, made, enforce_file_format=True)
    return content.getvalue()


def lut(first: int, entries: np.ndarray, bits: int) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table
