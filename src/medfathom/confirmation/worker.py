"""What a worker does to confirm: train to full length, keep the network, predict validation and test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfathom.confirmation.find import image_predictions_file, predictions_file
from medfathom.confirmation.grad_cam import draw_predictions
from medfathom.confirmation.pictures import Judged, draw_metrics, judged, learning_curves
from medfathom.confirmation.predictions import write_predictions
from medfathom.confirmation.record import ConfirmedDataset, ConfirmedRecord
from medfathom.data.heldout import open_test
from medfathom.data.joint import as_joint
from medfathom.data.prepared import JointData, PreparedData, Split
from medfathom.data.sizes import at_size
from medfathom.definitions.config import DecisionConfig
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import members
from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.exported.model import Model, image_logits
from medfathom.metrics.calibration import calibrated, fit_temperature, thresholds_of
from medfathom.metrics.calibrators import CalibrationScores, compare_calibrations
from medfathom.metrics.rules import CalibrationKind, ThresholdRule
from medfathom.models.build import Network
from medfathom.models.folder import WEIGHTS_FILE, ModelConfig, write_config
from medfathom.models.joint import state_of_one
from medfathom.models.tensor_file import save_tensors
from medfathom.scheduling.messages import EpochResult, Order, Parcel, Result, RunSettings
from medfathom.scheduling.worker import ended_by_failure, node_storage, records, task_of, waiting_beside
from medfathom.trial.checkpoint import load_checkpoint, load_history
from medfathom.trial.judging import judge, over_datasets
from medfathom.trial.network import network_of
from medfathom.trial.parts import mean_or_none, rows_to_train, trial_parts
from medfathom.trial.record import SplitMetrics, TrialRecord
from medfathom.trial.task import TrialTask


def confirmed_results(
    settings: RunSettings,
    order: Order,
    *,
    study: str,
    folder: Path,
    pictures: frozenset[int],
    objective: str = "auc",
) -> Iterator[Result]:
    """A confirmation's results, epoch by epoch; with the last one comes the model.

    Args:
        settings: of the confirmation.
        order: one configuration and seed.
        study: name of the study that is confirmed.
        folder: where every confirmed model has its own folder, on the driver's machine.
        pictures: numbers of the trials whose pictures are drawn.
        objective: what the search looked for; it is judged beside the AUC.
    """
    params, task, number = order.assignment.params, task_of(settings, order), order.assignment.number

    def epochs() -> Iterator[EpochResult]:
        waiting = waiting_beside(order, task)
        for record in records(params, task, order.assignment.reported, waiting):
            extra: dict[str, Any] = {}
            parcel = None
            if record.finished:
                # Beside the checkpoint: whoever removes that removes what a killed worker left of the model.
                own = (node_storage(settings) / "checkpoints" / order.checkpoint).with_suffix("")
                shutil.rmtree(own, ignore_errors=True)
                heads = _keep(settings, params, task, own, (study, number), objective)
                kept = _recorded(own, heads)
                if number in pictures:
                    kept = _draw(own, heads, kept, record, task)
                extra = kept.attributes()
                parcel = Parcel.pack(own, folder / own.name)
            yield EpochResult(record, extra, parcel=parcel)

    yield from ended_by_failure(epochs(), params, task)


@dataclass(frozen=True)
class _Head:
    """What a confirmed model says of one data set.

    Attributes:
        folder: of its configuration, predictions and pictures.
        model: the network with this head.
        found: what it says of the test split.
        n_test: images of the test split.
        test, validation: metrics.
        calibrations: what each way of calibration is worth on validation, by cross-validation.
    """

    folder: Path
    model: Model
    found: Judged
    n_test: int
    test: SplitMetrics
    validation: SplitMetrics
    calibrations: list[CalibrationScores]


def _keep(
    settings: RunSettings,
    params: TrialParams,
    task: TrialTask,
    folder: Path,
    source: tuple[str, int],
    objective: str,
) -> list[_Head]:
    """Write the model folder and the predictions. Returns what it says of each data set."""
    folder.mkdir(parents=True, exist_ok=True)
    data, network = task.data, _trained(params, task)
    state = {name: t.detach().cpu().contiguous().clone() for name, t in network.state_dict().items()}
    save_tensors(folder / WEIGHTS_FILE, state)
    decision = settings.config.decision
    datasets = members(at_size(settings.config.dataset, data.image_size))
    if not isinstance(data, JointData):
        config = _config(datasets[0], params, task, network, source)
        val, test = data.split("val"), open_test(data)
        return [
            _head(config, Model(config, state, task.device), data, (val, test), folder, decision, objective)
        ]
    heads = []
    for place, (part, dataset) in enumerate(zip(data.parts, datasets, strict=True)):
        whole = _config(dataset, params, task, network, source)
        config = whole.model_copy(update=_of_part(part, place))
        model = Model(config, state_of_one(state, place), task.device)
        splits = as_joint(part.split("val"), data), as_joint(open_test(part), data)
        (own := folder / data.names[place]).mkdir(exist_ok=True)
        heads.append(_head(config, model, part, splits, own, decision, objective))
    write_config(folder, _of_all(heads[0].model.config, data))
    return heads


def _of_part(part: PreparedData, place: int) -> dict[str, object]:
    """What a head's configuration has of its data set, where there are several."""
    return {
        "modality": part.modality,
        "dataset_fingerprint": part.fingerprint,
        "task": part.task,
        "class_names": list(part.class_names),
        "unit": part.unit,
        "head": place,
    }


