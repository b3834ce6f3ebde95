"""What `run --json` writes: one of these objects a line."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from medfathom.definitions.space import TrialParams
from medfathom.study.watcher import State


class BeginLine(TypedDict):
    """The run begins: what it looks for; `concurrent` trials may run at once."""

    event: Literal["begin"]
    study: str
    objective: str
    trials: int
    concurrent: int


class TrialBeginsLine(TypedDict):
    """A trial begins, with its hyperparameters."""

    event: Literal["trial_begins"]
    number: int
    params: Annotated[dict[str, object], TrialParams]


class EpochLine(TypedDict):
    """An epoch of a trial ended, with the validation split's `auc`; or `value` of another objective."""

    event: Literal["epoch"]
    number: int
    epoch: int
    auc: NotRequired[float]
    value: NotRequired[float]


class TrialEndsLine(TypedDict):
    """A trial ended; `auc` (`value`: of another objective) is null, `reason` says why, where it failed."""

    event: Literal["trial_ends"]
    number: int
    state: State
    auc: NotRequired[float | None]
    value: NotRequired[float | None]
    reason: str


class NoteLine(TypedDict):
    """Something that a user should know."""

    event: Literal["note"]
    text: str


class EndLine(TypedDict):
    """The run ended."""

    event: Literal["end"]


Line = BeginLine | TrialBeginsLine | EpochLine | TrialEndsLine | NoteLine | EndLine
