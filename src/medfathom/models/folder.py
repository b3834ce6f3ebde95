"""A model as a folder: `confirm` keeps it, `export` writes it, `predict` and `init = "export:…"` read it.

    model.safetensors   every tensor of the network: exported under timm's names (`exported.timm_layout`),
                        kept by `confirm` under `backbone.` and `head.`
    medfathom.json      `ModelConfig`: how to build it, prepare images, and read its outputs
    config.json         what timm needs (exported folders); older versions kept `ModelConfig` here
    head.safetensors    a head that timm has no place for
    manifest.sha256     hashes of all files (exported folders), as `sha256sum -c` takes them
    README.md           the model card; model.onnx the same network for other runtimes
    metrics.json        what it reached on its test split
    training_images.npz fingerprints of the training images (`data.prints`)
    evaluations.json    what `evaluate` found on other data, by its name
    NAME/               of a model of several data sets one folder for each: how its head is used. The weights
                        of all lie above, under `backbone.` and `head.`; `heads.0.` is the first head,
                        `per_dataset.0.` the first data set's batch norm

Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from medfathom.definitions.schema import Schema
from medfathom.errors import ExportedModelError, WeightsError
from medfathom.files import sha256_of, write_atomically
from medfathom.metrics.calibrators import Curve, Fit, fit_calibration
from medfathom.metrics.classification import TaskKind, positive_class
from medfathom.metrics.influences import Floats
from medfathom.metrics.rules import CalibrationKind, ThresholdRule
from medfathom.text import command
from medfathom.units import Combine, Unit

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "medfathom.json"
TIMM_FILE = "config.json"
HEAD_FILE = "head.safetensors"
MANIFEST_FILE = "manifest.sha256"
CARD_FILE = "README.md"
ONNX_FILE = "model.onnx"
METRICS_FILE = "metrics.json"
PRINTS_FILE = "training_images.npz"
EVALUATIONS_FILE = "evaluations.json"

LONGEST_NAME = 255
"""Bytes in a file's name."""

BACKBONE, HEAD = "backbone.", "head."
"""Prefixes of the names of tensors."""


View = Literal["as_is", "mirrored", "upside_down", "half_turn"]
"""An image as it is, or flipped."""

VIEWS: dict[str, tuple[View, ...]] = {
    "OCT": ("as_is", "mirrored"),
    "WSI": ("as_is", "mirrored", "upside_down", "half_turn"),
}
"""Modality -> flips that leave a label true, as in `trial.augmentation`. A chest X-ray has none."""


