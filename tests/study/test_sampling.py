"""Samplers: equal budgets for strata, tuning within them, grids."""

from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import Trial

from medfathom.definitions.config import SamplerConfig
from medfathom.definitions.grid import grid, grid_size
from medfathom.definitions.space import SpaceConfig, label, stratum_of, suggest
from medfathom.errors import DefinitionError
from medfathom.study.sampling import StratumSampler, make_sampler

DIMENSIONS = {
    "architecture": {"role": "scientific", "choices": ["vgg16", "resnet18"]},
    "init": {"role": "scientific", "choices": ["imagenet", "random"]},
    "unfreeze_depth": {"role": "scientific", "choices": [0, 5]},
    "exclude": [{"init": "random", "unfreeze_depth": 0}],
}
SPACE = SpaceConfig.model_validate({**DIMENSIONS, "learning_rate": {"low": 1e-5, "high": 1.0, "log": True}})
GRID = SpaceConfig.model_validate({**DIMENSIONS, "learning_rate": {"choices": [0.1, 0.01]}})


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_a_stratum_is_given_and_the_rest_is_sampled(name: str) -> None:
    base = make_sampler(SamplerConfig(name=name, n_startup_trials=2), SPACE, seed=0)  # type: ignore[arg-type]
    sampler = StratumSampler(base, SPACE)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    rates = set()
    for stratum in SPACE.strata() * 4:
        sampler.stratum = stratum
        trial = study.ask()
        params = suggest(trial, SPACE)
        assert stratum_of(params, SPACE) == label(stratum)
        trial.set_user_attr("stratum", label(stratum))
        study.tell(trial, 0.5)
        rates.add(params.learning_rate)
    assert len(rates) > len(SPACE.strata())


def test_a_stratum_learns_from_its_own_trials_only() -> None:
    """Two strata with opposite optima: each is drawn to its own."""
    base = make_sampler(SamplerConfig(name="tpe", n_startup_trials=5), SPACE, seed=1)
    sampler = StratumSampler(base, SPACE)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    first, second = SPACE.strata()[0], SPACE.strata()[1]
    rates: dict[str, list[float]] = {label(first): [], label(second): []}
    for stratum in [first, second] * 30:
        sampler.stratum = stratum
        trial = study.ask()
        rate = suggest(trial, SPACE).learning_rate
        trial.set_user_attr("stratum", label(stratum))
        study.tell(trial, rate if stratum == first else 1 - rate)
        rates[label(stratum)].append(rate)
    late = {name: sorted(values[15:])[7] for name, values in rates.items()}
    assert late[label(first)] > 10 * late[label(second)]


WIDE = SpaceConfig.model_validate(
    {
        **DIMENSIONS,
        "learning_rate": {"low": 1e-5, "high": 1.0, "log": True},
        "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
    }
)
TPE = SamplerConfig(name="tpe", n_startup_trials=4)


def begun(study: Study, sampler: StratumSampler, stratum: dict[str, Any]) -> Trial:
    """A trial of a stratum, left running."""
    sampler.stratum = stratum
    trial = study.ask()
    suggest(trial, WIDE)
    trial.set_user_attr("stratum", label(stratum))
    return trial


def test_tpe_proposes_the_nuisance_hyperparameters_of_a_stratum_together() -> None:
    sampler = StratumSampler(make_sampler(TPE, WIDE, seed=0), WIDE)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for stratum in WIDE.strata() * 5:
        study.tell(begun(study, sampler, stratum), 0.5)
    together = sampler.infer_relative_search_space(study, study.trials[-1])
    assert sorted(together) == ["learning_rate", "weight_decay"]


def test_tpe_does_not_propose_again_what_is_under_way() -> None:
    """A running trial of the same stratum changes the next proposal; one of another does not."""
    proposals = []
    for beside in (None, 1, 0):
        sampler = StratumSampler(make_sampler(TPE, WIDE, seed=0), WIDE)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        for i, stratum in enumerate(WIDE.strata()[:2] * 8):
            study.tell(begun(study, sampler, stratum), 0.5 + i / 100)
        if beside is not None:
            begun(study, sampler, WIDE.strata()[beside])
        sampler.base = make_sampler(TPE, WIDE, seed=1)
        proposals.append(begun(study, sampler, WIDE.strata()[0]).params["learning_rate"])
    alone, beside_another, beside_the_same = proposals
    assert alone == beside_another != beside_the_same


