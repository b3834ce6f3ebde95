"""What each check says: from numbers to one line with its severity. `check` calls them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from medfathom.data.check.all_splits import DataView
from medfathom.data.check.near_copies import NearCopies
from medfathom.data.check.shortcuts import Shortcut
from medfathom.data.check.statistics import SplitStatistics, blank_images
from medfathom.data.leakage import groups_across
from medfathom.data.prepare import left_out
from medfathom.data.prepared import SPLIT_NAMES, PreparedData

Severity = Literal["error", "warning", "note"]
"""error: invalidates results, or cannot be used. warning: look at it. note: good to know."""

RARE_CLASS = 1 / 20
"""A class with fewer training images than this share of the largest class is called rare."""

FEW_IMAGES = 20
"""With fewer images of a class in a split, the 95 % interval of its AUC is wider than about 0.2."""

SHORTCUT_AUC = 0.6
"""A shortcut is a warning where its whole interval lies above this."""

SHIFT = 0.5
"""Splits differ where their mean intensities do by more than this many standard deviations of images'
means.
"""

SHARE_RATIO = 2.0
"""Splits differ where a class's share does by this factor, and by more than three standard errors."""

DARK = 0.25
"""A 16-bit set whose 99th percentile is below this share of the range is missing its `bits`."""

SHOWN = 3
"""Images that a finding's line names."""


@dataclass(frozen=True)
class Finding:
    """One thing found. `items` has everything that the message sums up, as plain values."""

    severity: Severity
    check: str
    message: str
    items: list[dict[str, Any]] = field(default_factory=list)


def unusable(data: PreparedData) -> list[Finding]:
    """Files and rows that were left out."""
    problems = left_out(data)
    if not problems:
        return []
    items = [{"name": problem.name, "reason": problem.reason} for problem in problems]
    return [
        Finding(
            "error", "unusable", f"{len(problems)} images or rows cannot be used: {_some(problems)}", items
        )
    ]


def exact(view: DataView, copies: Sequence[Sequence[int]]) -> list[Finding]:
    """The same image several times."""
    return _by_place(view, copies, "exact copies", "the same image", [{}] * len(copies))


def near(view: DataView, found: NearCopies) -> list[Finding]:
    """Almost the same image twice."""
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    extra = [{"similarity": round(pair.similarity, 3)} for pair in found.pairs]
    return _by_place(view, pairs, "near copies", "almost the same image", extra)


def _by_place(
    view: DataView, sets: Sequence[Sequence[int]], check: str, what: str, extra: Sequence[dict[str, Any]]
) -> list[Finding]:
    """Sets of copies: those that cross splits are errors, the others warnings."""
    findings = []
    for crossing, severity in ((True, "error"), (False, "warning")):
        chosen = [
            (members, more)
            for members, more in zip(sets, extra, strict=True)
            if (len({str(view.manifest.split[row]) for row in members}) > 1) == crossing
        ]
        if not chosen:
            continue
        where = Counter(" and ".join(_splits_of(view, members)) for members, _ in chosen)
        places = ", ".join(f"{count} in {place}" for place, count in where.most_common())
        examples = _some([" = ".join(str(view.manifest.name[row]) for row in rows) for rows, _ in chosen])
        scope = f"{check} across splits" if crossing else f"{check} within a split"
        message = f"{what} in {len(chosen)} sets ({places}): {examples}"
        items = [{"images": [view.describe(row) for row in members], **more} for members, more in chosen]
        findings.append(Finding("error" if severity == "error" else "warning", scope, message, items))
    return findings


def _splits_of(view: DataView, rows: Sequence[int]) -> list[str]:
    there = {str(view.manifest.split[row]) for row in rows}
    return [name for name in SPLIT_NAMES if name in there]


def groups(view: DataView) -> list[Finding]:
    """Patients or slides in two splits."""
    manifest = view.manifest
    if not (manifest.group != "").any():
        message = "the source names no patients or slides: whether one is in two splits cannot be seen"
        return [Finding("note", "groups", message)]
    across = groups_across(manifest.group, manifest.split)
    if not across:
        return []
    n_images = sum(sum(counts.values()) for counts in across.values())
    total = len(np.unique(manifest.group))
    examples = _some(list(across))
    message = f"{len(across)} of {total} groups are in several splits, with {n_images} images: {examples}"
    items = [{"group": group, **counts} for group, counts in across.items()]
    return [Finding("error", "groups across splits", message, items)]


