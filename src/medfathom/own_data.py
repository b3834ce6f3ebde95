"""Your own data in one command: look at it, write a definition, run it; in Python `fit`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfathom.data.guess.place import Guessed, Keys, guess_dataset
from medfathom.definitions.load import load_definition, names
from medfathom.definitions.write import key_line
from medfathom.errors import InputError, RunError
from medfathom.files import write_atomically
from medfathom.machine import cpus
from medfathom.text import command

if TYPE_CHECKING:
    from medfathom.exported.model import Model
    from medfathom.study.watcher import Watcher

SIDES = (224, 192, 160, 128, 96, 64, 48, 32)
"""Sides in pixels that networks are given."""

LARGEST = {"CPU": 128, "GPU": 224}
"""Without a GPU larger images make every epoch too slow to search."""

BUDGETS = {
    "CPU": {"trials": 16, "epochs": 5, "minutes": 60.0},
    "GPU": {"trials": 40, "epochs": 12, "minutes": 240.0},
}
"""A first study: an hour at most without a GPU, four with one."""


@dataclass(frozen=True)
class Written:
    """A definition that was written.

    Attributes:
        path: of the definition.
        name: of the study.
        found: what the data set is, one line.
        guessed: key -> why it has its value, for each key that was guessed.
    """

    path: Path
    name: str
    found: str
    guessed: dict[str, str]


def study_name_of(place: Path) -> str:
    """The name of a study of this place: its own, as definitions allow it; no shipped study's."""
    name = place.expanduser().absolute().name
    stem = re.sub(r"\.(csv|tsv|txt|xlsx|parquet|npz|h5|hdf5)(\.gz)?$", "", name, flags=re.IGNORECASE)
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._") or "study"
    return f"my-{slug}" if slug in names("study_defs") else slug


def write_definition(
    place: Path, *, out: Path | None = None, modality: str | None = None, label: str | None = None
) -> Written:
    """Look at a folder, table or array, and write a commented definition of a first study.

    Args:
        place: a folder of class folders, of HDF5 files, or with one table; a table; an npz file.
        out: where to write; None: NAME.toml in the working folder.
        modality: CXR, OCT, WSI or another word; None: it is guessed.
        label: the table's column of the label; None: it is guessed.

    Raises:
        InputError: the data cannot be read, only the user can say something, or `out` is there already.
    """
    name = study_name_of(place)
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise InputError(f"{path} already exists; give another name with --out, or run it")
    guessed = guess_dataset(place, modality=modality, label=label)
    write_atomically(path, _text(place, name if out is None else study_name_of(out.with_suffix("")), guessed))
    config = load_definition(str(path))
    return Written(path, config.name, _found(guessed), guessed.why)


def definition_for(place: Path, modality: str | None = None) -> tuple[Path, Written | None]:
    """The definition of a place in the working folder; it is written where there is none yet.

    Raises:
        InputError: the file of that name is of other data; or as `write_definition`.
    """
    path = Path(f"{study_name_of(place)}.toml")
    if not path.exists():
        return path, write_definition(place, modality=modality)
    refuse_other_modality(str(path), modality)
    known = getattr(load_definition(str(path)).dataset, "path", None)
    whole = place.expanduser().absolute()
    there = None if known is None else Path(known).expanduser().absolute()
    # The folder in the folder that was named, or the folder around the file.
    if there is None or not (there == whole.parent or there.is_relative_to(whole)):
        raise InputError(f"{path} already exists and names other data; run it, or rename it")
    return path, None


def refuse_other_modality(definition: str, modality: str | None) -> None:
    """Raise InputError where a modality is asked for that is not the definition's, which decides.

    Args:
        definition: a TOML file, or the name of one.
        modality: None: any.
    """
    if modality is None or (own := load_definition(definition).dataset.modality) == modality:
        return
    raise InputError(
        f"{definition}: its modality is {own!r}, not {modality!r}, and the definition decides; change "
        "dataset.modality there, or leave the modality out"
    )


