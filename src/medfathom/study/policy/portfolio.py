"""Portfolios: first trials that worked on other data sets, or what all trials reached there.

Files of search/portfolios.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from medfathom.definitions.load import explain, find, names, read_toml
from medfathom.definitions.schema import Schema
from medfathom.definitions.space import SpaceConfig, TrialParams, Value
from medfathom.errors import DefinitionError
from medfathom.study.growth import asked
from medfathom.study.policy.opening import completed
from medfathom.study.policy.sampler import First, Past

FOLDER = "search/portfolios"


class Result(Schema):
    """What a setting reached: validation AUC by data set."""

    params: dict[str, Value]
    aucs: dict[str, float]


class Portfolio(Schema):
    """First trials in order, or results on other data sets, and where they come from."""

    name: str = ""
    description: str
    source: str
    """On which data sets, by which command, when."""
    trials: list[dict[str, Value]] = Field(default_factory=list)
    results: str = ""
    """A CSV file beside this one: columns of hyperparameters, then one for each data set with the AUC. The
    search learns from these as from earlier studies, and decides itself what to try first."""
    rows: list[Result] = Field(default_factory=list, exclude=True)
    """That file's content."""

    @model_validator(mode="after")
    def _are_trials(self) -> Portfolio:
        if not self.trials and not self.rows:
            raise ValueError("give [[trials]], or results: a CSV file")
        for number, trial in enumerate([*self.trials, *(row.params for row in self.rows)], start=1):
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
    if results := data.get("results"):
        data["rows"] = _rows(path.parent / str(results))
    try:
        return Portfolio.model_validate(data)
    except ValidationError as error:
        raise DefinitionError(f"{path}: {explain(error, data)}") from None


def _rows(path: Path) -> list[dict[str, dict[str, Value]]]:
    """Of a CSV file. Raises DefinitionError where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DefinitionError(f"{path}: {error.strerror or error}") from None
    known = TrialParams.model_fields
    return [
        {
            "params": {name: _value(cell) for name, cell in row.items() if name in known},
            "aucs": {name: _value(cell) for name, cell in row.items() if name not in known and cell},
        }
        for row in rows
    ]


def _value(cell: str) -> Value:
    """A cell as a whole number, a number or a text, the first that it can be."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell


def past_results(found: Sequence[Portfolio], space: SpaceConfig) -> list[Past]:
    """The portfolios' results of settings that the space has, by data set."""
    past = []
    for portfolio in found:
        fitted = [(completed(space, row.params), row.aucs) for row in portfolio.rows]
        for dataset in dict.fromkeys(name for row in portfolio.rows for name in row.aucs):
            known = [
                (dict(asked(params, space)[0]), aucs[dataset])
                for params, aucs in fitted
                if isinstance(params, TrialParams) and dataset in aucs
            ]
            if known:
                past.append(Past(f"{portfolio.name}: {dataset}", *map(list, zip(*known, strict=True))))
    return past


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
