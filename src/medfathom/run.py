"""The story of a study: prepare -> ask -> schedule -> tell -> resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medfathom.confirmation.sources import leakage_through
from medfathom.dashboard.notes import NotesAndPictures
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.grid import grid_size
from medfathom.definitions.load import load_definition
from medfathom.files import home
from medfathom.html import lines, piece
from medfathom.machine import check_ray
from medfathom.study.choice import Choice, choice_of, choice_sentences
from medfathom.study.connection import check_url, default_url
from medfathom.study.driver import Driver
from medfathom.study.front import Front, front_of, front_sentence
from medfathom.study.open import open_study
from medfathom.study.policy.policy import first_sentence
from medfathom.study.sources import settle_sources
from medfathom.study.summary import Counts, without_trial
from medfathom.study.tuning import all_settled
from medfathom.study.watcher import Watcher, default_watcher
from medfathom.study.weights import keep_to_its_weights
from medfathom.validate import check_definition, sources_for


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        budget: trials that the study may have.
        choice: which trial is the best, and which may be as good; None: none is complete.
        halted: why the run ended before its budget; empty: it did not.
        front: the trials that none beats in AUC and cost; None: AUC is the only objective.
    """

    study: str
    counts: Counts
    budget: int
    choice: Choice | None
    halted: str
    front: Front | None = None

    @property
    def best_number(self) -> int | None:
        """Number of the best trial."""
        return self.choice.best if self.choice else None

    @property
    def best_auc(self) -> float | None:
        """Its validation AUC."""
        return self.choice.auc if self.choice else None

    def _repr_html_(self) -> str:
        """In a notebook: how far, and which trial is the best."""
        done = f"{self.study}: {self.counts.finished} of {self.budget} trials"
        told = choice_sentences(self.choice) if self.choice else ["No trial is complete."]
        told += [front_sentence(self.front)] if self.front else []
        return piece(done, lines([*told, f"Ended early: {self.halted}" if self.halted else ""]))


def run_study(
    definition: str | Path | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    storage: str | None = None,
    address: str | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Run a study to its budget, or go on with it where an earlier run stopped.

    Args:
        definition: a TOML file, the name of one in study_defs/, or one that is parsed already.
        overrides: `key=value` pairs, as `--set` takes them; for a file or a name.
        storage: an Optuna storage URL; SQLite under storage/ when none is given.
        address: of a Ray cluster; this machine alone when none is given.
        fresh: set an existing study of this name aside and begin anew.
        watcher: is told what happens; nobody is when none is given.

    Raises:
        InputError: something given cannot be used; nothing was created.
        RunError: the storage or the cluster failed.
    """
    config = _parsed(definition, overrides)
    watcher = watcher or default_watcher()
    url = storage or default_url()
    sources = sources_for(config, url, fresh=fresh)
    check_definition(config, address, sources)
    check_ray()
    check_url(url)
    from medfathom.data.folds import open_folds  # noqa: PLC0415
    from medfathom.data.leakage import DEFINED_IN, LEAKAGE, copies_note, refuse_leakage  # noqa: PLC0415
    from medfathom.data.prepared import facts_lines  # noqa: PLC0415  after the checks that cost nothing
    from medfathom.data.sizes import prepare_sizes  # noqa: PLC0415

    data = prepare_sizes(config.dataset, config.sizes, home() / "cache")
    named = config.name if isinstance(definition, StudyConfig) else str(definition)
    leaks = refuse_leakage(data, config.dataset, named)
    leaks = "; ".join(filter(None, (leaks, leakage_through(sources, data))))
    for note in filter(None, (*facts_lines(data), leaks, copies_note(data, named))):
        watcher.note(note)
    open_folds(data, config.dataset.splits)  # refused before anything is spent
    with open_study(config, url, data.fingerprint, fresh=fresh, tell=watcher.note) as driver:
        keep_to_its_weights(driver.study, config)
        driver.study.set_user_attr(LEAKAGE, leaks)
        driver.study.set_user_attr(DEFINED_IN, named)
        settle_sources(driver.study, sources)
        driver.recorder = NotesAndPictures(driver.study, watcher.note)
        if driver.warm_start:
            watcher.note(driver.warm_start)
        halted = ""
        finished = driver.done()
        if not finished:
            if first := first_sentence(driver.study.sampler, driver.trials(), driver.budget):
                watcher.note(first)
            from medfathom.scheduling import run_trials  # noqa: PLC0415  importing Ray takes seconds

            try:
                halted = run_trials(config, driver, watcher, home(), address)
            finally:
                watcher.end()
        driver.close_records()
        for note in () if halted else _at_the_end(driver, nothing_run=finished):
            watcher.note(note)
        study, trials = driver.study, driver.trials()
        choice, front = choice_of(study, trials), front_of(study, trials)
        return Outcome(config.name, driver.counts(), driver.budget, choice, halted, front)


def _at_the_end(driver: Driver, *, nothing_run: bool) -> Iterator[str]:
    """Why a study that was not halted has no more to run."""
    config, finished = driver.config, driver.counts().finished
    if untried := without_trial(config, driver.trials()):
        n, more = len(config.space.strata()), f"; and {len(untried) - 1} more" if len(untried) > 1 else ""
        yield (
            f"{len(untried)} of {n} strata had no trial and are not compared ({untried[0]}{more}): "
            f"budget.trials = {config.budget.trials} is too few"
        )
    if driver.budget < config.budget.trials:
        yield (
            f"all {driver.budget} combinations of the grid have been run, fewer than budget.trials = "
            f"{config.budget.trials}"
        )
    if finished < driver.budget and all_settled(driver.trials(), config):
        yield (
            f"Every stratum is tuned after {finished} of {driver.budget} trials: more trials are "
            "expected to gain less than the noise of its AUC (budget.settle = false runs them all)"
        )
    elif finished < driver.budget:
        yield f"{finished} of {driver.budget} trials have ended, no more began: the same command continues"
    elif nothing_run:
        exhausted = config.sampler.name == "grid" and finished >= grid_size(config.space)
        more = "more values in [space] add" if exhausted else f"`run --trials {finished + 8}` adds"
        yield (
            f"study {config.name!r} is finished ({finished} trials), so nothing was run; "
            f"{more} trials, `run --fresh` starts again"
        )


def _parsed(definition: str | Path | StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    if not isinstance(definition, StudyConfig):
        return load_definition(str(definition), overrides)
    if overrides:
        raise TypeError("overrides go with a file or a name; change a StudyConfig before it is parsed")
    return definition