FOUR = SpaceConfig.model_validate(
    {
        "architecture": {"role": "scientific", "choices": ["vgg11", "vgg16", "resnet18", "resnet34"]},
        "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    }
)


def test_qmc_goes_through_the_whole_range_in_every_stratum() -> None:
    """Every fourth point of a Sobol sequence lies in one half of the range."""
    sampler = StratumSampler(make_sampler(SamplerConfig(name="qmc"), FOUR, seed=0), FOUR)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    rates: dict[str, list[float]] = {label(stratum): [] for stratum in FOUR.strata()}
    for stratum in FOUR.strata() * 17:
        sampler.stratum = stratum
        trial = study.ask()
        rates[label(stratum)].append(suggest(trial, FOUR).learning_rate)
        trial.set_user_attr("stratum", label(stratum))
        study.tell(trial, 0.5)
    first, *others = (values[1:] for values in rates.values())  # each stratum's first trial is at random
    assert others == [first] * 3
    quarters = Counter(int(np.log10(rate) + 5 + 1e-9) for rate in first)
    assert quarters == dict.fromkeys(range(4), 4)


def test_nsga2_has_parents_in_every_stratum() -> None:
    """A child has some hyperparameters of its parents: rates come again, which none does that is drawn."""
    config = SamplerConfig(name="nsga2", n_startup_trials=8)
    sampler = StratumSampler(make_sampler(config, WIDE, seed=0), WIDE)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    rates: dict[str, list[float]] = {}
    for stratum in WIDE.strata()[:2] * 24:
        trial = begun(study, sampler, stratum)
        rates.setdefault(label(stratum), []).append(trial.params["learning_rate"])
        study.tell(trial, 0.5 + trial.number / 1000)
    assert all(len(set(values)) < len(values) - 3 for values in rates.values())
    assert not set.intersection(*map(set, rates.values()))


def test_an_unknown_sampler_is_an_error() -> None:
    with pytest.raises(DefinitionError, match=r"sampler.name = 'pte': no such sampler"):
        make_sampler(SamplerConfig.model_construct(name="pte", n_startup_trials=1), SPACE, seed=0)


def test_a_grid_is_every_combination_once() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerConfig(name="grid"), GRID, seed=0))
    seen = Counter()
    for _ in range(grid_size(GRID)):
        trial = study.ask()
        seen[suggest(trial, GRID).model_dump_json()] += 1
        study.tell(trial, 0.5)
    assert len(seen) == 2 * 3 * 2
    assert set(seen.values()) == {1}


def test_a_grid_takes_its_strata_in_turns() -> None:
    study = optuna.create_study(sampler=make_sampler(SamplerConfig(name="grid"), GRID, seed=3))
    seen = Counter(stratum_of(suggest(study.ask(), GRID), GRID) for _ in GRID.strata())
    assert seen == dict.fromkeys(map(label, GRID.strata()), 1)


def test_a_grid_begun_by_an_earlier_version_goes_on() -> None:
    """Its order was that of Optuna's GridSampler, the strata then taken in turns."""
    before = optuna.create_study(sampler=optuna.samplers.GridSampler(grid(GRID), seed=3))
    drawn = [suggest(before.ask(), GRID) for _ in range(grid_size(GRID))]
    turns: Counter[str] = Counter()
    turn_of = []
    for params in drawn:
        stratum = stratum_of(params, GRID)
        turn_of.append(turns[stratum])
        turns[stratum] += 1
    expected = [drawn[i] for i in sorted(range(len(drawn)), key=turn_of.__getitem__)]
    now = optuna.create_study(sampler=make_sampler(SamplerConfig(name="grid"), GRID, seed=3))
    assert [suggest(now.ask(), GRID) for _ in drawn] == expected


def test_a_grid_needs_choices() -> None:
    with pytest.raises(DefinitionError, match=r"space.learning_rate: sampler 'grid' needs choices"):
        make_sampler(SamplerConfig(name="grid"), SPACE, seed=0)
