"""A trial's network before its first epoch, and the record that describes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from medfathom.data.prepared import JointData, PreparedData, Split
from medfathom.definitions.space import TrialParams
from medfathom.definitions.strategies import DRAWN
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.batch_norm import calibrate_batch_norm
from medfathom.models.build import HeadOptions, Network, Outputs, build_network, empty_network, with_own_head
from medfathom.models.graph.layer_groups import GROUPS
from medfathom.trial.batching import Indices
from medfathom.trial.inputs import ImageInputs, Views
from medfathom.trial.layout import lay_out
from medfathom.trial.memory import device_bytes
from medfathom.trial.precision import runs_in_bfloat16
from medfathom.trial.provenance import device_name, versions
from medfathom.trial.randomness import derived_seed
from medfathom.trial.record import TrialRecord
from medfathom.trial.rows import open_rows
from medfathom.trial.strategy import Strategy, set_strategy
from medfathom.trial.task import INFERENCE_BATCH, TrialTask

CALIBRATION_IMAGES = 512
"""Training images from which a random prefix's batch-norm statistics are estimated."""


def identity_record(params: TrialParams, task: TrialTask, network: Network) -> TrialRecord:
    """What a trial is, before anything was measured of it."""
    facts, device = network.facts, torch.device(task.device)
    return TrialRecord(
        architecture=params.architecture,
        family=facts.family,
        init=params.init,
        init_source=network.init_source or None,
        calibrated=calibrates(params, task),
        unfreeze_depth=params.unfreeze_depth,
        strategy=params.strategy,
        image_size=task.data.image_size,
        n_params=facts.n_params,
        n_trainable_params=facts.n_trainable_params,
        trainable_fraction=facts.trainable_fraction,
        trainable_layer_fraction=facts.trainable_layer_fraction,
        depth=facts.depth,
        macs=facts.macs,
        seed=task.seed,
        epochs=0,
        max_epochs=task.whole_epochs,
        device=device_name(device),
        device_memory_bytes=device_bytes(device),
        compute_type="bfloat16" if runs_in_bfloat16(task.training.precision, device) else "float32",
        dataset_fingerprint=task.data.fingerprint,
        versions=versions(),
        unit=None if task.data.cases is None else task.data.unit,
        combine=None if task.data.cases is None else params.combine,
    )


def draws_weights(params: TrialParams) -> bool:
    """Whether the backbone's weights come from the trial's seed."""
    return params.init in DRAWN


def calibrates(params: TrialParams, task: TrialTask) -> bool:
    """Whether a frozen prefix's batch-norm statistics mean nothing yet, and are to be estimated first."""
    freezes = len(Strategy(params, task.max_epochs).first) < GROUPS
    return draws_weights(params) and freezes and task.training.calibrate_batch_norm


def network_of(params: TrialParams, task: TrialTask, train: Split, rows: Indices | None = None) -> Network:
    """A trial's network before its first epoch, on its device.

    Args:
        params: of the trial.
        task: everything else of it.
        train: its training images; of a fold the whole pool.
        rows: those that are trained on; None: all. No others may have a part in statistics of the network.
    """
    data, training = task.data, task.training
    network = build_network(
        params.architecture,
        init=params.init,
        num_outputs=outputs_of(data),
        unfreeze_depth=params.unfreeze_depth,
        image_size=data.image_size,
        in_channels=data.channels,
        seed=derived_seed(task.seed, "weights"),
        head=_head_options(params, data),
        grey=training.grey,
        weights_dir=None if training.weights_dir is None else Path(training.weights_dir),
        sources=task.sources,
    )
    set_strategy(network, Strategy(params, task.max_epochs), task.seed)
    device = torch.device(task.device)
    lay_out(network, device)
    if calibrates(params, task):
        _calibrate(network, train, np.arange(len(train)) if rows is None else rows, device)
    _set_norm(network, params, data)
    return network


def network_beside(network: Network, params: TrialParams, task: TrialTask) -> Network:
    """The network of a trial that trains a head alone, on the backbone of another such trial."""
    own = with_own_head(
        network, outputs_of(task.data), _head_options(params, task.data), derived_seed(task.seed, "weights")
    )
    return own.to(torch.device(task.device))


def outputs_of(data: PreparedData) -> Outputs:
    """Logits of the network's head; of several data sets those of each."""
    if isinstance(data, JointData):
        return tuple(num_outputs(part.task, len(part.class_names)) for part in data.parts)
    return num_outputs(data.task, len(data.class_names))


def _set_norm(network: Network, params: TrialParams, data: PreparedData) -> None:
    if params.norm == "per_dataset" and isinstance(data, JointData):
        network.give_own_norms(len(data.parts))


def undrawn_network(params: TrialParams, task: TrialTask) -> Network:
    """A trial's network as shapes alone: for its facts, where the network itself could not be made."""
    data = task.data
    network = empty_network(
        params.architecture,
        num_outputs=outputs_of(data),
        image_size=data.image_size,
        in_channels=data.channels,
        head=_head_options(params, data),
        grey=task.training.grey,
        normalization=((0.0,), (1.0,)),
        device="meta",
    )
    set_strategy(network, Strategy(params, task.max_epochs), task.seed)
    _set_norm(network, params, data)
    return network


def _head_options(params: TrialParams, data: PreparedData) -> HeadOptions:
    return HeadOptions(
        dropout=params.head_dropout,
        pooling=params.head_pooling,
        hidden=params.head_hidden,
        attention=params.combine == "attention" and data.cases is not None,
    )


def _calibrate(network: Network, train: Split, used: Indices, device: torch.device) -> None:
    rows = open_rows(train.images, device)
    images = ImageInputs(network, Views(lambda _: rows), device)
    count = min(CALIBRATION_IMAGES, len(used))
    # A fixed choice of images: the statistics, and so the cached features, follow from weights and data.
    chosen = np.sort(used[np.random.default_rng(0).permutation(len(used))[:count]])
    batches = rows.batches(np.array_split(chosen, -(-count // INFERENCE_BATCH)))
    calibrate_batch_norm(network, (images.prepare(raw, None) for raw in batches))
