"""`medfathom show --definition` in a terminal: a definition with every default."""

from __future__ import annotations

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition, names, study_name
from medfathom.definitions.write import resolved
from medfathom.errors import NoStudyError
from medfathom.terminal.output import print_json


def print_definition(name: str, storage: str | None, *, as_json: bool) -> None:
    """Print the definition of a file, of a study in the storage, or of a name in study_defs/.

    A stored study's is the one that its latest run had, with what `--set` and `--smoke` changed.

    Raises:
        InputError: there is no such definition, and no such study.
    """
    config = _config(name, storage)
    if as_json:
        print_json(config.model_dump(mode="json"))
    else:
        print(resolved(config), end="")  # noqa: T201


def _config(name: str, storage: str | None) -> StudyConfig:
    if storage is None and name.endswith(".toml"):
        return load_definition(name)
    from medfathom.confirmation.find import definition_of  # noqa: PLC0415  imports Optuna
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import read_study  # noqa: PLC0415

    try:
        return definition_of(read_study(storage or default_url(), study_name(name)))
    except NoStudyError:
        if storage is not None or name not in names("study_defs"):
            raise
        return load_definition(name)
