"""Every check that can be made before anything is spent: names, weights, data, devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.errors import DefinitionError
from medfathom.spaces import Value, values_of

if TYPE_CHECKING:
    from medfathom.definitions import StudyConfig


def check(config: StudyConfig) -> None:
    """Raise an InputError, in one line, for the first thing that would fail later.

    Nothing is created, and torch is imported only for architectures outside the shipped catalog.
    """
    from medfathom.models.catalog import check_architecture  # noqa: PLC0415
    from medfathom.models.weights_lookup import locate_weights, parse_init  # noqa: PLC0415
    from medfathom.remote_checkpoints import RemoteCheckpoints  # noqa: PLC0415
    from medfathom.sampling import make_sampler  # noqa: PLC0415

    weights_dir = Path(config.training.weights_dir) if config.training.weights_dir else None
    architectures = [str(v) for v in _values(config, "architecture", "")]
    inits = [str(v) for v in _values(config, "init", "imagenet")]
    for architecture in architectures:
        check_architecture(architecture, config.dataset.image_size)
    for init in inits:
        parse_init(init)
        for architecture in architectures:
            if not config.space.excluded({"architecture": architecture, "init": init}):
                locate_weights(architecture, init, weights_dir)
    make_sampler(config.sampler, config.space, seed=0)
    if config.resources.checkpoint_url is not None:
        RemoteCheckpoints(config.resources.checkpoint_url)
    if config.resources.cpus_per_trial > (os.cpu_count() or 1):
        raise DefinitionError(
            f"resources.cpus_per_trial = {config.resources.cpus_per_trial}, but this machine has "
            f"{os.cpu_count()} CPUs"
        )


def check_data(config: StudyConfig) -> None:
    """Raise a DataError where the data set is absent, damaged, or has unusable labels; decode nothing."""
    from medfathom.data.sources.open import open_source  # noqa: PLC0415

    source = open_source(config.dataset)
    try:
        source.listing()
    finally:
        source.close()


def _values(config: StudyConfig, name: str, default: Value) -> list[Value]:
    dimension = config.space.dimensions.get(name)
    return values_of(name, dimension) if dimension else [default]