def _of_all(first: ModelConfig, data: JointData) -> ModelConfig:
    """The configuration of a model of several data sets, which is used by its heads alone."""
    of_all = {
        "modality": data.modality,
        "dataset": "+".join(data.names),
        "dataset_fingerprint": data.fingerprint,
        "task": data.task,
        "class_names": list(data.class_names),
        "unit": "image",
        "head": None,
        "heads": list(data.names),
        "temperature": 1.0,
        "thresholds": [],
    }
    return first.model_copy(update=of_all)


def _head(
    config: ModelConfig,
    model: Model,
    data: PreparedData,
    splits: tuple[Split, Split],
    folder: Path,
    decision: DecisionConfig,
    objective: str,
) -> _Head:
    """Write configuration and predictions of one data set; splits are validation and test."""
    val, test = splits
    val_logits, test_logits = model.logits(val.images), model.logits(test.images)
    fitted = model.config = fit_on_validation(
        config, data, val, val_logits, decision.calibration, decision.rule
    )
    write_config(folder, fitted)
    write_split(folder, "val", fitted, data, val, val_logits)
    found = judged(fitted, test, *write_split(folder, "test", fitted, data, test, test_logits))
    on_val, on_test = (
        judge(
            data,
            split,
            logits,
            config.combine,
            calibrate=fitted.calibrated,
            thresholds=fitted.thresholds,
            objective=objective,
        )
        for split, logits in ((val, val_logits), (test, test_logits))
    )
    of_units = val.units.logits(data.task, val_logits, config.combine)
    compared = compare_calibrations(data.task, val.units.labels, of_units, val.units.groups)
    return _Head(folder, model, found, len(test), on_test, on_val, compared)


def _recorded(folder: Path, heads: Sequence[_Head]) -> ConfirmedRecord:
    """What is recorded of a confirmed model."""
    first = heads[0]
    if first.folder == folder:
        return ConfirmedRecord(
            folder=folder.name,
            n_test=first.n_test,
            test=first.test,
            validation=first.validation,
            temperature=first.model.config.temperature,
            calibration=first.model.config.calibration,
            calibrations=first.calibrations or None,
        )
    return ConfirmedRecord(
        folder=folder.name,
        n_test=sum(head.n_test for head in heads),
        test=over_datasets({head.folder.name: head.test for head in heads}),
        validation=over_datasets({head.folder.name: head.validation for head in heads}),
        datasets={
            head.folder.name: ConfirmedDataset(
                n_test=head.n_test,
                test=head.test,
                validation=head.validation,
                temperature=head.model.config.temperature,
                calibration=head.model.config.calibration,
                calibrations=head.calibrations or None,
            )
            for head in heads
        },
    )


def fit_on_validation(
    config: ModelConfig,
    data: PreparedData,
    val: Split,
    logits: NDArray[np.float32],
    calibration: CalibrationKind,
    rule: ThresholdRule,
) -> ModelConfig:
    """With calibration and thresholds from the validation split: of cases, where cases are judged."""
    units = val.units
    of_units = units.logits(data.task, logits, config.combine)
    fitted = config.fitted(calibration, units.labels, of_units)
    values = fitted.calibrated(of_units)
    update: dict[str, object] = {
        "thresholds": thresholds_of(data.task, units.labels, values, rule),
        "threshold_rule": rule,
    }
    if units.cases is not None:
        update["image_temperature"] = fit_temperature(data.task, val.labels, image_logits(config, logits))
    return fitted.model_copy(update=update)


