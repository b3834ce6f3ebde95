"""From the classes of other data to those of the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.labels import normal_word
from medfathom.data.sources.base import Listing
from medfathom.definitions.evaluation import LEFT_OUT
from medfathom.errors import DataError, InputError, did_you_mean
from medfathom.metrics.classification import TaskKind
from medfathom.metrics.unknown import UNKNOWN, is_absent, is_present


@dataclass(frozen=True)
class Aligned:
    """The labels of some images, in the model's classes.

    Attributes:
        rows: of the listing, those that have a label that the model knows, (n,).
        labels: as `metrics.classification.evaluate` takes them, (n,) or (n, K).
        left_out: class of the data that the model does not know -> number of images; with several labels of
            images that have this label.
        missing: classes of the model that no image has.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    left_out: Mapping[str, int]
    missing: Sequence[str]


def align(listing: Listing, task: TaskKind, class_names: Sequence[str], given: Mapping[str, str]) -> Aligned:
    """The labels of a listing in the classes of a model.

    Classes of one name are the same; `given` maps others.

    Args:
        listing: of the other data.
        task: of the model.
        class_names: of the model.
        given: the data's name -> the model's; "" leaves a class out.

    Raises:
        InputError: `given` names a class that is not there; or a class of the data is unknown while the model
            has one that no image has: it is then probably the same under another name.
        DataError: one label for each image where the model has several, or the other way round; no image has
            a class that the model knows.
    """
    _check_kind(listing, task)
    place = _places(listing.class_names, class_names, given)
    missing = [name for k, name in enumerate(class_names) if k not in place.values()]
    unknown = [name for name in listing.class_names if name not in place and name not in _left_out(given)]
    if missing and unknown:
        raise InputError(_renamed(unknown, missing))
    if not place:
        raise DataError(f"the model has no class of the data ({', '.join(listing.class_names)})")
    if task == "multilabel":
        return _several(listing, place, class_names, missing)
    table = np.array([place.get(name, -1) for name in listing.class_names], dtype=np.int64)
    labels = table[listing.labels]
    rows = np.flatnonzero(labels >= 0)
    counts = np.bincount(listing.labels, minlength=len(table))
    left = {name: int(counts[k]) for k, name in enumerate(listing.class_names) if table[k] < 0 and counts[k]}
    absent = [name for k, name in enumerate(class_names) if not (labels == k).any()]
    return Aligned(rows, labels[rows], left, absent)


def _check_kind(listing: Listing, task: TaskKind) -> None:
    if (listing.task == "multilabel") == (task == "multilabel"):
        return
    if task == "multilabel":
        raise DataError(
            "the model predicts several labels for an image, but the data have one class for each; give "
            "label_columns (a column of zeros and ones for each label)"
        )
    raise DataError(
        "the data have several labels for an image, but the model predicts one class for each; give "
        "label_column (one class for each image)"
    )


def _left_out(given: Mapping[str, str]) -> set[str]:
    return {normal_word(name) for name, to in given.items() if to == LEFT_OUT}


def _places(data: Sequence[str], model: Sequence[str], given: Mapping[str, str]) -> dict[str, int]:
    """The data's name of a class -> its index in the model, of classes that the model has."""
    index = {normal_word(name): k for k, name in enumerate(model)}
    wanted = {normal_word(name): normal_word(to) for name, to in given.items()}
    own = {normal_word(name): name for name in data}
    if strange := [name for name in wanted if name not in own]:
        raise InputError(f"map: no image has the class {strange[0]!r}; {did_you_mean(strange[0], data)}")
    if strange := [to for to in wanted.values() if to != LEFT_OUT and to not in index]:
        raise InputError(f"map: the model has no class {strange[0]!r}; {did_you_mean(strange[0], model)}")
    meant = {own[word]: wanted.get(word, word) for word in own}
    return {name: index[to] for name, to in meant.items() if to in index}


def _renamed(unknown: Sequence[str], missing: Sequence[str]) -> str:
    name = unknown[0]
    # A name that is no more than the first of several, or near to one (abnormal to normal), would exchange
    # classes where it is copied.
    own = {_letters(other): other for other in missing}
    free = [other for word, other in own.items() if word not in map(_letters, unknown)]
    meant = own.get(_letters(name)) or (free[0] if len(free) == 1 else "")
    of_them = f'"{meant}"' if meant else f"one of {', '.join(missing)}"
    return (
        f"class {name!r} of the data is not one of the model's, and the model's "
        f"{', '.join(map(repr, missing))} {'has' if len(missing) == 1 else 'have'} no image; "
        "say in the definition which one it is: "
        f'[map] "{name}" = {of_them}, or "{name}" = "" to leave its images out'
    )


def _letters(name: str) -> str:
    """A name without upper case and separators."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _several(
    listing: Listing, place: Mapping[str, int], class_names: Sequence[str], missing: Sequence[str]
) -> Aligned:
    """Labels that the data do not have are not known. Of several that are one of the model's any counts."""
    labels = np.full((len(listing), len(class_names)), UNKNOWN, dtype=np.uint8)
    for index in set(place.values()):
        own = listing.labels[:, [place.get(name) == index for name in listing.class_names]]
        absent = np.where(is_absent(own).all(axis=1), 0, UNKNOWN)
        labels[:, index] = np.where(is_present(own).any(axis=1), 1, absent)
    counts = is_present(listing.labels).sum(axis=0).tolist()
    named = zip(listing.class_names, counts, strict=True)
    left = {name: count for name, count in named if name not in place and count}
    rows = np.flatnonzero((labels != UNKNOWN).any(axis=1))
    return Aligned(rows, labels[rows], left, missing)
