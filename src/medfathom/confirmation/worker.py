"""What a worker does to confirm: train to full length, keep the network, predict validation and test."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from medfathom.confirmation.find import predictions_file
from medfathom.confirmation.grad_cam import draw_cases
from medfathom.confirmation.pictures import Judged, draw_metrics, judged, learning_curves
from medfathom.confirmation.predictions import write_predictions
from medfathom.confirmation.record import ConfirmedRecord
from medfathom.data.heldout import open_test
from medfathom.data.prepared import Split
from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.exported.model import Model
from medfathom.files import write_atomically
from medfathom.metrics.calibration import as_array, calibrated, fit_temperature, thresholds_of
from medfathom.metrics.classification import evaluate
from medfathom.models.build import Network
from medfathom.models.folder import WEIGHTS_FILE, ModelConfig, write_config
from medfathom.scheduling.messages import EpochResult, Order, Plan, Result
from medfathom.scheduling.worker import ended_by_failure, records, task_of
from medfathom.trial.checkpoint import load_checkpoint, load_history
from medfathom.trial.network import network_of
from medfathom.trial.record import SplitMetrics, TrialRecord
from medfathom.trial.task import TrialTask


def confirmed_results(
    plan: Plan, order: Order, *, study: str, folder: Path, pictures: frozenset[int]
) -> Iterator[Result]:
    """A confirmation's results, epoch by epoch; with the last one everything is on disk.

    Args:
        plan: of the confirmation.
        order: one configuration and seed.
        study: name of the study that is confirmed.
        folder: where every confirmed model has its own folder.
        pictures: numbers of the trials whose pictures are drawn.
    """
    params, task, number = order.assignment.params, task_of(plan, order), order.assignment.number

    def epochs() -> Iterator[EpochResult]:
        for record in records(params, task, order.assignment.reported):
            extra: dict[str, Any] = {}
            if record.finished:
                own = folder / f"trial-{number:05d}"
                model, probabilities, kept = _keep(plan, params, task, own, (study, number))
                if number in pictures:
                    drawn = judged(model.config, open_test(task.data), probabilities)
                    kept = _draw(own, model, drawn, kept, record, task)
                extra = kept.attributes()
            yield EpochResult(record, extra)

    yield from ended_by_failure(epochs(), params, task)


def _keep(
    plan: Plan, params: TrialParams, task: TrialTask, folder: Path, source: tuple[str, int]
) -> tuple[Model, NDArray[np.float64], ConfirmedRecord]:
    """Write the model folder and the predictions.

    Returns:
        The model, its probabilities on the test split, and what is recorded of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, val, test = task.data, task.data.split("val"), open_test(task.data)
    network = _trained(params, task)
    config = _config(plan, params, task, network, source)
    state = {name: t.detach().cpu().contiguous().clone() for name, t in network.state_dict().items()}
    model = Model(config, state, task.device)
    val_logits, test_logits = model.logits(val.images), model.logits(test.images)
    temperature = fit_temperature(data.task, val.labels, val_logits)
    val_values = calibrated(data.task, val_logits, temperature)
    test_values = calibrated(data.task, test_logits, temperature)
    thresholds = thresholds_of(data.task, val.labels, val_values)
    model.config = config.model_copy(update={"temperature": temperature, "thresholds": thresholds})
    write_atomically(folder / WEIGHTS_FILE, lambda part: save_file(state, part))
    write_config(folder, model.config)
    write_predictions(predictions_file(folder, "val"), data, val, val_values, val_logits)
    write_predictions(predictions_file(folder, "test"), data, test, test_values, test_logits)
    record = ConfirmedRecord(
        folder=folder.name,
        n_test=len(test),
        test=_metrics(task, test, test_values, thresholds),
        temperature=temperature,
    )
    return model, test_values, record


def _metrics(
    task: TrialTask, test: Split, values: NDArray[np.float64], thresholds: Sequence[float | None]
) -> SplitMetrics:
    found = evaluate(
        task.data.task,
        test.labels,
        values,
        task.data.class_names,
        thresholds=as_array(thresholds),
        groups=test.groups,
    )
    return SplitMetrics(
        **found.overall,
        auc_interval=found.auc_interval,
        per_class=found.per_class or None,
        undefined=found.undefined or None,
    )


def _draw(
    folder: Path, model: Model, found: Judged, kept: ConfirmedRecord, record: TrialRecord, task: TrialTask
) -> ConfirmedRecord:
    """Draw every picture of a confirmed model. Returns what was kept, completed by them."""
    started = time.perf_counter()
    losses = record.losses.model_dump() if record.losses else {}
    aucs = [r.auc or 0.0 for r in load_history(task.checkpoint)] if task.checkpoint else []
    learning_curves(losses, aucs).savefig(folder / "curves.png", dpi=110)
    shown, border = draw_cases(folder, model, found)
    pictures = ["curves.png", *draw_metrics(folder, found), *shown]
    seconds = round(time.perf_counter() - started, 2)
    return kept.model_copy(
        update={"pictures": pictures, "picture_seconds": seconds, "cam_border_share": border}
    )


def _trained(params: TrialParams, task: TrialTask) -> Network:
    checkpoint = (
        None if task.checkpoint is None else load_checkpoint(task.checkpoint, torch.device(task.device))
    )
    if checkpoint is None:
        raise RunError(f"{task.checkpoint}: the checkpoint of the last epoch is gone; confirm again")
    network = network_of(params, task, task.data.split("train"))
    network.load_trained_state(checkpoint.network)
    return network


def _config(
    plan: Plan, params: TrialParams, task: TrialTask, network: Network, source: tuple[str, int]
) -> ModelConfig:
    data, dataset = task.data, plan.config.dataset
    mean, std = network.backbone_normalization
    return ModelConfig(
        version=1,
        medfathom=version("medfathom"),
        study=source[0],
        trial=source[1],
        seed=task.seed,
        modality=data.modality,
        dataset=getattr(dataset, "name", None) or source[0],
        dataset_fingerprint=data.fingerprint,
        architecture=params.architecture,
        init=params.init,
        unfreeze_depth=params.unfreeze_depth,
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
        mean=list(mean),
        std=list(std),
    )
