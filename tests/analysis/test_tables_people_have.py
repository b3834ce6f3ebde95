"""Tables as people have them: what would silently change a number is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfathom.analysis import read_tables
from medfathom.errors import ResultsError

HEADER = "architecture,dataset,modality,auc\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("cells", [("0.975", "0.8"), ("97.5", "0.8"), ("97.5", "1")])
def test_a_fraction_among_percentages_is_refused(tmp_path: Path, cells: tuple[str, str]) -> None:
    text = HEADER + f"vgg16,a,CXR,{cells[0]}\nvgg19,a,CXR,{cells[1]}\n"
    with pytest.raises(ResultsError, match=r"auc = [\d.]+ is a fraction, but with --percent"):
        read_tables([table(tmp_path, text)], percent=True)
