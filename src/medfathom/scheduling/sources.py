"""Models that a study's trials start from, on their way to nodes that do not have them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import ray

from medfathom.scheduling.messages import Parcel

SENT = ("*.json", "*.safetensors")
"""What a network is built from; pictures and reports of a model stay where they are."""


def offered(storage: Path, folders: Iterable[str]) -> dict[str, ray.ObjectRef[dict[str, bytes]]]:
    """The models in these folders of the driver's storage, for whoever asks: folder -> its files by name."""
    return {
        folder: ray.put(
            {
                path.relative_to(storage / folder).as_posix(): path.read_bytes()
                for pattern in SENT
                for path in (storage / folder).rglob(pattern)
            }
        )
        for folder in folders
    }


def fetch(offers: Mapping[str, ray.ObjectRef[dict[str, bytes]]], storage: Path, folder: str) -> None:
    """Write a model into a node's storage where it is not there; half a model is never there."""
    place = storage / folder
    if folder not in offers or place.is_dir():
        return
    beside = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        Parcel(beside, ray.get(offers[folder])).unpack()
        beside.rename(place)
    except OSError:
        if not place.is_dir():  # else another worker of this node was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
