"""A model in the layout of the Hugging Face hub, as timm writes it: `config.json`, `model.safetensors`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medfathom.errors import WeightsError

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

PLAIN_ARGUMENTS = frozenset((
    "num_classes", "in_chans", "img_size", "dynamic_img_size", "dynamic_img_pad", "strict_img_size",
    "global_pool", "drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pretrained",
))  # fmt: skip
"""Keys of `model_args` with which the backbone keeps its tensors and what it computes."""

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class HubModel:
    """What a repository's configuration says.

    Attributes:
        architecture: a timm name.
        normalization: mean and standard deviation of each channel that it was trained with; None: not said.
        licence: as its configuration or its card names it; empty where neither does.
    """

    architecture: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    licence: str


def read_hub_model(folder: Path, init: str) -> HubModel:
    """Read `config.json`, and the licence from there or from the card.

    Args:
        folder: of the repository's files.
        init: as in a definition, for errors.

    Raises:
        WeightsError: no configuration of timm's, or of a network that differs from timm's architecture.
    """
    file = folder / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(
            f"init {init!r}: {folder} has no {CONFIG_FILE}; give a model in timm's form"
        ) from None
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"init {init!r}: {file} is no JSON that can be read ({error}); copy the model again"
        ) from None
    if not isinstance(config, Mapping) or not isinstance(config.get("architecture"), str):
        raise WeightsError(
            f"init {init!r}: {CONFIG_FILE} names no timm architecture; only models in timm's form "
            "can be loaded"
        )
    _plain(config.get("model_args") or {}, config["architecture"], init)
    inner = config.get("pretrained_cfg")
    details = inner if isinstance(inner, Mapping) else config  # older repositories have them at the top
    licence = details.get("license") or config.get("license") or _licence_of_card(folder / CARD_FILE)
    architecture = config["architecture"].partition(".")[0]
    return HubModel(architecture, _normalization(details, init), str(licence or ""))


def _plain(arguments: Mapping[str, object], architecture: str, init: str) -> None:
    """Raise WeightsError where the network was built otherwise than timm's architecture is."""
    odd = {name: value for name, value in arguments.items() if name not in PLAIN_ARGUMENTS}
    if odd:
        asked = ", ".join(f"{name} = {value}" for name, value in odd.items())
        raise WeightsError(
            f"init {init!r}: its {architecture} was built with {asked}, which would be another network than "
            "timm's; models with such model_args cannot be loaded"
        )


def _normalization(
    details: Mapping[str, object], init: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    said = details.get("mean"), details.get("std")
    if None in said:
        return None
    mean, std = map(_numbers, said)
    if mean is None or std is None or len(mean) != len(std):
        raise WeightsError(
            f"init {init!r}: {CONFIG_FILE} has mean = {said[0]!r} and std = {said[1]!r}; both must be lists "
            "of numbers, one for each channel"
        )
    return mean, std


def _numbers(value: object) -> tuple[float, ...] | None:
    """A list of numbers; None: it is something else."""
    if not isinstance(value, list) or not all(isinstance(each, int | float) for each in value):
        return None
    return tuple(map(float, value))


def _licence_of_card(card: Path) -> str:
    """The line `license: …` of the YAML that a card begins with; a name of its own where it is `other`."""
    if not card.is_file():
        return ""
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    named: dict[str, str] = dict(re.findall(r"^(license(?:_name)?):[ \t]*(\S.*?)[ \t]*$", head, re.M))
    return named.get("license_name") or named.get("license", "")


def download_config(repository: str, init: str) -> Path:
    """Fetch a repository's configuration (and its card, where it has one) into the hub's cache.

    Returns:
        The folder that they are in.

    Raises:
        WeightsError: no such repository, or one that must be asked for (gated).
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only where nothing nearer was found
    from huggingface_hub.errors import (  # noqa: PLC0415
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
    )

    try:
        file = Path(hf_hub_download(repository, CONFIG_FILE))
    except GatedRepoError:
        raise WeightsError(
            f"init {init!r}: {repository} is gated: accept its licence on "
            f"https://huggingface.co/{repository} and log in with `hf auth login`; then run this again"
        ) from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"init {init!r}: the hub has no {repository}, or it is private; check the name, or log in "
            "with `hf auth login`"
        ) from None
    except EntryNotFoundError:
        raise WeightsError(
            f"init {init!r}: {repository} has no {CONFIG_FILE}; give a model in timm's form"
        ) from None
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"init {init!r}: {CONFIG_FILE} cannot be downloaded ({reason}); try again"
        ) from None
    try:
        hf_hub_download(repository, CARD_FILE)
    except (OSError, HfHubHTTPError):
        return file.parent  # a model without a card: its licence is then not stated
    return file.parent
