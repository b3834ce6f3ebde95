"""A model on labelled data of another place: does it hold there, at its threshold, with its probabilities?

Not called `evaluate.py`: a module of that name would hide the public function `medfathom.evaluate`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfathom.data.listing import list_images
from medfathom.data.prepared import Split
from medfathom.data.sources.base import Listing, UnusableRowsError
from medfathom.data.sources.open import open_source
from medfathom.definitions.evaluation import EvaluationConfig, load_evaluation
from medfathom.errors import DataError, ExportedModelError, InputError
from medfathom.evaluation.classes import Aligned, align
from medfathom.evaluation.remarks import remarks_of
from medfathom.evaluation.results import Evaluation, Flipped, OverlapFound, Value, metric
from medfathom.metrics.rules import CHANCE
from medfathom.models.folder import read_config

if TYPE_CHECKING:
    from medfathom.data.prepared import PreparedData
    from medfathom.data.prints import Overlap, Prints
    from medfathom.evaluation.judging import Predictions
    from medfathom.evaluation.models import JudgedModel
    from medfathom.evaluation.reading import Reader, ReadImage
    from medfathom.evaluation.subgroups import Subgroups
    from medfathom.trial.record import SplitMetrics

FROM_MODEL = (
    *("image_size", "fit", "modality", "window", "slice_axis", "eye", "mpp", "tiles", "tiles_seed", "tissue"),
    *("unit", "case_pattern", "include", "exclude"),
)
"""Keys of `[dataset]` that are the model's where the data do not give them."""

TRIED_INVERTED = 512
"""Images, at most, that are predicted with white and black exchanged."""

Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and of how much."""


def evaluate(
    model: str | Path,
    definition: str,
    *,
    recalibrate: int | None = None,
    by: str = "",
    split: str | None = None,
    device: str = "cpu",
    storage: str | None = None,
    seed: int = 0,
    copies: bool = False,
    pictures: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a model on labelled data from another source.

    The result is saved in the model's folder (`evaluations.json`, card) and in the study, for the dashboard.

    Args:
        model: the folder of an exported model, or the name of a confirmed study (its best model then).
        definition: a TOML file with `[dataset]`, and `[map]` where class names differ.
        recalibrate: fit the probabilities again on this number of images, drawn by patient; the other
            images judge them.
        by: subgroups, by columns that the definition keeps: `sex,age:10` (ages in ranges of ten).
        split: only this split of the data (`train`, `val`, `test`); None: all images.
        device: `cpu`, `cuda`, …
        storage: an Optuna storage URL.
        seed: of random draws.
        copies: look for training images by the images themselves too, which finds crops and other aspect
            ratios. It takes up to a quarter of a second for each image and each training image; the
            prepared training data must be on this machine.
        pictures: a folder for pictures of these images: ROC, precision and recall, reliability, confusion,
            Grad-CAM, and the 20 most confident mistakes. They show patients and are saved nowhere else.
        progress: see `Progress`.

    Raises:
        InputError: in one line, for anything that cannot be used: the model, the data, their classes.
    """
    _check_there(model, storage)
    from medfathom.evaluation.keep import keep  # noqa: PLC0415  imports Optuna
    from medfathom.evaluation.models import open_model  # noqa: PLC0415  imports torch

    judged = open_model(model, device, storage)
    config = load_evaluation(definition, {key: getattr(judged.config, key) for key in FROM_MODEL})
    training = _training_data(judged) if copies else None
    if training is not None and judged.prints is None:
        from medfathom.data.prints import prints_of  # noqa: PLC0415  imports SciPy

        judged = replace(judged, prints=prints_of(training))
    asked = _Asked(recalibrate, by, split, seed, training)
    found = _evaluated(judged, config, asked, pictures, progress or (lambda step, done, total: None))
    keep(judged, found)
    return found


def _check_there(model: str | Path, storage: str | None) -> None:
    """A wrong name is answered before torch is imported."""
    folder = Path(model)
    if folder.is_dir():
        read_config(folder)
    elif folder.parent != Path() or folder.suffix:
        raise ExportedModelError(f"{folder}: no such model folder, and no study has this name")
    else:
        from medfathom.study.connection import default_url  # noqa: PLC0415  imports Optuna
        from medfathom.study.read import read_study  # noqa: PLC0415

        read_study(storage or default_url(), str(model))


