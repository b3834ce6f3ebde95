"""Tables with planted faults: every row is read right, or named with the row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from making import config, images, save
from medfathom.data.sources.open import open_source

PIXELS = images(1)[0]

FAULTS = {
    "": "",
    "backslash": "",
    "suffix case": "",
    "twice": "",
    "gone": "no such file",
    "no suffix": "is there: dataset.path_template",
    "no label": "no label",
    "disagree": "rows of this file disagree",
    "short": "cells, but the header has",
    "split": "must be train, val or test",
    "no path": "no path",
}
"""What is planted in a row, and the reason that names it; "": it is read right."""


@dataclass(frozen=True)
class Planted:
    """A row as it should be, and what was done to it."""

    number: int
    label: str
    split: str
    fault: str

    @property
    def path(self) -> str:
        return f"d/{self.number}.png"

    def lines(self, separator: str) -> list[str]:
        """Its lines in the table; the one that a fault is in comes first."""
        path, label, split = self.path, self.label, self.split
        changed = {
            "backslash": path.replace("/", "\\"),
            "suffix case": path.replace(".png", ".PNG"),
            "gone": path.replace("d/", "e/x"),
            "no suffix": path.removesuffix(".png"),
            "no path": "",
        }
        cells = [changed.get(self.fault, path), label, split]
        if self.fault == "no label":
            cells[1] = " "
        if self.fault == "split":
            cells[2] = "later"
        if self.fault == "short":
            cells = cells[:2]
        more = {"twice": label, "disagree": "ab".replace(label, "")}.get(self.fault)
        return [separator.join(cells)] + ([separator.join([path, more, split])] if more else [])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Planted], str, str]:
    n = draw(st.integers(4, 14))
    rows = [
        Planted(
            k,
            draw(st.sampled_from("ab")),
            draw(st.sampled_from(("train", "val", "test"))),
            draw(st.sampled_from(sorted(FAULTS))),
        )
        for k in range(n)
    ]
    good = [Planted(n, "a", "train", ""), Planted(n + 1, "b", "train", "")]
    return rows + good, draw(st.sampled_from(",;\t|")), draw(st.sampled_from(("utf-8", "utf-16", "cp1252")))


@settings(max_examples=40, deadline=None)
@given(tables())
def test_every_row_is_read_right_or_named(case: tuple[list[Planted], str, str]) -> None:
    rows, separator, encoding = case
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines, first = [separator.join(("path", "label", "split"))], {}
        for row in rows:
            save(folder / row.path, PIXELS)
            first[row.number] = len(lines) + 1
            lines += row.lines(separator)
        (folder / "t.csv").write_bytes("\r\n".join(lines).encode(encoding))
        keys = {"path": str(folder / "t.csv"), "split_column": "split", "encoding": encoding}
        found = open_source(config("csv", **keys)).listing()
    lines_of = {int(n.rpartition(" ")[2].rstrip(")")): k for k, n in enumerate(found.names)}
    problems = {int(p.name.rpartition(" ")[2].rstrip(")")): p.reason for p in found.problems}
    assert len(lines_of) + len(problems) == len(rows)
    for row in rows:
        reason, line = FAULTS[row.fault], first[row.number]
        if reason:
            assert reason in problems[line]
        else:
            k = lines_of[line]
            assert (found.class_names[found.labels[k]], found.splits[k]) == (row.label, row.split)
