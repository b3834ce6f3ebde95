"""What the user's own earlier studies tell a new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from pydantic import ValidationError

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import SpaceConfig, TrialParams
from medfathom.errors import DefinitionError, did_you_mean
from medfathom.study.growth import asked, params_in
from medfathom.study.policy.opening import completed
from medfathom.study.policy.sampler import First, Past
from medfathom.study.record import auc_of

if TYPE_CHECKING:
    from optuna.study import Study

LEAST = 3
"""A study with fewer finished trials that fit says nothing of how good they are."""
BEST_OF_EACH = 3
"""So many of each study's best trials are first trials of the new one."""
NAMED = 3
"""So many reasons why trials do not fit are named."""


@dataclass(frozen=True)
class WarmStart:
    """What is taken over.

    Attributes:
        past: trials by study, for the sampler to learn from.
        first: the best of each study, to begin with.
        left: why other trials were left out, with their numbers.
    """

    past: Sequence[Past] = ()
    first: Sequence[First] = ()
    left: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """In one line, for the user; empty: there is nothing to say."""
        if not self.past and not self.left:
            return ""
        taken = ", ".join(f"{p.name} ({len(p.params)} trials)" for p in self.past) or "nothing"
        named = [f"{n} with {reason}" for reason, n in self.left.most_common(NAMED)]
        more = sum(self.left.values()) - sum(n for _, n in self.left.most_common(NAMED))
        left = f"; left out: {', '.join(named)}{f' and {more} more' if more else ''}" if named else ""
        return f"warm start from {taken}{left}"


def warm_start(config: StudyConfig, storage: BaseStorage) -> WarmStart:
    """What a storage's other studies tell a study.

    Raises:
        DefinitionError: the definition names a study that the storage does not have.
    """
    past, first, left = [], [], Counter[str]()
    for study in _earlier(config, storage):
        found = _fitting(study, config.space, left)
        if len(found) < LEAST:
            if found:
                left[f"fewer than {LEAST} that fit ({study.study_name})"] += len(found)
            continue
        found.sort(key=lambda pair: -pair[1])
        params = [dict(asked(p, config.space)[0]) for p, _ in found]
        past.append(Past(study.study_name, params, [auc for _, auc in found]))
        first += [First(p, f"study {study.study_name}") for p in params[:BEST_OF_EACH]]
    return WarmStart(past, first, left)


def _earlier(config: StudyConfig, storage: BaseStorage) -> list[Study]:
    """The studies that the definition asks for."""
    wanted = config.sampler.warm_start
    if config.sampler.name != "gain" or wanted == "off":
        return []
    known = [s.study_name for s in storage.get_all_studies() if s.study_name != config.name]
    for name in wanted if wanted != "auto" else ():
        if name not in known:
            raise DefinitionError(
                f"sampler.warm_start: the storage has no other study {name!r}; {did_you_mean(name, known)}"
            )
    chosen = known if wanted == "auto" else wanted
    studies = [optuna.load_study(study_name=name, storage=storage) for name in chosen]
    # A confirmation repeats configurations of its study with other seeds: it has no definition of a search.
    described = [
        s for s in studies if "definition" in s.user_attrs and not s.study_name.endswith("(confirmed)")
    ]
    if wanted != "auto":
        return described
    return [s for s in described if s.user_attrs.get("modality") == config.dataset.modality]


def _fitting(study: Study, space: SpaceConfig, left: Counter[str]) -> list[tuple[TrialParams, float]]:
    """A study's finished trials that the space has, with their AUC; `left` counts the others."""
    try:
        before = SpaceConfig.model_validate(study.user_attrs["definition"]["space"])
    except (ValidationError, KeyError):
        left[f"a definition of another version ({study.study_name})"] += len(study.trials)
        return []
    found: dict[str, tuple[TrialParams, float]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        params = params_in(before, trial.params)
        auc = auc_of(trial)
        if params is None or auc is None:
            continue
        fitted = completed(space, {n: getattr(params, n) for n in (*space.dimensions, "optimizer")})
        if isinstance(fitted, str):
            left[fitted] += 1
        else:
            key = fitted.model_dump_json()
            found[key] = (fitted, max(auc, found[key][1]) if key in found else auc)
    return list(found.values())
