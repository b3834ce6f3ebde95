"""`data check`: find what would invalidate a study on a data set, before any trial runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np

from medfathom.data.check import findings, unlike
from medfathom.data.check.all_splits import AllSplits
from medfathom.data.check.findings import Finding, FindingJson
from medfathom.data.check.near_copies import NearCopies
from medfathom.data.check.shortcuts import Shortcut, border_features, shortcut_auc
from medfathom.data.check.statistics import SplitStatistics, split_statistics
from medfathom.data.check.verdict import Verdict, verdict
from medfathom.data.copies import exact_copies, find_near, read_near, write_near
from medfathom.data.leakage import count_leaks
from medfathom.data.prepare import prepare
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, read_facts, write_facts
from medfathom.definitions.dataset import DatasetConfig

Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and of how much."""

SEVERITIES = ("error", "warning", "note")
"""The worst first."""


class NearJson(TypedDict):
    """How near copies were looked for; `typical` is the similarity of the typical pair of neighbours."""

    method: str
    threshold: float
    typical: float


class CheckJson(TypedDict):
    """Everything that `data check` found.

    Attributes:
        fingerprint: SHA-256 over images, labels, groups and splits.
        ok: whether there is no error among the findings.
        verdict: whether the data can be used as they are, in one sentence.
        to_do: what to do.
        findings: the worst first.
        shortcuts: whether something beside the point predicts the label.
    """

    fingerprint: str
    modality: str
    task: str
    class_names: list[str]
    image_size: int
    channels: int
    ok: bool
    verdict: str
    to_do: list[str]
    findings: list[FindingJson]
    splits: list[Annotated[dict[str, object], SplitStatistics]]
    shortcuts: list[Annotated[dict[str, object], Shortcut]]
    near_copies: NearJson
    seconds: float


@dataclass(frozen=True)
class CheckReport:
    """Everything that `data check` found."""

    data: PreparedData
    findings: list[Finding]
    splits: list[SplitStatistics]
    shortcuts: list[Shortcut]
    near: NearCopies
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 where there is an error among the findings, else 0."""
        return int(any(finding.severity == "error" for finding in self.findings))

    @property
    def verdict(self) -> Verdict:
        """Whether the data can be used as they are, in one sentence, and what to do."""
        return verdict(self.findings)

    def rows(self) -> list[tuple[str, str, str]]:
        """(severity, check, message) of each finding, the worst first: a table for the terminal."""
        return [(finding.severity, finding.check, finding.message) for finding in self.findings]

    def to_dict(self) -> CheckJson:
        """Plain values, for JSON."""
        return {
            "fingerprint": self.data.fingerprint,
            "modality": self.data.modality,
            "task": self.data.task,
            "class_names": list(self.data.class_names),
            "image_size": self.data.image_size,
            "channels": self.data.channels,
            "ok": self.exit_code == 0,
            "verdict": self.verdict.sentence,
            "to_do": list(self.verdict.to_do),
            "findings": [finding.to_dict() for finding in self.findings],
            "splits": [asdict(split) for split in self.splits],
            "shortcuts": [asdict(shortcut) for shortcut in self.shortcuts],
            "near_copies": {
                "method": "nearest neighbours of thumbnails, registered, details compared",
                "threshold": round(self.near.threshold, 3),
                "typical": round(self.near.typical, 3),
            },
            "seconds": round(self.seconds, 1),
        }


def check_data(
    config: DatasetConfig,
    cache_dir: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    look: unlike.Look | None = None,
) -> CheckReport:
    """Prepare a data set and look for everything that would invalidate a study on it.

    Bad images are among the findings; they do not stop the check. They are an error where a study would stop
    at them, and a warning where `on_bad_image = "skip"` leaves them out.

    Args:
        config: the `[dataset]` table.
        cache_dir: as for `prepare`.
        seed: of the folds and forests of the shortcut tests.
        progress: see `Progress`.
        look: gives features of images (`medfathom.models.look`); None: how images look is not compared.

    Raises:
        DataError: the data set cannot be used at all.
    """
    started = time.perf_counter()
    tell = progress or (lambda step, done, total: None)
    lenient = config.model_copy(update={"on_bad_image": "skip"})
    data = prepare(
        lenient,
        cache_dir,
        progress=lambda done, total: tell("prepare", done, total),
        looked=lambda done, total: tell("tissue", done, total),
    )
    splits = AllSplits(data)
    manifest = splits.manifest
    copies = exact_copies(*manifest.hashes)
    near = _near_copies(splits, copies, tell)
    statistics = []
    for step, name in enumerate(SPLIT_NAMES):
        tell("statistics", step, len(SPLIT_NAMES))
        statistics.append(split_statistics(name, splits[name], splits.manifest_of(name), data))
    tell("shortcuts", 0, 1)
    shortcuts = _shortcuts(splits, seed)
    found = [
        *findings.unusable(data, skipped=config.on_bad_image == "skip"),
        *findings.left_out(data),
        *findings.notes(data),
        *findings.exact(splits, copies),
        *findings.near(splits, near),
        *findings.groups(splits),
        *findings.cases(statistics, data),
        *findings.few_groups(splits),
        *unlike.by_size(splits),
        *unlike.by_look(splits, look, seed, tell),
        *findings.conflicts(splits, copies),
        *findings.blank(splits),
        *findings.balance(statistics),
        *findings.intensities(statistics, deep=splits["train"].images.dtype == np.uint16),
        *findings.sizes(statistics, data.image_size),
        *findings.shortcuts(shortcuts),
    ]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return CheckReport(data, found, statistics, shortcuts, near, time.perf_counter() - started)


def _near_copies(splits: AllSplits, copies: Sequence[Sequence[int]], tell: Progress) -> NearCopies:
    """What preparation found; of a set that was too large for it they are looked for now, and kept."""
    folder, manifest = splits.data.folder, splits.manifest
    known = read_near(folder)
    if known is not None:
        return known
    found = find_near(
        len(manifest),
        copies,
        manifest.constant.tolist(),
        splits.image,
        manifest.case,
        lambda done, total: tell("near copies", done, total),
    )
    write_near(folder, found)
    write_facts(replace(read_facts(folder), leaks=count_leaks(manifest.split, manifest.group, copies, found)))
    return found


def _shortcuts(splits: AllSplits, seed: int) -> list[Shortcut]:
    """Test border pixels, and file and image sizes, on training and validation images."""
    learned = [splits[name] for name in ("train", "val")]
    labels = np.concatenate([split.labels for split in learned])
    manifests = [splits.manifest_of(name) for name in ("train", "val")]
    groups = None
    if clusters := [split.clusters for split in learned if split.clusters is not None]:
        groups = np.concatenate(clusters)
    borders = np.concatenate([border_features(split.images) for split in learned])
    columns = ("n_bytes", "width", "height")
    files = np.stack([np.concatenate([getattr(m, c) for m in manifests]) for c in columns], axis=1)
    tests = (("border pixels", borders), ("file and image size", files))
    tried = [shortcut_auc(name, features, labels, groups, seed) for name, features in tests]
    return [shortcut for shortcut in tried if shortcut is not None]
