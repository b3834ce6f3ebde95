"""Recorded trials to search in: our own curves, and the public table of finished runs."""

from __future__ import annotations

import csv
import gzip
import itertools
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfathom.definitions.load import load_definition
from medfathom.definitions.space import SpaceConfig, TrialParams

HERE = Path(__file__).parent
DIMENSIONS = ("architecture", "init", "unfreeze_depth", "learning_rate", "weight_decay", "head_dropout")

TIMM_NAMES = {
    "convnext": "convnext_tiny",
    "densenet": "densenet121",
    "efficientnet": "efficientnet_b0",
    "googlenet": "googlenet",
    "mnasnet": "mnasnet_100",
    "mobilenet": "mobilenetv2_100",
    "shufflenet": "shufflenet",
    "vgg": "vgg16",
}
"""The table's networks. timm has no ShuffleNet: its cost is not foreseen, only measured."""


@dataclass(frozen=True)
class Recorded:
    """A trial as it was recorded.

    Attributes:
        aucs, seconds: validation AUC, and seconds, of each epoch.
        losses: validation loss of each epoch.
        built_seconds: spent on features of the frozen prefix, before the first epoch.
        shares: whether other trials with the same prefix use those features too.
        test_auc: after the last epoch.
    """

    params: TrialParams
    aucs: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    built_seconds: float
    shares: bool
    test_auc: float


@dataclass(frozen=True)
class Table:
    """All recorded trials of one data set."""

    name: str
    space: SpaceConfig
    epochs: int
    trials: dict[tuple[Any, ...], Recorded]

    def find(self, params: TrialParams) -> Recorded | None:
        """The trial with these parameters; None: it failed, or was not recorded."""
        return self.trials.get(key_of(params))

    @property
    def best_auc(self) -> float:
        """The greatest validation AUC after the last epoch."""
        return max(trial.aucs[-1] for trial in self.trials.values())

    @property
    def best_test_auc(self) -> float:
        return max(trial.test_auc for trial in self.trials.values())

    @property
    def seconds(self) -> float:
        """Of the whole grid, shared features computed once."""
        trials = self.trials.values()
        shared = {
            (t.params.architecture, t.params.init): self.shared_seconds(t.params) for t in trials if t.shares
        }
        own = sum(sum(t.seconds) + (0.0 if t.shares else t.built_seconds) for t in trials)
        return own + sum(shared.values())

    def shared_seconds(self, params: TrialParams) -> float:
        """To compute an architecture's shared features: its first trial computes those for all depths."""
        return sum(
            t.built_seconds
            for t in self.trials.values()
            if t.shares and (t.params.architecture, t.params.init) == (params.architecture, params.init)
        )


def key_of(params: TrialParams) -> tuple[Any, ...]:
    return tuple(getattr(params, name) for name in DIMENSIONS)


def recorded(path: Path = HERE / "curves.csv.gz") -> list[Table]:
    """Our own curves."""
    space = load_definition(str(HERE / "grid.toml")).space
    tables: dict[str, dict[tuple[Any, ...], Recorded]] = defaultdict(dict)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            if not row["failure"]:
                trial = _trial(row)
                tables[row["dataset"]][key_of(trial.params)] = trial
    epochs = len(next(iter(next(iter(tables.values())).values())).aucs)
    whole = {name: _whole_rates(space, trials) for name, trials in sorted(tables.items())}
    return [
        Table(name, _with_rates(space, trials), epochs, trials) for name, trials in whole.items() if trials
    ]


def _whole_rates(
    space: SpaceConfig, trials: dict[tuple[Any, ...], Recorded]
) -> dict[tuple[Any, ...], Recorded]:
    """The trials of learning rates of which every combination was recorded, so that the grid has no holes."""
    points = itertools.product(*(space.values(name) for name in ("architecture", "init", "unfreeze_depth")))
    names = ("architecture", "init", "unfreeze_depth")
    wanted = sum(not space.excluded(dict(zip(names, point, strict=True))) for point in points)
    counts = Counter(t.params.learning_rate for t in trials.values())
    return {key: t for key, t in trials.items() if counts[t.params.learning_rate] == wanted}


def _with_rates(space: SpaceConfig, trials: dict[tuple[Any, ...], Recorded]) -> SpaceConfig:
    """The space with the learning rates that were recorded."""
    rates = sorted({t.params.learning_rate for t in trials.values()})
    changed = space.dimensions["learning_rate"].model_copy(update={"choices": rates})
    return space.model_copy(update={"dimensions": {**space.dimensions, "learning_rate": changed}})


def _trial(row: dict[str, str]) -> Recorded:
    epochs = sum(name.startswith("auc_") for name in row)
    values = {
        kind: tuple(float(row[f"{kind}_{e}"]) for e in range(1, epochs + 1))
        for kind in ("auc", "loss", "cpu")
    }
    params = TrialParams(
        architecture=row["architecture"],
        init=row["init"],
        unfreeze_depth=int(row["unfreeze_depth"]),
        learning_rate=float(row["learning_rate"]),
    )
    return Recorded(
        params,
        values["auc"],
        values["loss"],
        values["cpu"],
        float(row["built_seconds"]),
        row["kept"] == "True" and row["init"] != "random",
        float(row["test_auc"]),
    )


def public(path: Path) -> list[Table]:
    """The public table: final values alone, so that nothing can be stopped early. Repeats are averaged.

    Momentum is no hyperparameter of a definition: head_dropout stands in its place. To a search both are
    numbers.
    """
    runs: dict[str, dict[tuple[Any, ...], list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["status"] == "FINISHED":
                runs[row["target"]][key_of(_public_params(row))].append(row)
    return [
        Table(target, _public_space(), 1, {key: _mean(rows) for key, rows in found.items()})
        for target, found in sorted(runs.items())
    ]


def _public_params(row: dict[str, str]) -> TrialParams:
    return TrialParams(
        architecture=TIMM_NAMES[row["source"]],
        learning_rate=float(row["lr"]),
        weight_decay=float(row["wd"]),
        head_dropout=float(row["momentum"]),
        optimizer="sgd",
    )


def _public_space() -> SpaceConfig:
    return SpaceConfig.model_validate(
        {
            "architecture": {"role": "scientific", "choices": list(TIMM_NAMES.values())},
            "learning_rate": {"choices": [1e-4, 1e-3, 1e-2, 1e-1]},
            "head_dropout": {"choices": [0.0, 0.9]},
            "weight_decay": {"choices": [0.0, 1e-6, 1e-5, 1e-3, 1e-2]},
            "optimizer": {"value": "sgd"},
        }
    )


def _mean(rows: list[dict[str, str]]) -> Recorded:
    def mean(name: str) -> float:
        return statistics.fmean(float(row[name]) for row in rows)

    minutes = statistics.fmean(_minutes(row["duration"]) for row in rows)
    return Recorded(
        _public_params(rows[0]),
        (mean("val_auc"),),
        (mean("val_loss"),),
        (60 * minutes,),
        0.0,
        False,
        mean("test_auc"),
    )


def _minutes(text: str) -> float:
    for unit, minutes in (("min", 1.0), ("h", 60.0), ("s", 1 / 60), ("d", 1440.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * minutes
    raise ValueError(f"duration {text!r}")
