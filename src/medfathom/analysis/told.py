"""What a report tells of the studies that its rows come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medfathom.definitions.config import Asks


@dataclass(frozen=True)
class TunedStratum:
    """How well a stratum was tuned: `expected` is the AUC of the best of `among` of its `trials`."""

    stratum: str
    trials: int
    among: int
    expected: float | None
    low: float | None
    high: float | None
    settled: bool


@dataclass(frozen=True)
class FailureSignature:
    """How often a study's trials show one way of failing.

    Attributes:
        word: `overfitting`, `underfitting`, `domain shift`, …
        trials: that show it.
        strata: stratum -> how many of its trials show it, and how many it has; the most frequent first.
    """

    word: str
    trials: int
    strata: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class CostOfTrial:
    """A finished trial of a study that searched for AUC at little cost: its validation AUC, and its cost."""

    number: int
    stratum: str
    auc: float
    auc_ci_low: float | None
    auc_ci_high: float | None
    cost: float
    on_front: bool


@dataclass(frozen=True)
class ToldOfStudy:
    """What a reader of a study's AUCs must know.

    Attributes:
        study: its name.
        leakage: images or patients in several splits, in one line; empty where there are none.
        positive: the class that a binary AUC is about; None where there are more.
        tuned: how well its strata are tuned, where they are compared.
        tuning: that in sentences.
        front: which of its trials none beats in AUC and cost, in words; empty: AUC was its only objective.
        cost: what its cost is; likewise.
        costs: its finished trials with their cost; likewise.
        asks: the question that the report opens with.
        failures: signatures of failure among its search trials, the most frequent first.
        diagnosed: search trials that were looked at for them: complete ones and those stopped early.
        sources: init `study:NAME` -> the data set and modality that its weights were trained on.
    """

    study: str
    leakage: str = ""
    positive: str | None = None
    tuned: Sequence[TunedStratum] = ()
    tuning: Sequence[str] = ()
    front: str = ""
    cost: str = ""
    costs: Sequence[CostOfTrial] = ()
    asks: Asks = "size"
    failures: Sequence[FailureSignature] = ()
    diagnosed: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)
