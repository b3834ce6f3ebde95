"""Look up architectures without building them.

torch and timm are imported only for an architecture that is not in the shipped catalog.
"""

from __future__ import annotations

from functools import cache

from medfathom.errors import ModelError
from medfathom.models.facts import ArchitectureFacts, Entry, find_shipped


def lookup(name: str) -> ArchitectureFacts:
    """Facts of any timm architecture: from the catalog, else measured without a download.

    Raises:
        ModelError: timm has no such architecture (the error gives the nearest names), or it cannot be traced
            or cut.
    """
    return find_entry(name).facts


def find_entry(name: str) -> Entry:
    """The catalog entry of any timm architecture; raises as `lookup` does."""
    return find_shipped(name) or _measured(name)


def check_architecture(name: str, image_size: int) -> None:
    """Raise ModelError unless the architecture is known and takes images of this side."""
    facts = lookup(name)
    if not facts.takes(image_size):
        what = "any size" if facts.size_step == 1 else f"multiples of {facts.size_step} px"
        near = " or ".join(str(s) for s in facts.nearest_sizes(image_size))
        raise ModelError(
            f"{name} cannot take {image_size} px images: it takes {what} from {facts.smallest_size} px on; "
            f"the nearest is {near}"
        )


@cache
def _measured(name: str) -> Entry:
    from medfathom.models.catalog_build import measure_architecture  # noqa: PLC0415 - imports torch and timm

    return measure_architecture(name)
