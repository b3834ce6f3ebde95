"""`medfathom.run_study`: what `medfathom run` does, for a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medfathom import study
from medfathom.definitions import StudyConfig, load_study
from medfathom.progress import Watcher


def run_study(
    definition: str | Path | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    storage: str | None = None,
    address: str | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> study.Outcome:
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
    if isinstance(definition, StudyConfig):
        if overrides:
            raise TypeError("overrides go with a file or a name; change a StudyConfig before it is parsed")
        config = definition
    else:
        config = load_study(str(definition), overrides)
    return study.run_study(config, storage=storage, address=address, fresh=fresh, watcher=watcher)
