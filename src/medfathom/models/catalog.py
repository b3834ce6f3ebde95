"""What is known of architectures without building them: a table that travels with the program.

Nothing here imports torch or timm, unless an architecture is asked for that the table does not have.
"""

from __future__ import annotations

from functools import cache

from medfathom.errors import ModelError
from medfathom.models.facts import ArchitectureFacts, Entry, find_shipped


def lookup(name: str) -> ArchitectureFacts:
    """Facts of any timm architecture: from the table, else measured without downloading anything.

    Raises:
        ModelError: timm has no such architecture (with the nearest names), or it cannot be traced or cut.
    """
    return find_entry(name).facts


def find_entry(name: str) -> Entry:
    """All that is known of any timm architecture; raises as `lookup` does."""
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