class ModelConfig(Schema):
    """All that is needed to build the network again and to use it.

    Attributes:
        version: of this file's form.
        medfathom: the version that wrote it.
        modality, dataset, dataset_fingerprint: what it was trained on.
        image_size: side in pixels of the images the network takes; `fit` is how others are made square.
        channels, dtype, bits: images are read into this form (`bits`: in use of 16-bit files).
        window: centre and width for DICOM files, instead of their own, and for NIfTI files.
        slice_axis: of NIfTI files: the axis that counts slices.
        eye: of OCT volumes: the only one that is taken; None: any.
        mpp, tiles, tiles_seed, tissue: how whole slides are cut into tiles; no mpp: files are images.
        mean, std: of the backbone's own input channels, for values in [0, 1].
        calibration: how probabilities are calibrated, on validation.
        temperature: logits are divided by it before they become probabilities; from validation.
        curves: of isotonic regression and Venn-Abers: from the log-odds of each probability to its calibrated
            value. The temperature is then for ONNX, for the images of cases and for ensembles.
        thresholds: of each probability (binary: of the second class), from validation by `threshold_rule`.
        unit, combine: what is judged, and how the predictions of a case's images become one. Where there are
            cases, temperature and thresholds are of cases, and `image_temperature` of their images.
        case_pattern, group_pattern: find an image's case, and its patient, in its path; None: a folder is a
            case.
        include, exclude: which files of a folder are images, as the data set's definition said.
        classifier: timm's name of the head's layer, where the weights have timm's names; None: the head has
            tensors of its own (`head.safetensors`, or `head.` in the weights).
        members: of an ensemble: the models whose calibrated probabilities are averaged. `temperature` and
            thresholds are then of the average, what the network is (`architecture` to `grey`) is told by the
            members, and their tensors are named `0.network.`, `1.network.`, ….
        heads: of a model of several data sets: names of the folders of its heads, by which alone it is used.
        head: of one of these: its place among them.
        views: of an image, whose logits are averaged; empty: the image as it is.
        norm: whether the data sets of such a model share their batch norm.
    """

    version: Literal[1]
    medfathom: str
    study: str
    trial: int
    seed: int
    modality: str
    dataset: str
    dataset_fingerprint: str
    architecture: str
    init: str
    unfreeze_depth: int
    strategy: str = "fixed"
    head_dropout: float
    head_pooling: Literal["avg", "max", "avgmax"]
    head_hidden: int
    grey: Literal["repeat", "sum"]
    task: TaskKind
    class_names: list[str]
    image_size: int
    fit: Literal["squash", "pad", "crop"]
    channels: Literal[1, 3]
    dtype: Literal["uint8", "uint16"]
    bits: int
    window: Annotated[tuple[float, float] | None, Field(strict=False)] = None
    slice_axis: Literal[0, 1, 2] = 2
    eye: Literal["right", "left"] | None = None
    mpp: float | None = None
    tiles: int = 100
    tiles_seed: int = 0
    tissue: float = 0.5
    mean: list[float]
    std: list[float]
    calibration: CalibrationKind = "temperature"
    temperature: float = 1.0
    curves: list[Curve] = Field(default_factory=list)
    thresholds: list[float | None] = Field(default_factory=list)
    threshold_rule: ThresholdRule = "youden"
    unit: Unit = "image"
    combine: Combine = "mean"
    image_temperature: float | None = None
    case_pattern: str | None = None
    group_pattern: str | None = None
    include: list[str] | None = None
    exclude: list[str] = Field(default_factory=list)
    classifier: str | None = None
    members: list[ModelConfig] = Field(default_factory=list)
    heads: list[str] = Field(default_factory=list)
    head: int | None = None
    views: list[View] = Field(default_factory=list)
    norm: Literal["shared", "per_dataset"] = "shared"

    def calibrated(self, logits: NDArray[np.floating]) -> Floats:
        """Calibrated probabilities (n, 1) for binary, else (n, K), of the logits of what is judged."""
        return Fit(self.calibration, self.temperature, self.curves)(self.task, logits)

    def fitted(
        self, kind: CalibrationKind, labels: NDArray[np.integer], logits: NDArray[np.floating]
    ) -> ModelConfig:
        """With a calibration that is fitted on what is judged in the validation split."""
        found = fit_calibration(kind, self.task, labels, logits)
        update = {"calibration": kind, "temperature": found.temperature, "curves": found.curves}
        return self.model_copy(update=update)

    @property
    def origin(self) -> str:
        """The study and trials that it comes from."""
        if not self.members:
            return f"study {self.study}, confirmation trial {self.trial}, seed {self.seed}"
        trials = ", ".join(str(m.trial) for m in self.members)
        return f"study {self.study}, ensemble of confirmation trials {trials}"

    @property
    def positive(self) -> str | None:
        """The positive class of two; None for other tasks."""
        return positive_class(self.task, self.class_names)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the backbone's channels."""
        return tuple(self.mean), tuple(self.std)


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write the configuration of a model folder."""
    write_atomically(folder / CONFIG_FILE, config.model_dump_json(indent=1) + "\n")


def read_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder.

    Raises:
        ExportedModelError: there is none, or it is damaged.
    """
    if not folder.is_dir():
        raise ExportedModelError(
            f"{folder}: no such model folder; `{command('export', 'STUDY', '--out', folder)}` makes one"
        )
    path = config_file(folder)
    try:
        return ModelConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportedModelError(f"{folder}: no model folder (it has no {CONFIG_FILE})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExportedModelError(f"{path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("version",) and first["type"] != "missing":
            raise ExportedModelError(
                f"{path}: of a form that this medfathom does not know (version is not 1); "
                "upgrade: pip install -U medfathom"
            ) from None
        raise ExportedModelError(f"{path}: {first_complaint(error)}") from None


def config_file(folder: Path) -> Path:
    """Where a model folder's configuration lies; older versions named it as timm does."""
    older = folder / TIMM_FILE
    return older if older.is_file() and not (folder / CONFIG_FILE).exists() else folder / CONFIG_FILE


def backbone_place(folder: Path, config: ModelConfig) -> tuple[Path, str]:
    """Where a model's backbone lies: the file of weights, and what the names of its tensors begin with.

    Raises:
        WeightsError: it is of several data sets with batch norm for each, and has no one backbone.
    """
    if config.norm == "per_dataset":
        raise WeightsError(
            f"{folder}: it has batch norm for each of its data sets, so there is no one backbone to start "
            'from; take a model with norm = "shared"'
        )
    alone = config.classifier or (folder / HEAD_FILE).is_file()
    whole = folder if config.head is None else folder.parent  # one head of several: its weights lie above
    return whole / WEIGHTS_FILE, "" if alone else BACKBONE


def first_complaint(error: ValidationError) -> str:
    """The first of pydantic's complaints in one line."""
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "not a configuration"
    return f"{where}: {str(first['msg']).lower()}"


def read_model_folder(folder: Path) -> ModelConfig:
    """The configuration of an exported model, after a check that no file has changed.

    Raises:
        ExportedModelError: it is no model folder, or a file is missing or was changed since the export; it is
            a model of several data sets, of which no head is named.
    """
    config = read_config(folder)
    if config.heads:
        raise ExportedModelError(
            f"{folder}: a model of several data sets; name one of its heads: "
            f"{', '.join(str(folder / name) for name in config.heads)}"
        )
    _check_files(folder, config)
    if config.head is not None:  # the weights of all heads
        _check_files(folder.parent, read_config(folder.parent))
    return config


def _check_files(folder: Path, config: ModelConfig) -> None:
    for name, expected in _read_manifest(folder, has_weights=config.head is None).items():
        path = folder / name
        if not path.is_file():
            raise ExportedModelError(
                f"{path}: missing, though {MANIFEST_FILE} names it; export the model again"
            )
        found = sha256_of(path)
        if found != expected:
            raise ExportedModelError(
                f"{path}: changed since the export (sha256 {found[:12]}, not {expected[:12]} as "
                f"{MANIFEST_FILE} says); export the model again"
            )


def _read_manifest(folder: Path, *, has_weights: bool) -> dict[str, str]:
    path = folder / MANIFEST_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        manifest = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        raise ExportedModelError(f"{folder}: no model folder (it has no {MANIFEST_FILE})") from None
    except (OSError, ValueError):
        raise ExportedModelError(f"{path}: damaged; export the model again") from None
    for name in (*((WEIGHTS_FILE,) if has_weights else ()), config_file(folder).name):
        if name not in manifest:
            raise ExportedModelError(f"{path}: does not name {name}; export the model again")
    if any(len(name.encode()) > LONGEST_NAME for name in manifest):  # no file system has such a file
        raise ExportedModelError(f"{path}: damaged; export the model again")
    if any(Path(name).name != name for name in manifest):
        raise ExportedModelError(f"{path}: names a file outside the folder; export the model again")
    return manifest


def write_manifest(folder: Path) -> None:
    """Write the hashes of all files of the folder."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST_FILE)
    write_atomically(folder / MANIFEST_FILE, "".join(f"{sha256_of(p)}  {p.name}\n" for p in files))
