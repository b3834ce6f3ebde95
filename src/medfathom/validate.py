"""Every check that can be made before anything is spent: names, weights, data, devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from medfathom.definitions.grid import trials_of
from medfathom.definitions.load import load_definition
from medfathom.errors import DefinitionError, InputError, WeightsError
from medfathom.files import home
from medfathom.machine import cpus
from medfathom.text import is_utf8, printable

if TYPE_CHECKING:
    from medfathom.definitions.config import StudyConfig
    from medfathom.models.weights.lookup import Sources, WeightsLocation
    from medfathom.study.sources import Settled, Source


@dataclass(frozen=True)
class Valid:
    """A definition that passed every check: how many strata and trials it has.

    Attributes:
        notes: a line for each of the user's own weight files (what it fits, and how well), for each key
            without effect, for what the reader of the data set should know, and for each split that is too
            small.
    """

    strata: int
    trials: int
    notes: list[str]


def validate_study(reference: str, overrides: Sequence[str] = (), *, storage: str | None = None) -> Valid:
    """Make every check that `run` makes before it decodes an image: names, weights, files, labels, splits.

    Only a note of what was found is kept in the cache. Damaged pixels and copies are found by `data check`.

    Args:
        reference: a TOML file, or the name of one in study_defs/.
        overrides: `key=value` pairs, as `--set` takes them.
        storage: an Optuna storage URL, where inits name other studies.

    Raises:
        InputError: in one line, for the first thing that is wrong.
    """
    config = load_definition(reference, overrides)
    _check_budget(config)
    notes = check_definition(config, sources=sources_for(config, storage))
    notes += [*_search_notes(config), *config.space.left_out()]
    return Valid(len(config.space.strata()), trials_of(config), [*notes, *check_source(config)])


def sources_for(
    config: StudyConfig, storage: str | None = None, *, fresh: bool = False
) -> dict[str, dict[str, Source]]:
    """The confirmed models that the inits `study:NAME` stand for, see `confirmation.sources.find_sources`."""
    if not any(str(init).startswith("study:") for init in config.space.values("init")):
        return {}
    from medfathom.confirmation.sources import find_sources  # noqa: PLC0415  imports Optuna
    from medfathom.study.connection import default_url  # noqa: PLC0415

    return find_sources(config, storage or default_url(), fresh=fresh)


def check_definition(
    config: StudyConfig, address: str | None = None, sources: Settled = MappingProxyType({})
) -> list[str]:
    """Raise an InputError, in one line, for the first thing that would fail later.

    Nothing is created, and torch is imported only for architectures outside the shipped catalog and for
    weights from the user's own files.

    Args:
        config: the definition.
        address: of the Ray cluster that will run the trials, and that checks its own CPUs; this machine when
            none is given.
        sources: from `sources_for`.

    Returns:
        A line for each of these files, and of other studies' models: what it fits, and how well.
    """
    from medfathom.models.catalog import check_architecture  # noqa: PLC0415
    from medfathom.study.sampling import make_sampler  # noqa: PLC0415
    from medfathom.trial.remote_checkpoints import RemoteCheckpoints  # noqa: PLC0415

    _check_places()
    if "lora" in config.space.values("strategy") and find_spec("peft") is None:
        raise DefinitionError(
            'space.strategy = "lora" needs the package peft: install it with `pip install "medfathom[lora]"`'
        )
    for architecture, size in product(config.space.values("architecture"), config.sizes):
        if not config.space.excluded({"architecture": architecture, "image_size": size}):
            check_architecture(str(architecture), size)
    _check_effects(config)
    _check_norms(config)
    notes = _check_weights(config, sources)
    make_sampler(config.sampler, config.space, seed=0)
    if config.resources.checkpoint_url is not None:
        RemoteCheckpoints(config.resources.checkpoint_url)
    if address is None and config.resources.cpus_per_trial > cpus():
        raise DefinitionError(
            f"resources.cpus_per_trial = {config.resources.cpus_per_trial}, but this machine has "
            f"{cpus()} CPUs; ask for fewer, or run on a cluster (--address)"
        )
    if address is None:
        _check_gpus(config.resources.gpus_per_trial)
    return notes


ONLY_WITH = {
    "l2_sp_alpha": ("strategy", "l2-sp"),
    "lora_rank": ("strategy", "lora"),
    "sampling_temperature": ("sampling", "temperature"),
}
"""Hyperparameter -> the one value of another with which it has an effect."""


READ_BY = {
    "sampler.n_startup_trials": ("tpe", "gp", "nsga2"),
    "sampler.portfolio": ("gain",),
    "sampler.warm_start": ("gain",),
    "scheduler.grace_epochs": ("asha", "hyperband", "median", "curve"),
    "scheduler.reduction_factor": ("asha", "hyperband"),
}
"""Key of a table -> the names of that table with which it has an effect."""


def _search_notes(config: StudyConfig) -> list[str]:
    """A line for each key of sampler, scheduler and budget that does nothing, or more than one expects."""
    notes = []
    for key, names in READ_BY.items():
        table, field = key.split(".")
        given = getattr(config, table)
        value = getattr(given, field)
        if given.name not in names and value != type(given).model_fields[field].default:
            notes.append(f'{key} = {value!r} has no effect with {table}.name = "{given.name}"')
    grace, epochs = config.scheduler.grace_epochs, config.budget.epochs
    if config.scheduler.name != "none" and grace >= epochs:
        notes.append(
            f"scheduler.grace_epochs = {grace} and budget.epochs = {epochs}: no trial is stopped early"
        )
    if config.goal == "compare" and config.budget.patience is not None:
        notes.append(
            f"budget.patience = {config.budget.patience} may end the comparison before every stratum has "
            "its share of the trials; leave it out to compare fairly"
        )
    return notes


def _check_effects(config: StudyConfig) -> None:
    """Raise a DefinitionError for a dimension that changes no trial, but would be tuned or compared."""
    for name, (other, value) in ONLY_WITH.items():
        if name in config.space.dimensions and value not in config.space.values(other):
            raise DefinitionError(
                f'space.{name} has no effect without {other} = "{value}"; add that to space.{other}, or '
                f"leave space.{name} out"
            )


def _check_norms(config: StudyConfig) -> None:
    """Raise a DefinitionError where batch norm for each data set is asked of a network that has none."""
    own = {"norm": "per_dataset"}
    if "per_dataset" not in config.space.values("norm"):
        return
    from medfathom.models.build import has_batch_norm  # noqa: PLC0415  imports torch

    asked = [str(name) for name in config.space.values("architecture")]
    asked = [name for name in asked if not config.space.excluded({**own, "architecture": name})]
    if without := [name for name in asked if not has_batch_norm(name)]:
        raise DefinitionError(
            f'space.norm = "per_dataset": {", ".join(without)} without batch norm; leave the combination out '
            "with [[space.exclude]], or take other architectures"
        )


def _check_gpus(asked: float | str) -> None:
    """Raise a DefinitionError where this machine has fewer GPUs than a trial takes."""
    if asked == "auto" or not float(asked):
        return
    import torch  # noqa: PLC0415  takes a second: only where a GPU is asked for

    there = torch.cuda.device_count()
    if float(asked) > there:
        raise DefinitionError(
            f"resources.gpus_per_trial = {asked:g}, but this machine has {there or 'no'} "
            f'GPU{"s" if there > 1 else ""}; use "auto" or 0, or run on a cluster (--address)'
        )


def _check_budget(config: StudyConfig) -> None:
    """A comparison needs a trial of every stratum."""
    strata = len(config.space.strata())
    if config.goal == "compare" and config.budget.trials < strata:
        raise DefinitionError(
            f"budget.trials = {config.budget.trials}, but the space has {strata} strata to compare: the "
            f"smallest budget is budget.trials = {strata}, one trial for each; or compare fewer"
        )


def _check_places() -> None:
    """Ray and SQLite take no path that is not UTF-8."""
    for place in (Path.cwd(), home()):
        if not is_utf8(str(place)):
            raise InputError(f"{printable(str(place))}: the name of this folder is not UTF-8; rename it")


def _check_weights(config: StudyConfig, sources: Settled) -> list[str]:
    """Every init with every architecture that it may meet; all that lack its weights are named at once."""
    from medfathom.models.weights.lookup import locate_weights, parse_init  # noqa: PLC0415

    folders = _model_folders(sources)
    weights_dir = Path(config.training.weights_dir) if config.training.weights_dir else None
    notes = []
    for init in map(str, config.space.values("init")):
        parsed = parse_init(init)
        refusals: dict[str, WeightsError] = {}
        for architecture in map(str, config.space.values("architecture")):
            if config.space.excluded({"architecture": architecture, "init": init}):
                continue
            try:
                location = locate_weights(architecture, init, weights_dir, folders)
                from_hub = parsed.repository is not None and location.path is not None
                if location.own or parsed.study is not None or from_hub:
                    notes.append(_check_file(config, architecture, location))
            except WeightsError as error:
                refusals[architecture] = error
        if refusals:
            first, *others = refusals
            more = f"; this init fails also for {', '.join(others)}" if others else ""
            raise WeightsError(f"{refusals[first]}{more}")
    return notes


def _model_folders(sources: Settled) -> Sources:
    if not sources:
        return {}
    from medfathom.confirmation.sources import model_folders  # noqa: PLC0415  imports Optuna

    return model_folders(sources)


def _check_file(config: StudyConfig, architecture: str, location: WeightsLocation) -> str:
    from medfathom.models.weights.read import check_fit  # noqa: PLC0415 - imports torch

    what = location.path if location.own else location.description
    return f"{what} for {architecture}: {check_fit(architecture, min(config.sizes), location)}"


def check_source(config: StudyConfig) -> list[str]:
    """Make every check of the data that needs few pixels: files, headers, labels, splits, bits in use.

    Returns:
        A line for each thing to know: the positive class, what is left out or suspicious, few patients, rare
        classes.

    Raises:
        DataError: the data set is absent or damaged, or its splits cannot be drawn or lack a class.
    """
    from medfathom.data.joint import foresee_study  # noqa: PLC0415  imports image readers
    from medfathom.data.sizes import at_size  # noqa: PLC0415

    notes = [foresee_study(at_size(config.dataset, size), home() / "cache") for size in config.sizes]
    return list(dict.fromkeys(note for of_size in notes for note in of_size))