def _evaluated(
    judged: JudgedModel,
    config: EvaluationConfig,
    asked: _Asked,
    pictures: Path | None,
    tell: Progress,
) -> Evaluation:
    from medfathom.evaluation.reading import Reader  # noqa: PLC0415
    from medfathom.evaluation.subgroups import columns_of  # noqa: PLC0415

    source = open_source(config.dataset)
    try:
        listing = list_images(source, config.dataset)
        if not len(listing):
            raise UnusableRowsError(listing.problems, len(listing.problems))
        aligned = align(listing, judged.config.task, judged.config.class_names, config.map)
        aligned = _of_split(aligned, listing, asked.split)
        columns = columns_of(asked.by, listing.kept)
        reader = Reader(source, judged.config, thumbnails=judged.prints is not None)
        read = _read(judged, reader, aligned, tell)
        reader.check_bits(listing.names, config.dataset)
        copied = _copied(asked.training, reader, aligned.rows[read.places], tell)
        found = _judged(judged, config, listing, aligned, reader, read, asked, columns, copied)
        if pictures is not None:
            from medfathom.confirmation.find import without_map  # noqa: PLC0415  imports Optuna
            from medfathom.evaluation.pictures import draw  # noqa: PLC0415  imports matplotlib

            rows = aligned.rows[read.places]
            split_read = _split(listing, aligned, read)
            drawn = draw(pictures, judged.model, reader, rows, split_read, np.concatenate(read.logits))
            if why := without_map(drawn):
                found = replace(found, remarks=[*found.remarks, why])
        return found
    finally:
        source.close()


@dataclass(frozen=True)
class _Asked:
    """What the user wants beyond metrics; as in `evaluate`."""

    recalibrate: int | None
    by: str
    split: str | None
    seed: int
    training: PreparedData | None
    """Where copies are looked for by image: what the model was trained on."""


def _training_data(judged: JudgedModel) -> PreparedData:
    from medfathom.evaluation.copies import training_data  # noqa: PLC0415  imports SciPy

    return training_data(judged.config)


def _of_split(aligned: Aligned, listing: Listing, split: str | None) -> Aligned:
    if split is None:
        return aligned
    own = listing.splits[aligned.rows] == split
    if not own.any():
        there = ", ".join(sorted(set(listing.splits.tolist()) - {""})) or "none: the data have no splits"
        raise InputError(f"--split {split}: no image of the data is in it; there are {there}")
    return replace(aligned, rows=aligned.rows[own], labels=aligned.labels[own])


@dataclass
class _Read:
    """What was read of the images: in order, one entry for each."""

    places: list[int] = field(default_factory=list)
    """Positions in `Aligned.rows`."""
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    pixels_sha256: list[str] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(self, places: Iterable[int], images: Sequence[ReadImage], logits: NDArray[np.float32]) -> None:
        """A batch."""
        self.places += places
        self.logits.append(logits)
        self.sha256 += [image.sha256 for image in images]
        self.pixels_sha256 += [image.pixels_sha256 for image in images]
        self.thumbnails += [image.small for image in images if image.small is not None]


def _read(judged: JudgedModel, reader: Reader, aligned: Aligned, tell: Progress) -> _Read:
    """Decode and predict all images."""
    read, place = _Read(), {row: k for k, row in enumerate(aligned.rows.tolist())}
    for rows, images in reader.batches(aligned.rows.tolist()):
        logits = judged.model.logits(np.stack([image.pixels for image in images]))
        read.add((place[row] for row in rows), images, logits)
        tell("images", len(read.places), len(aligned.rows))
    if not read.places:
        first, why = next(iter(reader.found.unreadable.items()))
        raise DataError(f"no image of the data can be read; the first is row {first}: {why}")
    return read


def _copied(
    training: PreparedData | None, reader: Reader, rows: NDArray[np.int64], tell: Progress
) -> NDArray[np.bool_] | None:
    """Which images are copies of training images by the images themselves; None: that was not asked for."""
    if training is None:
        return None
    from medfathom.evaluation.copies import copies_by_image  # noqa: PLC0415  imports SciPy

    return copies_by_image(training, reader, rows, lambda done, total: tell("copies", done, total))


def _judged(
    judged: JudgedModel,
    config: EvaluationConfig,
    listing: Listing,
    aligned: Aligned,
    reader: Reader,
    read: _Read,
    asked: _Asked,
    columns: Mapping[str, NDArray[np.str_]],
    copied: NDArray[np.bool_] | None,
) -> Evaluation:
    from medfathom.evaluation import judging  # noqa: PLC0415  imports pandas by way of metrics

    split = _split(listing, aligned, read)
    found = _predictions(judged, split, np.concatenate(read.logits))
    judging.check_judgeable(found, aligned.missing)
    metrics = judging.metrics_of(found)
    internal = judging.over_same_classes(judged.internal, metrics)
    n, own = asked.recalibrate, aligned.rows[read.places]
    names = {row: listing.names[row] for row in reader.found.unreadable}
    problems = {problem.name: problem.reason for problem in listing.problems}
    return Evaluation(
        name=config.name,
        model=judged.words,
        when=time.strftime("%Y-%m-%d %H:%M:%S"),
        fingerprint=_fingerprint(read, split),
        unit=judged.config.unit,
        n_images=len(split.labels),
        n_units=len(found),
        n_patients=None if found.groups is None else len(np.unique(found.groups)),
        counts=_counts(found),
        left_out=aligned.left_out,
        unreadable={**problems, **{names[row]: why for row, why in reader.found.unreadable.items()}},
        missing=aligned.missing,
        flipped=_flipped(judged, found, metrics, reader, own),
        overlap=_overlap(judged.prints, found, metrics, split, read, copied),
        metrics=metrics,
        internal=internal,
        drop=judging.drops(internal, metrics),
        intervals=judging.by_patient(found, metrics),
        calibration=judging.calibration_of(found),
        histograms=judging.histograms_of(found),
        decisions=judging.decisions_of(found),
        recalibrated=None if n is None else judging.recalibrate(found, n, asked.seed),
        subgroups=_subgroups(found, split, {name: values[own] for name, values in columns.items()}),
        remarks=remarks_of(found, config.dataset, listing, reader, read.pixels_sha256),
    )


