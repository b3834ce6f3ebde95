"""Which column of a table is the file, the label, the split, the patient."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medfathom.data.labels import joined, normal_word
from medfathom.data.sources.suspicions import MASK, mask_patterns
from medfathom.data.sources.table import SPLIT_WORDS
from medfathom.data.sources.table_files import Table, read_table
from medfathom.data.sources.walk import Choice, files_below
from medfathom.errors import DataError

ENCODINGS = ("utf-8", "utf-16", "cp1252")
"""Tried in this order; the last reads any bytes."""

LABELS = (
    r"labels?|class|classes|category|diagnos[ei]s|dx|target|findings?|finding[ _]labels|grade|level"
    r"|condition|disease|pathology"
)
GROUPS = (
    r"patients?|patient[ _-]?(?:id|number|nr|no)|pid|subjects?|subject[ _-]?id|person(?:[ _-]?id)?"
    r"|participant(?:[ _-]?id)?|mrn",
    r"case[ _-]?id",
    r"lesion[ _-]?id",
    r"slide(?:[ _-]?id)?",
)
"""A patient may have several lesions and slides: the first that a table has is taken."""

SPLITS = r"splits?|set|subset|partition|usage|phase|fold[ _]?name"

LOOKED_AT = 200
"""Rows that are compared with the files there are."""

MOST_CLASSES = 50
"""A column with more different words is no label."""

MOST_MISSING = 0.2
"""A column names files where more of its cells than this do: the other files may be missing."""

SURE_SEPARATORS = ("|", ";", ",")
"""Those between labels in one cell; with others a cell may well be one class (`benign/malignant`)."""

FLAGS = {"0", "1", "-1", "0.0", "1.0", "-1.0", ""}
"""Cells of a column that tells whether a label is present."""


@dataclass
class Columns:
    """Keys of `[dataset]` that read a table, and why.

    Attributes:
        keys: as `CsvDataset` takes them.
        why: key -> the evidence.
    """

    keys: dict[str, object] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def take(self, why: str, **keys: object) -> None:
        """Set keys for a reason."""
        self.keys |= keys
        self.why |= dict.fromkeys(keys, why)


def guess_columns(path: Path, label: str | None) -> Columns:
    """Read a table and say what its columns are.

    Args:
        path: of the table.
        label: the column of the label, as the user says; None: it is guessed.

    Raises:
        DataError: no column names files, or none or several may be the label.
    """
    found = Columns()
    table = _read(path, found)
    cells = {name: [row.cells[name] for row in table.rows] for name in table.columns if name}
    used = _files(path, cells, found)
    _other_files(path, cells, used, found)
    used |= _split(cells, used, found)
    used |= _group(cells, used, found)
    _label(path, cells, used, label, found)
    return found


def _read(path: Path, found: Columns) -> Table:
    for encoding in ENCODINGS[:-1]:
        try:
            table = read_table(path, "path", encoding=encoding)
        except DataError as error:
            if "dataset.encoding" not in str(error):
                raise
            continue
        if encoding != ENCODINGS[0]:
            found.take("it does not read as UTF-8", encoding=encoding)
        return table
    found.take("it does not read as UTF-8", encoding=ENCODINGS[-1])
    return read_table(path, "path", encoding=ENCODINGS[-1])


def _files(path: Path, cells: Mapping[str, Sequence[str]], found: Columns) -> set[str]:
    """The column that names files, looked for below the table's folder, then beside it; masks at last."""
    cells = dict(sorted(cells.items(), key=lambda column: _are_masks(*column)))
    for root, given in ((path.parent, None), (path.parent.parent, "..")):
        below = files_below(root, Choice(None, []))
        whole = set(map(_as_found, below.files))
        names = {PurePosixPath(file).name for file in whole}
        suffixes = _suffixes(below.files)
        for column, values in cells.items():
            some = [_as_found(value) for value in values[:LOOKED_AT] if value]
            if not some:
                continue
            where = {} if given is None else {"root": given}
            last = [PurePosixPath(value).name for value in some]
            if _most(some, whole):
                found.take(f"its cells are paths below {root}", path_column=column, **where)
                return {column}
            if _most([value.strip("/") for value in some], set(below.folders)):
                why = (
                    f"its cells are folders below {root}: the images in one folder are a case, judged as one"
                )
                found.take(why, path_column=column, unit="case", **where)
                return {column}
            if _most(last, names):
                why = f"its cells are names of files below {root}"
                found.take(why, path_column=column, anywhere=True, **where)
                return {column}
            if _most(last, suffixes):
                counts = Counter(suffix for name in last for suffix in suffixes.get(name, ()))
                suffix, *others = sorted(counts, key=lambda each: (-counts[each], each))
                why = f"its cells and {suffix} are names of files below {root}"
                why += f"; there are files in {', '.join(others)} too, which are not taken" if others else ""
                found.take(why, path_template=f"{{{column}}}{suffix}", anywhere=True, **where)
                return {column}
    raise DataError(
        f"{path}: no column names image files below {path.parent} (columns: {', '.join(cells)}); "
        "put the table into the folder of the images"
    )


def _as_found(path: str) -> str:
    """As `FileFinder` compares paths: with slashes, the suffix in any case."""
    name = PurePosixPath(path.replace("\\", "/"))
    return str(name.with_suffix(name.suffix.lower())) if name.suffix else str(name)


