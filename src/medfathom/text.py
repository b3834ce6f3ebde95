"""Numbers as short text, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


SPARKS = "▁▂▃▄▅▆▇█"


def spark(values: list[float], low: float = 0.5, high: float = 1.0) -> str:
    """A learning curve as a row of blocks, from chance (0.5) to perfect (1.0).

    >>> spark([0.5, 0.75, 1.0])
    '▁▄█'
    """
    steps = len(SPARKS) - 1
    scaled = (min(max((v - low) / (high - low), 0.0), 1.0) for v in values)
    return "".join(SPARKS[int(s * steps + 0.5 - 1e-9)] for s in scaled)


def clock(seconds: float) -> str:
    """A duration in the two largest fitting units.

    >>> clock(8.4), clock(125), clock(7800)
    ('8s', '2m05s', '2h10m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
