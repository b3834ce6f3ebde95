"""Tables as people have them: every quirk is read right, or named with its row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from making import config, images, save
from medfathom.data.listing import list_images
from medfathom.data.prepare import prepare
from medfathom.data.sources.base import Listing, UnusableRowsError
from medfathom.data.sources.open import open_source
from medfathom.errors import DataError
from medfathom.metrics.unknown import UNKNOWN

IMAGE = images(1)[0]


def listed(path: Path, **keys: Any) -> Listing:
    """What a table's source lists."""
    return open_source(config("csv", path=str(path), **keys)).listing()


def refused(path: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as raised:
        listed(path, **keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def files(folder: Path, *names: str) -> None:
    for name in names:
        save(folder / name, IMAGE)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def by_name(listing: Listing) -> dict[str, Any]:
    """File -> its label, without the row's place."""
    labels = listing.labels.tolist()
    return {name.split(" (")[0]: label for name, label in zip(listing.names, labels, strict=True)}


def reasons(listing: Listing) -> dict[str, str]:
    return {problem.name: problem.reason for problem in listing.problems}


# several rows of a file


class TestRepeatedPaths:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        files(tmp_path, "a.png", "b.png", "c.png")
        return write(tmp_path / "t.csv", "path,label", "a.png,1", "b.png,0", "a.png,1", "c.png,1", "c.png,0")

    def test_rows_that_agree_are_one_image_and_others_are_named(self, table: Path) -> None:
        found = listed(table)
        assert by_name(found) == {"a.png": 1, "b.png": 0}
        assert reasons(found) == {
            "c.png (line 5)": "rows of this file disagree: c.png (line 5) says '1', c.png (line 6) says '0'; "
            'dataset.repeated = "any", "majority" or "max" says what holds'
        }
        assert "4 rows name 2 files several times: each file is one image" in found.notes

    @pytest.mark.parametrize(("positive", "label"), [("ill", "ill"), ("well", "well")])
    def test_of_two_classes_the_positive_one_is_the_higher(
        self, tmp_path: Path, positive: str, label: str
    ) -> None:
        files(tmp_path, "a.png", "b.png")
        path = write(tmp_path / "t.csv", "path,label", "a.png,ill", "a.png,well", "b.png,ill", "b.png,ill")
        found = listed(path, repeated="any", positive=positive)
        assert found.class_names[1] == positive
        assert found.class_names[found.labels[0]] == label
        assert found.class_names[found.labels[1]] == "ill"

    @pytest.mark.parametrize("rule", ["any", "max"])
    def test_a_rule_resolves_them(self, table: Path, rule: str) -> None:
        found = listed(table, repeated=rule)
        assert by_name(found) == {"a.png": 1, "b.png": 0, "c.png": 1}
        assert any(f'repeated = "{rule}" resolved them' in note for note in found.notes)

    def test_a_tie_has_no_majority(self, table: Path) -> None:
        found = listed(table, repeated="majority")
        assert "no majority" in reasons(found)["c.png (line 5)"]
        write(table, *table.read_text().split(), "c.png,0")
        assert by_name(listed(table, repeated="majority"))["c.png"] == 0

    def test_other_spellings_and_links_are_the_same_file(self, tmp_path: Path) -> None:
        files(tmp_path, "x/a.PNG", "b.png")
        (tmp_path / "link.png").symlink_to(tmp_path / "x/a.PNG")
        path = write(
            tmp_path / "t.csv",
            "path,label",
            "x/a.PNG,1",
            "./x/a.png,1",
            "x\\a.PNG,1",
            "link.png,1",
            "b.png,0",
        )
        found = listed(path)
        assert by_name(found) == {"x/a.PNG": 1, "b.png": 0}
        assert "paths of 1 rows were repaired: the suffix has another case" in found.notes
        assert "paths of 1 rows were repaired: backslashes were read as slashes" in found.notes

    @pytest.mark.parametrize(("key", "what"), [("split_column", "split"), ("group_column", "group")])
    def test_one_file_in_two_splits_or_groups_is_an_error_whatever_the_rule(
        self, tmp_path: Path, key: str, what: str
    ) -> None:
        files(tmp_path, "a.png", "b.png")
        path = write(tmp_path / "t.csv", "path,label,x", "a.png,1,train", "b.png,0,val", "a.png,1,test")
        said = refused(path, repeated="any", **{key: "x"})
        assert f"1 files have rows that disagree on their {what}" in said
        assert "a.png (line 2): train but a.png (line 4): test" in said

    def test_a_file_with_an_unusable_row_is_unusable(self, table: Path) -> None:
        write(table, *table.read_text().split(), "a.png,")
        found = listed(table, repeated="any")
        assert by_name(found) == {"b.png": 0, "c.png": 1}
        assert reasons(found)["a.png (line 2)"] == "another row of this file cannot be used: a.png (line 7)"

    def test_labels_of_several_rows_are_united_or_voted_on(self, tmp_path: Path) -> None:
        files(tmp_path, "a.png", "b.png")
        rows = ["a.png,1,0,-1", "a.png,1,1,0", "a.png,0,0,-1", "b.png,0,1,0"]
        path = write(tmp_path / "t.csv", "path,x,y,z", *rows)
        keys: dict[str, Any] = {"label_columns": ["x", "y", "z"], "uncertain": "ignore"}
        assert by_name(listed(path, repeated="any", **keys))["a.png"] == [1, 1, UNKNOWN]
        assert by_name(listed(path, repeated="majority", **keys))["a.png"] == [1, 0, 0]

    def test_classes_without_an_order_have_no_highest(self, tmp_path: Path) -> None:
        files(tmp_path, "a.png", "b.png", "c.png")
        rows = ["a.png,mild", "a.png,severe", "b.png,none", "c.png,mild"]
        path = write(tmp_path / "t.csv", "path,label", *rows)
        assert "dataset.class_names from the lowest to the highest" in refused(path, repeated="max")
        assert '"any" needs labels that are present or not' in refused(path, repeated="any")
        ordered = listed(path, repeated="max", class_names=["none", "mild", "severe"])
        assert by_name(ordered) == {"a.png": 2, "b.png": 0, "c.png": 1}


# files


class TestFindingFiles:
    def test_ids_become_paths_by_a_template(self, tmp_path: Path) -> None:
        files(tmp_path, "x/007.bmp", "x/008.bmp")
        path = write(tmp_path / "t.csv", "image_id,label,d", "7,1,x", "8.0,0,x", "y,0,x")
        found = listed(path, path_template="{d}/{image_id:03d}.bmp")
        assert by_name(found) == {"x/007.bmp": 1, "x/008.bmp": 0}
        assert list(reasons(found).values()) == [
            "image_id = 'y' does not fit {image_id:03d} of path_template"
        ]

    def test_part_of_a_cell_can_name_a_folder(self, tmp_path: Path) -> None:
        files(tmp_path, "p10/p1000/a.png", "p11/p1100/b.png")
        path = write(tmp_path / "t.csv", "subject,id,label", "1000,a,1", "1100,b,0")
        assert len(listed(path, path_template="p{subject:.2}/p{subject}/{id}.png")) == 2

    def test_files_may_lie_anywhere_below_the_root(self, tmp_path: Path) -> None:
        files(tmp_path, "images_001/images/a.png", "images_002/images/b.png", "images_002/images/c.png")
        files(tmp_path, "images_001/images/c.png")
        path = write(
            tmp_path / "t.csv", "path,label", "a.png,1", "b.PNG,0", "c.png,1", "images_002/images/c.png,1"
        )
        found = listed(path, anywhere=True)
        assert by_name(found) == {"a.png": 1, "b.PNG": 0, "images_002/images/c.png": 1}
        assert "2 files could be meant" in reasons(found)["c.png (line 4)"]

    def test_rows_of_a_file_that_disagree_on_its_case_or_subgroup_are_refused(self, tmp_path: Path) -> None:
        files(tmp_path, "a.png", "b.png")
        rows = ["a.png,1,v1,40", "b.png,0,v2,50", "a.png,1,v3,40", "b.png,0,v2,51"]
        path = write(tmp_path / "t.csv", "path,label,visit,age", *rows)
        keys: dict[str, Any] = {"unit": "case", "case_column": "visit"}
        assert "disagree on their case (a.png (line 2): v1 but a.png (line 4): v3)" in refused(path, **keys)
        assert "disagree on their age (b.png (line 3): 50" in refused(path, keep=["age"])
        assert len(listed(path)) == 2

    def test_files_that_lie_anywhere_are_not_in_excluded_folders(self, tmp_path: Path) -> None:
        files(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/b.png", "masks/c.png")
        path = write(tmp_path / "t.csv", "path,label", "a.png,1", "b.png,0", "c.png,1")
        found = listed(path, anywhere=True, exclude=["masks"])
        assert by_name(found) == {"a.png": 1, "b.png": 0}
        assert reasons(found)["c.png (line 4)"].startswith("no such file")
        assert list(found.paths) == ["images/a.png", "images/b.png"]

    def test_masks_and_patients_are_told_by_the_folders_of_files_that_lie_anywhere(
        self, tmp_path: Path
    ) -> None:
        names = [f"{who}/{k}" for k, who in enumerate(["patient1", "patient1", "patient2", "patient2"])]
        files(tmp_path, *(f"masks/{name}.png" for name in names))
        rows = [f"{name[-1]},{int(name[-1]) % 2}" for name in names]
        path = write(tmp_path / "t.csv", "id,label", *rows)
        keys = {"path_template": "{id}.png", "label_column": "label", "anywhere": True}
        dataset = config("csv", path=str(path), **keys)
        told = "\n".join(list_images(open_source(dataset), dataset).notes)
        assert "4 images look like masks (masks/patient1/0.png" in told
        assert "paths name 2 patients or slides (patient1, ...) of 4 images" in told

    @pytest.mark.parametrize(
        ("there", "cell", "hint"),
        [
            ("a.png", "a", 'but a.png is there: dataset.path_template = "{path}.png"'),
            ("x/y/a.png", "a.png", "but a.png lies in x/y: dataset.anywhere = true"),
            (
                "x/a.jpg",
                "a",
                'but a.jpg lies in x: dataset.anywhere = true and dataset.path_template = "{path}.jpg"',
            ),
            ("a.png", "images/a.png", "but a.png lies in .: dataset.root says where paths start"),
            ("a.png", "a.dcm", "but a.png is there: write .png in the table in place of .dcm"),
            ("x/a.png", "a.jpg", "but x/a.png is there: write .png in the table in place of .jpg"),
            ("x/a.png", "A", "but x/a.png is there: the case of the letters differs"),
            (
                "x/a.png",
                "y/a",
                "but a.png lies in x: dataset.root says where paths start, and "
                'dataset.path_template = "{path}.png"',
            ),
            (
                "00007.png",
                "7",
                'but 00007.png is there, with leading zeros: dataset.path_template = "{path:05d}.png"',
            ),
            (
                "x/007.tif",
                "7.0",
                "but x/007.tif is there, with leading zeros: dataset.anywhere = true and "
                'dataset.path_template = "{path:03d}.tif"',
            ),
            ("007.png", "7.png", "but 007.png is there, with leading zeros: write them into the table"),
            ("a.png", "a.png.png", "but a.png is there: the suffix stands there twice"),
        ],
    )
    def test_a_missing_file_says_what_would_find_it(
        self, tmp_path: Path, there: str, cell: str, hint: str
    ) -> None:
        files(tmp_path, there, "b.png")
        path = write(tmp_path / "t.csv", "path,label", f"{cell},1", "b.png,0")
        assert reasons(listed(path)) == {f"{cell} (line 2)": f"no such file, {hint}"}

    def test_the_template_is_what_a_hint_changes(self, tmp_path: Path) -> None:
        files(tmp_path, "im/00.png", "im/01.png", "im/a.png")
        path = write(tmp_path / "t.csv", "id,label", "0,0", "1,1", "a,1")
        found = reasons(listed(path, path_template="im/{id}.jpg"))
        padded = 'dataset.path_template = "im/{id:02d}.png"'
        assert found["im/0.jpg (line 2)"].endswith(f"im/00.png is there, with leading zeros: {padded}")
        assert found["im/a.jpg (line 4)"].endswith('im/a.png is there: dataset.path_template = "im/{id}.png"')
        found = listed(write(tmp_path / "t.csv", "id,label", "0,0", "1,1"), path_template="im/{id:02d}.png")
        assert by_name(found) == {"im/00.png": 0, "im/01.png": 1}

    @pytest.mark.parametrize("name", ["größe", r"gr\xf6\xdfe"])
    @pytest.mark.parametrize("folder", ["im", "Köln"])
    @pytest.mark.parametrize("anywhere", [False, True])
    def test_names_that_are_not_utf8_are_found(
        self, tmp_path: Path, name: str, folder: str, anywhere: bool
    ) -> None:
        files(tmp_path, f"{folder}/b.png", *(f"{folder}/gr\udcf6\udcdfe{k}.png" for k in (0, 1)))
        place = "" if anywhere else f"{folder}/"
        rows = (f"{place}{name}0.png,0", f"{place}{name}1.png,1", f"{place}b.png,1")
        found = listed(write(tmp_path / "t.csv", "path,label", *rows), anywhere=anywhere)
        assert not found.problems
        assert by_name(found) == {row[:-2]: int(row[-1]) for row in rows}
        assert any(note.startswith("paths of 2 rows were repaired: names of files") for note in found.notes)

    def test_a_hint_writes_a_folder_that_is_not_utf8_as_text(self, tmp_path: Path) -> None:
        files(tmp_path, "K\udcf6/a.png", "b.png")
        path = write(tmp_path / "t.csv", "path,label", "a.png,0", "b.png,1")
        assert r"a.png lies in K\xf6: dataset.anywhere" in reasons(listed(path))["a.png (line 2)"]

    @pytest.mark.parametrize("start", ["C:\\data\\", "/home/somebody/", "//server/share/x/"])
    def test_absolute_paths_of_another_machine(self, tmp_path: Path, start: str) -> None:
        files(tmp_path, "x/a.png", "y/a.png", "y/b.png")
        cells = [start + "x/a.png", start + "y/a.png", start + "z/b.png"]
        path = write(tmp_path / "t.csv", "path,label", *(f"{cell},{k % 2}" for k, cell in enumerate(cells)))
        reason = reasons(listed(path))[f"{cells[0]} (line 2)"]
        assert "but x/a.png lies in x: dataset.anywhere = true" in reason
        found = listed(path, anywhere=True)
        assert by_name(found) == dict(zip(cells, (0, 1, 0), strict=True))
        assert "paths of 3 rows were repaired: folders of another machine were left out of" in found.notes[0]

    def test_several_images_a_row(self, tmp_path: Path) -> None:
        files(tmp_path, "0_left.jpg", "0_right.jpg", "1_left.jpg")
        path = write(tmp_path / "t.csv", "ID,L,R,label", "0,0_left.jpg,0_right.jpg,1", "1,1_left.jpg,,0")
        found = listed(path, path_template=["{L}", "{R}"], group_column="ID")
        assert by_name(found) == {"0_left.jpg": 1, "0_right.jpg": 1, "1_left.jpg": 0}
        assert found.groups is not None
        assert found.groups.tolist() == ["0", "0", "1"]

    def test_a_group_is_sought_in_the_path_not_in_the_line_number(self, tmp_path: Path) -> None:
        files(tmp_path, "p/a.png", "p/b1.png")
        path = write(tmp_path / "t.csv", "path,label", "p/a.png,0", "p/b1.png,1")
        assert list(reasons(listed(path, group_pattern=r"(\d+)"))) == ["p/a.png (line 2)"]


# labels


class TestColumnsOfLabels:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        files(tmp_path, *(f"{name}.png" for name in "abcd"))
        return write(tmp_path / "t.csv", "path,x,y", "a.png,1.0,0.0", "b.png,-1.0,", "c.png,0,1", "d.png,1,2")

    def test_other_values_are_named_with_the_key_that_reads_them(self, table: Path) -> None:
        found = listed(table, label_columns=["x", "y"])
        assert reasons(found) == {
            "b.png (line 3)": "label x = '-1.0', y = '': must be 0 or 1; "
            "dataset.missing and dataset.uncertain can say what that means",
            "d.png (line 5)": "label y = '2': must be 0 or 1",
        }

    @pytest.mark.parametrize(
        ("uncertain", "missing", "expected"),
        [
            ("one", "zero", [1, 0]),
            ("zero", "one", [0, 1]),
            ("ignore", "zero", [UNKNOWN, 0]),
            ({"x": "one"}, {"y": "ignore"}, [1, UNKNOWN]),
        ],
    )
    def test_uncertain_and_missing_cells_mean_what_is_said(
        self, table: Path, uncertain: Any, missing: Any, expected: list[int]
    ) -> None:
        found = listed(table, label_columns=["x", "y"], uncertain=uncertain, missing=missing)
        assert by_name(found)["b.png"] == expected
        assert by_name(found)["a.png"] == [1, 0]
        assert list(reasons(found)) == ["d.png (line 5)"]

    def test_a_label_that_the_table_of_meanings_leaves_out_stays_an_error(self, table: Path) -> None:
        found = listed(table, label_columns=["x", "y"], uncertain={"y": "one"}, missing="zero")
        assert "b.png (line 3)" in reasons(found)

    def test_exclusive_columns_are_classes(self, tmp_path: Path) -> None:
        files(tmp_path, *(f"{name}.png" for name in "abcde"))
        rows = ["a.png,0.0,1.0,0.0", "b.png,1,0,0", "c.png,0,0,1"]
        path = write(tmp_path / "t.csv", "path,MEL,NV,BCC", *rows)
        assert any(
            "one_hot = true" in note for note in listed(path, label_columns=["MEL", "NV", "BCC"]).notes
        )
        write(path, "path,MEL,NV,BCC", *rows, "d.png,1,1,0", "e.png,0,0,0")
        found = listed(path, label_columns=["MEL", "NV", "BCC"], one_hot=True)
        assert (found.task, found.class_names) == ("multiclass", ("MEL", "NV", "BCC"))
        assert by_name(found) == {"a.png": 1, "b.png": 0, "c.png": 2}
        assert [reason[0] for reason in reasons(found).values()] == ["2", "0"]

    def test_lists_as_python_writes_them_and_labels_that_are_not_asked_for(self, tmp_path: Path) -> None:
        files(tmp_path, *(f"{name}.png" for name in "abcd"))
        path = write(
            tmp_path / "t.csv",
            "path,label",
            "a.png,\"['nodule', 'pleural effusion']\"",
            "b.png,\"[' scoliosis']\"",
            "c.png,['normal']",
            "d.png,",
        )
        keys = {"class_names": ["nodule", "pleural effusion"], "no_label": "normal", "label_separator": ","}
        found = listed(path, unlisted="drop", **keys)
        assert by_name(found) == {"a.png": [1, 1], "b.png": [0, 0], "c.png": [0, 0]}
        assert reasons(found) == {"d.png (line 5)": "no label ('')"}
        assert "b.png (line 3)" in reasons(listed(path, **keys))


# forms of tables


ROWS = [("path", "label"), ("ä1.png", "0"), ("b2.png", "1")]


def _text(path: Path, separator: str, encoding: str, before: str = "") -> Path:
    path.write_bytes((before + "\r\n".join(separator.join(row) for row in ROWS) + "\r\n").encode(encoding))
    return path


def _xlsx(path: Path) -> Path:
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append([float(cell) if cell.isdecimal() else cell for cell in row])
    book.save(path)
    return path


def _parquet(path: Path) -> Path:
    pd.DataFrame(ROWS[1:], columns=list(ROWS[0])).astype({"label": float}).to_parquet(path)
    return path


def _gz(path: Path) -> Path:
    path.write_bytes(gzip.compress("\n".join(",".join(row) for row in ROWS).encode()))
    return path


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (lambda folder: _text(folder / "t.csv", ",", "utf-8"), {}),
        (lambda folder: _text(folder / "t.csv", ";", "utf-8-sig"), {}),
        (lambda folder: _text(folder / "t.txt", "|", "utf-8"), {}),
        (lambda folder: _text(folder / "t.tsv", "\t", "utf-8"), {}),
        (lambda folder: _text(folder / "t.csv", ",", "cp1252"), {"encoding": "cp1252"}),
        (lambda folder: _text(folder / "t.csv", "\t", "utf-16"), {"encoding": "utf-16"}),
        (lambda folder: _text(folder / "t.csv", ",", "utf-8", "# made by x\r\n#, y\r\n"), {"comment": "#"}),
        (lambda folder: _text(folder / "t.csv", ",", "utf-8", "\r\n"), {}),
        (lambda folder: _xlsx(folder / "t.xlsx"), {}),
        (lambda folder: _parquet(folder / "t.parquet"), {}),
        (lambda folder: _gz(folder / "t.csv.gz"), {}),
    ],
)
def test_every_form_of_a_table_reads_the_same(tmp_path: Path, make: Any, keys: dict[str, Any]) -> None:
    files(tmp_path, "ä1.png", "b2.png")
    found = listed(make(tmp_path), **keys)
    assert by_name(found) == {"ä1.png": 0, "b2.png": 1}
    assert not found.problems


@pytest.mark.parametrize(
    ("encoding", "hint"), [("cp1252", '"cp1252"'), ("utf-16", 'encoding = "utf-16"'), ("latin-1", '"cp1252"')]
)
def test_an_error_names_the_encoding_key(tmp_path: Path, encoding: str, hint: str) -> None:
    said = refused(_text(tmp_path / "t.csv", ",", encoding))
    assert said.startswith("dataset.encoding: ")
    assert hint in said


def test_what_is_no_workbook_or_parquet_file(tmp_path: Path) -> None:
    for name, hint in (
        ("t.xlsx", "no Excel workbook"),
        ("t.parquet", "no parquet file"),
        ("t.xls", "save it as"),
    ):
        assert hint in refused(write(tmp_path / name, "path,label", "a.png,1"))


def test_line_numbers_count_comments_and_cells_of_several_lines(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png")
    path = write(
        tmp_path / "t.csv", "# x", "path,label,note", 'a.png,1,"two', 'lines"', "# y", "b.png,0,", "c.png,0,"
    )
    found = listed(path, comment="#")
    assert found.names == ["a.png (line 4)", "b.png (line 6)"]
    assert list(reasons(found)) == ["c.png (line 7)"]


def test_columns_without_a_name_and_unused_ones_of_the_same_name_do_no_harm(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png")
    path = write(tmp_path / "t.csv", "path,label,x,x,,", "a.png,1,5,6,,", "b.png,0,,,,,,")
    assert by_name(listed(path)) == {"a.png": 1, "b.png": 0}
    assert "two columns of the same name: 'x'" in refused(path, group_column="x")


# several tables, filters, lists


def test_a_table_for_each_split_with_its_own_root(tmp_path: Path) -> None:
    files(tmp_path / "A", "1.png", "2.png")
    files(tmp_path / "B", "1.png")
    write(tmp_path / "train.csv", "ID,y", "1,0", "2,1")
    write(tmp_path / "A/valid.csv", "ID,y", "1,1")
    tables = [
        {"path": "train.csv", "split": "train", "root": "A"},
        {"path": "A/valid.csv", "split": "val", "root": "B"},
    ]
    found = listed(tmp_path, tables=tables, path_template="{ID}.png", label_column="y")
    assert found.names == [
        "1.png (train.csv, line 2)",
        "2.png (train.csv, line 3)",
        "1.png (valid.csv, line 2)",
    ]
    assert found.splits.tolist() == ["train", "train", "val"]
    assert found.labels.tolist() == [0, 1, 1]


def test_columns_of_another_table_are_joined(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png", "c.png")
    path = write(tmp_path / "t.csv", "image,study,label", "a,1,0", "b,2,1", "c,3,1")
    write(tmp_path / "meta.csv", "study,patient,label", "1,P1,9", "2,P2,9", "2,P2,9")
    keys = {"path_template": "{image}.png", "group_column": "patient"}
    found = listed(path, join=[{"path": "meta.csv", "on": ["study"]}], **keys)
    assert found.groups is not None
    assert found.groups.tolist() == ["P1", "P2"]
    assert found.labels.tolist() == [0, 1]
    assert reasons(found) == {"c.png (line 4)": "meta.csv has no row with study = '3'"}
    write(tmp_path / "meta.csv", "study,patient", "1,P1", "2,P2", "2,P3")
    said = refused(path, join=[{"path": "meta.csv", "on": ["study"]}], **keys)
    assert "line 4: a second row has study = '2', with other values" in said


def test_rows_that_a_filter_leaves_out_for_their_spelling_are_told(tmp_path: Path) -> None:
    files(tmp_path, *(f"{k}.png" for k in range(5)))
    rows = [f"{k}.png,{k % 2},{view}" for k, view in enumerate(["PA", "pa", "PA", "AP", "P.A"])]
    path = write(tmp_path / "t.csv", "path,label,view", *rows)
    told = "dataset.where leaves out 'pa' (1 row) of view, which differ in spelling from what it takes"
    assert told in listed(path, where={"view": "PA"}).notes
    assert not any("spelling" in note for note in listed(path, where={"view": ["PA", "pa"]}).notes)


def test_rows_are_filtered_by_values_that_must_be_there(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png")
    path = write(
        tmp_path / "t.csv", "path,label,view,n", "a.png,1,Frontal,1", "b.png,0,PA,1.0", "c.png,0,Lateral,2"
    )
    found = listed(path, where={"view": ["Frontal", "PA"], "n": 1})
    assert by_name(found) == {"a.png": 1, "b.png": 0}
    assert "1 of 3 rows are left out by dataset.where" in found.notes
    said = refused(path, where={"view": "frontal"})
    assert said == "dataset.where: no row has view = 'frontal'; there are 'Frontal', 'PA', 'Lateral'"


def test_a_label_beside_the_word_for_none_counts_and_is_told(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png", "c.png")
    path = write(tmp_path / "t.csv", "path,label", "a.png,x|No finding", "b.png,No Finding", "c.png,x|y")
    found = listed(path, label_separator="|", no_label="No Finding", similar_words="merge")
    assert by_name(found) == {"a.png": [1, 0], "b.png": [0, 0], "c.png": [1, 1]}
    assert "1 rows have 'No Finding' and a label (a.png (line 2), ...): the label counts" in found.notes


def test_only_the_first_sheet_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png")
    book = openpyxl.Workbook()
    for row in (("path", "label"), ("a.png", "ill"), ("b.png", "well")):
        book.worksheets[0].append(row)
    book.create_sheet("test")
    book.save(tmp_path / "t.xlsx")
    found = listed(tmp_path / "t.xlsx")
    assert found.notes == ["of t.xlsx only the first sheet is read, not test"]
    assert "has no column 'Path'" in refused(tmp_path / "t.xlsx", path_column="Path")
    assert "not test" in refused(tmp_path / "t.xlsx", path_column="Path")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"PK\x03\x04\xff\xff", "name it .xlsx"),
        (gzip.compress(b"path,label\n"), "name it .csv.gz"),
        (b"PAR1\xff\xff", "name it .parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel's old format"),
    ],
    ids=["zip", "gzip", "parquet", "xls"],
)
def test_what_is_no_text_is_called_what_it_is(tmp_path: Path, content: bytes, hint: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert hint in refused(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "lines",
    [
        ("sep=;", "path;label", "a.png;ill", "b.png;well"),
        ("path;label;notes, remarks, and more", "a.png;ill;", "b.png;well;none, really"),
        ('path,label,"a; b; c; d"', "a.png,ill,", "b.png,well,"),
        ("path|label", "a.png|ill", "b.png|well"),
    ],
)
def test_the_delimiter_is_what_the_rows_agree_on(tmp_path: Path, lines: tuple[str, ...]) -> None:
    files(tmp_path, "a.png", "b.png")
    found = listed(write(tmp_path / "t.csv", *lines))
    assert by_name(found) == {"a.png": 0, "b.png": 1}
    assert not found.problems


def test_a_column_of_patients_that_is_not_used_is_told(tmp_path: Path) -> None:
    files(tmp_path, *(f"{n}.png" for n in range(8)))
    rows = [f"{n}.png,{n % 2},{n // 2}" for n in range(8)]
    path = write(tmp_path / "t.csv", "path,label,Patient ID", *rows)
    said = "column 'Patient ID' names 4 patients (or similar) of 8 images"
    assert said in " ".join(listed(path).notes)
    assert not listed(path, group_column="Patient ID").notes
    each = write(tmp_path / "u.csv", "path,label,patientId", *(f"{n}.png,{n % 2},{n}" for n in range(8)))
    assert not listed(each).notes


def test_a_column_of_patients_above_the_groups_or_cases_is_told(tmp_path: Path) -> None:
    files(tmp_path, *(f"{n}.png" for n in range(12)))
    rows = [f"{n}.png,{n // 4 % 2},v{n // 2},P{n // 4},{n % 2}" for n in range(12)]
    path = write(tmp_path / "t.csv", "path,label,lesion_id,patient_id,case", *rows)
    keeps = 'dataset.group_column = "patient_id" keeps them together'
    said = (
        "column 'patient_id' names 3 patients (or similar) of 6 {0}, but the {0} of one may be in several "
        f"splits: {keeps}"
    )
    for keys, what in (
        ({"group_column": "lesion_id"}, "groups"),
        ({"unit": "volume", "case_column": "lesion_id"}, "volumes"),
    ):
        assert said.format(what) in " ".join(listed(path, **keys).notes)
    assert not listed(path, group_column="patient_id").notes
    assert not listed(path, unit="case", case_column="lesion_id", group_column="patient_id").notes


@pytest.mark.parametrize("word", ["NA", "n/a", "NaN", "null", ""])
def test_images_whose_patient_or_case_is_missing_are_not_of_one(tmp_path: Path, word: str) -> None:
    files(tmp_path, *(f"{n}.png" for n in range(8)))
    rows = [f"{n}.png,{n % 2},{word if n % 4 == 0 else f'p{n // 2}'}" for n in range(8)]
    path = write(tmp_path / "t.csv", "path,label,who", *rows)
    found = listed(path, group_column="who")
    assert set(reasons(found)) == {"0.png (line 2)", "4.png (line 6)"}
    assert all("no group" in reason for reason in reasons(found).values())
    assert found.groups is not None
    assert word not in found.groups
    found = listed(path, unit="volume", case_column="who", similar_words="keep")
    assert {"0.png (line 2)", "4.png (line 6)"} <= set(reasons(found))
    assert found.cases is not None
    assert word not in found.cases


@pytest.mark.parametrize("word", ["dev", "val", "Valid"])
def test_a_column_of_splits_that_is_not_used_is_told(tmp_path: Path, word: str) -> None:
    files(tmp_path, *(f"{n}.png" for n in range(8)))
    words = ("Train", "train", word, "test")
    rows = [f"{n}.png,{n % 2},{words[n // 2]},{n}" for n in range(8)]
    path = write(tmp_path / "t.csv", "path,label,subset,test", *rows)
    (note,) = listed(path).notes
    assert note.startswith("column 'subset' has splits (")
    assert 'dataset.split_column = "subset" takes them where each is train, val or test' in note
    assert not listed(path, splits={"given": "ignore"}).notes
    assert not listed(path, split_column="subset").notes


class TestSplitLists:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        files(tmp_path, "a.png", "b.png", "c.png")
        write(tmp_path / "train_val_list.txt", "a.png", "./b")
        write(tmp_path / "test_list.txt", "c.png", "gone.png")
        return write(tmp_path / "t.csv", "path,label", "a.png,1", "b.png,0", "c.png,0")

    def test_lists_say_each_image_s_split(self, table: Path) -> None:
        lists = {"train": "train_val_list.txt", "test": "test_list.txt"}
        assert listed(table, split_lists=lists).splits.tolist() == ["train", "train", "test"]
        assert listed(table, split_lists={"test": "test_list.txt"}).splits.tolist() == [
            "train",
            "train",
            "test",
        ]

    def test_an_image_in_no_list_or_in_two(self, table: Path) -> None:
        lists = {"train": "train_val_list.txt", "test": "test_list.txt"}
        write(table.parent / "test_list.txt", "x.png")
        found = listed(table, split_lists=lists)
        assert reasons(found) == {"c.png (line 4)": "is in none of dataset.split_lists"}
        write(table.parent / "test_list.txt", "a.png")
        assert "a.png is in the lists of train and of test" in refused(table, split_lists=lists)
        write(table.parent / "test_list.txt", "a", "c")  # the same image, without its suffix
        assert "a.png is in the lists of test as a and of train as a.png" in refused(table, split_lists=lists)

    def test_a_listed_name_that_is_no_row_is_told(self, table: Path) -> None:
        lists = {"train": "train_val_list.txt", "test": "test_list.txt"}
        assert "1 name of dataset.split_lists is no row of the table (gone.png)" in " ".join(
            listed(table, split_lists=lists).notes
        )

    def test_a_bare_name_of_images_in_several_folders_is_told(self, tmp_path: Path) -> None:
        files(tmp_path, "old/a.png", "new/a.png", "b.png")
        write(tmp_path / "test_list.txt", "a.png")
        table = write(tmp_path / "t.csv", "path,label", "old/a.png,1", "new/a.png,0", "b.png,0")
        found = listed(table, split_lists={"test": "test_list.txt"})
        assert found.splits.tolist() == ["test", "test", "train"]
        assert "have one name for images in several folders (a.png)" in found.notes[0]
        write(tmp_path / "test_list.txt", "old/a.png")
        assert not listed(table, split_lists={"test": "test_list.txt"}).notes


# the true cause first


def test_an_error_shows_each_reason_once_before_it_repeats_one(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    rows = [*(f"{n}.png,{n % 2}" for n in range(40)), "v,0"]
    with pytest.raises(UnusableRowsError, match=r'v \(line 42\): is a folder; unit = "volume"'):
        prepare(config("csv", path=str(write(tmp_path / "t.csv", "path,label", *rows))), tmp_path)


def test_unusable_rows_are_told_before_the_splits_that_they_spoil(tmp_path: Path) -> None:
    lines = ["path,label,patient"]
    for row in range(40):
        files(tmp_path, f"{row}.png")
        lines.append(f"{row}.png,{row % 2 if row < 2 else ''},{row}")
    with pytest.raises(UnusableRowsError) as raised:
        prepare(config("csv", path=str(write(tmp_path / "t.csv", *lines)), group_column="patient"), tmp_path)
    assert str(raised.value).startswith("38 of 40 images or rows cannot be used")
    assert "without them: dataset.splits: " in str(raised.value)
