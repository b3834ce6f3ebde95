"""Portfolios: first trials that worked on other data sets, as files of search/portfolios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from medfathom.definitions.load import explain, find, names, read_toml
from medfathom.definitions.schema import Schema
from medfathom.definitions.space import SpaceConfig, TrialParams, Value
from medfathom.errors import DefinitionError
from medfathom.study.growth import asked
from medfathom.study.policy.opening import completed
from medfathom.study.policy.sampler import First

FOLDER = "search/portfolios"


class Portfolio(Schema):
    """First trials in order, and where they come from."""

    name: str = ""
    description: str
    source: str
    """On which data sets, by which command, when."""
    trials: list[dict[str, Value]] = Field(min_length=1)

    @model_validator(mode="after")
    def _are_trials(self) -> Portfolio:
        for number, trial in enumerate(self.trials, start=1):
            try:
                TrialParams.model_validate(trial)
            except ValidationError as error:
                raise ValueError(f"trial {number}: {explain(error, {})}") from None
        return self


@dataclass(frozen=True)
class Fitted:
    """What of the portfolios fits into a space, and how many trials do not for what reason."""

    fitting: list[First]
    left: Counter[str]


def portfolios(wanted: str) -> list[Portfolio]:
    """All portfolios (`shipped`), none (`off`), or the one of a name.

    Raises:
        DefinitionError: there is none of that name, or its file is not right.
    """
    if wanted == "off":
        return []
    if wanted != "shipped":
        return [read_portfolio(find(FOLDER, wanted, "sampler.portfolio"))]
    return [read_portfolio(path) for _, path in sorted(names(FOLDER).items())]


def read_portfolio(path: Path) -> Portfolio:
    """A portfolio's file. Raises DefinitionError, in one line."""
    data = {**read_toml(path), "name": path.stem}
    try:
        return Portfolio.model_validate(data)
    except ValidationError as error:
        raise DefinitionError(f"{path}: {explain(error, data)}") from None


def first_trials(found: Sequence[Portfolio], space: SpaceConfig) -> Fitted:
    """The portfolios' trials that the space has, in turns: the first of each, the second of each, …"""
    fitting: list[First] = []
    left: Counter[str] = Counter()
    for place in range(max((len(p.trials) for p in found), default=0)):
        for portfolio in found:
            if place >= len(portfolio.trials):
                continue
            params = completed(space, portfolio.trials[place])
            if isinstance(params, str):
                left[params] += 1
                continue
            first = First(dict(asked(params, space)[0]), f"portfolio {portfolio.name}")
            if first.params not in [other.params for other in fitting]:
                fitting.append(first)
    return Fitted(fitting, left)
