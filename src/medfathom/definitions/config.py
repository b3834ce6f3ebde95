"""One study as a definition tells it: `StudyConfig` and its tables but for data set and space."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.schema import Schema
from medfathom.definitions.space import SpaceConfig


class SamplerConfig(Schema):
    """How the next trial's parameters are chosen."""

    name: Literal["tpe", "random", "grid", "gp", "qmc"]
    n_startup_trials: int = Field(default=10, ge=1)
    description: str = ""


class SchedulerConfig(Schema):
    """How trials are stopped early. Epochs count from 1."""

    name: Literal["asha", "hyperband", "median", "none"]
    grace_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2)
    description: str = ""


class BudgetConfig(Schema):
    """What may be spent. The budget counts all trials in the study, those of earlier runs too."""

    trials: int = Field(ge=1)
    epochs: int = Field(ge=1)
    minutes: float | None = Field(default=None, gt=0)
    device_hours: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)
    """End early when the best AUC has not risen within this many finished trials."""
    trial_minutes: float | None = Field(default=None, gt=0)
    """A trial that runs longer fails."""
    description: str = ""


class TrainingConfig(Schema):
    """What is held fixed in all trials of a study."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    grey: Literal["repeat", "sum"] = "repeat"
    """Three equal channels (keeps the pretrained function exactly), or a first layer summed over colours."""
    calibrate_batch_norm: bool = True
    """Estimate a random, frozen prefix's batch-norm statistics on training images first."""
    cache_gb: float = Field(default=10.0, ge=0)
    """Disk for cached prefix features; 0 turns the cache off."""
    cached_views: int = Field(default=4, ge=1)
    """Augmented copies of the training set that frozen-prefix trials choose from."""
    weights_dir: str | None = None


class ResourcesConfig(Schema):
    """What one trial takes of the machine, and how many run at once (none given: as many as fit)."""

    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float | Literal["auto"] = "auto"
    concurrent: int | None = Field(default=None, ge=1)
    checkpoint_url: str | None = None
    """fsspec URL of a place that all nodes of a cluster reach: trials of a dead node go on from there."""


class StudyConfig(Schema):
    """One data set, one question."""

    version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str = ""
    citation: str = ""
    licence: str = ""
    obtain: str = ""
    """Where to get the data, and the layout expected."""
    goal: Literal["best", "compare"] = "best"
    seed: int = Field(default=0, ge=0)
    dataset: DatasetConfig
    space: SpaceConfig
    sampler: SamplerConfig
    scheduler: SchedulerConfig
    budget: BudgetConfig
    training: TrainingConfig = TrainingConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("question", "citation", "licence", "obtain")
    @classmethod
    def _stripped(cls, text: str) -> str:
        return text.strip()

    @model_validator(mode="after")
    def _combine_goes_with_cases(self) -> StudyConfig:
        if "combine" in self.space.dimensions and getattr(self.dataset, "unit", "image") == "image":
            raise ValueError(
                'space.combine: there is nothing to combine, as dataset.unit is "image"; give dataset.unit = '
                '"case", "volume" or "slide" (sources folder and csv)'
            )
        return self

    @model_validator(mode="after")
    def _folds_go_with_samplers_that_learn_from_all_trials(self) -> StudyConfig:
        if self.dataset.splits.folds is not None and self.sampler.name == "gp":
            raise ValueError(
                "sampler.name: 'gp' learns from complete trials alone, and of a cross-validation "
                '(dataset.splits.folds) only the best trials are complete; give "tpe"'
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same study.

        Left out: texts, resources, totals of the budget (a study may be prolonged), the data's place (its
        content is compared by fingerprint), whether its leakage is accepted, and what has its default (so
        that a key that a later version adds does not make an old study another).
        """
        whole = self.model_dump(mode="json", exclude_defaults=True)
        for key in ("question", "citation", "licence", "obtain", "resources"):
            whole.pop(key, None)
        whole["budget"] = {"epochs": self.budget.epochs}
        for key in ("path", "leakage"):
            whole["dataset"].pop(key, None)
        for piece in ("space", "sampler", "scheduler"):
            whole[piece].pop("description", None)
        for key in ("cache_gb", "weights_dir"):
            whole.get("training", {}).pop(key, None)
        if not whole.get("training"):  # as where the table was not given at all
            whole.pop("training", None)
        return whole

    @property
    def definition_hash(self) -> str:
        """SHA-256 over `identity`, hexadecimal."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
