"""Cases: images that are judged as one, such as the slices of a volume or the tiles of a slide.

A network predicts each image. The predictions of a case's images are combined to *logits of the case*, so
that everything that takes an image's logits (probabilities, temperature, thresholds, metrics) takes a case's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.classification import TaskKind
from medfathom.metrics.influences import Floats, Members
from medfathom.units import Combine


@dataclass(frozen=True)
class Cases:
    """Which images belong together, m cases of n images.

    Attributes:
        names: of the cases, text, in the order of their first images, (m,).
        member: each image's case, as its position in `names`, (n,).
        first: position of each case's first image, (m,).
    """

    names: NDArray[np.str_]
    member: Members
    first: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images of each case, (m,)."""
        return np.bincount(self.member, minlength=len(self)).astype(np.int64)


def cases_of(names: ArrayLike) -> Cases:
    """Cases from each image's case name, (n,).

    >>> found = cases_of(["b", "a", "b"])
    >>> found.names.tolist(), found.member.tolist(), found.first.tolist()
    (['b', 'a'], [0, 1, 0], [0, 1])
    """
    found, first, member = np.unique(np.asarray(names, dtype=np.str_), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Cases(found[order], rank[member.reshape(-1)], first[order])


def combine_logits(task: TaskKind, logits: NDArray[np.floating], member: Members, how: Combine) -> Floats:
    """Logits of cases from the logits of their images.

    With p an image's probability of a class:

    - `mean`: the case's probability is the mean of p over its images.
    - `max`: it is the largest p. Binary: of the second class, the positive one. Multiclass: the largest p of
      each class, divided by their sum.
    - `noisy_or`: it is 1 less the product of 1 - p: the case has the class if any image shows it, images
      being independent (Pearl 1988). Many images make any class likely: it is for few. Binary: of the second
      class. Multiclass: of each class, divided by their sum.
    - `attention`: the case's logits are a mean of its images' logits, weighted by the softmax of the
      attention scores that the network gives as its last output (Ilse, Tomczak and Welling, ICML 2018; with a
      linear classifier, pooling features and pooling logits are the same).

    Args:
        task: what labels mean.
        logits: (n, outputs); for `attention` (n, outputs + 1).
        member: each image's case, numbered from 0 without gaps, (n,).
        how: see above.

    Returns:
        (m, outputs), in double precision: their `probabilities` are the case's.
    """
    values = logits.astype(np.float64)
    if how == "attention":
        return _attended(values[:, :-1], values[:, -1], member)
    if how == "noisy_or":
        return _noisy_or(task, values, member)
    return _log_mean_of(task, values, member) if how == "mean" else _most(task, values, member)


def _log_mean_of(task: TaskKind, values: Floats, member: Members) -> Floats:
    """Logits of the mean of p."""
    if task == "multilabel":
        return _log_mean(-np.logaddexp(0, -values), member) - _log_mean(-np.logaddexp(0, values), member)
    return _log_mean(values - np.logaddexp.reduce(values, axis=1, keepdims=True), member)


def _most(task: TaskKind, values: Floats, member: Members) -> Floats:
    """Logits of the largest p."""
    if task == "multilabel":
        return _largest(values, member)
    logs = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    if task == "multiclass":
        return _largest(logs, member)
    top = np.lexsort((logs[:, 1] - logs[:, 0], member))  # by case, the most positive image last
    ends = np.append(np.flatnonzero(np.diff(member[top])), len(top) - 1)
    binary: Floats = logs[top[ends]]
    return binary


def _noisy_or(task: TaskKind, values: Floats, member: Members) -> Floats:
    """Logits of 1 - prod(1 - p), by logarithms: precise for p near 0 and near 1."""
    if task == "multiclass":
        logs = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
        with np.errstate(divide="ignore"):  # an image that is certain: the case is, too
            absent = _sums(np.log1p(-np.exp(np.minimum(logs, 0))), member)
        return _log_present(absent, _largest(logs, member))
    odds = values if task == "multilabel" else values[:, 1:] - values[:, :1]
    absent = _sums(-np.logaddexp(0, odds), member)
    present = _log_present(absent, _largest(-np.logaddexp(0, -odds), member))
    return present - absent if task == "multilabel" else np.concatenate([absent, present], axis=1)


def _log_present(absent: Floats, largest: Floats) -> Floats:
    """log(1 - exp(absent)), at least the largest log p of an image: it is, whatever is rounded away."""
    with np.errstate(divide="ignore"):
        found: Floats = np.maximum(np.log(-np.expm1(absent)), largest)
    return found


def _largest(values: Floats, member: Members) -> Floats:
    largest = np.full((int(member.max()) + 1, values.shape[1]), -np.inf)
    np.maximum.at(largest, member, values)
    return largest


def _sums(values: Floats, member: Members) -> Floats:
    sums = np.zeros((int(member.max()) + 1, values.shape[1]))
    np.add.at(sums, member, values)
    return sums


def _log_mean(logs: Floats, member: Members) -> Floats:
    """Logarithms of each case's mean, from logarithms: exact where probabilities would round to 0 or 1."""
    largest = _largest(logs, member)
    sums = _sums(np.exp(logs - largest[member]), member)
    mean: Floats = largest + np.log(sums / np.bincount(member)[:, None])
    return mean


def _attended(values: Floats, scores: Floats, member: Members) -> Floats:
    weights = np.exp(scores - _largest(scores[:, None], member)[member, 0])[:, None]
    attended: Floats = _sums(weights * values, member) / _sums(weights, member)
    return attended
