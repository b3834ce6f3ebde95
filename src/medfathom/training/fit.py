"""The fit loop: one epoch of training, and the logits of a split."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.errors import RunError
from medfathom.spaces import TrialParams
from medfathom.training.inputs import Inputs
from medfathom.training.losses import Loss
from medfathom.training.memory import is_out_of_memory
from medfathom.training.optimization import build_optimizer, rate_factor, set_rates
from medfathom.training.randomness import derived_seed, generator
from medfathom.training.sampling import Indices, epoch_batches, steps_per_epoch

if TYPE_CHECKING:
    from medfathom.models.build import Network
    from medfathom.training.metrics import TaskKind

STEPS_BETWEEN_CHECKS = 20
"""Steps after which the loss is looked at; looking makes a CUDA device wait."""


class NonFiniteLossError(RunError):
    """Training diverged."""


class OutOfMemoryError(RunError):
    """Not even the smallest part of a batch fits."""


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


class Fit:
    """A network being trained. `micro_batch` images at most go through the network at once."""

    def __init__(
        self,
        network: Network,
        inputs: Inputs,
        labels: NDArray[np.integer],
        *,
        subset: Indices,
        params: TrialParams,
        settings: FitSettings,
    ) -> None:
        """Labels are those of the whole training split; `subset` says which of its images are used."""
        self._network = network
        self._inputs = inputs
        self._subset = subset
        self._used_labels = labels[subset]
        self._params = params
        self._settings = settings
        self._labels = torch.from_numpy(self._used_labels.astype(np.int64)).to(settings.device)
        self._loss = Loss(
            settings.task,
            self._labels,
            settings.n_outputs,
            smoothing=params.label_smoothing,
            weighted=params.class_weights,
        )
        self._steps = steps_per_epoch(len(subset), params.batch_size)
        self.optimizer = build_optimizer(network, params)
        self.micro_batch = params.batch_size

    def train_epoch(self, epoch: int) -> float:
        """Train for one epoch (from 1).

        Returns:
            The mean of the batches' losses.

        Raises:
            NonFiniteLossError: the loss became infinite or NaN.
            OutOfMemoryError: one image at a time is too much.
        """
        batches = epoch_batches(
            self._settings.task,
            self._used_labels,
            self._params.batch_size,
            balanced=self._params.balanced_sampling,
            seed=self._settings.seed,
            epoch=epoch,
        )
        torch.manual_seed(derived_seed(self._settings.seed, "dropout", epoch))
        augmenting = generator(self._settings.seed, "augmentation", epoch, device=self._settings.device)
        self._network.train()
        total = torch.zeros((), device=self._settings.device)
        rows = self._inputs.rows(epoch).batches([self._subset[batch] for batch in batches])
        for position, (batch, raw) in enumerate(zip(batches, rows, strict=True)):
            step = (epoch - 1) * self._steps + position
            factor = rate_factor(step, self._settings.max_epochs * self._steps, self._params)
            set_rates(self.optimizer, factor)
            targets = self._labels[torch.from_numpy(batch).to(self._settings.device)]
            total += self._step(raw, targets, augmenting)
            if position % STEPS_BETWEEN_CHECKS == 0 or position == len(batches) - 1:
                self._check(total, epoch, position)
        return float(total) / len(batches)

    def _check(self, total: Tensor, epoch: int, position: int) -> None:
        if not bool(torch.isfinite(total)):
            raise NonFiniteLossError(
                f"non-finite loss: training diverged by step {position + 1} of epoch {epoch} with "
                f"learning_rate = {self._params.learning_rate:g} and {self._params.optimizer}; lower "
                "learning_rate or raise warmup_fraction"
            )

    def _step(self, raw: Tensor, targets: Tensor, augmenting: torch.Generator) -> Tensor:
        """One update, in as many parts as memory asks for; the batch's mean loss."""
        while True:
            try:
                loss = self._accumulate(raw, targets, augmenting)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error, "training")
            else:
                self.optimizer.step()
                return loss

    def _accumulate(self, raw: Tensor, targets: Tensor, augmenting: torch.Generator) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        weight = self._loss.weight(targets)
        prepared = self._inputs.prepare(raw, augmenting)
        parts = -(-len(targets) // self.micro_batch)
        total = torch.zeros((), device=targets.device)
        for inputs, wanted in zip(prepared.chunk(parts), targets.chunk(parts), strict=True):
            with self._autocast():
                logits = self._inputs.logits(inputs)
            loss = self._loss.sum(logits, wanted) / weight
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _halve(self, error: BaseException, doing: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.micro_batch == 1:
            raise OutOfMemoryError(
                f"out of memory: {doing} {self._params.architecture} does not fit on {self._settings.device} "
                "even one image at a time; lower unfreeze_depth or dataset.image_size "
                f"({str(error).splitlines()[0]})"
            ) from error
        self.micro_batch = (self.micro_batch + 1) // 2
        if self._settings.device.type == "cuda":
            torch.cuda.empty_cache()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self._settings.device.type, torch.bfloat16, enabled=self._settings.autocast)

    def predict(self, inputs: Inputs, batch_size: int) -> NDArray[np.float32]:
        """Logits (n, outputs) of every row, in order, in inference mode."""
        self._network.eval()
        rows = inputs.rows(1)
        parts = list(np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // batch_size))))
        with torch.inference_mode(), self._autocast():
            logits = [inputs.logits(inputs.prepare(raw, None)).float() for raw in rows.batches(parts)]
        return torch.cat(logits).cpu().numpy()
