"""Pretrained weights from the network, with a bounded wait."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from torch.hub import download_url_to_file

from medfathom.errors import WeightsError
from medfathom.models.weights.lookup import HUB_SECONDS, WeightsLocation, hub_files, torch_cache

DOWNLOAD_SECONDS = 30.0
"""A download that receives nothing for so long has failed."""

HASH_IN_NAME = re.compile(r"-([0-9a-f]+)\.")
"""The start of the file's SHA-256, in the name of torch's published weights: `resnet18_a1_0-d63eafa0.pth`."""


def fetch(location: WeightsLocation) -> Path:
    """Download weights into the cache where timm looks for them.

    Raises:
        WeightsError: the download failed.
    """
    weights = location.download
    if weights is None:
        raise WeightsError(f"{location.description}: there is no file to load")
    try:
        if weights.url is not None:
            return _download(weights.url)
        if weights.hub is None:
            raise WeightsError(
                f"{location.description}: timm knows no address of these weights; use another init"
            )
        for name in hub_files(weights):
            with suppress(EntryNotFoundError):
                return Path(hf_hub_download(weights.hub, name, etag_timeout=HUB_SECONDS))
    except (OSError, HfHubHTTPError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(f"{location.description}: the download failed ({reason}); try again") from None
    raise WeightsError(
        f"{location.description}: the repository has no file of weights "
        f"({' or '.join(hub_files(weights))}); use another init"
    )


def _download(url: str) -> Path:
    """Download a file into torch's cache, unless it is there."""
    path = torch_cache() / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = HASH_IN_NAME.search(path.name)
        with _timeout(DOWNLOAD_SECONDS):
            download_url_to_file(url, str(path), expected and expected.group(1), progress=False)
    return path


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Limit how long a connection may be silent: torch's own download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
