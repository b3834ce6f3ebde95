"""A source's images as the definition wants them: patients in one spelling, the positive class second."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medfathom.data.labels import normal_word, normal_words, one_spelling
from medfathom.data.sources.base import Listing, Source
from medfathom.definitions.dataset import DatasetConfig, SimilarWords
from medfathom.errors import DataError, did_you_mean
from medfathom.metrics.classification import positive_class

NEGATION = re.compile(
    r"0|absen[ct]e?|benign|clean|clear|cn|controls?|false|free|hc|healthy|neg(ative)?|no|norm(al)?|not"
    r"|no(dr|findings?|tumou?r|disease)|non\w*|un(affected|infected|remarkable)|without"
)
"""A word that says that something is not there."""


def list_images(source: Source, config: DatasetConfig, *, outline: bool = False) -> Listing:
    """All images of a source, before they are decoded; `outline`: as `Source.outline` has them.

    Raises:
        DataError: the source cannot be used; patients differ only in their spelling; `positive` is no class.
    """
    listing = source.outline() if outline else source.listing()
    groups = None if listing.groups is None else _settled(listing.groups, config.similar_words)
    listing = _with_positive(replace(listing, groups=groups), config.positive)
    if config.positive is None and (note := negation_note(listing)):
        return replace(listing, notes=[*listing.notes, note])
    return listing


def is_negation(name: str) -> bool:
    """Whether a class's name says that something is not there: normal, non-COVID, No_DR."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return any(NEGATION.fullmatch(word) for word in re.findall(r"[^\W_]+", spaced.casefold()))


def negation_note(listing: Listing) -> str:
    """A line where the positive class of two says that something is not there; else ""."""
    positive = positive_class(listing.task, listing.class_names)
    if positive is None or not is_negation(positive):
        return ""
    other = listing.class_names[0]
    return (
        f"the positive class {positive!r} says by its name that something is not there: sensitivity, "
        f"precision and probabilities are about it; dataset.positive = {_quoted(other)} makes them about "
        f"{other!r}, and dataset.positive = {_quoted(positive)} ends this note"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _settled(groups: NDArray[np.str_], rule: SimilarWords) -> NDArray[np.str_]:
    return np.array(one_spelling(normal_words(groups.tolist()), rule, "patients"), dtype=np.str_)


def _with_positive(listing: Listing, positive: str | int | None) -> Listing:
    """The listing with this class as the second of two."""
    if positive is None:
        return listing
    positive = str(positive)
    names = listing.class_names
    if listing.task != "binary":
        raise DataError(f"dataset.positive goes with one label of two classes; here {len(names)} are named")
    normal = [normal_word(name) for name in names]
    if normal_word(positive) not in normal:
        raise DataError(f"dataset.positive: {positive!r} is no class; {did_you_mean(positive, names)}")
    if normal.index(normal_word(positive)) == 1:
        return listing
    return replace(listing, labels=1 - listing.labels, class_names=names[::-1])