def fit(
    place: str | Path,
    *,
    out: str | Path | None = None,
    modality: str | None = None,
    trials: int | None = None,
    seeds: int = 1,
    storage: str | None = None,
    watcher: Watcher | None = None,
) -> Model:
    """From a folder of images to a model: search, confirm the best on the test split, export, load.

    A second call goes on where the first stopped.

        medfathom.fit("scans").predict("new_scans").probabilities

    Args:
        place: a folder of class folders, a table, an npz file; or a definition (`.toml`).
        out: the model folder; None: NAME-model in the working folder.
        modality: CXR, OCT, WSI or another word; None: it is guessed.
        trials: the budget's trials; None: the definition's.
        seeds: how often the best is trained again.
        storage: an Optuna storage URL.
        watcher: is told what happens; nobody is when none is given.

    Raises:
        InputError: something given cannot be used.
        RunError: no trial is complete, or the storage failed.
    """
    from medfathom.confirm import confirm_study  # noqa: PLC0415  imports Optuna
    from medfathom.confirmation.choice_of_model import choose_configuration  # noqa: PLC0415
    from medfathom.export import export_model  # noqa: PLC0415
    from medfathom.exported.model import load  # noqa: PLC0415
    from medfathom.run import run_study  # noqa: PLC0415
    from medfathom.study.connection import default_url  # noqa: PLC0415
    from medfathom.study.read import read_study  # noqa: PLC0415

    if str(place).endswith(".toml"):
        definition = Path(place)
        refuse_other_modality(str(definition), modality)
    else:
        definition = definition_for(Path(place), modality)[0]
    overrides = [] if trials is None else [f"budget.trials={trials}"]
    config = load_definition(str(definition), overrides)
    name, folder = config.name, Path(out) if out is not None else Path(f"{config.name}-model")
    # Before anything is trained: a folder that is no model of this study stays as it is.
    known = load(folder) if folder.exists() else None
    if known is not None and known.config.study != name:
        raise InputError(f"{folder}: is a model of {known.config.study!r}; name another folder with out=")
    _went_on(run_study(config, storage=storage, watcher=watcher).halted)
    _went_on(confirm_study(name, seeds=seeds, top=1, storage=storage, watcher=watcher).halted)
    best = choose_configuration(read_study(storage or default_url(), name), "best", 0.0)
    if known is not None and known.config.trial in {model.trial for model in best.models}:
        return known
    return load(export_model(name, folder, storage=storage).folder)


def _went_on(halted: str) -> None:
    if halted == "interrupted":
        raise RunError("interrupted; the same call continues")


def _machine() -> str:
    import torch  # noqa: PLC0415  takes a second

    return "GPU" if torch.cuda.is_available() else "CPU"


def _found(guessed: Guessed) -> str:
    """The data set in one line."""
    listing = guessed.listing
    splits = Counter(split for split in listing.splits.tolist() if split)
    groups = "" if listing.groups is None else f" of {len(set(listing.groups.tolist()))} patients (or slides)"
    return (
        f"{len(listing)} images{groups}; classes: {_classes(guessed)}; "
        f"splits: {', '.join(f'{name} {n}' for name, n in splits.items()) or 'none given'}"
    )


def _classes(guessed: Guessed) -> str:
    labels, names = guessed.listing.labels, guessed.listing.class_names
    one_each = labels.ndim == 1
    counts = np.bincount(labels, minlength=len(names)) if one_each else (labels == 1).sum(axis=0)
    return ", ".join(f"{name} {n}" for name, n in zip(names, counts.tolist(), strict=True))


def _text(place: Path, name: str, guessed: Guessed) -> str:
    """The definition."""
    machine = _machine()
    why = dict(guessed.why)
    keys = dict(guessed.keys)
    keys["image_size"] = _side(guessed.side, machine)
    why["image_size"] = (
        f"The images' shorter side is {guessed.side} pixels (median); this machine has "
        f"{'a GPU' if machine == 'GPU' else f'no GPU, so at most {LARGEST[machine]}'}"
    )
    budget = BUDGETS[machine]
    lines = [
        f"# Written by `medfathom init {place}`. Lines with # explain; every value can be changed.",
        "version = 1",
        key_line("name", name),
        key_line("question", f"Which network, init and unfreeze depth are best for {name}?"),
        'goal = "best"  # "compare": every combination gets the same budget, for a question about networks',
        "",
        '# These defaults need no line: space = "lite" (three EfficientNet-Lites), sampler = "gain",',
        f'# scheduler = "curve". `{command("list", "spaces")}` shows others.',
        "",
        f"# {_found(guessed)}",
        "[dataset]",
        *_keys(keys, why),
        "",
        *_splits(guessed),
        f"# For this machine: {cpus()} CPUs, {'a' if machine == 'GPU' else 'no'} GPU. "
        "`medfathom plan` measures how long it takes.",
        "[budget]",
        *(key_line(key, value) for key, value in budget.items()),
    ]
    return "\n".join(lines) + "\n"


def _keys(keys: Keys, why: dict[str, str]) -> list[str]:
    first = [key for key in ("source", "path", "modality", "image_size") if key in keys]
    lines = []
    for key in [*first, *(key for key in keys if key not in first)]:
        if key in why and (key not in first or key != "path"):
            guess = "" if key == "image_size" else "Guessed: "
            lines.append(f"# {guess}{' '.join(why[key].split())}")
        lines.append(key_line(key, keys[key]))
    return lines


def _side(found: int, machine: str) -> int:
    """The largest usual side that is not above the images' own, nor too large for the machine."""
    usual = [side for side in SIDES if side <= LARGEST[machine]]
    return next((side for side in usual if side <= found), usual[-1])


def _splits(guessed: Guessed) -> list[str]:
    given = [split for split in ("train", "val", "test") if split in set(guessed.listing.splits.tolist())]
    listing = guessed.listing
    whole = "images" if listing.clusters is None else "patients, slides or cases, never divided"
    drawn = [split for split in ("val", "test") if split not in given]
    if not drawn:
        return ["# The splits are given: train, val, test.", ""]
    said = f"{', '.join(given).capitalize()} given" if given else "No split is given"
    return [
        f"# {said}; {' and '.join(drawn)} will be drawn from the {whole}.",
        "[dataset.splits]",
        *(key_line(f"{split}_fraction", 0.15) for split in drawn),
        "",
    ]
