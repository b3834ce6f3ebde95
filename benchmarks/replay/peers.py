"""BOHB, SMAC and NePS, each as its own package runs it, on recorded trials.

Their results are epochs of one trial. A configuration that goes on to a greater budget goes on where it was:
it pays for the further epochs alone, as under Ray Tune (hpbandster's own workers would begin anew). All judge
by validation AUC.
"""

from __future__ import annotations

import heapq
import logging
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from replay import Point
from tables import Recorded, Table

from medfathom.definitions.space import TrialParams
from medfathom.study.growth import params_in
from medfathom.study.policy.opening import distributions, practitioner

ETA = 3


class Asker(Protocol):
    """A package that says what to run next."""

    def ask(self) -> tuple[Any, Mapping[str, Any], int] | None:
        """A token, parameters, and the epoch up to which to run; None: nothing before something has ended."""

    def tell(self, token: Any, auc: float) -> None:
        """What it reached there."""


@dataclass
class Run:
    """A study of one package on one table, on a virtual clock."""

    table: Table
    asker: Asker
    workers: int
    until: float
    points: list[Point] = field(default_factory=list)
    _done: dict[Any, int] = field(default_factory=dict)
    _features: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> list[Point]:
        queue: list[tuple[float, int, Any, Recorded | None, int]] = []
        free, now, asked = self.workers, 0.0, 0
        while asked < 3 * len(self.table.trials):
            while free:
                next_run = self.asker.ask()
                if next_run is None:
                    break
                token, params, epoch = next_run
                found = self.table.find(_params(self.table, params))
                heapq.heappush(queue, (now + self._seconds(found, epoch), asked, token, found, epoch))
                free, asked = free - 1, asked + 1
            if not queue:
                break
            now, _, token, found, epoch = heapq.heappop(queue)
            free += 1
            if now > self.until:
                break
            self.asker.tell(token, found.aucs[epoch - 1] if found else 0.5)
            if found and epoch == self.table.epochs:
                self.points.append(Point(now, found.aucs[-1], found.losses[-1], found.test_auc))
        return self.points

    def _seconds(self, found: Recorded | None, epoch: int) -> float:
        """For the epochs that the configuration has not run yet, and features that are not kept yet."""
        if found is None:
            return 1.0
        key = found.params.model_dump_json()
        before = self._done.get(key, 0)
        if before >= epoch:  # asked for again: it runs again
            before = 0
        self._done[key] = epoch
        name = (found.params.architecture, found.params.init)
        built = found.built_seconds if not found.shares and before == 0 else 0.0
        if found.shares and name not in self._features:
            self._features.add(name)
            built = self.table.shared_seconds(found.params)
        return built + sum(found.seconds[before:epoch])


def _params(table: Table, values: Mapping[str, Any]) -> TrialParams:
    params = params_in(table.space, values)
    if params is None:
        raise ValueError(f"{dict(values)}: not all parameters of the space")
    return params


def _choices(table: Table) -> dict[str, list[Any]]:
    """Every parameter's choices; ranges of integers as their values."""
    found: dict[str, list[Any]] = {}
    for name, d in distributions(table.space).items():
        found[name] = list(d.choices) if hasattr(d, "choices") else list(range(d.low, d.high + 1))
    return found


def _as_before(package: Any) -> None:
    """Methods that ConfigSpace had when hpbandster was written."""
    package.Configuration.get_dictionary = _values
    package.ConfigurationSpace.get_hyperparameters = lambda self: list(self.values())
    package.ConfigurationSpace.get_hyperparameter = lambda self, name: self[name]
    package.ConfigurationSpace.get_hyperparameter_by_idx = lambda self, index: self.at[index].name


def _values(configuration: Any) -> dict[str, Any]:
    return dict(configuration)


class Bohb:
    """hpbandster 0.7.4's BOHB, which Tune's TuneBOHB wraps, in its own brackets of successive halving."""

    def __init__(self, table: Table, seed: int) -> None:
        import ConfigSpace
        from hpbandster.optimizers.config_generators.bohb import BOHB

        _as_before(ConfigSpace)
        np.random.seed(seed)  # the package draws from NumPy's global generator
        self._failed = _Failures()
        logger = logging.getLogger(f"bohb-{seed}")
        logger.propagate, logger.handlers = False, [self._failed]
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        self._choices = _choices(table)
        for name, values in self._choices.items():
            # Numbers by their place, as BOHB's kernel for ordered values; words as categories.
            if len(values) > 1 and all(isinstance(v, int | float) for v in values):
                space.add(ConfigSpace.UniformFloatHyperparameter(name, 0, len(values) - 1e-9))
            else:
                space.add(ConfigSpace.CategoricalHyperparameter(name, list(map(str, values))))
        self._generator = BOHB(configspace=space, logger=logger)
        rungs = int(np.log(table.epochs) / np.log(ETA) + 1e-9) + 1
        self._rungs = rungs
        self._budgets = [max(1, round(table.epochs / ETA**k)) for k in range(rungs - 1, -1, -1)]
        self._brackets: list[Any] = []
        self._jobs: dict[Any, tuple[Any, Any]] = {}

    def ask(self) -> tuple[Any, Mapping[str, Any], int] | None:
        for bracket in self._brackets:
            if not bracket.is_finished and (found := bracket.get_next_run()) is not None:
                return self._begin(bracket, *found)
        self._brackets.append(self._bracket(len(self._brackets)))
        return self._begin(self._brackets[-1], *self._brackets[-1].get_next_run())

    def _bracket(self, number: int) -> Any:
        """As hpbandster.optimizers.bohb.BOHB.get_next_iteration."""
        from hpbandster.optimizers.iterations import SuccessiveHalving

        s = self._rungs - 1 - number % self._rungs
        n0 = int(np.floor(self._rungs / (s + 1)) * ETA**s)
        sizes = [max(int(n0 * ETA**-i), 1) for i in range(s + 1)]
        return SuccessiveHalving(
            HPB_iter=number,
            num_configs=sizes,
            budgets=self._budgets[-s - 1 :],
            config_sampler=self._generator.get_config,
        )

    def _begin(
        self, bracket: Any, config_id: Any, config: Any, budget: Any
    ) -> tuple[Any, Mapping[str, Any], int]:
        self._failed.check()
        values = {
            name: values[int(config[name])]
            if isinstance(config[name], float)
            else self._word(name, config[name])
            for name, values in self._choices.items()
        }
        self._jobs[config_id] = (bracket, config)
        return (config_id, budget), values, int(budget)

    def _word(self, name: str, value: str) -> Any:
        return next(v for v in self._choices[name] if str(v) == value)

    def tell(self, token: Any, auc: float) -> None:
        from hpbandster.core.dispatcher import Job

        config_id, budget = token
        bracket, config = self._jobs[config_id]
        job = Job(config_id, config=config, budget=budget)
        job.result = {"loss": -auc}
        bracket.register_result(job)
        self._generator.new_result(job)


