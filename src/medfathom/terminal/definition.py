"""`medfathom show --definition` in a terminal: a definition with every default."""

from __future__ import annotations

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.write import resolved
from medfathom.errors import DefinitionError
from medfathom.terminal.output import print_json


def print_definition(name: str, storage: str | None, *, as_json: bool) -> None:
    """Print the definition of a file, of a name in study_defs/, or of a study in the storage.

    Raises:
        InputError: there is no such definition, and no such study.
    """
    config = _config(name, storage)
    if as_json:
        print_json(config.model_dump(mode="json"))
    else:
        print(resolved(config), end="")  # noqa: T201


def _config(name: str, storage: str | None) -> StudyConfig:
    if storage is None:
        try:
            return load_definition(name)
        except DefinitionError:
            if name.endswith(".toml"):
                raise
    from medfathom.confirmation.find import definition_of  # noqa: PLC0415  imports Optuna
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import read_study  # noqa: PLC0415

    return definition_of(read_study(storage or default_url(), name))
