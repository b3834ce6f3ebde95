"""The story of a study: prepare -> ask -> schedule -> tell -> resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfathom.checks import check
from medfathom.ledger import Counts, completed
from medfathom.notes import NotesAndPictures
from medfathom.progress import Watcher
from medfathom.storage import check_url, default_url, open_ledger, root

if TYPE_CHECKING:
    from medfathom.definitions import StudyConfig


@dataclass(frozen=True)
class Outcome:
    """What a run left behind. `halted` says why it ended before its budget; empty: it did not."""

    study: str
    counts: Counts
    budget: int
    best_number: int | None
    best_auc: float | None
    halted: str


def run_study(
    config: StudyConfig,
    *,
    storage: str | None = None,
    address: str | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Run a study to its budget, or go on with it where an earlier run stopped.

    Args:
        config: the definition.
        storage: an Optuna storage URL; SQLite under `storage/` when none is given.
        address: of a Ray cluster; this machine alone when none is given.
        fresh: set an existing study of this name aside and begin anew.
        watcher: is told what happens.

    Raises:
        InputError: something given cannot be used; nothing was created.
        RunError: the storage or the cluster failed.
    """
    watcher = watcher or Watcher()
    url = storage or default_url()
    check(config, address)
    check_url(url)
    from medfathom.data.prepare import prepare  # noqa: PLC0415  after the checks that cost nothing
    from medfathom.data.two_splits import leakage_note  # noqa: PLC0415

    data = prepare(config.dataset, root() / "cache")
    if leaks := leakage_note(data, config.name):
        watcher.note(leaks)
    with open_ledger(config, url, data.fingerprint, fresh=fresh, wait=watcher.note) as ledger:
        ledger.recorder = NotesAndPictures(ledger.study, watcher.note)
        halted = ""
        if ledger.counts().finished < ledger.budget:
            from medfathom.scheduling import run_trials  # noqa: PLC0415  importing Ray takes seconds

            try:
                halted = run_trials(config, ledger, watcher, root(), address)
            finally:
                watcher.end()
        ledger.close_records()
        best = next(iter(completed(ledger.trials())), None)
        return Outcome(
            config.name,
            ledger.counts(),
            ledger.budget,
            best.number if best else None,
            best.value if best else None,
            halted,
        )
