"""The policies that are compared: each runs one study on one table and returns its finished trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peers import Bohb, Neps, Smac, package
from portfolio import chosen, results
from replay import Point, Replay
from tables import Table

from medfathom.definitions.config import SamplerConfig, SchedulerConfig
from medfathom.definitions.space import TrialParams
from medfathom.study.growth import asked
from medfathom.study.policy.opening import completed, practitioner
from medfathom.study.policy.policy import gain_per_second
from medfathom.study.policy.portfolio import Portfolio, past_results
from medfathom.study.policy.sampler import First
from medfathom.study.policy.warm_start import WarmStart
from medfathom.study.sampling import make_sampler

WORKERS = 4
PORTFOLIO = 10
NEAR = 0.005
"""AUC that an answer may lack to the grid's best."""

Policy = Callable[[Table, Sequence[Table], int, float], list[Point]]
"""Table, the other tables (to learn from), seed, end of the clock -> finished trials."""

NO_STOP = SchedulerConfig(name="none")
ASHA = SchedulerConfig(name="asha")
CURVE = SchedulerConfig(name="curve", grace_epochs=2)


def plain(name: str, scheduler: SchedulerConfig) -> Policy:
    """One of the program's samplers as its definition in search/samplers has it."""

    def run(table: Table, others: Sequence[Table], seed: int, until: float) -> list[Point]:
        config = SamplerConfig.model_validate({"name": name})
        sampler = make_sampler(config, table.space, seed, epochs=table.epochs)
        return Replay(table, sampler, scheduler, WORKERS, until).run()

    return run


def ours(scheduler: SchedulerConfig = CURVE, *, portfolio: bool = True) -> Policy:
    """medfathom's own, its portfolio made of the other tables alone.

    As it is shipped: of recorded curves all results are known, of the public table the best trials.
    """

    def run(table: Table, others: Sequence[Table], seed: int, until: float) -> list[Point]:
        first, past = list(practitioner(table.space)), []
        if portfolio and table.epochs > 1:
            known = Portfolio(name="others", description="", source="", rows=results(others))
            past = past_results([known], table.space)
        elif portfolio:
            names = [*table.space.dimensions, "optimizer"]
            found = [
                completed(table.space, {n: getattr(p, n) for n in names}) for p in chosen(others, PORTFOLIO)
            ]
            fitting = [p for p in found if isinstance(p, TrialParams)]
            first += [First(dict(asked(p, table.space)[0]), "portfolio") for p in fitting]
        sampler = gain_per_second(
            SamplerConfig(name="gain"),
            table.space,
            seed,
            epochs=table.epochs,
            first=first,
            warm=WarmStart(past=past),
        )
        return Replay(table, sampler, scheduler, WORKERS, until).run()

    return run


def oracle(table: Table, others: Sequence[Table], seed: int, until: float) -> list[Point]:
    """The least that is possible: the quickest trial within .005 of the best is begun first, alone.

    The workers' time is counted, and the others have nothing to do that would help.
    """
    near = [t for t in table.trials.values() if t.aucs[-1] >= table.best_auc - NEAR]
    quickest = min(near, key=lambda t: sum(t.seconds))
    return [Point(sum(quickest.seconds), quickest.aucs[-1], quickest.losses[-1], quickest.test_auc)]


POLICIES: dict[str, Policy] = {
    "full grid": plain("grid", NO_STOP),
    "random": plain("random", NO_STOP),
    "random + ASHA": plain("random", ASHA),
    "TPE + ASHA": plain("tpe", ASHA),
    "GP": plain("gp", NO_STOP),
    "BOHB": package(Bohb, WORKERS),
    "SMAC": package(Smac, WORKERS),
    "NePS": package(Neps, WORKERS),
    "oracle": oracle,
    "medfathom": ours(),
}