def _other_files(path: Path, cells: Mapping[str, Sequence[str]], used: set[str], found: Columns) -> None:
    """Tell further columns that name other images, as of a second eye."""
    root = path.parent / str(found.keys.get("root", ""))
    there = {PurePosixPath(_as_found(file)).name for file in files_below(root, Choice(None, [])).files}
    named = {
        column: {PurePosixPath(_as_found(value)).name for value in values} & there
        for column, values in cells.items()
        if not _are_masks(column, values)
    }
    taken = set().union(*(named.get(column, set()) for column in used))
    more = [column for column, names in named.items() if column not in used and names - taken]
    if more:
        key = "path_column" if "path_column" in found.keys else "path_template"
        found.why[key] += (
            f"; other images are named in {', '.join(more)}, and are not taken: see path_template"
        )


def _suffixes(files: Sequence[str]) -> Mapping[str, set[str]]:
    """The suffixes of each stem; masks count only where there is nothing else."""
    masks = mask_patterns(files)
    found: dict[str, set[str]] = defaultdict(set)
    for file in [file for file in files if file not in masks] or files:
        name = PurePosixPath(file)
        found[name.stem].add(name.suffix)
    return found


def _are_masks(column: str, values: Sequence[str]) -> bool:
    """Whether a column names masks, by its name or by most of its cells."""
    return MASK.search(column) is not None or sum(map(bool, map(MASK.search, values))) * 2 > len(values)


def _most(values: Sequence[str], known: Container[str]) -> bool:
    return sum(value in known for value in values) > MOST_MISSING * len(values)


def _named(pattern: str, cells: Mapping[str, Sequence[str]], used: set[str]) -> list[str]:
    return [name for name in cells if name not in used and re.fullmatch(f"(?i){pattern}", name.strip())]


def _split(cells: Mapping[str, Sequence[str]], used: set[str], found: Columns) -> set[str]:
    for column in _named(SPLITS, cells, used):
        if all(normal_word(value).casefold() in SPLIT_WORDS for value in cells[column]):
            found.take("its cells say train, val or test", split_column=column)
            return {column}
    return set()


def _group(cells: Mapping[str, Sequence[str]], used: set[str], found: Columns) -> set[str]:
    columns = [column for words in GROUPS for column in _named(words, cells, used)]
    if not columns:
        return set()
    # A case that each row has one of is no patient with several images.
    joins = [column for column in columns if len(set(cells[column])) < len(cells[column])]
    chosen = (joins or columns)[0]
    values = cells[chosen]
    why = f"by its name; it has {len(set(values))} different cells in {len(values)} rows"
    found.take(why, group_column=chosen)
    return {chosen}


def _label(
    path: Path, cells: Mapping[str, Sequence[str]], used: set[str], label: str | None, found: Columns
) -> None:
    if label is not None:
        if label not in cells:
            raise DataError(f"--label {label}: {path} has no such column; it has {', '.join(cells)}")
        return _one_column(label, cells[label], "as asked by --label", found)
    if columns := _named(LABELS, cells, used):
        others = f"; {', '.join(columns[1:])} could be it too: --label takes another" if columns[1:] else ""
        return _one_column(columns[0], cells[columns[0]], f"by its name{others}", found)
    flags = [
        name for name in cells if name not in used and set(cells[name]) <= FLAGS and len(set(cells[name])) > 1
    ]
    if len(flags) > 1:
        return _flags(flags, cells, found)
    few = [name for name in cells if name not in used and 1 < len(set(cells[name])) <= MOST_CLASSES]
    if len(few) == 1:
        return _one_column(few[0], cells[few[0]], "the only column with a few different words", found)
    left = ", ".join(name for name in cells if name not in used) or "none"
    raise DataError(f"{path}: which column is the label? Add --label with one of {left}")


def _one_column(column: str, values: Sequence[str], why: str, found: Columns) -> None:
    found.take(why, label_column=column)
    between = joined(value for value in values if value)
    separator = "|" if any("|" in value for value in values) else between[0] if between else ""
    if separator in SURE_SEPARATORS:
        found.take(f"cells have several labels with {separator} between them", label_separator=separator)
        none = next((v for v in values if re.fullmatch(r"(?i)no[ _-]?findings?|none|normal", v)), None)
        if none:
            found.take("the word for none of the labels, by its meaning", no_label=none)


def _flags(columns: list[str], cells: Mapping[str, Sequence[str]], found: Columns) -> None:
    found.take(f"{len(columns)} columns have only 0, 1, -1 or nothing in their cells", label_columns=columns)
    seen = set().union(*(cells[name] for name in columns))
    if "-1" in seen or "-1.0" in seen:
        found.take("-1 is taken as not known", uncertain="ignore")
    if "" in seen:
        blank = [name for name in columns if not {"0", "0.0"} & set(cells[name])]
        if blank:
            found.take(f"an empty cell means absent: {blank[0]} has no 0 at all", missing="zero")
        else:
            found.take('an empty cell is taken as not known; "zero" takes it as absent', missing="ignore")
    rows = zip(*(cells[name] for name in columns), strict=True)
    if all(sum(cell in ("1", "1.0") for cell in row) == 1 for row in rows) and not {"-1", "-1.0", ""} & seen:
        found.take("exactly one is 1 in each row", one_hot=True)
