"""A source's images as the definition wants them: patients in one spelling, the positive class second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medfathom.data.doubts import doubts
from medfathom.data.labels import normal_word, normal_words, one_spelling
from medfathom.data.sources.base import Listing, Source
from medfathom.definitions.dataset import DatasetConfig, SimilarWords
from medfathom.errors import DataError, did_you_mean


def list_images(source: Source, config: DatasetConfig, *, outline: bool = False) -> Listing:
    """All images of a source, before they are decoded; `outline`: as `Source.outline` has them.

    Raises:
        DataError: the source cannot be used; patients differ only in their spelling; `positive` is no class.
    """
    listing = source.outline() if outline else source.listing()
    groups = None if listing.groups is None else _settled(listing.groups, config.similar_words)
    listing = _with_positive(replace(listing, groups=groups), config.positive)
    return replace(listing, notes=[*listing.notes, *doubts(listing, config)])


def _settled(groups: NDArray[np.str_], rule: SimilarWords) -> NDArray[np.str_]:
    return np.array(one_spelling(normal_words(groups.tolist()), rule, "patients"), dtype=np.str_)


def _with_positive(listing: Listing, positive: str | int | None) -> Listing:
    """The listing with this class as the second of two."""
    if positive is None:
        return listing
    positive = str(positive)
    names = listing.class_names
    if listing.task != "binary":
        raise DataError(f"dataset.positive needs one label of two classes, but {len(names)} are named")
    normal = [normal_word(name) for name in names]
    if normal_word(positive) not in normal:
        raise DataError(f"dataset.positive: {positive!r} is no class; {did_you_mean(positive, names)}")
    if normal.index(normal_word(positive)) == 1:
        return listing
    return replace(listing, labels=1 - listing.labels, class_names=names[::-1])
