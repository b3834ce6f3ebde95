"""What a report says of the data: source, preprocessing, reference standard, partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from medfathom.data.sources.cases import FILLED
from medfathom.definitions.joint import members
from medfathom.definitions.table import CellMeanings
from medfathom.reporting.record import Answer, Fact, StudyRecord

FIT = {
    "squash": "squashed (their aspect ratio was not kept)",
    "pad": "padded to a square with black borders, and resized",
    "crop": "cut to their central square, and resized",
}

CHOSEN_BY = ("include", "exclude", "where", "classes", "unlisted", "no_label")
"""Keys of `[dataset]` that choose images or merge labels."""

LABELLED_BY = (
    "label_column",
    "label_columns",
    "label_separator",
    "class_level",
    "class_pattern",
    "label_key",
)
"""Keys of `[dataset]` that say where labels stand."""


def data_source(record: StudyRecord) -> Answer:
    """Where the data come from, as the definition says."""
    own = record.definition
    said = [("citation", own.citation), ("licence", own.licence), ("obtain", own.obtain)]
    known = [(key, text) for key, text in said if text]
    if not known:
        return (
            "Where do the data come from, and under which licence? The definition does not say "
            "(`citation`, `licence`, `obtain`)."
        )
    text = "; ".join(f"{key}: {text}" for key, text in known)
    keys = ", ".join(f"`{key}`" for key, _ in known)
    return Fact(f"{text} (source `{own.dataset.source}`).", f"definition, {keys}, `dataset.source`")


def fingerprint(record: StudyRecord) -> Answer:
    """What identifies the data."""
    found = record.study.user_attrs["dataset_fingerprint"]
    return Fact(f"SHA-256 over images, labels, patients and splits: {found}.", "study, `dataset_fingerprint`")


def subsets(record: StudyRecord) -> Answer:
    """Which images the definition chose."""
    keys = {key: getattr(record.definition.dataset, key, None) for key in CHOSEN_BY}
    chosen = {key: value for key, value in keys.items() if value and value != "error"}
    if not chosen:
        return Fact("The definition chooses no subset of the data.", "definition, `dataset`")
    text = "; ".join(f"{key} = {value}" for key, value in chosen.items())
    return Fact(f"Chosen by the definition: {text}.", _keys(chosen))


def flow(record: StudyRecord) -> Answer:
    """How many images were found, left out and why, and used."""
    facts = record.data
    if facts is None:
        return record.prepare_first
    used, dropped = sum(facts.data.sizes.values()), len(facts.dropped)
    reasons = Counter(problem.reason for problem in facts.left_out)
    parts = [f"{number} left out: {reason}" for reason, number in reasons.most_common()]
    parts += [f"{dropped} left out as copies of other images"] if dropped else []
    parts += [f"{len(each.names)} not part of the data set: {each.reason}" for each in facts.ignored]
    found = used + len(facts.left_out) + dropped
    text = f"{found} images or rows found; {'; '.join(parts) or 'none left out'}; {used} used."
    return Fact(text, "prepared.json, `left_out`, `dropped`, `ignored`, `sizes`")


def missing(record: StudyRecord) -> Answer:
    """What happened to images and labels that could not be used."""
    facts, own = record.data, record.definition.dataset
    if facts is None:
        return record.prepare_first
    if facts.left_out:
        rule = f"{len(facts.left_out)} images or rows that cannot be used were left out (skipped)"
    else:
        rule = "No image or row was unusable"
    meanings = {
        key: value for key in ("missing", "uncertain") if (value := getattr(own, key, None)) is not None
    }
    labels = (
        f"; labels: {', '.join(f'{key} = {value!r}' for key, value in meanings.items())}" if meanings else ""
    )
    imputed = "; ".join([*_set_labels(meanings), *(note for note in facts.notes if FILLED in note)])
    text = f"{rule}{labels}. {f'Imputed labels: {imputed}' if imputed else 'Nothing was imputed'}."
    return Fact(text, "prepared.json, `left_out`, `notes`; definition, `dataset`")


def _set_labels(meanings: Mapping[str, CellMeanings]) -> list[str]:
    """What cells that say nothing sure were taken for."""
    said = {"missing": "an empty cell", "uncertain": "-1"}
    words = {"zero": "absent", "one": "present"}
    lines = []
    for key, given in meanings.items():
        each = given if isinstance(given, dict) else {"": given}
        lines += [
            f"{said[key]}{f' of {label}' if label else ''} was taken for {words[meaning]}"
            for label, meaning in each.items()
            if meaning in words
        ]
    return lines


def preprocessing(record: StudyRecord) -> Answer:
    """From a file to what a network sees."""
    own = record.definition.dataset
    if record.data is None:
        return record.prepare_first
    channels = "one grey channel" if record.data.data.channels == 1 else "three colour channels"
    sizes = " or ".join(map(str, record.definition.sizes))
    window = getattr(own, "window", None)
    parts = [f"Images were {FIT[members(own)[0].fit]} to {sizes} pixels a side, {channels}"]
    parts += [f"window {window[0]:g}/{window[1]:g} (centre/width)"] if window else []
    parts += ["then normalised by the mean and standard deviation of the pretrained network's channels"]
    return Fact(", ".join(parts) + ".", "definition, `dataset`; prepared.json, `channels`")


def image_form(record: StudyRecord) -> Answer:
    """Modality and original sizes."""
    manifest = record.manifest
    if manifest is None:
        return record.prepare_first
    sides = [(int(side.min()), int(side.max())) for side in (manifest.width, manifest.height)]
    wide, high = (f"{low}" if low == most else f"{low} to {most}" for low, most in sides)
    text = f"Modality {record.definition.dataset.modality}; originals {wide} x {high} pixels."
    return Fact(text, "definition, `dataset.modality`; manifest.csv, `width`, `height`")


def inputs(record: StudyRecord) -> Answer:
    """What the model predicts from."""
    unit = getattr(record.definition.dataset, "unit", "image")
    what = "one image" if unit == "image" else f"the images of one {unit}"
    text = f"The model sees the pixels of {what} and nothing else; nobody interprets a predictor by hand."
    return Fact(text, "definition, `dataset`")


def reference(record: StudyRecord) -> Answer:
    """What a label is."""
    own = record.definition.dataset
    keys = {key: value for key in LABELLED_BY if (value := getattr(own, key, None)) is not None}
    if not record.classes:
        return record.prepare_first
    where = "; ".join(f"{key} = {value}" for key, value in keys.items()) or "the source's own labels"
    merged = getattr(own, "classes", None)
    text = f"The label in the data ({where}), with the classes {', '.join(record.classes)}"
    text += f", merged by {merged}" if merged else ""
    positive = None if record.data is None else record.data.data.positive
    text += f"; positive is {positive}" if positive else ""
    return Fact(f"{text}.", _keys(keys) if keys else "definition, `dataset.source`")


def test_labels(record: StudyRecord) -> Answer:
    """That the test labels come from the same place."""
    text = "The test labels come from the same place as all other labels."
    return Fact(text, "definition, `dataset`")


def partitions(record: StudyRecord) -> Answer:
    """How splits came about."""
    facts, own = record.data, record.definition.dataset.splits
    if facts is None:
        return record.prepare_first
    if facts.given is None:
        return (
            "Did the splits come with the data, or were they drawn at random? An older version prepared "
            "these data."
        )
    drawn = [split for split in facts.data.sizes if split not in facts.given]
    given = [split for split in facts.data.sizes if split in facts.given]
    parts = [f"{_listed(given)} came with the data"] if given else []
    if drawn:
        whole = ", all images of a patient or slide together" if _grouped(record) else ""
        shares = ", ".join(
            f"{split} {getattr(own, f'{split}_fraction'):g}" for split in drawn if split != "train"
        )
        parts.append(
            f"{_listed(drawn)} drawn at random{whole}, stratified by class, seed {own.seed}"
            + (f" (fractions: {shares})" if shares else "")
        )
    if own.folds:
        parts.append(f"the search cross-validated training and validation images in {own.folds} folds")
    text = "; ".join(parts)
    return Fact(f"{text[0].upper()}{text[1:]}.", "prepared.json, `given`; definition, `dataset.splits`")


def partition_sizes(record: StudyRecord) -> Answer:
    """Images, cases and patients of each split."""
    sizes = record.sizes()
    if not sizes:
        return record.prepare_first
    text = "; ".join(f"{split}: {words}" for split, words in sizes.items())
    return Fact(f"{text}.", "manifest.csv, `split`, `group`, `case`")


def class_counts(record: StudyRecord) -> Answer:
    """Classes of each split."""
    labels = record.labels()
    if not labels:
        return record.prepare_first
    text = "; ".join(
        f"{split}: {', '.join(f'{name} {count}' for name, count in counts.items())}"
        for split, counts in labels.items()
    )
    return Fact(f"Images of each class, {text}.", "manifest.csv, `label`")


def disjoint(record: StudyRecord) -> Answer:
    """The level at which splits are apart."""
    facts = record.data
    if facts is None:
        return record.prepare_first
    if not _grouped(record):
        return (
            "The data name no patients (`dataset.group_column` or `group_pattern`): partitions are disjoint "
            f"by {'case' if facts.data.cases else 'image'} as far as medfathom knows. Are they by patient?"
        )
    across = sum(facts.leaks.groups.values())
    text = (
        f"Partitions are not disjoint by patient: {across} patients or slides are in several splits."
        if across
        else "Partitions are disjoint by patient or slide: none is in two splits."
    )
    return Fact(text, "manifest.csv, `group`; prepared.json, `leakage`")


def leakage(record: StudyRecord) -> Answer:
    """Copies in several splits."""
    facts = record.data
    if facts is None:
        return record.prepare_first
    parts = [
        f"{sum(found.values())} {what} in several splits"
        for what, found in (
            ("sets of exact copies", facts.leaks.images),
            ("pairs of near copies", facts.leaks.near),
        )
        if found is not None
    ]
    looked = "" if facts.leaks.near is not None else " Near copies were not searched."
    return Fact(f"Looked for: {'; '.join(parts)}.{looked}", "prepared.json, `leakage`")


def bad_images(record: StudyRecord) -> Answer:
    """What prediction does with images it cannot use."""
    text = (
        "`predict` names an image that cannot be read and gives it no probability. It does not recognise an "
        "image of poor quality, or of something else: it still gives a prediction."
    )
    return Fact(text, "model card, Limits")


def _grouped(record: StudyRecord) -> bool:
    return record.manifest is not None and bool((record.manifest.group != "").any())


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _keys(found: dict[str, object]) -> str:
    return "definition, " + ", ".join(f"`dataset.{key}`" for key in found)
