"""Early stopping: which trials go no further, judged by the epochs of the others. Needs no Ray.

A rule is a plain function of what is known of the trials. `asha`, `hyperband` and `median` decide as Ray
Tune's own schedulers of these names do, and need nothing but the epochs: so a study that is taken up again
goes on as if never interrupted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from medfathom.definitions.config import SchedulerConfig, StudyConfig
from medfathom.errors import DefinitionError, did_you_mean
from medfathom.metrics.rules import is_loss
from medfathom.study.between_folds import stops_between_folds

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Curves = Mapping[int, Mapping[int, float]]
"""Trial number -> epoch -> validation AUC, or another number of which more is better. Epochs count
from 1, in order, without gaps."""

Rule = Callable[[Curves, int, int], bool]
"""Whether a trial (its number) is stopped after an epoch. The curves hold that epoch already."""

HYPERBAND_BRACKETS = 3

MEDIAN_NEEDS = 3
"""So many others must have reached the epoch before the median rule stops a trial; as in Tune."""

CURVE_NEEDS = 8
"""So many others must have run their full length before the curve rule stops a trial."""
CURVE_FLOOR = 0.002
"""An AUC this far below 1 is as good as 1: the logarithm of what is missing ends there."""


def make_rule(config: SchedulerConfig, epochs: int, strata: int = 1) -> Rule:
    """The rule of a definition.

    Args:
        config: its name and settings.
        epochs: of a trial's full length.
        strata: that trials are asked for in turns, and compared within.

    Raises:
        DefinitionError: there is no scheduler of that name.
    """
    grace, factor = config.grace_epochs, config.reduction_factor
    rules: dict[str, Rule] = {
        "none": _never,
        "asha": partial(halving_stops, grace=grace, factor=factor),
        "hyperband": partial(hyperband_stops, grace=grace, factor=factor, strata=strata),
        "median": partial(median_stops, grace=grace),
        "curve": partial(curve_stops, grace=grace, epochs=epochs),
    }
    if config.name not in rules:
        raise DefinitionError(
            f"scheduler.name = {config.name!r}: no such scheduler; {did_you_mean(config.name, rules)}"
        )
    return rules[config.name]


def _never(curves: Curves, number: int, epoch: int) -> bool:
    return False


def halving_stops(curves: Curves, number: int, epoch: int, *, grace: int, factor: int) -> bool:
    """Asynchronous successive halving (https://arxiv.org/abs/1810.05934).

    At epochs `grace`, `grace * factor`, `grace * factor**2`, … a trial must be among the best 1/`factor` of
    those that came to the same epoch before it.
    """
    rung = grace
    while rung < epoch:
        rung *= factor
    if rung > epoch:
        return False
    others = [curve[epoch] for other, curve in curves.items() if other != number and epoch in curve]
    return bool(others) and bool(curves[number][epoch] < np.percentile(others, (1 - 1 / factor) * 100))


def hyperband_stops(
    curves: Curves, number: int, epoch: int, *, grace: int, factor: int, strata: int = 1
) -> bool:
    """Hyperband in its asynchronous form: brackets of successive halving that begin to stop ever later.

    Trials are dealt to the brackets in turn, and are compared within theirs. (Tune's synchronous Hyperband
    needs trials paused, and kept by Tune.) As many trials in a row as there are strata are of one bracket:
    were it one trial, each of three strata would be in one bracket with all of its trials.
    """
    bracket = number // strata % HYPERBAND_BRACKETS
    peers = {n: curve for n, curve in curves.items() if n // strata % HYPERBAND_BRACKETS == bracket}
    return halving_stops(peers, number, epoch, grace=grace * factor**bracket, factor=factor)


def median_stops(curves: Curves, number: int, epoch: int, *, grace: int) -> bool:
    """The median rule of Google Vizier: the trial's best AUC is below the median of the others' means so far.

    Means are over the epochs from `grace` to this one, of those that reached it.
    """
    if epoch < grace:
        return False
    span = range(grace, epoch + 1)
    others = [[c[e] for e in span] for other, c in curves.items() if other != number and epoch in c]
    if len(others) < MEDIAN_NEEDS:
        return False
    return bool(np.median(np.mean(others, axis=1)) > max(curves[number].values()))


def curve_stops(curves: Curves, number: int, epoch: int, *, grace: int, epochs: int) -> bool:
    """A trial is stopped when even a hopeful forecast of its curve stays below the best finished trial.

    What an AUC lacks to 1 falls about as a power of the epoch. A finished trial tells the power at which it
    fell from this epoch to its end. The forecast takes the fastest of these, or the trial's own where that is
    faster, from the mean of the last two epochs or the last one, whichever is better.
    """
    if epoch < grace or epoch >= epochs:
        return False
    finished = [c for other, c in curves.items() if other != number and epochs in c]
    if len(finished) < CURVE_NEEDS:
        return False
    best = max(c[epochs] for c in finished)
    powers = [_power(c, epoch, epochs) for c in finished]
    mine = curves[number]
    own = _power(mine, max(1, epoch // 2), epoch) if epoch > 1 else 0.0
    fast = max(*powers, own)
    return bool(1 - _lacking(mine, epoch) * (epoch / epochs) ** fast < best)


def _lacking(curve: Mapping[int, float], epoch: int) -> float:
    """What the AUC lacks to 1: at the last epoch, or in the mean of the last two where that is less."""
    recent = (curve[epoch] + curve.get(epoch - 1, curve[epoch])) / 2
    return max(1 - max(curve[epoch], recent), CURVE_FLOOR)


def _power(curve: Mapping[int, float], start: int, end: int) -> float:
    """The power of the epoch at which what the AUC lacks to 1 fell from one epoch to another."""
    return float(np.log(_lacking(curve, start) / max(1 - curve[end], CURVE_FLOOR)) / np.log(end / start))


class Stopping:
    """Which trials are stopped: compared within their stratum under `compare`, with all under `best`.

    An epoch counts once, however often it is told. What became of past trials is known and not decided again.

    Attributes:
        curves: what is known of each stratum's trials; a loss with its sign turned.
    """

    def __init__(self, config: StudyConfig, past: Iterable[FrozenTrial]) -> None:
        """`past` are trials that ended."""
        epochs, trainings = config.budget.epochs, config.dataset.splits.trainings
        self._apart = config.goal == "compare"
        rule = make_rule(config.scheduler, epochs, len(config.space.strata()) if self._apart else 1)
        between_folds = partial(stops_between_folds, rule, epochs=epochs, trainings=trainings)
        self._rule: Rule = between_folds if trainings > 1 else rule
        self._sign = -1.0 if is_loss(config.objective) else 1.0
        self.curves: dict[str, dict[int, dict[int, float]]] = defaultdict(dict)
        for trial in past:
            self.learn(trial.user_attrs.get("stratum", ""), trial.number, trial.intermediate_values)

    def learn(self, stratum: str, number: int, told: Mapping[int, float]) -> bool:
        """Take in the objective's values by epoch. Returns whether any of the epochs is new."""
        if not told:
            return False
        curve = self._peers(stratum).setdefault(number, {})
        known = len(curve)
        for epoch in sorted(told):
            curve.setdefault(epoch, self._sign * told[epoch])
        return len(curve) > known

    def stops(self, stratum: str, number: int, epoch: int, value: float) -> bool:
        """Take in an epoch, and decide; what is told again was decided on when it came first."""
        news = self.learn(stratum, number, {epoch: value})
        return news and self._rule(self._peers(stratum), number, epoch)

    def _peers(self, stratum: str) -> dict[int, dict[int, float]]:
        return self.curves[stratum if self._apart else ""]
