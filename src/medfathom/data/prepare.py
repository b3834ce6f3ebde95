"""Decode a data set once, into memory-mapped arrays at the study's image size.

    storage/cache/datasets/KEY/
        {train,val,test}_images.npy  (n, s, s, c) uint8 or uint16
        {train,val,test}_labels.npy, _groups.npy, _cases.npy, _names.json
        manifest.csv                 a row for each image: see `manifest`
        prepared.json                facts, fingerprint, what was left out, what is in two splits

KEY comes from the definition and the source's signature, so a second run finds the folder without reading a
pixel. Preparation fills KEY.partial and renames it when it is complete; a later run continues one that was
killed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from medfathom.data.arrays import check_space, save_array
from medfathom.data.copies import (
    NEAR_LIMIT,
    Copies,
    contradictions,
    find_copies,
    kept_together,
    to_drop,
    write_near,
)
from medfathom.data.decoding import JOURNAL_FILE, Decoder
from medfathom.data.folds import draw_folds
from medfathom.data.leakage import count_leaks, groups_across
from medfathom.data.listing import list_images
from medfathom.data.manifest import write_manifest
from medfathom.data.prepared import (
    FACTS_FILE,
    SPLIT_NAMES,
    Facts,
    PreparedData,
    array_file,
    count_cases,
    names_file,
    read_facts,
    told_of,
    write_facts,
)
from medfathom.data.sources.base import Listing, Problem, Source, UnusableRowsError
from medfathom.data.sources.open import open_source
from medfathom.data.splits import complete_splits, given_splits, settled_splits
from medfathom.data.too_few import few_notes, propose_folds
from medfathom.data.usable import (
    NONE_LEFT,
    check_bits,
    check_classes,
    check_two_classes,
    constant_note,
    dark_note,
    foresee_bits,
    once_left_out,
)
from medfathom.data.workers import Row
from medfathom.definitions.dataset import DatasetConfig, SplitsConfig
from medfathom.errors import DataError
from medfathom.files import write_atomically
from medfathom.metrics.classification import positive_class
from medfathom.text import command, number_of

VERSION = 6
"""Part of KEY. Raise it when the same definition would give other bytes: old folders are then not used."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""


def prepare(
    config: DatasetConfig,
    cache_dir: Path,
    *,
    progress: Progress | None = None,
    looked: Progress | None = None,
) -> PreparedData:
    """Decode a data set; a second call with the same content returns at once.

    Bad images do not stop the preparation: the good ones are prepared and kept. With `on_bad_image = "error"`
    one error then reports all bad ones, and a later call with "skip" returns at once.

    Args:
        config: the `[dataset]` table.
        cache_dir: where prepared data sets lie; several processes may share it.
        progress: see `Progress`.
        looked: called with the number of slides whose tissue was looked for, and of all.

    Raises:
        DataError: the source is absent, damaged, or cannot be used as the definition says.
        UnusableRowsError: some images or rows cannot be used; its `problems` are all of them.
        RunError: the disk is full.
    """
    source = open_source(config)
    try:
        folder = cache_dir.absolute() / "datasets" / _key(config, source.signature())
        if not (folder / FACTS_FILE).exists():
            source.looked = looked or source.looked
            _build(_job(source, config), folder, progress or (lambda done, total: None))
    finally:
        source.close()
    facts = read_facts(folder)
    if facts.left_out and config.on_bad_image == "error":
        raise UnusableRowsError(facts.left_out, sum(facts.data.sizes.values()) + len(facts.left_out))
    return facts.data