def write_split(
    folder: Path,
    name: str,
    config: ModelConfig,
    data: PreparedData,
    split: Split,
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Write the predictions of a split.

    Returns:
        Its calibrated probabilities, and those of the images of its cases (None: there are no cases).
    """
    units = split.units
    of_units = units.logits(data.task, logits, config.combine)
    values = config.calibrated(of_units)
    write_predictions(predictions_file(folder, name), data, units, values, of_units)
    if config.image_temperature is None:
        return values, None
    own = image_logits(config, logits)
    of_images = calibrated(data.task, own, config.image_temperature)
    write_predictions(image_predictions_file(folder, name), data, split, of_images, own)
    return values, of_images


def _draw(
    folder: Path, heads: Sequence[_Head], kept: ConfirmedRecord, record: TrialRecord, task: TrialTask
) -> ConfirmedRecord:
    """Draw every picture of a confirmed model. Returns what was kept, completed by them."""
    started = time.perf_counter()
    losses = record.losses.model_dump() if record.losses else {}
    aucs = [r.auc or 0.0 for r in load_history(task.checkpoint)] if task.checkpoint else []
    learning_curves(losses, aucs).savefig(folder / "curves.png", dpi=110)
    pictures, borders = ["curves.png"], list[float | None]()
    for head in heads:
        shown, border = draw_predictions(head.folder, head.model, head.found)
        borders.append(border)
        names = [*draw_metrics(head.folder, head.found), *shown]
        pictures += [(head.folder / name).relative_to(folder).as_posix() for name in names]
    seconds = round(time.perf_counter() - started, 2)
    return kept.model_copy(
        update={
            "pictures": pictures,
            "picture_seconds": seconds,
            "cam_border_share": mean_or_none(borders),
        }
    )


def _trained(params: TrialParams, task: TrialTask) -> Network:
    checkpoint = (
        None if task.checkpoint is None else load_checkpoint(task.checkpoint, torch.device(task.device))
    )
    if checkpoint is None:
        raise RunError(f"{task.checkpoint}: the checkpoint of the last epoch is missing; confirm again")
    used = rows_to_train(trial_parts(task.data, None), params, task.seed)
    network = network_of(params, task, task.data.split("train"), used)
    network.load_trained_state(checkpoint.network)
    network.merge_adapters()
    return network


def _config(
    dataset: DatasetConfig, params: TrialParams, task: TrialTask, network: Network, source: tuple[str, int]
) -> ModelConfig:
    data = task.data
    mean, std = network.backbone_normalization
    case_pattern, group_pattern = _patterns(dataset)
    return ModelConfig(
        version=1,
        medfathom=version("medfathom"),
        study=source[0],
        trial=source[1],
        seed=task.seed,
        modality=data.modality,
        dataset=dataset.name or source[0],
        dataset_fingerprint=data.fingerprint,
        architecture=params.architecture,
        init=params.init,
        unfreeze_depth=params.unfreeze_depth,
        strategy=params.strategy,
        head_dropout=params.head_dropout,
        head_pooling=params.head_pooling,
        head_hidden=params.head_hidden,
        grey=task.training.grey,
        task=data.task,
        class_names=list(data.class_names),
        image_size=data.image_size,
        fit=dataset.fit,
        channels=3 if data.channels == 3 else 1,
        dtype="uint16" if data.split("val").images.dtype == np.uint16 else "uint8",
        bits=dataset.bits,
        include=getattr(dataset, "include", None),
        exclude=getattr(dataset, "exclude", []),
        window=getattr(dataset, "window", None),
        slice_axis=getattr(dataset, "slice_axis", 2),
        eye=getattr(dataset, "eye", None),
        mpp=getattr(dataset, "mpp", None),
        tiles=getattr(dataset, "tiles", 100),
        tiles_seed=getattr(dataset, "tiles_seed", 0),
        tissue=getattr(dataset, "tissue", 0.5),
        mean=list(mean),
        std=list(std),
        unit=data.unit,
        combine=params.combine,
        case_pattern=case_pattern,
        group_pattern=group_pattern,
        norm=params.norm,
    )


def _patterns(dataset: DatasetConfig) -> tuple[str | None, str | None]:
    """How an image's path names its case. Not where a column names its patient: the path may not do so."""
    case, group = (getattr(dataset, key, None) for key in ("case_pattern", "group_pattern"))
    if case is None or getattr(dataset, "group_column", None) is not None:
        return None, None
    return case, group
