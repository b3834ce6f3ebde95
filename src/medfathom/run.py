"""The story of a study: prepare -> ask -> schedule -> tell -> resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medfathom.dashboard.notes import NotesAndPictures
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.files import home
from medfathom.study.choice import Choice, choice_of
from medfathom.study.connection import check_url, default_url
from medfathom.study.open import open_study
from medfathom.study.summary import Counts
from medfathom.study.watcher import Watcher
from medfathom.validate import check_definition


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        budget: trials that the study may have.
        choice: which trial is the best, and which may be as good; None: none is complete.
        halted: why the run ended before its budget; empty: it did not.
    """

    study: str
    counts: Counts
    budget: int
    choice: Choice | None
    halted: str

    @property
    def best_number(self) -> int | None:
        """Number of the best trial."""
        return self.choice.best if self.choice else None

    @property
    def best_auc(self) -> float | None:
        """Its validation AUC."""
        return self.choice.auc if self.choice else None


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
    watcher = watcher or Watcher()
    url = storage or default_url()
    check_definition(config, address)
    check_url(url)
    from medfathom.data.folds import open_folds  # noqa: PLC0415
    from medfathom.data.leakage import LEAKAGE, copies_note, refuse_leakage  # noqa: PLC0415
    from medfathom.data.prepared import read_facts  # noqa: PLC0415  after the checks that cost nothing
    from medfathom.data.sizes import prepare_sizes  # noqa: PLC0415

    data = prepare_sizes(config.dataset, config.sizes, home() / "cache")
    leaks = refuse_leakage(data, config.dataset, config.name)
    for note in filter(None, (*read_facts(data.folder).lines(), leaks, copies_note(data))):
        watcher.note(note)
    open_folds(data, config.dataset.splits)  # refused before anything is spent
    with open_study(config, url, data.fingerprint, fresh=fresh, tell=watcher.note) as driver:
        driver.study.set_user_attr(LEAKAGE, leaks)
        driver.recorder = NotesAndPictures(driver.study, watcher.note)
        if driver.warm_start:
            watcher.note(driver.warm_start)
        halted = ""
        if not driver.done():
            from medfathom.scheduling import run_trials  # noqa: PLC0415  importing Ray takes seconds

            try:
                halted = run_trials(config, driver, watcher, home(), address)
            finally:
                watcher.end()
        driver.close_records()
        if not halted and driver.budget < config.budget.trials:
            watcher.note(
                f"every combination of the grid has been run: {driver.budget}; "
                f"budget.trials = {config.budget.trials} has no more to try"
            )
        if not halted and driver.counts().finished < driver.budget:
            watcher.note(
                f"Every stratum is tuned to within noise after {driver.counts().finished} of {driver.budget} "
                "trials: more would be expected to bring less than validation images can tell "
                "(budget.settle = false runs them all)"
            )
        choice = choice_of(driver.study, driver.trials())
        return Outcome(config.name, driver.counts(), driver.budget, choice, halted)


def _parsed(definition: str | Path | StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    if not isinstance(definition, StudyConfig):
        return load_definition(str(definition), overrides)
    if overrides:
        raise TypeError("overrides go with a file or a name; change a StudyConfig before it is parsed")
    return definition
