"""A trial's transfer strategy at work: which layer groups are trained in which epoch.

A strategy looks at nothing but the number of the epoch and the training losses before it, so that a trial
that is resumed goes on as if never interrupted. Learning rates follow one schedule over all epochs, whatever
is trained: a group that is opened late begins at the rate of that epoch, with no moments in the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import refusal
from medfathom.errors import DefinitionError
from medfathom.models.graph.layer_groups import GROUPS
from medfathom.trial.randomness import derived_seed
from medfathom.trial.record import Phase

if TYPE_CHECKING:
    from medfathom.models.network import Network, Only

Groups = frozenset[int]

HEAD_ALONE: Groups = frozenset()

LEAST_FALL = 0.02
"""A training loss that falls by less from one epoch to the next, as a share of itself, has settled."""


class Strategy:
    """Which layer groups are trained in each epoch of one training; epochs count from 1.

    Attributes:
        groups: the most that are trained at once, besides the head.
        only: what of these groups is trained.
        rank: of adapters, where they are what is trained.
    """

    def __init__(self, params: TrialParams, epochs: int) -> None:
        """Raises DefinitionError where the strategy means nothing for the trial's depth or init."""
        depth = params.unfreeze_depth
        reason = refusal(params.strategy, depth, params.init)
        if reason:
            raise DefinitionError(
                f"strategy = {params.strategy!r} means nothing with unfreeze_depth = {depth} and init = "
                f"{params.init!r}: {reason}"
            )
        self._name, self._epochs = params.strategy, epochs
        self._warmup_epochs = math.ceil(params.warmup_fraction * epochs)
        self.groups = frozenset(range(1, depth + 1)) if self._name == "surgical" else _last(depth)
        self.only: Only = "vectors" if self._name == "bitfit" else "all"
        self.rank = params.lora_rank if self._name == "lora" else None

    @property
    def first(self) -> Groups:
        """The groups of the first epoch."""
        return self.trained_in(1, ())

    def trained_in(self, epoch: int, losses: Sequence[float]) -> Groups:
        """The groups that are trained in an epoch, given the training losses of the epochs before it."""
        if self._name == "lp-ft" and self._head_is_alone(epoch, losses):
            return HEAD_ALONE
        return _last(self._open_in(epoch)) if self._name == "gradual" else self.groups

    def stages(self) -> list[Groups]:
        """All that `trained_in` can answer, in order."""
        if self._name == "gradual":
            return [_last(depth) for depth in dict.fromkeys(map(self._open_in, self._all_epochs()))]
        return [HEAD_ALONE, self.groups] if self._name == "lp-ft" else [self.groups]

    @property
    def depths(self) -> Groups:
        """How many groups follow the frozen prefix, in any epoch: where features of it may be kept."""
        return frozenset(GROUPS + 1 - min(groups, default=GROUPS + 1) for groups in self.stages())

    def expected_epochs(self, groups: Groups) -> int:
        """How many epochs train these groups; of `lp-ft`, whose epochs nobody knows before, half of all."""
        if self._name == "gradual":
            return sum(_last(self._open_in(epoch)) == groups for epoch in self._all_epochs())
        return self._epochs // 2 if self._name == "lp-ft" else self._epochs

    def _head_is_alone(self, epoch: int, losses: Sequence[float]) -> bool:
        """Until the training loss settles after the warm-up, but for no more than half of the epochs."""
        risen = losses[self._warmup_epochs :]
        settled = any(later > (1 - LEAST_FALL) * earlier for earlier, later in pairwise(risen))
        return epoch <= self._epochs // 2 and not settled

    def _open_in(self, epoch: int) -> int:
        """Groups open of `gradual`: spread evenly over the first half of the epochs, then all."""
        depth = len(self.groups)
        return min(depth, (epoch - 1) * 2 * depth // self._epochs)

    def _all_epochs(self) -> range:
        return range(1, self._epochs + 1)


def _last(depth: int) -> Groups:
    return frozenset(range(GROUPS - depth + 1, GROUPS + 1))


def set_strategy(network: Network, strategy: Strategy, seed: int) -> None:
    """Let training change what the strategy trains at most; open what it begins with.

    `seed` is that of the trial.
    """
    network.set_trained(strategy.groups, strategy.only)
    if strategy.rank is not None:
        network.add_adapters(strategy.rank, derived_seed(seed, "adapters"))
    network.open(strategy.first)


def with_epoch(phases: Sequence[Phase], epoch: int, groups: Groups, *, features_kept: bool) -> list[Phase]:
    """Phases that an epoch was added to: it prolongs the last one, or begins another."""
    now = Phase(first_epoch=epoch, last_epoch=epoch, groups=sorted(groups), features_kept=features_kept)
    last = phases[-1] if phases else None
    if last is not None and (last.groups, last.features_kept) == (now.groups, now.features_kept):
        return [*phases[:-1], last.model_copy(update={"last_epoch": epoch})]
    return [*phases, now]
