"""The findings: each check turns numbers into one line with a severity. `check` calls them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypedDict

import numpy as np

from medfathom.data.check.all_splits import AllSplits, DescribedImage
from medfathom.data.check.near_copies import SMALL, NearCopies
from medfathom.data.check.shortcuts import Shortcut
from medfathom.data.check.statistics import SplitStatistics, blank_images
from medfathom.data.leakage import groups_across
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, read_facts
from medfathom.data.sources.base import Problem
from medfathom.data.too_few import FEW_GROUPS
from medfathom.metrics.unknown import UNKNOWN
from medfathom.text import number_of

Severity = Literal["error", "warning", "note"]
"""error: invalidates results, or cannot be used. warning: look at it. note: good to know."""

RARE_CLASS = 1 / 20
"""A class with fewer training images than this share of the largest class is called rare."""

FEW_IMAGES = 20
"""With fewer images of a class in a split, the 95 % interval of its AUC is wider than about 0.2."""

SHORTCUT_AUC = 0.6
"""A shortcut is a warning where its whole interval lies above this."""

SHIFT = 0.5
"""Splits differ where their mean intensities differ by more than this many standard deviations
(of the means of single images)."""

SHARE_RATIO = 2.0
"""Splits differ where a class's share does by this factor, and by more than three standard errors."""

DARK = 0.25
"""A 16-bit set whose 99th percentile is below this share of the range is missing its `bits`."""

SHOWN = 3
"""Images that a finding's line names."""


@dataclass(frozen=True)
class ImageSet:
    """Images that belong together: copies of one another.

    Attributes:
        images: two or more.
        similarity: of near copies, in [0, 1]; None for exact ones.
    """

    images: Sequence[DescribedImage]
    similarity: float | None = None


Numbers = Mapping[str, str | float]
"""Numbers by name, with the class, group or split that they are about."""

Item = DescribedImage | ImageSet | Problem | Numbers


