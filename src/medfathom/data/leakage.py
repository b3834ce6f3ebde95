"""Leakage: images or patients that are in two splits, which makes a validation or test AUC too good.

Preparation counts exact copies and patients from the manifest; near copies lie beside it once they were
looked for (`copies`). `run` stops for exact copies and patients unless the definition accepts them; `run`,
`confirm` and the model card tell everything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import Leaks, PreparedData, names_of, parts_of, read_facts
from medfathom.definitions.joint import JointDataset, members
from medfathom.errors import DataError
from medfathom.text import command, number_of

if TYPE_CHECKING:
    from medfathom.data.check.near_copies import NearCopies
    from medfathom.definitions.dataset import DatasetConfig

LEAKAGE = "leakage"
"""The study attribute that keeps what `leakage_note` said."""

DEFINED_IN = "defined_in"
"""The study attribute that keeps its definition's file or name, as `run` got it: later hints name it."""


def groups_across(groups: NDArray[Any], splits: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Group -> split -> number of images, of groups in more than one split; "" (unknown) is left out."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group, split in zip(groups.tolist(), splits.tolist(), strict=True):
        if group:
            found[group][split] += 1
    return {group: dict(counts) for group, counts in found.items() if len(counts) > 1}


def count_leaks(
    split: NDArray[np.str_],
    groups: NDArray[np.str_] | None,
    exact: Iterable[Sequence[int]],
    near: NearCopies | None,
) -> Leaks:
    """How many sets of exact copies, groups and pairs of near copies are in several splits.

    Args:
        split: of each image, (n,).
        groups: of each image, (n,), "" where it is not known; None: of none it is.
        exact: sets of exact copies, as indices.
        near: pairs of near copies; None: they were not looked for.
    """
    from medfathom.data.copies import places  # noqa: PLC0415  imports SciPy

    across = {} if groups is None else groups_across(groups, split)
    pairs = [] if near is None else near.pairs
    return Leaks(
        images=_counted(places({str(split[row]) for row in rows} for rows in exact)),
        groups=_counted(places(across.values())),
        near=None
        if near is None
        else _counted(places({str(split[p.first]), str(split[p.second])} for p in pairs)),
    )


def _counted(words: list[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())


@dataclass(frozen=True)
class _Own:
    """One data set of a study."""

    data: PreparedData
    config: DatasetConfig | None
    name: str
    """Empty where there is one only."""

    @property
    def accepts(self) -> bool:
        """Whether its definition accepts leakage."""
        return self.config is not None and self.config.leakage == "accept"

    def told(self, line: str) -> str:
        """A line about it, which begins with its name where there are several."""
        return f"{self.name}: {line}" if self.name and line else line

    def check(self, study: str) -> str:
        """The command that lists what was found."""
        only = ("--set", f"only={self.name}") if self.name else ()
        return command("data", "check", study, *only)


def _each(data: PreparedData, config: DatasetConfig | JointDataset) -> list[_Own]:
    triples = zip(parts_of(data), members(config), names_of(data), strict=True)
    return [_Own(*each) for each in triples]


def refuse_leakage(data: PreparedData, config: DatasetConfig | JointDataset, study: str) -> str:
    """Stop for exact copies or patients in several splits, unless `dataset.leakage` is "accept".

    Returns:
        What is to be told, as `leakage_note` gives it.

    Raises:
        DataError: as said, in one line with what to do.
    """
    told = [own.told(_refused(own, study)) for own in _each(data, config)]
    return "; ".join(filter(None, (*told, _between(data))))


def _refused(own: _Own, study: str) -> str:
    leaks = read_facts(own.data.folder).leaks
    note = _note(leaks, own, study)
    if own.accepts or not (leaks.images or leaks.groups):
        return note
    ways = ['dataset.leakage = "accept" trains nevertheless; run, confirm and the model card say so']
    if leaks.images:
        ways.insert(0, "dataset.drop_copies = true leaves the copies out")
    if leaks.groups:
        ways.insert(0, 'dataset.splits.given = "ignore" draws splits by group')
    raise DataError(own.told(f"{note}. {'; '.join(ways)}"))


def leakage_note(data: PreparedData, config: DatasetConfig | JointDataset, study: str) -> str:
    """A warning, in one line, for readers of this data set's AUCs; empty where nothing is in two splits.

    Args:
        data: as `prepare` gave it.
        config: its definition.
        study: the study's definition, a file or a name, for the command that lists everything.
    """
    each = _each(data, config)
    told = [own.told(_note(read_facts(own.data.folder).leaks, own, study)) for own in each]
    return "; ".join(filter(None, (*told, _between(data))))


def _between(data: PreparedData) -> str:
    """Where one data set of several has exact copies of another's validation or test images."""
    named = list(zip(names_of(data), parts_of(data), strict=True))
    said = []
    for (theirs, source), (own, target) in permutations(named, 2):
        if copies := learnt_elsewhere(source, target):
            counts = ", ".join(f"{count} in {split}" for split, count in copies.items())
            said.append(
                f"Leakage: {theirs} has exact copies of images of {own} ({counts}): AUCs of {own} look "
                "better than they are"
            )
    return "; ".join(said)


def _note(leaks: Leaks, own: _Own, study: str) -> str:
    said = [
        f"{number_of(count, noun)} {verb if count == 1 else verbs} in several splits ({_places(places)})"
        for noun, verb, verbs, places in (
            ("image", "has exact copies", "have exact copies", leaks.images),
            ("patient or slide", "is", "are", leaks.groups),
            ("pair of images", "is a near copy", "are near copies", leaks.near or {}),
        )
        if (count := sum(places.values()))
    ]
    if not said:
        return ""
    found = ", and ".join(said)
    accepted = "; the definition accepts it (dataset.leakage)" if own.accepts else ""
    what_to_do = f"`{own.check(study)}` lists them"
    return f"Leakage: {found}: AUCs look better than they are; {what_to_do}{accepted}"


def copies_note(data: PreparedData, study: str) -> str:
    """What was left out or not looked for, in one line; empty where there is nothing to say.

    Args:
        data: as `prepare` gave it.
        study: its definition, a file or a name, for the command that looks for all copies.
    """
    own = [_Own(part, None, name) for part, name in zip(parts_of(data), names_of(data), strict=True)]
    return "; ".join(filter(None, (each.told(_copies_note(each, study)) for each in own)))


def _copies_note(own: _Own, study: str) -> str:
    facts = read_facts(own.data.folder)
    said = []
    if facts.dropped:
        said.append(
            f"{len(facts.dropped)} copies were left out (dataset.drop_copies), the first {facts.dropped[0]}"
        )
    if facts.leaks.near is None:
        n_images = sum(own.data.sizes.values())
        look = own.check(study)
        said.append(f"near copies were not searched among {n_images} images; `{look}` does it")
    return "; ".join(said)


def _places(places: dict[str, int]) -> str:
    return ", ".join(f"{count} in {splits}" for splits, count in places.items())


def learnt_elsewhere(source: PreparedData, target: PreparedData) -> dict[str, int]:
    """Validation and test images of a data set from which a model of another one has learnt: exact copies.

    Its validation images count for the test split alone: they chose the model, but were not trained on.

    Args:
        source: that the model was trained on.
        target: that it is judged on.

    Returns:
        Split -> how many of its images are copies; without splits that have none.
    """
    from medfathom.data.manifest import read_manifest  # noqa: PLC0415  imports image readers

    theirs, own = read_manifest(source.folder), read_manifest(target.folder)
    found = {}
    for split, learned in (("val", ("train",)), ("test", ("train", "val"))):
        known = np.isin(theirs.split, learned) & (theirs.constant == 0)
        here = (own.split == split) & (own.constant == 0)
        same = np.isin(own.sha256[here], theirs.sha256[known])
        same |= np.isin(own.pixels_sha256[here], theirs.pixels_sha256[known])
        if same.any():
            found[split] = int(same.sum())
    return found