def conflicts(view: DataView, copies: Sequence[Sequence[int]]) -> list[Finding]:
    """Identical images with different labels."""
    labels = view.manifest.label
    chosen = [members for members in copies if len({str(labels[row]) for row in members}) > 1]
    if not chosen:
        return []
    examples = _some(
        [" / ".join(f"{view.manifest.name[r]} is {view.class_of(r)}" for r in m) for m in chosen]
    )
    message = f"{len(chosen)} images have two labels: {examples}"
    items = [{"images": [view.describe(row) for row in members]} for members in chosen]
    return [Finding("warning", "label conflicts", message, items)]


def blank(view: DataView) -> list[Finding]:
    """Constant and nearly blank images."""
    rows: dict[str, list[int]] = {"constant": [], "nearly blank": []}
    for name, split in view.splits.items():
        offsets = view.rows_of(name)
        for kind, found in zip(rows, blank_images(split), strict=True):
            rows[kind] += offsets[found].tolist()
    return [
        Finding(
            "warning",
            "blank images",
            f"{len(found)} images are {kind}: {_some([str(view.manifest.name[row]) for row in found])}",
            [view.describe(row) for row in found],
        )
        for kind, found in rows.items()
        if found
    ]


def balance(statistics: Sequence[SplitStatistics]) -> list[Finding]:
    """Rare classes, classes with few images, shares that differ between splits."""
    train = statistics[0]
    largest = max(train.classes.values())
    findings = [
        Finding(
            "warning",
            "class balance",
            f"class {name!r} is rare: {count} training images, the largest class has {largest}",
            [{"class": name, "train": count, "largest": largest}],
        )
        for name, count in train.classes.items()
        if count < RARE_CLASS * largest
    ]
    for split in statistics:
        few = {name: count for name, count in split.classes.items() if count < FEW_IMAGES}
        if few:
            counts = ", ".join(f"{name} {count}" for name, count in few.items())
            message = f"fewer than {FEW_IMAGES} {split.split} images of a class: {counts}"
            findings.append(Finding("warning", "class balance", message, [{"split": split.split, **few}]))
        if split is not train:
            findings += _different_shares(train, split)
    return findings


def _different_shares(train: SplitStatistics, other: SplitStatistics) -> list[Finding]:
    findings = []
    for name, count in train.classes.items():
        share, elsewhere = count / train.n_images, other.classes[name] / other.n_images
        error = np.sqrt(share * (1 - share) * (1 / train.n_images + 1 / other.n_images))
        ratio = max(share, elsewhere) / max(min(share, elsewhere), 1e-9)
        if ratio > SHARE_RATIO and abs(share - elsewhere) > 3 * error:
            message = (
                f"class {name!r} is {share:.0%} of the training images, {elsewhere:.0%} of the {other.split}"
            )
            items = [{"class": name, "train": share, other.split: elsewhere}]
            findings.append(Finding("note", "class balance", message, items))
    return findings


def intensities(statistics: Sequence[SplitStatistics], *, deep: bool) -> list[Finding]:
    """Splits that differ in brightness, 16-bit images that are dark."""
    findings = []
    train = statistics[0].intensities
    if deep and train.percentile_99 < DARK:
        used = f"the lowest {train.percentile_99:.0%} of the range"
        message = f"16-bit images use {used}: give dataset.bits (12, say)"
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
            items = [{"split": split.split, "shift": shift}]
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


def shortcuts(found: Sequence[Shortcut]) -> list[Finding]:
    """What beside the point predicts the label."""
    return [
        Finding(
            "warning",
            "shortcut",
            f"{s.predictor} alone predict the label: AUC {s.auc:.2f} [{s.ci_low:.2f}, {s.ci_high:.2f}]; "
            "a network can learn that instead of the disease (where tissue fills the image, its border may "
            "rightly say something)",
        )
        for s in found
        if s.ci_low > SHORTCUT_AUC
    ]


def _some(things: Sequence[object]) -> str:
    """The first few, and how many more."""
    shown = "; ".join(map(str, things[:SHOWN]))
    return f"{shown}; and {len(things) - SHOWN} more" if len(things) > SHOWN else shown
