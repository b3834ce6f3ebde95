"""One study as a definition tells it: `StudyConfig` and its tables but for data set and space."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medfathom.definitions.joint import JOINT_KEYS, JointDataset, StudyDataset, folded, members
from medfathom.definitions.objective import known_objective, refusal
from medfathom.definitions.schema import Schema
from medfathom.definitions.space import SpaceConfig
from medfathom.definitions.strategies import FEWEST_EPOCHS, STEPWISE
from medfathom.metrics.rules import By, CalibrationKind, ThresholdRule


class SamplerConfig(Schema):
    """How the next trial's parameters are chosen."""

    name: Literal["gain", "tpe", "random", "grid", "gp", "qmc", "nsga2"]
    """`gain` is medfathom's own; `tpe`, `gp`, `qmc` and `nsga2` are Optuna's; `grid` runs every combination
    once."""
    n_startup_trials: int = Field(default=10, ge=1)
    """For `tpe` and `gp`: random trials before they learn from results. For `nsga2`: trials of a
    generation."""
    portfolio: str = "shipped"
    """For `gain`: first trials that worked on other data sets, and results to learn from. `shipped`: every
    file of search/portfolios; a name: that one; `off`: none."""
    warm_start: Literal["auto", "off"] | list[str] = "auto"
    """For `gain`: it learns from the trials of these studies of the storage. `auto`: all studies of the same
    modality."""
    description: str = ""


class SchedulerConfig(Schema):
    """How trials are stopped early. Epochs count from 1."""

    name: Literal["asha", "hyperband", "median", "curve", "none"]
    """`asha` and `hyperband` compare trials at certain epochs (rungs) and stop the worse ones. `median` stops
    trials below the median. `curve` stops trials whose forecast stays below the best finished trial. `none`
    stops no trial."""
    grace_epochs: int = Field(default=1, ge=1)
    """Epochs that every trial gets."""
    reduction_factor: int = Field(default=3, ge=2)
    """For `asha` and `hyperband`: with 3, one of three trials continues at each rung."""
    description: str = ""


class BudgetConfig(Schema):
    """How many trials, epochs and hours. The budget counts all trials in the study, those of earlier runs
    too."""

    trials: int = Field(ge=1)
    """Finished trials, whatever their state: complete, stopped early, failed."""
    epochs: int = Field(ge=1)
    """The epochs of a complete trial."""
    minutes: float | None = Field(default=None, gt=0)
    """A run ends after this time; another run continues."""
    device_hours: float | None = Field(default=None, gt=0)
    """Summed over all trials of the study."""
    patience: int | None = Field(default=None, ge=1)
    """End early when the best AUC has not risen within this many finished trials."""
    trial_minutes: float | None = Field(default=None, gt=0)
    """A trial that runs longer fails. With cross-validation the limit is for each fold."""
    settle: bool = True
    """Under `goal = "compare"`: a stratum gets no more trials if they are expected to gain less than the
    noise of its AUC."""
    description: str = ""


Cost = Literal["n_params", "macs", "latency_ms"]
"""A cost to minimise: parameters, multiply-accumulates or milliseconds for one image."""


class ObjectivesConfig(Schema):
    """A cost that the search minimises beside AUC."""

    cost: Cost | None = None
    """A cost to minimise beside AUC: the search then looks for the front, the trials for which no other has
    more AUC at less cost. `latency_ms` is measured by each trial while the other trials run."""


class ChoiceConfig(Schema):
    """Which of the finished trials is called best."""

    by: By = "auc_then_log_loss"
    """By results on the validation split. `auc`: the highest AUC. `log_loss`: the lowest log loss.
    `auc_then_log_loss`: the lowest log loss among trials within 0.005 of the highest AUC."""