def _key(config: DatasetConfig, signature: str) -> str:
    # Where the data lie is in the signature; what to do about bad images or leaks changes no good image.
    # Folds are drawn from what is prepared; columns for subgroups change no image.
    content = config.model_dump(mode="json", exclude={"path", "root", "on_bad_image", "leakage", "keep"})
    if config.source != "medmnist":  # there it says which set
        content.pop("name")
    if content.get("eye") is None:  # as it was before there was this key
        content.pop("eye", None)
    if {"case_column", "case_pattern", "group_column"} & {key for key in content if content[key]}:
        content["names"] = 2  # before, cases in two spellings were two, and NA was a patient
    content["splits"] = config.splits.model_dump(mode="json", exclude={"folds", "repeats"})
    text = json.dumps([VERSION, content, signature], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Job:
    """What will be prepared."""

    source: Source
    config: DatasetConfig
    listing: Listing
    splits: NDArray[np.str_]


def foresee(config: DatasetConfig, cache_dir: Path) -> list[str]:
    """Make every check of `prepare` that needs no pixels; keep the notes for the next call.

    Args:
        config: the `[dataset]` table.
        cache_dir: as for `prepare`.

    Returns:
        What to know before anything is spent, a line each.

    Raises:
        DataError: as `prepare`.
    """
    source = open_source(config)
    try:
        own = f"{_key(config, source.signature())}-{config.splits.folds}x{config.splits.repeats}"
        # What is a note with one is an error with the other; another version may see more.
        own += f"-{config.on_bad_image}-{version('medfathom')}"
        known = cache_dir.absolute() / "validated" / f"{own}.json"
        if known.exists():
            found: list[str] = json.loads(known.read_text(encoding="utf-8"))
            return found
        job = _job(source, config, outline=True)
        listing = job.listing
        if listing.problems and config.on_bad_image == "error":
            raise UnusableRowsError(listing.problems, len(listing) + len(listing.problems))
        dark = foresee_bits(source, listing, config)
    finally:
        source.close()
    positive = positive_class(listing.task, listing.class_names)
    notes = told_of(positive, listing.problems, listing.ignored, [*listing.notes, *dark])
    notes += few_notes(listing, job.splits)
    if len(listing) > NEAR_LIMIT:
        notes.append(f"only `{command('data', 'check')}` finds near copies among over {NEAR_LIMIT:,} images")
    if config.splits.folds is None:
        notes += propose_folds(listing, job.splits)
    if not listing.problems:  # what is missing may be there the next time
        with suppress(OSError):  # they are found again where nothing can be kept
            known.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(known, json.dumps(notes))
    return notes


def _check_folds(listing: Listing, splits: NDArray[np.str_], config: SplitsConfig) -> None:
    """Raise DataError where the folds cannot be drawn; copies are only known later."""
    if config.folds is not None:
        rows, clusters = splits != "test", _clusters(listing, config)
        units = None if clusters is None else clusters[rows]
        draw_folds(listing.labels[rows], units, config, listing.class_names)


def _job(source: Source, config: DatasetConfig, *, outline: bool = False) -> _Job:
    """List, split and check, before anything is written."""
    listing = list_images(source, config, outline=outline)
    if not len(listing):
        raise UnusableRowsError(listing.problems, len(listing.problems), follows=NONE_LEFT)
    try:
        check_two_classes(listing)
        splits = _split(listing, config.splits)
        check_classes(listing, splits)
        _check_folds(listing, splits, config.splits)
    except DataError as error:
        if not listing.problems:
            raise
        # Rows that cannot be used are the likely cause of too few groups or images, so they are said first.
        whole = len(listing) + len(listing.problems)
        raise UnusableRowsError(listing.problems, whole, follows=str(error)) from None
    return _Job(source, config, listing, splits)


def _split(listing: Listing, config: SplitsConfig) -> NDArray[np.str_]:
    """A split for every image. No case is divided, even where patients may be."""
    clusters = _clusters(listing, config)
    whole = config if clusters is None else config.model_copy(update={"grouped": True})
    splits = complete_splits(listing.splits, listing.labels, clusters, whole, listing.class_names)
    if listing.cases is not None and (across := groups_across(listing.cases, splits)):
        case, places = next(iter(across.items()))
        raise DataError(
            f"{len(across)} cases are in several splits of the source, {case!r} in {' and '.join(places)}: "
            "a case belongs to one split; where these are different cases, name them apart in "
            'dataset.case_pattern; else let all splits be drawn, by dataset.splits.given = "ignore"'
        )
    return splits


def _clusters(listing: Listing, config: SplitsConfig) -> NDArray[np.str_] | None:
    """What a drawn split does not divide, besides copies: patients, else cases."""
    by_patient = config.grouped and listing.groups is not None
    return listing.groups if by_patient else listing.cases


def _build(job: _Job, folder: Path, progress: Progress) -> None:
    """Prepare in KEY.partial, then rename. One process at a time: the others wait, and find it done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if (folder / FACTS_FILE).exists():
            return
        partial = folder.with_suffix(".partial")
        size, listing = job.config.image_size, job.listing
        n_bytes = len(listing) * size * size * listing.channels * listing.dtype.itemsize
        check_space(partial, n_bytes)
        partial.mkdir(exist_ok=True)
        try:
            _fill(job, partial, progress)
        except DataError:
            shutil.rmtree(partial)
            raise
        (partial / JOURNAL_FILE).unlink()
        partial.rename(folder)


@dataclass(frozen=True)
class _Decoded:
    """Images that can be used, and the copies among them."""

    job: _Job
    rows: Sequence[Row]
    copies: Copies

    def without(self, dropped: Collection[int]) -> _Decoded:
        """Without all copies: `dropped` are all of each set but one."""
        left = [row for row in range(len(self.rows)) if row not in dropped]
        return _Decoded(_chosen(self.job, left), [self.rows[row] for row in left], self.copies.none_left())


def _fill(job: _Job, folder: Path, progress: Progress) -> None:
    decoder = Decoder(job.source, job.listing, job.splits, job.config, folder)
    try:
        outcomes = decoder.run(progress)
        problems = [*job.listing.problems, *(o for o in outcomes if isinstance(o, Problem))]
        places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Row)]
        rows = [outcome for outcome in outcomes if isinstance(outcome, Row)]
        good = _chosen(job, places)
        good = _noted(good, check_bits(rows, good.listing.names, job.config))
        good = _noted(good, dark_note(decoder.image, places))
        copies = find_copies(rows, lambda row: decoder.image(places[row]), good.listing.cases)
        decoded, dropped = _Decoded(_noted(good, contradictions(copies, good.listing)), rows, copies), {}
        if job.config.drop_copies:
            dropped = to_drop(copies.sets(), good.listing)
            decoded = decoded.without(dropped)
            places = [place for row, place in enumerate(places) if row not in dropped]
        decoded = replace(decoded, job=_settled(decoded, problems, list(dropped.values())))
        decoder.arrange(places, decoded.job.splits)
        decoder.flush()
    finally:
        decoder.close()
    _write_tables(decoded, problems, list(dropped.values()), folder)


def _noted(job: _Job, note: str) -> _Job:
    """The job with one more line for its reader, if there is one."""
    listing = job.listing
    return replace(job, listing=replace(listing, notes=[*listing.notes, note])) if note else job


def _chosen(job: _Job, rows: Sequence[int]) -> _Job:
    """The job with these rows of its listing alone."""
    listing = job.listing
    left = replace(
        listing,
        names=[listing.names[row] for row in rows],
        labels=listing.labels[rows],
        splits=listing.splits[rows],
        groups=None if listing.groups is None else listing.groups[rows],
        cases=None if listing.cases is None else listing.cases[rows],
        studies=None if listing.studies is None else listing.studies[rows],
    )
    return replace(job, listing=left, splits=job.splits[rows])


def _settled(decoded: _Decoded, problems: Sequence[Problem], dropped: Sequence[Problem]) -> _Job:
    """The job with splits that have every class, and that keep copies together where that can be."""
    job = decoded.job
    clusters = _clusters(job.listing, job.config.splits)
    sets = decoded.copies.sets()
    # Then the bad images are the error, and what the others lack only follows.
    refused = bool(problems) and (job.config.on_bad_image == "error" or not decoded.rows)
    lost = [*([] if refused else problems), *dropped]
    if sets:
        together = kept_together(clusters, sets, len(job.listing))
        try:
            return _drawn(job, together, lost)
        except DataError as error:
            job = _noted(job, f"{number_of(len(sets), 'set of copies')} could not be kept together: {error}")
    try:
        return _drawn(job, clusters, lost)
    except DataError as error:
        if not refused:
            raise
        whole = len(decoded.rows) + len(problems) + len(dropped)
        follows = str(error) if decoded.rows else NONE_LEFT
        raise UnusableRowsError(problems, whole, follows=follows) from None


def _drawn(job: _Job, units: NDArray[np.str_] | None, lost: Sequence[Problem]) -> _Job:
    """The job with its splits drawn again in whole units where that is needed."""
    listing, config, names = job.listing, job.config.splits, job.listing.class_names
    try:
        splits = settled_splits(job.splits, listing.splits, listing.labels, units, config, names)
    except DataError as error:
        raise DataError(f"{error}{once_left_out(lost)}") from None
    check_classes(listing, splits, lost)
    return replace(job, splits=splits)


def _write_tables(
    decoded: _Decoded, problems: Sequence[Problem], dropped: Sequence[Problem], folder: Path
) -> None:
    """Everything but the images."""
    job, rows = decoded.job, decoded.rows
    listing, splits, config = job.listing, job.splits, job.config
    for split in SPLIT_NAMES:
        chosen = np.flatnonzero(splits == split).tolist()
        save_array(array_file(folder, split, "labels"), listing.labels[chosen])
        for what, texts in (("groups", listing.groups), ("cases", listing.cases)):
            if texts is not None:
                save_array(array_file(folder, split, what), texts[chosen])
        names = [listing.names[row] for row in chosen]
        write_atomically(names_file(folder, split), json.dumps(names))
    write_manifest(folder, listing, splits, rows)
    data = PreparedData(
        folder=folder,
        fingerprint=_fingerprint(job, rows),
        modality=config.modality,
        task=listing.task,
        class_names=listing.class_names,
        image_size=config.image_size,
        channels=listing.channels,
        sizes={str(split): int((splits == split).sum()) for split in SPLIT_NAMES},
        unit=getattr(config, "unit", "image"),
        cases=count_cases(listing.cases, splits),
    )
    order = np.argsort([SPLIT_NAMES.index(s) for s in splits.tolist()], kind="stable")  # of the manifest
    copies = decoded.copies.renamed(np.argsort(order).tolist())
    if copies.near is not None:
        write_near(folder, copies.near)
    groups = None if listing.groups is None else listing.groups[order]
    leaks = count_leaks(splits[order], groups, copies.exact, copies.near)
    notes = [*listing.notes, *constant_note(listing.names, rows)]
    given = given_splits(listing.splits, config.splits)
    write_facts(Facts(data, problems, leaks, dropped, listing.ignored, notes, given))


def _fingerprint(job: _Job, rows: Sequence[Row]) -> str:
    """SHA-256 over images (through their own hashes), labels, groups, splits and cases, in order."""
    listing, size = job.listing, job.config.image_size
    form = [size, listing.channels, listing.dtype.name, listing.task, listing.class_names]
    digest = hashlib.sha256(json.dumps(form).encode())
    for index, row in enumerate(rows):
        group = None if listing.groups is None else str(listing.groups[index])
        facts = [row.pixels_sha256, listing.labels[index].tolist(), group, str(job.splits[index])]
        # Without cases as before there were any: the same data are the same study's.
        facts += [] if listing.cases is None else [str(listing.cases[index])]
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
