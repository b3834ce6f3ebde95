"""`medfathom data shift`: how far a study's data set is from what its pretrained networks remember.

What is found is kept under `storage/cache/shift/`, by the data's fingerprint, where `analyze` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.data.prepare import prepare
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import the_one
from medfathom.definitions.space import values_of
from medfathom.errors import InputError, ModelError, WeightsError, did_you_mean
from medfathom.files import home, write_atomically

if TYPE_CHECKING:
    from medfathom.models.domain_shift import DomainShift


N_IMAGES = 256


def measure_shift(
    config: StudyConfig,
    chosen: Sequence[str] = (),
    *,
    n_images: int = N_IMAGES,
    out: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[DomainShift], Path]:
    """Measure the domain shift of a study's training images for each of its architectures.

    Args:
        config: the definition.
        chosen: some of the study's architectures; none: all of them.
        n_images: a random sample of the training images, the same for every architecture.
        out: the picture's file (SVG or PNG).
        say: told what is under way.

    Returns:
        One for each architecture, largest shift first, those without a number (with the reason) last; and the
        picture's file.

    Raises:
        InputError: an architecture that the study does not have; data that cannot be used.
    """
    from medfathom.models.domain_shift import DomainShift, picture, shift_of_dataset  # noqa: PLC0415  torch

    architectures = _chosen(config, chosen)
    weights_dir = Path(config.training.weights_dir) if config.training.weights_dir else None
    data = prepare(the_one(config.dataset, "data shift"), home() / "cache")
    found = []
    for name in architectures:
        say(f"{name} …")
        try:
            shift = shift_of_dataset(data, name, n_images=n_images, seed=config.seed, weights_dir=weights_dir)
        except (ModelError, WeightsError) as error:
            shift = DomainShift(name, (), 0, str(error))
        found.append(shift)
    found.sort(key=lambda s: (s.value is None, -(s.value or 0.0), s.architecture))
    if all(shift.value is None for shift in found):
        raise InputError(f"{config.name}: no architecture has a domain shift; {found[0].reason}")
    _remember(data.fingerprint, found)
    file = out or home() / "reports" / f"{config.name}-shift.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(found).savefig(file)
    return found, file


def _chosen(config: StudyConfig, chosen: Sequence[str]) -> list[str]:
    every = [str(v) for v in values_of("architecture", config.space.dimensions["architecture"])]
    for name in chosen:
        if name not in every:
            raise InputError(f"--architecture {name}: not in {config.name}; {did_you_mean(name, every)}")
    return list(chosen) or every


def _file(fingerprint: str) -> Path:
    return home() / "cache" / "shift" / f"{fingerprint}.json"


def remembered(fingerprint: str) -> dict[str, float]:
    """What earlier measurements found for a data set, by architecture; empty where there were none."""
    file = _file(fingerprint)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _remember(fingerprint: str, found: Sequence[DomainShift]) -> None:
    known = remembered(fingerprint) | {s.architecture: s.value for s in found if s.value is not None}
    file = _file(fingerprint)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(known, indent=2, sort_keys=True))


def with_shifts(records: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """Trials' records, completed by their data set's shift for their architecture where that was measured."""
    known: dict[str, dict[str, float]] = {}
    completed = []
    for record in records:
        fingerprint = str(record.get("dataset_fingerprint", ""))
        if fingerprint not in known:
            known[fingerprint] = remembered(fingerprint)
        shift = known[fingerprint].get(str(record.get("architecture", "")))
        completed.append(record if shift is None else {**record, "domain_shift": shift})
    return completed
