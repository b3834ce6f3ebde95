"""The user's own weights of a study: the same content to its end, whatever lies at their path."""

from __future__ import annotations

from pathlib import Path

from optuna.study import Study

from medfathom.definitions.config import StudyConfig
from medfathom.errors import StorageError
from medfathom.files import sha256_of
from medfathom.models.folder import WEIGHTS_FILE
from medfathom.models.weights.lookup import parse_init

WEIGHTS = "weights"
"""Attribute of a study: init -> SHA-256 of its file, of inits that name a file or an exported model."""


def keep_to_its_weights(study: Study, config: StudyConfig) -> None:
    """Write down the content of the files that a study's inits name.

    Raises:
        StorageError: it is not what the study was begun with: a model was exported anew to the same folder.
    """
    known = study.user_attrs.get(WEIGHTS, {})
    found = {init: sha256_of(file) for init, file in _files(config).items()}
    for init, digest in found.items():
        if known.get(init, digest) != digest:
            raise StorageError(
                f"study {study.study_name!r} was started with other weights of init {init!r} (sha256 "
                f"{known[init][:12]}, now {digest[:12]}); restore the old weights, or start again with "
                "--fresh"
            )
    if {**known, **found} != known:
        study.set_user_attr(WEIGHTS, {**known, **found})


def _files(config: StudyConfig) -> dict[str, Path]:
    inits = {str(init): parse_init(str(init)) for init in config.space.values("init")}
    return {
        text: init.path / WEIGHTS_FILE if init.kind == "export" else init.path
        for text, init in inits.items()
        if init.path is not None
    }
