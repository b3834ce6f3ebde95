"""The how-to page on slides, as printed: its definition and its commands, over generated slides."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from making_slides import aperio, glass
from typing_commands import typed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "slides-and-volumes.md"

N_SLIDES = 24


def block(language: str) -> str:
    """The page's first block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    return found.group(1)


def slide_table(root: Path) -> None:
    """As the page says: tumour is purple, normal tissue is pink; two slides of a patient."""
    rows, random = [], np.random.default_rng(0)
    for number in range(N_SLIDES):
        tumour = number // 2 % 2
        pixels = glass(768, 576).astype(int)
        noise = random.normal(0, 12, (384, 576, 3))
        pixels[:384, 192:] = np.array((110, 60, 160) if tumour else (220, 130, 180)) + noise
        aperio(root / f"{number}.svs", pixels.clip(0, 255).astype(np.uint8), 0.5)
        rows.append((f"{number}.svs", ("normal", "tumour")[tumour], f"P{number // 2}"))
    with (root / "slides.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *rows])


@pytest.mark.slow
def test_the_page_on_slides(workdir: Path, ray_cluster: None) -> None:
    slide_table(workdir / "slides")
    Path("slides.toml").write_text(block("toml"))
    lines = block("sh").splitlines()
    said = {line.split()[3]: typed(line) for line in lines}
    assert "24 slides; their tissue is detected when the data set is prepared" in said["validate"]
    assert "slide" in said["confirm"]
    with Path("said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["case"]).name for row in rows] == [f"{n}.svs" for n in range(N_SLIDES)]
    assert {row["images"] for row in rows} == {"6"}
    card = Path("model/README.md").read_text()
    assert re.search(r"\d+ slides \(\d+ images\)", card)
