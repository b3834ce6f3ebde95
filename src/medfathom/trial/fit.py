"""The fit loop: one epoch of training, and the logits of a split."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.models.attention import attended
from medfathom.models.batch_norm import BatchNorm
from medfathom.trial.bags import BagBatch, bag_batches, labels_of_bags
from medfathom.trial.batching import Indices, epoch_batches, steps_per_epoch
from medfathom.trial.inputs import Inputs
from medfathom.trial.losses import Loss
from medfathom.trial.memory import free_bytes, is_out_of_memory, saved_bytes
from medfathom.trial.mixture import JointLoss, Mixture
from medfathom.trial.optimization import Pull, build_optimizer, rate_factor, set_rates
from medfathom.trial.portions import Portions
from medfathom.trial.randomness import derived_seed, generator
from medfathom.trial.rows import Rows
from medfathom.trial.threads import cpu_threads

if TYPE_CHECKING:
    from medfathom.metrics.classification import TaskKind
    from medfathom.models.build import Network

STEPS_BETWEEN_CHECKS = 20
"""Steps after which the loss is looked at; looking makes a CUDA device wait."""


SIZING_IMAGES = (2, 4)
"""Images in the two forward passes whose difference tells what one image keeps."""

BACKWARD_FACTOR = 2.0
"""Peak memory of a step over what its forward pass keeps: gradients, and work space of the convolutions."""

MEMORY_SHARE = 0.5
"""Of the free memory that a step may take; other trials may be running."""


BATCH_NORM_IMAGES = 2
"""The fewest images that have a variance for trained batch norm."""


class NonFiniteLossError(RunError):
    """Training diverged."""


@dataclass(frozen=True)
class FitSettings:
    """What a fit needs to know besides its parameters."""

    task: TaskKind
    n_outputs: int
    max_epochs: int
    seed: int
    device: torch.device
    autocast: bool
    """Whether the forward pass runs in bfloat16."""
    threads: int | None = None
    """CPU threads for what follows the features; None: as many as are set."""


def _trains_batch_norm(network: Network) -> bool:
    """Whether statistics of the images at hand normalise anywhere; a frozen prefix uses its own."""
    mode = network.training
    network.train()
    try:
        return any(isinstance(module, BatchNorm) and module.training for module in network.modules())
    finally:
        network.train(mode)


class Fit:
    """A network being trained. `portions` says how many images of a batch go through the network at once."""

    def __init__(
        self,
        network: Network,
        inputs: Inputs,
        labels: NDArray[np.integer],
        *,
        subset: Indices,
        params: TrialParams,
        settings: FitSettings,
        member: NDArray[np.integer] | None = None,
        mixture: Mixture | None = None,
    ) -> None:
        """Labels are those of the whole training split; `subset` says which of its images are used.

        `member` is the case of each used image, numbered from 0, where the head has attention: the loss is
        then of cases. None: it is of images. `mixture` is of several data sets.
        """
        self._network = network
        self.subset = subset
        self._member = member
        self._used_labels = labels[subset]
        self.params = params
        self.settings = settings
        self.labels = torch.from_numpy(self._used_labels.astype(np.int64)).to(settings.device)
        self._mixture = mixture
        self._loss: Loss | JointLoss = mixture.loss(self.labels) if mixture else self.loss_of_one()
        self.steps = mixture.steps if mixture else steps_per_epoch(len(subset), params.batch_size)
        self.total_steps = settings.max_epochs * self.steps
        self.optimizer = build_optimizer(network, params)
        self._pull = Pull(network, params.l2_sp_alpha) if params.strategy == "l2-sp" else None
        self.enter(inputs, settings.threads)

    def loss_of_one(self) -> Loss:
        """The loss where there is one data set. Class weights count what the loss is of: images, or bags."""
        labels, member = self.labels, self._member
        return Loss(
            self.settings.task,
            labels if member is None else labels_of_bags(labels, member, self.params.batch_size),
            self.settings.n_outputs,
            smoothing=self.params.label_smoothing,
            weighted=self.params.class_weights,
        )

    @property
    def head(self) -> nn.Module:
        """Of the network."""
        return self._network.head

    @property
    def n_images(self) -> int:
        """That an epoch uses."""
        return len(self.subset)

    def enter(self, inputs: Inputs, threads: int | None) -> None:
        """Train from now on with these inputs, as other layer groups are open: memory is measured anew."""
        self.inputs = inputs
        self.threads = threads or torch.get_num_threads()
        self._sized = False
        self.portions = Portions(
            self.params.batch_size,
            f"{self.params.architecture} on {self.settings.device}",
            least=BATCH_NORM_IMAGES if _trains_batch_norm(self._network) else 1,
        )

    def resume(self, at_once: int) -> None:
        """Go on with so many images at once, as decided before an interruption."""
        self.portions.limit(at_once)
        self._sized = True

    def _size_to_memory(self, rows: Rows) -> None:
        """Split batches beforehand whose activations would not fit.

        A CPU does not say that its memory is full: the system kills the process. So it is measured on a few
        images what an image keeps for the backward pass.
        """
        self._sized = True
        few, more = (next(rows.batches([self.subset[:count]])) for count in SIZING_IMAGES)
        self._network.eval()  # no statistics are updated by this
        try:
            with self.autocast():
                extra = self._kept_by(more) - self._kept_by(few)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return  # the first step halves its batch as long as it must
            raise
        per_image = BACKWARD_FACTOR * extra / max(len(more) - len(few), 1)
        fitting = int(MEMORY_SHARE * free_bytes(self.settings.device) / max(per_image, 1.0))
        self.portions.limit(fitting)

    def _kept_by(self, raw: Tensor) -> int:
        return saved_bytes(lambda: self.inputs.logits(self.inputs.prepare(raw, None)))

    def train_epoch(self, epoch: int) -> float:
        """Train for one epoch (from 1).

        Returns:
            The mean of the batches' losses.

        Raises:
            NonFiniteLossError: the loss became infinite or NaN.
            OutOfMemoryError: one image at a time (two with trained batch norm) is too much.
        """
        batches = self.batches(epoch)
        torch.manual_seed(derived_seed(self.settings.seed, "dropout", epoch))
        augmenting = generator(self.settings.seed, "augmentation", epoch, device=self.settings.device)
        rows = self.inputs.rows(epoch)  # may compute them first, with all threads
        if not self._sized:
            self._size_to_memory(rows)
        self._network.train()
        total = torch.zeros((), device=self.settings.device)
        with cpu_threads(self.threads):
            raws = rows.batches([self.subset[batch.rows] for batch in batches])
            for position, (batch, raw) in enumerate(zip(batches, raws, strict=True)):
                step = (epoch - 1) * self.steps + position
                set_rates(self.optimizer, rate_factor(step, self.total_steps, self.params))
                targets = self.labels[torch.from_numpy(batch.rows).to(self.settings.device)]
                if batch.dataset is not None:
                    self._network.use_norms_of(batch.dataset)
                total += self._step(raw, targets, batch, augmenting)
                if position % STEPS_BETWEEN_CHECKS == 0 or position == len(batches) - 1:
                    self.check(float(total), epoch, position)
        return float(total) / len(batches)

    def batches(self, epoch: int) -> list[BagBatch]:
        """Those of an epoch (from 1). Without attention each image is a bag of its own."""
        if self._mixture is not None:
            return self._mixture.batches(epoch)
        settings, size, balanced = self.settings, self.params.batch_size, self.params.balanced_sampling
        task, labels, seed = settings.task, self._used_labels, settings.seed
        if self._member is not None:
            return bag_batches(task, labels, self._member, size, balanced=balanced, seed=seed, epoch=epoch)
        batches = epoch_batches(task, labels, size, balanced=balanced, seed=seed, epoch=epoch)
        return [BagBatch(rows, np.arange(len(rows))) for rows in batches]

    def check(self, loss: float, epoch: int, position: int) -> None:
        """Raise NonFiniteLossError unless the losses up to a batch (from 0) of an epoch are finite."""
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"non-finite loss: training diverged by step {position + 1} of epoch {epoch} with "
                f"learning_rate = {self.params.learning_rate:g} and {self.params.optimizer}; lower "
                "learning_rate or raise warmup_fraction"
            )

    def _step(self, raw: Tensor, targets: Tensor, batch: BagBatch, augmenting: torch.Generator) -> Tensor:
        """One update, in as many parts as memory asks for; the batch's mean loss."""

        def accumulate(at_once: int) -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            firsts = slice(None) if self._member is None else torch.from_numpy(batch.first).to(targets.device)
            weight = self._loss.weight(targets[firsts])
            prepared = self.inputs.prepare(raw, augmenting)
            total = torch.zeros((), device=targets.device)
            # Equal parts: a small last one would upset batch norm, as a small last batch would.
            parts = self.portions.count(len(targets), at_once)
            for span in batch.spans(parts):
                with self.autocast():
                    logits = self.inputs.logits(prepared[span])
                loss = self._sum(logits, targets[span], batch.member[span]) / weight
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
            return total

        loss = self.portions.run(accumulate, "training")
        if self._pull is not None:
            self._pull.add()
        self.optimizer.step()
        return loss

    def _sum(self, logits: Tensor, targets: Tensor, member: NDArray[np.int64]) -> Tensor:
        """The loss summed over images, or with attention over bags."""
        if self._member is None:
            return self._loss.sum(logits, targets)
        starts = np.flatnonzero(np.diff(member, prepend=-1))
        of_bag = torch.from_numpy(member - member[0]).to(targets.device)
        of_bags = attended(logits, of_bag, len(starts))
        return self._loss.sum(of_bags, targets[torch.from_numpy(starts).to(targets.device)])

    def autocast(self) -> AbstractContextManager[object]:
        """Where the forward pass runs in bfloat16: that."""
        return torch.autocast(self.settings.device.type, torch.bfloat16, enabled=self.settings.autocast)

    def predict(self, inputs: Inputs, batch_size: int, chosen: Indices | None = None) -> NDArray[np.float32]:
        """Logits (n, outputs) of every row, or of the chosen ones, in order, in inference mode.

        Raises:
            OutOfMemoryError: one image at a time is too much.
        """
        rows = inputs.rows(1)
        self._network.eval()
        wanted = np.arange(len(rows)) if chosen is None else chosen
        batches = list(np.array_split(wanted, max(1, -(-len(wanted) // batch_size))))
        portions = Portions(batch_size, self.portions.what)

        def forward(raw: Tensor, at_once: int) -> Tensor:
            parts = (inputs.prepare(part, None) for part in torch.split(raw, at_once))
            return torch.cat([inputs.logits(part).float() for part in parts])

        with torch.inference_mode(), self.autocast(), cpu_threads(self.threads):
            logits = [portions.run(partial(forward, raw), "validating") for raw in rows.batches(batches)]
            return torch.cat(logits).cpu().numpy()