class FindingJson(TypedDict):
    """One thing found: severity, check, one line, and all images, rows or numbers that it is about."""

    severity: Severity
    check: str
    message: str
    items: list[dict[str, object]]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        severity: see `Severity`.
        check: which check found it.
        message: one line, with the first few examples.
        items: everything that the message sums up.
    """

    severity: Severity
    check: str
    message: str
    items: Sequence[Item] = ()

    def to_dict(self) -> FindingJson:
        """Plain values, for JSON."""
        return {
            "severity": self.severity,
            "check": self.check,
            "message": self.message,
            "items": [_plain(item) for item in self.items],
        }


def _plain(item: Item) -> dict[str, object]:
    if isinstance(item, Mapping):
        return dict(item)
    return {name: value for name, value in asdict(item).items() if value is not None}


def unusable(data: PreparedData, *, skipped: bool) -> list[Finding]:
    """Files and rows that cannot be used; `skipped`: the definition leaves them out."""
    problems = read_facts(data.folder).left_out
    if not problems:
        return []
    if skipped:
        number = number_of(len(problems), "image or row")
        message = f"left out: {number} that cannot be used: {some(problems)}"
        return [Finding("warning", "left out", message, problems)]
    message = f"{len(problems)} images or rows cannot be used: {some(problems)}"
    return [Finding("error", "unusable", message, problems)]


def left_out(data: PreparedData) -> list[Finding]:
    """Files and rows that do not belong to the data set."""
    return [
        Finding("warning", "left out", str(ignored), [{"file": name} for name in ignored.names])
        for ignored in read_facts(data.folder).ignored
    ]


def notes(data: PreparedData) -> list[Finding]:
    """What the source noticed, and which of two classes is the positive one."""
    named = (
        [] if data.positive is None else [Finding("note", "classes", f"positive class: {data.positive!r}")]
    )
    return [*named, *(Finding("note", "definition", note) for note in read_facts(data.folder).notes)]


def exact(splits: AllSplits, copies: Sequence[Sequence[int]]) -> list[Finding]:
    """The same image several times."""
    sets = [ImageSet([splits.describe(row) for row in rows]) for rows in copies]
    return _by_place(sets, "exact copies", "the same image")


def near(splits: AllSplits, found: NearCopies) -> list[Finding]:
    """Almost the same image twice."""
    sets = [
        ImageSet([splits.describe(pair.first), splits.describe(pair.second)], round(pair.similarity, 3))
        for pair in found.pairs
    ]
    return [*_by_place(sets, "near copies", "almost the same image"), *_too_small(splits)]


def _too_small(splits: AllSplits) -> list[Finding]:
    """What the search cannot see in small images; benchmarks/results/near_copies.md has the numbers."""
    side = int(np.median(np.minimum(splits.manifest.width, splits.manifest.height)))
    if side > SMALL:
        return []
    message = (
        f"images of {side} pixels: about one in eight near copies that were saved as JPEG of low quality is "
        "not found, and hardly any that was shifted and has a black edge"
    )
    return [Finding("note", "near copies", message)]


def _by_place(sets: Sequence[ImageSet], check: str, what: str) -> list[Finding]:
    """Sets of copies: those that cross splits are errors, the others warnings."""
    across = [found for found in sets if len(_splits_of(found)) > 1]
    within = [found for found in sets if len(_splits_of(found)) == 1]
    findings = []
    if across:
        findings.append(Finding("error", f"{check} across splits", _sets_message(across, what), across))
    if within:
        findings.append(Finding("warning", f"{check} within a split", _sets_message(within, what), within))
    return findings


def _sets_message(sets: Sequence[ImageSet], what: str) -> str:
    where = Counter(" and ".join(_splits_of(found)) for found in sets)
    places = ", ".join(f"{count} in {place}" for place, count in where.most_common())
    examples = some([" = ".join(image.name for image in found.images) for found in sets])
    return f"{what} in {counted(len(sets), 'set')} ({places}): {examples}"


def _splits_of(found: ImageSet) -> list[str]:
    there = {image.split for image in found.images}
    return [name for name in SPLIT_NAMES if name in there]


def groups(splits: AllSplits) -> list[Finding]:
    """Patients or slides in two splits."""
    manifest = splits.manifest
    if not (manifest.group != "").any():
        message = (
            "the source names no patients or slides, so it cannot be checked whether one is in two splits"
        )
        return [Finding("note", "groups", message)]
    across = groups_across(manifest.group, manifest.split)
    if not across:
        return []
    n_images = sum(sum(counts.values()) for counts in across.values())
    total = len(np.unique(manifest.group[manifest.group != ""]))
    examples = some(list(across))
    message = f"{len(across)} of {total} groups are in several splits, with {n_images} images: {examples}"
    items: list[Numbers] = [{"group": group, **counts} for group, counts in across.items()]
    return [Finding("error", "groups across splits", message, items)]


def cases(statistics: Sequence[SplitStatistics], data: PreparedData) -> list[Finding]:
    """How many cases, and of how many patients, the images are."""
    if data.cases is None:
        return []
    counts = [
        f"{s.split} {counted(s.n_cases or 0, data.unit)} of "
        f"{'unknown' if s.n_groups is None else s.n_groups} patients, {counted(s.n_images, 'image')}"
        for s in statistics
    ]
    return [Finding("note", "cases", f"AUCs are per {data.unit}: {'; '.join(counts)}")]


def conflicts(splits: AllSplits, copies: Sequence[Sequence[int]]) -> list[Finding]:
    """Identical images with different labels."""
    labels = splits.manifest.label
    differing = [rows for rows in copies if _differ({str(labels[row]) for row in rows})]
    if not differing:
        return []
    chosen = [ImageSet([splits.describe(row) for row in rows]) for rows in differing]
    examples = some([" / ".join(f"{i.name} is {i.label}" for i in found.images) for found in chosen])
    message = f"the same image with different labels in {counted(len(chosen), 'set')}: {examples}"
    return [Finding("warning", "label conflicts", message, chosen)]


def _differ(labels: set[str]) -> bool:
    """Whether labels as the manifest has them differ; one that is not known differs from none."""
    columns = zip(*(label.split() for label in labels), strict=True)
    return any(len(set(column) - {str(UNKNOWN)}) > 1 for column in columns)


def blank(splits: AllSplits) -> list[Finding]:
    """Constant and nearly blank images."""
    rows: dict[str, list[int]] = {"constant": [], "nearly blank": []}
    for name in SPLIT_NAMES:
        offsets = splits.rows_of(name)
        for kind, places in zip(rows, blank_images(splits[name]), strict=True):
            rows[kind] += offsets[places].tolist()
    findings = []
    for kind, found in rows.items():
        if found:
            images = [splits.describe(row) for row in found]
            are = "is" if len(found) == 1 else "are"
            message = f"{counted(len(found), 'image')} {are} {kind}: {some([image.name for image in images])}"
            findings.append(Finding("warning", "blank images", message, images))
    return findings


def balance(statistics: Sequence[SplitStatistics]) -> list[Finding]:
    """Rare classes, classes with few images, shares that differ between splits."""
    train = statistics[0]
    largest = max(train.classes.values())
    findings = [
        Finding(
            "warning",
            "class balance",
            f"class {name!r} is rare: {count} training {train.counted}, the largest class has {largest}",
            [{"class": name, "train": count, "largest": largest}],
        )
        for name, count in train.classes.items()
        if count < RARE_CLASS * largest
    ]
    for split in statistics:
        few = {name: count for name, count in split.classes.items() if count < FEW_IMAGES}
        if few:
            counts = ", ".join(f"{name} {count}" for name, count in few.items())
            message = f"fewer than {FEW_IMAGES} {split.split} {split.counted} of a class: {counts}"
            findings.append(Finding("warning", "class balance", message, [{"split": split.split, **few}]))
        if split is not train:
            findings += _different_shares(train, split)
    return findings


def _different_shares(train: SplitStatistics, other: SplitStatistics) -> list[Finding]:
    findings = []
    for name, count in train.classes.items():
        n, n_other = train.known[name], other.known[name]
        if not n or not n_other:
            continue
        share, elsewhere = count / n, other.classes[name] / n_other
        error = np.sqrt(share * (1 - share) * (1 / n + 1 / n_other))
        ratio = max(share, elsewhere) / max(min(share, elsewhere), 1e-9)
        if ratio > SHARE_RATIO and abs(share - elsewhere) > 3 * error:
            message = (
                f"class {name!r} is {share:.0%} of the training {train.counted}, "
                f"{elsewhere:.0%} of the {other.split}"
            )
            items: list[Numbers] = [{"class": name, "train": share, other.split: elsewhere}]
            findings.append(Finding("note", "class balance", message, items))
    return findings


def intensities(statistics: Sequence[SplitStatistics], *, deep: bool) -> list[Finding]:
    """Splits that differ in brightness, 16-bit images that are dark."""
    findings = []
    train = statistics[0].intensities
    if deep and train.percentile_99 < DARK:
        used = f"the lowest {train.percentile_99:.0%} of the range"
        message = f"16-bit images use {used}: give dataset.bits, for example 12"
        findings.append(Finding("warning", "intensities", message, [{"percentile_99": train.percentile_99}]))
    for split in statistics[1:]:
        spread = max(train.spread_of_means, split.intensities.spread_of_means, 1e-9)
        shift = (split.intensities.mean - train.mean) / spread
        if abs(shift) > SHIFT:
            direction = "brighter" if shift > 0 else "darker"
            message = (
                f"{split.split} images are {direction} than training images: mean "
                f"{split.intensities.mean:.3f} against {train.mean:.3f}, {abs(shift):.1f} standard deviations"
            )
            items: list[Numbers] = [{"split": split.split, "shift": shift}]
            findings.append(Finding("note", "intensities", message, items))
    return findings


def sizes(statistics: Sequence[SplitStatistics], image_size: int) -> list[Finding]:
    """Originals that are enlarged, or of different shapes."""
    findings = []
    width, height = statistics[0].sizes.width[1], statistics[0].sizes.height[1]
    if min(width, height) < image_size:
        message = (
            f"images are enlarged: the median original is {width:.0f}x{height:.0f}, the study {image_size} px"
        )
        findings.append(Finding("note", "sizes", message))
    return findings


def few_groups(splits: AllSplits) -> list[Finding]:
    """So few patients that an interval means little."""
    findings = []
    for name in ("val", "test"):
        groups = splits.manifest_of(name).group
        n = len(np.unique(groups))
        if (groups != "").all() and n < FEW_GROUPS:
            message = f"the {name} split has {n} patients or slides: the interval of its AUC is not reliable"
            findings.append(Finding("warning", "groups", message, [{"split": name, "groups": n}]))
    return findings


def shortcuts(found: Sequence[Shortcut]) -> list[Finding]:
    """Features that should not predict the label, but do."""
    return [
        Finding(
            "warning",
            "shortcut",
            f"{s.predictor} alone predict the label: AUC {s.auc:.2f} [{s.ci_low:.2f}, {s.ci_high:.2f}]; a "
            "network can learn that instead of the disease (but a border that shows tissue may be a real "
            "sign)",
        )
        for s in found
        if s.ci_low > SHORTCUT_AUC
    ]


def counted(n: int, noun: str) -> str:
    """A number of things in words."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def some(things: Sequence[object]) -> str:
    """The first few, and how many more."""
    shown = "; ".join(map(str, things[:SHOWN]))
    return f"{shown}; and {len(things) - SHOWN} more" if len(things) > SHOWN else shown
