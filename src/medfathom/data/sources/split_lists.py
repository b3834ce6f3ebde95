"""Text files that list the images of each split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.table_files import read_lines
from medfathom.definitions.dataset import CsvDataset
from medfathom.errors import DataError
from medfathom.text import number_of

SHOWN_NAMES = 3
"""Listed names that a line names."""


@dataclass(frozen=True)
class SplitNames:
    """The split of each listed name.

    Attributes:
        files: the lists.
        splits: listed path -> its split.
        rest: the split of names in no list; None where every image must be listed.
    """

    files: Sequence[Path]
    splits: Mapping[str, str]
    rest: str | None

    def split_of(self, path: PurePosixPath) -> str | None:
        """The split of an image; lists may leave out its suffix or its folders.

        Raises:
            DataError: two lists have the image, in two spellings.
        """
        found = {self.splits[name]: name for name in reversed(_spellings(path)) if name in self.splits}
        if len(found) > 1:
            said = " and ".join(f"of {split} as {name}" for split, name in found.items())
            raise DataError(f"dataset.split_lists: {path} is in the lists {said}")
        return next(iter(found), self.rest)

    def unmatched(self, paths: Iterable[PurePosixPath]) -> str:
        """A line where listed names are no image's; else ""."""
        used = {name for path in paths for name in _spellings(path)}
        left = [name for name in self.splits if name not in used]
        if not left:
            return ""
        are = "is" if len(left) == 1 else "are"
        return (
            f"{number_of(len(left), 'name')} of dataset.split_lists {are} no row of the table ({_few(left)})"
        )

    def ambiguous(self, paths: Iterable[PurePosixPath]) -> str:
        """A line where a listed name is of several images, in several folders; else ""."""
        found: dict[str, set[PurePosixPath]] = defaultdict(set)
        for path in paths:
            for name in set(_spellings(path)) & self.splits.keys():
                found[name].add(path.parent)
        several = [name for name, folders in found.items() if len(folders) > 1]
        if not several:
            return ""
        return (
            f"dataset.split_lists have one name for images in several folders ({_few(several)}), and all of "
            "these are in the list's split; write the folders in the lists, unless that is meant"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")


def _spellings(path: PurePosixPath) -> list[str]:
    return list(map(str, (path, path.with_suffix("") if path.name else path, path.name, path.stem)))


def read_split_lists(config: CsvDataset) -> SplitNames | None:
    """Read the lists of a definition; None where it has none.

    Raises:
        DataError: a list is not there, or a name is in two lists.
    """
    if config.split_lists is None:
        return None
    base = Path(config.path).expanduser().absolute()
    folder = base if config.tables is not None else base.parent
    files: list[Path] = []
    splits: dict[str, str] = {}
    for split in SPLIT_NAMES:
        name = getattr(config.split_lists, split)
        if name is None:
            continue
        files.append(folder / name)
        for listed in _names(files[-1], split, config.encoding):
            if splits.setdefault(listed, split) != split:
                raise DataError(
                    f"dataset.split_lists: {listed} is in the lists of {splits[listed]} and of {split}"
                )
    # Where the training images are listed, whatever is in no list is no image of the study.
    rest = None if config.split_lists.train else "train"
    return SplitNames(files, splits, rest)


def _names(path: Path, split: str, encoding: str) -> list[str]:
    if not path.is_file():
        raise DataError(f"dataset.split_lists.{split}: no file {path}")
    lines = [line.strip().replace("\\", "/") for line in read_lines(path, encoding)]
    return [line.removeprefix("./") for line in lines if line]