class _Failures(logging.Handler):
    """The package goes on with random configurations where its model fails: here that is an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "has EI value" not in record.getMessage():
            self._said.append(record.getMessage())

    def check(self) -> None:
        failed = [line for line in self._said if "sampling failed" in line or "Error (" in line]
        if failed:
            raise RuntimeError(f"BOHB's model failed: {failed[0][-600:]}")


class Smac:
    """SMAC's multi-fidelity facade (random forest, Hyperband brackets), asked and told."""

    def __init__(self, table: Table, seed: int) -> None:
        import ConfigSpace
        from smac import MultiFidelityFacade, Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)
        self._choices = _choices(table)
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        for name, values in self._choices.items():
            if len(values) > 1 and all(isinstance(v, int | float) for v in values):
                space.add(ConfigSpace.UniformIntegerHyperparameter(name, 0, len(values) - 1))
            else:
                space.add(ConfigSpace.CategoricalHyperparameter(name, list(map(str, values))))
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            deterministic=True,
            n_trials=100_000,
            min_budget=1,
            max_budget=table.epochs,
            seed=seed,
            output_directory=self._folder.name,
        )
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=ETA)
        self._smac = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            intensifier=intensifier,
            overwrite=True,
            logging_level=40,
        )

    def ask(self) -> tuple[Any, Mapping[str, Any], int] | None:
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        try:
            info = self._smac.ask()
        except (ConfigurationSpaceExhaustedException, StopIteration):
            return None
        values = {
            name: values[int(info.config[name])]
            if not isinstance(info.config[name], str)
            else next(v for v in values if str(v) == info.config[name])
            for name, values in self._choices.items()
        }
        return info, values, max(1, round(info.budget))

    def tell(self, token: Any, auc: float) -> None:
        from smac.runhistory import TrialValue

        self._smac.tell(token, TrialValue(cost=1 - auc))


class Neps:
    """NePS' PriorBand (asynchronous Hyperband), its prior a practitioner's first trial of the whole network.

    Its other multi-fidelity method with a model, ifBO, downloads weights when it runs.
    """

    def __init__(self, table: Table, seed: int) -> None:
        import neps
        import torch

        random.seed(seed)  # the package draws from the global generators
        np.random.seed(seed)
        torch.manual_seed(seed)
        self._choices = _choices(table)
        prior = next(f.params for f in practitioner(table.space) if f.params.get("unfreeze_depth", 5) == 5)
        space: dict[str, Any] = {"epochs": neps.HPOInteger(1, table.epochs, is_fidelity=True)}
        for name, values in self._choices.items():
            place = values.index(prior[name])
            if len(values) > 1 and all(isinstance(v, int | float) for v in values):
                space[name] = neps.HPOInteger(0, len(values) - 1, prior=place, prior_confidence="medium")
            elif len(values) > 1:
                words, word = list(map(str, values)), str(values[place])
                space[name] = neps.HPOCategorical(words, prior=word, prior_confidence="medium")
        optimizer = neps.algorithms.priorband(neps.SearchSpace(space), eta=ETA, base="async_hb")
        self._neps = neps.AskAndTell(optimizer)
        self._seed = seed

    def ask(self) -> tuple[Any, Mapping[str, Any], int] | None:
        try:
            trial = self._neps.ask()
        except AssertionError:  # the weights of its priors do not add up: it is asked again after a result
            print(f"NePS, seed {self._seed}: an assertion of its own failed", flush=True)
            return None
        values = {
            name: self._value(values, trial.config[name]) if name in trial.config else values[0]
            for name, values in self._choices.items()
        }
        return trial.metadata.id, values, int(trial.config["epochs"])

    @staticmethod
    def _value(values: Sequence[Any], found: Any) -> Any:
        """What stands for a value: its place among numbers, its word among categories."""
        if isinstance(found, str):
            return next(v for v in values if str(v) == found)
        return values[int(found)]

    def tell(self, token: Any, auc: float) -> None:
        self._neps.tell(token, 1 - auc)


def package(asker: Callable[[Table, int], Asker], workers: int) -> Callable[..., list[Point]]:
    """A policy that runs a package."""

    def run(table: Table, others: Sequence[Table], seed: int, until: float) -> list[Point]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Run(table, asker(table, seed), workers, until).run()

    return run
