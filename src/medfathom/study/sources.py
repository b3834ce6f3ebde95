"""Which confirmed models the inits `study:NAME` of a study stand for: settled once, so that trials agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from optuna.study import Study

SOURCES = "init_sources"
"""Attribute of a study: init -> architecture -> `Source`."""


@dataclass(frozen=True)
class Source:
    """The confirmed model of another study, where a backbone's weights start.

    Attributes:
        folder: of the model, within the storage folder.
        sha256: of its weights.
        dataset: that it was trained on.
        modality: of that data set.
        fingerprint: of it.
    """

    folder: str
    sha256: str
    dataset: str
    modality: str
    fingerprint: str


Settled = Mapping[str, Mapping[str, Source]]
"""Init -> architecture -> the model that it stands for."""


def sources_of(study: Study) -> dict[str, dict[str, Source]]:
    """What a study's inits stand for; empty where it names no other study."""
    kept = study.user_attrs.get(SOURCES, {})
    return {init: {name: Source(**source) for name, source in own.items()} for init, own in kept.items()}


def settle_sources(study: Study, found: Settled) -> None:
    """Write down what a study's inits stand for; what is settled already stays."""
    known = sources_of(study)
    whole = {init: {**own, **known.get(init, {})} for init, own in found.items()} | {
        init: own for init, own in known.items() if init not in found
    }
    if whole != known:
        study.set_user_attr(
            SOURCES,
            {init: {name: asdict(source) for name, source in own.items()} for init, own in whole.items()},
        )


def folders_of(settled: Settled) -> dict[str, dict[str, str]]:
    """Init -> architecture -> the model's folder, within the storage folder."""
    return {init: {name: source.folder for name, source in own.items()} for init, own in settled.items()}
