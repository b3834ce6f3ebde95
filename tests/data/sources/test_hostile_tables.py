"""Tables that programs and hands write: read right, or refused with the true cause."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from making import config, images, save
from medfathom.data.listing import list_images
from medfathom.data.sources.base import Listing
from medfathom.data.sources.open import open_source
from medfathom.errors import DataError

IMAGE = images(1)[0]


def listed(path: Path, **keys: object) -> Listing:
    return open_source(config("csv", path=str(path), **keys)).listing()


def refused(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        listed(path)
    return str(raised.value)


def labels(found: Listing) -> dict[str, str]:
    words = [found.class_names[label] for label in found.labels.tolist()]
    return {name.split(" (")[0]: word for name, word in zip(found.names, words, strict=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c d.png"):
        save(tmp_path / "im" / name, IMAGE)
    return tmp_path


def test_text_cells_of_excel_are_what_they_show(folder: Path) -> None:
    (folder / "t.csv").write_text(
        'path,label,patient\nim/a.png,="0","=""007"""\nim/b.png,1,="008"\nim/c d.png,0,"=""007"""\n'
    )
    found = listed(folder / "t.csv", group_column="patient")
    assert labels(found) == {"im/a.png": "0", "im/b.png": "1", "im/c d.png": "0"}
    assert found.groups is not None
    assert found.groups.tolist() == ["007", "008", "007"]


def test_bytes_of_parquet_are_text(folder: Path) -> None:
    table = pd.DataFrame({"path": [b"im/a.png", b"im/b.png"], "label": ["ill", "well"]})
    table.to_parquet(folder / "t.parquet")
    assert labels(listed(folder / "t.parquet")) == {"im/a.png": "ill", "im/b.png": "well"}


def test_paths_as_in_a_url_are_decoded_and_that_is_said(folder: Path) -> None:
    save(folder / "im" / "100%25.png", IMAGE)  # a name that has the signs itself stays
    (folder / "t.csv").write_text("path,label\nim/c%20d.png,ill\nim/100%25.png,well\n")
    found = listed(folder / "t.csv")
    assert not found.problems
    assert labels(found) == {"im/c%20d.png": "ill", "im/100%25.png": "well"}
    assert any("paths of 1 rows were repaired: signs such as %20" in note for note in found.notes)


def test_urls_are_called_so(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\nhttps://x.org/set/a.png,ill\ns3://y/gone.png,well\n")
    found = listed(folder / "t.csv")
    assert [problem.reason for problem in found.problems] == [
        "is a URL, and nothing is downloaded, but a.png lies in im: write the files' names into the table",
        "is a URL, and nothing is downloaded: write the files' names into the table",
    ]


def test_a_gzip_file_that_was_cut_short_is_called_so(folder: Path) -> None:
    whole = gzip.compress(b"path,label\n" + b"im/a.png,ill\nim/b.png,well\n" * 400)
    for content in (whole[: len(whole) // 2], whole[:20] + bytes(8) + whole[28:]):
        (folder / "t.csv.gz").write_bytes(content)
        assert "t.csv.gz is damaged or was cut short" in refused(folder / "t.csv.gz")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named_and_then_read(folder: Path, encoding: str) -> None:
    (folder / "t.csv").write_bytes("path,label\nim/a.png,ill\nim/b.png,well\n".encode(encoding))
    assert f'as in UTF-16: encoding = "{encoding}"' in refused(folder / "t.csv")
    assert labels(listed(folder / "t.csv", encoding=encoding)) == {"im/a.png": "ill", "im/b.png": "well"}


def test_a_zero_byte_is_named_with_its_line(folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"path,label\nim/a.png,ill\nim/b\0.png,well\n")
    assert "t.csv, line 3: has a zero byte" in refused(folder / "t.csv")


def test_json_is_called_so(folder: Path) -> None:
    for text in ('[{"path": "im/a.png", "label": "ill"}]', '{\n  "im/a.png": "ill"\n}'):
        (folder / "t.csv").write_text(text)
        assert "t.csv is JSON, not a table; save it as .csv" in refused(folder / "t.csv")


def test_a_header_below_a_title_is_named(folder: Path) -> None:
    lines = ["My study, 2020", "", "path,label", "im/a.png,ill", "im/b.png,well"]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    assert "line 3 names it: remove what stands above" in refused(folder / "t.csv")
    workbook(
        folder / "t.xlsx", ["My study", None], ["path", "label"], ["im/a.png", "ill"], ["im/b.png", "well"]
    )
    assert "row 2 names it: remove what stands above" in refused(folder / "t.xlsx")


def workbook(path: Path, *rows: list[str | None], merged: str = "") -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    if merged:
        book.worksheets[0].merge_cells(merged)
    book.save(path)


def test_merged_cells_hold_for_all_their_rows(folder: Path) -> None:
    rows = [["path", "label"], ["im/a.png", "ill"], ["im/b.png", None], ["im/c d.png", "well"]]
    workbook(folder / "t.xlsx", *rows, merged="B2:B3")
    assert labels(listed(folder / "t.xlsx")) == {"im/a.png": "ill", "im/b.png": "ill", "im/c d.png": "well"}


def test_formulas_whose_values_were_not_saved_are_named(folder: Path) -> None:
    workbook(folder / "t.xlsx", ["path", "label"], ["im/a.png", "ill"], ["im/b.png", '=IF(1>0,"well","ill")'])
    assert "cell B3 is a formula without a value; open the workbook in Excel" in refused(folder / "t.xlsx")


def test_letters_of_other_alphabets_that_look_the_same_are_told(folder: Path) -> None:
    cyrillic = "\N{CYRILLIC CAPITAL LETTER ES}NV"
    lines = ["path,label", "im/a.png,CNV", f"im/b.png,{cyrillic}", "im/c d.png,well"]
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "class words differ only in their spelling" in refused(folder / "t.csv")


def test_hidden_rows_are_read_and_told(folder: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("path", "label"), ("im/a.png", "ill"), ("im/b.png", "well")):
        book.worksheets[0].append(row)
    book.save(folder / "t.xlsx")
    assert not listed(folder / "t.xlsx").notes
    book.worksheets[0].row_dimensions[3].hidden = True
    book.save(folder / "t.xlsx")
    found = listed(folder / "t.xlsx")
    assert found.notes == ["t.xlsx has hidden rows, which are read too"]
    assert labels(found) == {"im/a.png": "ill", "im/b.png": "well"}


def test_ids_that_excel_made_dates_are_told(folder: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["path", "label", "patient"])
    for n, name in enumerate(("a", "b")):
        book.worksheets[0].append([f"im/{name}.png", n, datetime(2024, 1, 2 + n)])
    book.save(folder / "t.xlsx")
    keys = config("csv", path=str(folder / "t.xlsx"), group_column="patient")
    notes = list_images(open_source(keys), keys).notes
    assert any("patients such as '2024-01-02 00:00:00' are dates" in note for note in notes)