def _split(listing: Listing, aligned: Aligned, read: _Read) -> Split:
    """The images that were read, without their pixels."""
    rows = aligned.rows[read.places]
    return Split(
        images=np.empty((len(rows), 0), dtype=np.uint8),
        labels=aligned.labels[read.places],
        groups=None if listing.groups is None else listing.groups[rows],
        names=[listing.names[row] for row in rows.tolist()],
        cases=None if listing.cases is None else listing.cases[rows],
    )


def _predictions(judged: JudgedModel, split: Split, logits: NDArray[np.float32]) -> Predictions:
    from medfathom.evaluation.judging import Predictions  # noqa: PLC0415

    config = judged.config
    if (config.unit == "image") != (split.cases is None):
        raise DataError(f'the model judges {config.unit}s; give dataset.unit = "{config.unit}"')
    units = split.units
    of_units = units.logits(config.task, logits, config.combine)
    return Predictions(config, units.labels, of_units, units.groups)


def _fingerprint(read: _Read, split: Split) -> str:
    digest = hashlib.sha256("".join(read.pixels_sha256).encode())
    digest.update(np.ascontiguousarray(split.labels).tobytes())
    return digest.hexdigest()


def _counts(found: Predictions) -> dict[str, int]:
    names, labels = found.config.class_names, found.labels
    if labels.ndim == 2:
        return {name: int((labels[:, k] == 1).sum()) for k, name in enumerate(names)}
    return {name: int((labels == k).sum()) for k, name in enumerate(names)}


def _flipped(
    judged: JudgedModel,
    found: Predictions,
    metrics: SplitMetrics,
    reader: Reader,
    rows: NDArray[np.int64],
) -> Flipped | None:
    """Whether the AUC lies below 0.5 with its whole interval; then also what inverted images give."""
    from medfathom.evaluation.judging import auc_of_logits  # noqa: PLC0415

    auc = metric(metrics, "auc")
    if auc.high is None or auc.high >= CHANCE:
        return None
    if judged.config.unit != "image":
        return Flipped(auc, None)
    chosen = np.unique(np.linspace(0, len(rows) - 1, TRIED_INVERTED).round().astype(np.int64))
    images = reader.images(rows[chosen].tolist())
    inverted = judged.model.logits(np.iinfo(images.dtype).max - images)
    return Flipped(auc, auc_of_logits(found, inverted, chosen))


def _overlap(
    prints: Prints | None,
    found: Predictions,
    metrics: SplitMetrics,
    split: Split,
    read: _Read,
    copied: NDArray[np.bool_] | None,
) -> OverlapFound:
    from medfathom.data.prints import overlap  # noqa: PLC0415

    if prints is None:
        return OverlapFound(None)
    small = np.stack(read.thumbnails)
    seen = overlap(prints, read.sha256, read.pixels_sha256, small, split.groups)
    if copied is not None:
        seen = replace(seen, near=(seen.near | copied) & ~seen.exact)
    found_any = seen.copies | seen.of_patients
    result = OverlapFound(
        seen.compared,
        int(seen.exact.sum()),
        int(seen.near.sum()),
        len(seen.patients),
        int(seen.of_patients.sum()),
        by_image=copied is not None,
    )
    return replace(result, auc_without=_without(found, metrics, split, seen)) if found_any.any() else result


def _without(found: Predictions, metrics: SplitMetrics, split: Split, seen: Overlap) -> Value | None:
    """The AUC without units that have a copy among them or belong to these patients.

    None where fewer classes have an AUC then: a mean over others could not be compared with the whole's.
    """
    from medfathom.evaluation.judging import classes_with, metrics_of  # noqa: PLC0415
    from medfathom.metrics.classification import has_auc  # noqa: PLC0415

    bad = seen.copies | seen.of_patients
    grouping = split.units.cases
    if grouping is not None:
        bad = np.isin(np.arange(len(grouping)), grouping.member[bad])
    rest = found.part(np.flatnonzero(~bad))
    if not len(rest) or not has_auc(found.task, rest.labels, len(found.config.class_names)):
        return None
    left = metrics_of(rest)
    return metric(left, "auc") if classes_with(left, "auc") == classes_with(metrics, "auc") else None


def _subgroups(found: Predictions, split: Split, columns: Mapping[str, NDArray[np.str_]]) -> Subgroups | None:
    """By columns of images; all images of a case have its value."""
    from medfathom.evaluation.subgroups import subgroups_of  # noqa: PLC0415

    if not columns:
        return None
    cases = split.units.cases
    units = {name: values if cases is None else values[cases.first] for name, values in columns.items()}
    return subgroups_of(found, units)
