"""Pretrained weights from the network, with a bounded wait."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from torch.hub import download_url_to_file

from medfathom.errors import WeightsError
from medfathom.models.weights.lookup import HUB_SECONDS, WeightsLocation, hub_files, torch_cache

DOWNLOAD_SECONDS = 30.0
"""How long a download may stand still before it counts as failed."""


def fetch(location: WeightsLocation) -> Path:
    """Download weights into the cache where timm looks for them too.

    Raises:
        WeightsError: the download failed.
    """
    weights = location.download
    if weights is None:
        raise WeightsError(f"{location.description}: there is no file to load")
    try:
        if weights.url is not None:
            with _patience(DOWNLOAD_SECONDS):
                return _through_torch(weights.url)
        if weights.hub is None:
            raise WeightsError(f"{location.description}: timm does not say where it is")
        for name in hub_files(weights):
            with suppress(EntryNotFoundError):
                return Path(hf_hub_download(weights.hub, name, etag_timeout=HUB_SECONDS))
    except (OSError, HfHubHTTPError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(f"{location.description}: the download failed ({reason})") from None
    raise WeightsError(f"{location.description}: holds none of {', '.join(hub_files(weights))}")


def _through_torch(url: str) -> Path:
    """A file in torch's cache, whose name ends in the beginning of its SHA-256 (`vgg16-397923af.pth`)."""
    file = torch_cache() / Path(urlsplit(url).path).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r"-([a-f0-9]+)\.", file.name)
        download_url_to_file(url, str(file), digest[1] if digest else None, progress=False)
    return file


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """How long a connection may be silent: torch's own download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
