"""A trial's learning curves as SVG, written by hand: matplotlib would cost more than a short trial allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 300, 200
LEFT, TOP, RIGHT, BOTTOM = 44, 26, 10, 30
COLOURS = ("#0072B2", "#D55E00")
INK, FAINT = "#1b1f24", "#d9dee3"


def learning_curves(title: str, aucs: Sequence[float], losses: Mapping[str, Sequence[float]]) -> str:
    """Validation AUC on the left, losses on the right, over epochs."""
    panels = [_panel("validation AUC", {"": aucs}, 0)]
    if any(losses.values()):
        panels.append(_panel("loss", losses, WIDTH))
    width, height = WIDTH * len(panels), HEIGHT + 22
    head = f'<text x="8" y="15" font-weight="600">{escape(title)}</text>'
    body = "".join(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="10" fill="{INK}">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{head}'
        f'<g transform="translate(0 22)">{body}</g></svg>\n'
    )


def _panel(name: str, series: Mapping[str, Sequence[float]], offset: int) -> str:
    everything = [v for values in series.values() for v in values]
    low, high = min(everything), max(everything)
    low, high = (low - 0.01, high + 0.01) if high - low < 0.02 else (low, high)
    n = max(len(values) for values in series.values())
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(epoch: int) -> float:
        return LEFT + across * ((epoch - 1) / (n - 1) if n > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + down * (high - value) / (high - low)

    parts = [f'<text x="{LEFT}" y="{TOP - 10}">{escape(name)}</text>']
    for value in (low, (low + high) / 2, high):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}h{across}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3f}</text>')
    parts += [
        f'<text x="{x(epoch):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{epoch}</text>'
        for epoch in sorted({1, n})
    ]
    for k, (label, values) in enumerate(series.items()):
        points = [(x(i), y(v)) for i, v in enumerate(values, start=1)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[k % 2]}" stroke-width="1.6"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2" fill="{COLOURS[k % 2]}"/>' for a, b in points]
        if label:
            parts.append(
                f'<text x="{WIDTH - RIGHT - 40 * (len(series) - k)}" y="{TOP - 10}" fill="{COLOURS[k % 2]}">'
                f"{escape(label)}</text>"
            )
    parts.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 1}" text-anchor="middle">epoch</text>')
    return f'<g transform="translate({offset} 0)">{"".join(parts)}</g>'
