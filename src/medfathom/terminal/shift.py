"""`medfathom data shift` in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.definitions.load import load_definition
from medfathom.terminal.output import print_json, print_text

if TYPE_CHECKING:
    from medfathom.models.domain_shift import DomainShift


def print_shift(
    study: str,
    overrides: Sequence[str],
    *,
    architectures: Sequence[str],
    n_images: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Measure the domain shift as `measure_shift` does and print it."""
    config = load_definition(study, overrides)
    from medfathom.shift import measure_shift  # noqa: PLC0415

    say = (lambda _: None) if as_json else print_text
    found, file = measure_shift(config, architectures, n_images=n_images, out=picture, say=say)
    if as_json:
        print_json([shift.to_dict() for shift in found])
    else:
        print_text(shift_text(found, file))


def shift_text(found: Sequence[DomainShift], picture: Path) -> RenderableType:
    """One line per architecture as text for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("architecture", no_wrap=True)
    table.add_column("domain shift", justify="right")
    table.add_column("batch-norm layers", justify="right")
    table.add_column("furthest layer")
    for shift in found:
        if shift.value is None:
            table.add_row(shift.architecture, "", "", Text(shift.reason, style="dim"))
            continue
        worst = max(shift.layers, key=lambda layer: layer.divergence)
        table.add_row(
            shift.architecture,
            f"{shift.value:.2f}",
            str(len(shift.layers)),
            f"{worst.name} ({worst.divergence:.1f})",
        )
    about = "Symmetric Kullback-Leibler divergence from pretraining statistics, mean over layers; 0: none."
    return Group(table, Text(about, style="dim"), Text(f"Picture: {picture}"))
