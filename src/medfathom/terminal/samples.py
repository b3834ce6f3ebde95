"""`medfathom samples` in a terminal."""

from __future__ import annotations

from pathlib import Path

from medfathom.samples import write_samples_of_data
from medfathom.text import command


def print_samples(folder: Path) -> None:
    """Write samples and say what they are for."""
    found = write_samples_of_data(folder)
    steps = (
        ("init", found.scans),
        ("analyze", "--table", found.results, "--map", "auc=test_auc"),
    )
    lines = [
        f"{found.scans}: OCT images in class folders, for `init`, `run` and `medfathom.fit`",
        f"{found.new_scans}: images without a class, for `predict`",
        f"{found.results}: published test AUCs, for `analyze`",
        "Next:",
        *(f"  {command(*words)}" for words in steps),
    ]
    print("\n".join(lines))  # noqa: T201