class ThresholdConfig(Schema):
    """A threshold that reaches a sensitivity or a specificity on the validation split; give one of the
    two."""

    sensitivity: float | None = Field(default=None, gt=0, le=1)
    """The highest threshold that reaches this sensitivity."""
    specificity: float | None = Field(default=None, gt=0, le=1)
    """The lowest threshold that reaches this specificity."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ThresholdConfig:
        if (self.sensitivity is None) == (self.specificity is None):
            raise ValueError("give sensitivity or specificity, one of the two")
        return self


class DecisionConfig(Schema):
    """Thresholds and calibration of confirmed models."""

    threshold: Literal["youden"] | ThresholdConfig = "youden"
    """Chosen on the validation split. `youden`: the greatest sensitivity + specificity. `{sensitivity =
    0.95}`: the highest threshold that reaches it; `{specificity = 0.9}`: the lowest. Models that are already
    confirmed keep their thresholds."""
    calibration: CalibrationKind = "temperature"
    """How probabilities are calibrated on the validation split, before thresholds are chosen. `temperature`
    fits one number; `isotonic` and `venn_abers` correct more, but need more images. Models that are already
    confirmed keep their calibration."""

    @property
    def rule(self) -> ThresholdRule:
        """As `metrics.operating` takes it."""
        if isinstance(self.threshold, str):
            return self.threshold
        if self.threshold.sensitivity is not None:
            return {"sensitivity": self.threshold.sensitivity}
        return {"specificity": self.threshold.specificity or 0.0}


class TrainingConfig(Schema):
    """What is held fixed in all trials of a study."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward and backward passes, the same in all trials. `auto`: bfloat16 if the hardware supports
    it."""
    grey: Literal["repeat", "sum"] = "repeat"
    """How grey images enter the network. `repeat`: as three equal channels, which keeps the pretrained
    function exactly. `sum`: by a first layer that is summed over colours."""
    calibrate_batch_norm: bool = True
    """First estimate the batch-norm statistics of a random, frozen prefix on training images."""
    cache_gb: float = Field(default=10.0, ge=0)
    """Disk space in GB for cached features of the frozen prefix; 0 turns the cache off."""
    cached_views: int = Field(default=4, ge=1)
    """Number of augmented copies of the training set that trials with a frozen prefix choose from."""
    weights_dir: str | None = None
    """A folder with pretrained weights, `ARCHITECTURE.safetensors` or `ARCHITECTURE.TAG.safetensors`."""


class ResourcesConfig(Schema):
    """What one trial uses of the machine, and how many run at once (default: as many as fit)."""

    cpus_per_trial: int = Field(default=1, ge=1)
    """CPU threads of a trial."""
    gpus_per_trial: float | Literal["auto"] = "auto"
    """`auto`: none on a machine without a GPU; otherwise a GPU is shared by as many trials as fit its
    memory."""
    memory_gb_per_trial: float | None = Field(default=None, gt=0)
    """Memory in GB that a trial needs on its machine (not its GPU). A node of a cluster gets only as many
    trials as its memory allows. Without it, only CPUs and GPUs are counted."""
    concurrent: int | None = Field(default=None, ge=1)
    """The largest number of trials at once."""
    checkpoint_url: str | None = None
    """fsspec URL of a place that all nodes of a cluster can reach. Trials of a dead node continue from
    there."""


Asks = Literal["size", "pretraining", "turning_point", "resolution", "attention", "strategies", "one_model"]
"""The questions that a report can open with."""


class StudyConfig(Schema):
    """One data set, one question."""

    version: Literal[1]
    """The form of this file; always 1."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The study's name in the storage."""
    question: str = ""
    """What the study is to answer; reports quote it."""
    citation: str = ""
    """Where the data set is described."""
    licence: str = ""
    """The data set's licence."""
    obtain: str = ""
    """Where to get the data, and the layout expected."""
    asks: Asks = "size"
    """The question that the report answers first. `size`: does network size predict AUC? `pretraining`: does
    pretraining help? `turning_point`: with how many training images does pretraining stop helping?
    `resolution`: which image size is enough? `attention`: does attention help a convolutional network of
    equal size? `strategies`: which transfer strategy is best? `one_model`: what does one model for several
    data sets cost?"""
    goal: Literal["best", "compare"] = "best"
    """`best`: most of the budget goes to strata with a high AUC. `compare`: every stratum gets the same
    budget."""
    objective: str = "auc"
    """What the search optimises on the validation split. `auc`: the AUC, per case if cases are judged.
    `unit_auc`: the same, but refused if images are judged. Others: `auprc`, `log_loss`, and
    `sensitivity_at_specificity:0.9` with any number between 0 and 1."""
    seed: int = Field(default=0, ge=0)
    """The seed of the search and of its trials."""
    dataset: StudyDataset
    """The data; see the tables below. Several data sets are given as `[[datasets]]` instead."""
    space: SpaceConfig
    """The hyperparameters, or the name of a file in `search/spaces/`."""
    sampler: SamplerConfig
    """How the next trial is chosen, or the name of a file in `search/samplers/`."""
    scheduler: SchedulerConfig
    """Which trials are stopped early, or the name of a file in `search/schedulers/`."""
    budget: BudgetConfig
    """How many trials, epochs and hours, or the name of a file in `search/budgets/`."""
    choice: ChoiceConfig = ChoiceConfig()
    """Which finished trial is the best one."""
    decision: DecisionConfig = DecisionConfig()
    """Thresholds and calibration of confirmed models."""
    objectives: ObjectivesConfig = ObjectivesConfig()
    """A cost to minimise beside AUC."""
    training: TrainingConfig = TrainingConfig()
    """What is the same in all trials."""
    resources: ResourcesConfig = ResourcesConfig()
    """What one trial uses of the machine."""

    @field_validator("question", "citation", "licence", "obtain")
    @classmethod
    def _stripped(cls, text: str) -> str:
        return text.strip()

    @model_validator(mode="after")
    def _cost_goes_with_whole_trials(self) -> StudyConfig:
        """Nothing that looks at AUC alone may decide in a search for a front."""
        cost, asked = self.objectives.cost, f'objectives.cost = "{self.objectives.cost}"'
        if cost is None:
            return self
        if self.goal != "best":
            raise ValueError(f'{asked} needs goal = "best", but got goal = "{self.goal}"')
        if self.sampler.name in ("gain", "gp"):
            raise ValueError(
                f'{asked} needs a sampler for several objectives, but got "{self.sampler.name}"; take "tpe", '
                '"nsga2", "random", "grid" or "qmc"'
            )
        if self.scheduler.name != "none":
            raise ValueError(
                f'{asked} needs scheduler = "none", but got "{self.scheduler.name}": early stopping looks at '
                "AUC alone, and would stop cheap networks that belong to the front"
            )
        if self.budget.patience is not None:
            raise ValueError(f"{asked} cannot be combined with budget.patience, which looks at AUC alone")
        if self.dataset.splits.trainings > 1:
            raise ValueError(
                f"{asked} cannot be combined with dataset.splits.folds: trials go on by AUC alone"
            )
        return self

    @field_validator("objective")
    @classmethod
    def _objective_is_known(cls, objective: str) -> str:
        return known_objective(objective)

    @model_validator(mode="after")
    def _objective_goes_with_the_rest(self) -> StudyConfig:
        if (why := refusal(self)) is not None:
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _gain_goes_with_best(self) -> StudyConfig:
        if self.sampler.name == "gain" and self.goal == "compare":
            raise ValueError(
                'sampler.name = "gain" spends most on strata with a high AUC, but goal = "compare" gives '
                'every stratum the same budget; take sampler = "tpe", or goal = "best"'
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _several_datasets(cls, data: object) -> object:
        return folded(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _joint_keys(self) -> StudyConfig:
        """What needs several data sets, and what does not go with them."""
        dimensions, joint = self.space.dimensions, isinstance(self.dataset, JointDataset)
        for name in JOINT_KEYS:
            if name in dimensions and not joint:
                raise ValueError(f"space.{name} needs several data sets; give [[datasets]], or leave it out")
        for name in ("image_size", "combine"):
            if name in dimensions and joint:
                raise ValueError(f"space.{name} does not go with [[datasets]]; leave it out")
        meets = "per_dataset" in self.space.values("norm") and 0 in self.space.depths
        if meets and not self.space.excluded({"norm": "per_dataset", "unfreeze_depth": 0}):
            raise ValueError(
                'space.norm = "per_dataset" means nothing with unfreeze_depth = 0, as no batch norm is '
                "trained; leave one of the two out, or the two together with [[space.exclude]]"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _data_at_the_smallest_size(cls, data: dict[str, object]) -> object:
        """Where trials have sizes of their own, the data set has the smallest of them."""
        space, dataset = data.get("space"), data.get("dataset")
        if not isinstance(space, dict) or not isinstance(dataset, dict):
            return data
        dimension = space.get("dimensions", space).get("image_size")
        sizes = (dimension.get("choices") or [dimension.get("value")]) if isinstance(dimension, dict) else []
        if not sizes or not all(isinstance(size, int) for size in sizes):
            return data
        if dataset.get("image_size", min(sizes)) != min(sizes):
            raise ValueError(
                f"dataset.image_size = {dataset['image_size']}, but space.image_size has {sizes}: leave "
                "dataset.image_size out; it is then the smallest of them"
            )
        return {**data, "dataset": {**dataset, "image_size": min(sizes)}}

    @property
    def sizes(self) -> list[int]:
        """The image sizes of the study's trials, pixels."""
        return [int(size) or self.dataset.image_size for size in self.space.values("image_size")]

    @model_validator(mode="after")
    def _stepwise_strategies_need_epochs(self) -> StudyConfig:
        stepwise = [name for name in STEPWISE if name in self.space.values("strategy")]
        if stepwise and self.budget.epochs < FEWEST_EPOCHS:
            raise ValueError(
                f"space.strategy = {stepwise[0]!r} opens the network while it trains, which takes at least "
                f"{FEWEST_EPOCHS} epochs, but got budget.epochs = {self.budget.epochs}"
            )
        return self

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

        Left out: texts, resources, how the best trial is chosen and where it decides (no trial depends on
        it), totals of the budget (a study may be prolonged), the data's place and name (its content is
        compared by fingerprint), whether its leakage is accepted, which columns are kept for subgroups, and
        what has its default (so that a key that a later version adds does not make an old study another).
        """
        whole = self.model_dump(mode="json", exclude_defaults=True)
        for key in ("question", "asks", "citation", "licence", "obtain", "resources", "choice", "decision"):
            whole.pop(key, None)
        whole["budget"] = {"epochs": self.budget.epochs}
        several = isinstance(self.dataset, JointDataset)  # their heads are called by their names
        tables = whole["dataset"]["datasets"] if several else [whole["dataset"]]
        for table, own in zip(tables, members(self.dataset), strict=True):
            named = several or own.source == "medmnist"
            for key in ("path", "leakage", "keep", *(() if named else ("name",))):
                table.pop(key, None)
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
