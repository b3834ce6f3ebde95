"""What a reader must know of data that a model was evaluated on, beyond its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medfathom.data.doubts import negation_note
from medfathom.data.sources.base import Listing
from medfathom.definitions.dataset import DatasetConfig
from medfathom.text import number_of

if TYPE_CHECKING:
    from medfathom.evaluation.judging import Predictions
    from medfathom.evaluation.reading import Reader


def remarks_of(
    found: Predictions, data: DatasetConfig, listing: Listing, reader: Reader, pixels_sha256: Sequence[str]
) -> list[str]:
    """In words, the most important first.

    Args:
        found: what the model predicts.
        data: the data's `[dataset]`.
        listing: of the data.
        reader: that has read them.
        pixels_sha256: of each image that was read.
    """
    remarks = [f"{number_of(count, 'image')} {text}" for text, count in reader.found.changes.items()]
    copies = len(pixels_sha256) - len(set(pixels_sha256))
    if copies and found.config.unit == "image":  # frames of a volume may all be black
        remarks.append(
            f"{number_of(copies, 'image')} of {len(pixels_sha256)} repeat another one, pixel by pixel, and "
            "count as images of their own: unless the copies have the same patient, all intervals are too "
            "narrow; leave them out of the data"
        )
    if data.modality != found.config.modality:
        remarks.append(f"the data are {data.modality}, but the model was trained on {found.config.modality}")
    if found.groups is None:
        remarks.append(
            "the data do not name patients: if some have several images, all intervals are too narrow; "
            "give group_column or group_pattern"
        )
    # The positive class is the model's: dataset.positive, which that note advises, changes nothing here.
    notes = [note for note in listing.notes if note != negation_note(listing)]
    if dark := reader.check_bits(listing.names, data):
        notes.append(dark)
    return [*remarks, *(f"note: {note}" for note in notes), *map(str, listing.ignored)]
