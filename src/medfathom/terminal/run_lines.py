"""What `run --json` writes: one of these objects a line."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from medfathom.definitions.space import TrialParams
from medfathom.study.watcher import State


class BeginLine(TypedDict):
    """The run begins; `concurrent` trials may run at once."""

    event: Literal["begin"]
    study: str
    trials: int
    concurrent: int


class TrialBeginsLine(TypedDict):
    """A trial begins, with its hyperparameters."""

    event: Literal["trial_begins"]
    number: int
    params: Annotated[dict[str, object], TrialParams]


class EpochLine(TypedDict):
    """An epoch of a trial ended; `auc` is that of the validation split."""

    event: Literal["epoch"]
    number: int
    epoch: int
    auc: float


class TrialEndsLine(TypedDict):
    """A trial ended; `auc` is null and `reason` says why, where it failed."""

    event: Literal["trial_ends"]
    number: int
    state: State
    auc: float | None
    reason: str


class NoteLine(TypedDict):
    """Something that a user should know."""

    event: Literal["note"]
    text: str


class EndLine(TypedDict):
    """The run ended."""

    event: Literal["end"]


Line = BeginLine | TrialBeginsLine | EpochLine | TrialEndsLine | NoteLine | EndLine
