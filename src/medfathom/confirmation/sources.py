"""From `init = "study:NAME"` to the confirmed models that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.confirmation.find import definition_of, find_confirmation
from medfathom.errors import StorageError, WeightsError
from medfathom.files import home, sha256_of
from medfathom.models.folder import WEIGHTS_FILE, read_config
from medfathom.models.weights.lookup import Sources, parse_init
from medfathom.study.choice import rule_of
from medfathom.study.connection import connect
from medfathom.study.read import find_study_id, read_study, sibling_study
from medfathom.study.sources import Settled, Source, sources_of
from medfathom.text import command
from medfathom.urls import sqlite_file

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.data.prepared import PreparedData
    from medfathom.definitions.config import StudyConfig


def named_studies(config: StudyConfig) -> dict[str, str]:
    """Init -> the study that it names, of all inits that some trial may have."""
    inits = [str(value) for value in config.space.values("init")]
    named = {init: parse_init(init).study for init in inits if init.startswith("study:")}
    return {init: study for init, study in named.items() if study is not None and _meets(config, init)}


def _meets(config: StudyConfig, init: str) -> bool:
    return any(
        not config.space.excluded({"architecture": name, "init": init})
        for name in config.space.values("architecture")
    )


def find_sources(config: StudyConfig, url: str, *, fresh: bool = False) -> dict[str, dict[str, Source]]:
    """The confirmed models that a definition's inits stand for.

    A study that has begun keeps what it began with, whatever has become of the other study since. Of several
    confirmed configurations of an architecture the best by validation is taken, of its seeds likewise.

    Args:
        config: the definition.
        url: the storage; it is not opened where no init names a study.
        fresh: whether the study begins anew.

    Returns:
        Init -> architecture -> its model; an architecture that was not confirmed is not there.

    Raises:
        WeightsError: a study names itself, by way of others or not; it has no confirmed model; its files are
            gone or were changed.
        StorageError: there is no such study.
    """
    named = named_studies(config)
    if not named:
        return {}
    for init, name in named.items():
        if name == config.name:
            raise WeightsError(f"init {init!r}: a study cannot start from itself; name another study")
    settled = {} if fresh else _settled(url, config.name)
    found = {}
    for init, name in named.items():
        if init in settled:
            _check_kept(init, settled[init])
        found[init] = {
            **_confirmed_of(config, init, name, url, settled.get(init, {})),
            **settled.get(init, {}),
        }
    return found


def model_folders(found: Settled) -> Sources:
    """Where the models lie on this machine."""
    return {
        init: {name: home() / source.folder for name, source in own.items()} for init, own in found.items()
    }


def leakage_through(found: Settled, data: PreparedData) -> str:
    """A warning, in one line, where a source has learnt from images that this data set validates or tests on.

    Only exact copies are found. It also says where the source's prepared data are not on this machine.
    """
    from medfathom.data.leakage import learnt_elsewhere  # noqa: PLC0415
    from medfathom.data.prepared import names_of, parts_of  # noqa: PLC0415
    from medfathom.data.prints import find_prepared  # noqa: PLC0415  imports SciPy

    said = []
    for init, own in found.items():
        for fingerprint, dataset in sorted(
            {pair for source in own.values() for pair in _learnt_from(source)}
        ):
            theirs = find_prepared(home() / "cache", fingerprint)
            if theirs is None:
                said.append(
                    f"Not checked: whether {init} has learnt from images of this study; the data set that it "
                    f"was trained on ({dataset}) is not prepared on this machine"
                )
                continue
            for name, part in zip(names_of(data), parts_of(data), strict=True):
                if copies := learnt_elsewhere(theirs, part):
                    counts = ", ".join(f"{count} in {split}" for split, count in copies.items())
                    said.append(
                        f"Leakage: {init} was trained on exact copies of images of "
                        f"{name or 'this data set'} ({counts}): AUCs look better than they are"
                    )
    return "; ".join(said)


def _learnt_from(source: Source) -> list[tuple[str, str]]:
    """Fingerprint and name of each data set that a model was trained on: of several, where it has heads."""
    folder = home() / source.folder
    heads = [read_config(folder / head) for head in read_config(folder).heads]
    several = [(head.dataset_fingerprint, head.dataset) for head in heads]
    return several or [(source.fingerprint, source.dataset)]


def check_sources(study: Study) -> None:
    """Raise WeightsError where a model that the study's trials start from is gone or changed."""
    for init, own in sources_of(study).items():
        _check_kept(init, own)


def _settled(url: str, name: str) -> dict[str, dict[str, Source]]:
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        return {}
    storage = connect(url, create=False)
    return sources_of(read_study(url, name)) if find_study_id(storage, name) is not None else {}


def _check_kept(init: str, own: Mapping[str, Source]) -> None:
    for architecture, source in own.items():
        weights = home() / source.folder / WEIGHTS_FILE
        if not weights.is_file():
            raise WeightsError(
                f"init {init!r}: {weights} is gone, but the trials of {architecture} start from it; restore "
                "it, or start again with --fresh"
            )
        if sha256_of(weights) != source.sha256:
            raise WeightsError(
                f"init {init!r}: {weights} has changed since the first trials of {architecture}; restore the "
                "old file, or start again with --fresh"
            )


def _confirmed_of(
    config: StudyConfig, init: str, name: str, url: str, settled: Mapping[str, Source]
) -> dict[str, Source]:
    """Architecture -> the model of those that are not settled yet."""
    wanted = [
        str(architecture)
        for architecture in config.space.values("architecture")
        if architecture not in settled
        and not config.space.excluded({"architecture": architecture, "init": init})
    ]
    if not wanted:
        return {}
    study = _source_study(init, name, url)
    _check_chain(config.name, study, [config.name, name])
    from medfathom.confirmation.summary import best_model, summarize_confirmation  # noqa: PLC0415  pandas

    confirmation = find_confirmation(study)
    strata = () if confirmation is None else summarize_confirmation(study, confirmation).strata
    if not strata:
        raise WeightsError(
            f"init {init!r}: study {name!r} has no confirmed model yet; `{command('confirm', name)}` makes it"
        )
    best = {result.architecture: result for result in reversed(strata)}
    return {a: _source(init, best_model(best[a], rule_of(study)).folder) for a in wanted if a in best}


def _source_study(init: str, name: str, url: str) -> Study:
    try:
        return read_study(url, name)
    except StorageError as error:
        raise StorageError(f"init {init!r}: {error}") from None


def _source(init: str, folder: Path) -> Source:
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError(f"init {init!r}: {weights} is gone; confirm that study again")
    config = read_config(folder)
    return Source(
        folder=folder.relative_to(home()).as_posix(),
        sha256=sha256_of(weights),
        dataset=config.dataset,
        modality=config.modality,
        fingerprint=config.dataset_fingerprint,
    )


def _check_chain(target: str, source: Study, chain: list[str]) -> None:
    """Follow the sources of a source. Raises WeightsError where they come back to the target."""
    for name in named_studies(definition_of(source)).values():
        if name == target:
            raise WeightsError(
                f"init: the chain of studies {' <- '.join([*chain, name])} refers to itself; let one of them "
                "start from other weights"
            )
        further = None if name in chain else sibling_study(source, name)
        if further is not None:
            _check_chain(target, further, [*chain, name])
