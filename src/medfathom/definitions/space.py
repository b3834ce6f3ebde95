"""What is searched: dimensions, the conditions between them, strata, and one trial's parameters.

A space is a table of dimensions, each named after a field of `TrialParams`. What a space leaves out keeps
the default it has there. Dimensions that an `[[exclude]]` entry names are sampled together, as one choice
among the allowed combinations: so that no trial is spent on an excluded one, and no range ever changes
(multivariate TPE drops parameters whose range does). A transfer strategy excludes the depths and inits for
which it means nothing by itself (`definitions.strategies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from medfathom.definitions.schema import Schema
from medfathom.definitions.strategies import Strategy, refusal
from medfathom.errors import did_you_mean
from medfathom.units import Combine

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = bool | int | float | str
Role = Literal["scientific", "nuisance", "fixed"]
Params = Mapping[str, Value]

AugmentationPreset = Literal["none", "cxr", "oct", "wsi"]
"""What `trial.augmentation` does to training images."""

JUDGED = ("strategy", "unfreeze_depth", "init")
"""Hyperparameters by which it is judged whether a strategy means something."""


class TrialParams(Schema):
    """One trial's hyperparameters. Rates are per step, fractions lie in [0, 1]."""

    architecture: str
    """A timm name without a tag."""
    init: str = "imagenet"
    """Where the weights start: `imagenet`, `imagenet:TAG`, `random`, `imagenet-stats`, `file:PATH`,
    `export:FOLDER`, `hub:REPOSITORY`, `study:NAME` (the confirmed model of another study)."""
    unfreeze_depth: int = Field(default=5, ge=0, le=5)
    """How many of the last layer groups are trained besides the head."""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """The highest learning rate of the schedule."""
    head_lr_factor: float = Field(default=1.0, gt=0, le=1000)
    """The head's learning rate divided by the backbone's."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate from each layer group to the next one towards the stem."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """The optimizer, as in torch; `sgd` has Nesterov momentum 0.9."""
    weight_decay: float = Field(default=1e-4, ge=0, le=1)
    """Weight decay. It is not applied to biases and norm layers."""
    batch_size: int = Field(default=32, ge=2, le=4096)
    """Number of images in one update."""
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of all updates in which the learning rate rises linearly."""
    decay: Literal["cosine", "exponential", "none"] = "cosine"
    """How the learning rate falls afterwards."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: the share of a label that is spread over the other classes."""
    class_weights: bool = False
    """Weight the loss by inverse class frequency."""
    balanced_sampling: bool = False
    """Draw every class as often as the others."""
    augmentation: AugmentationPreset = "none"
    """Preset of random changes to training images, one for each modality."""
    train_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training images that is used. Patients are never divided, classes keep their shares, and a
    smaller share is part of a larger one. The same trial seed gives the same images."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before each linear layer of the head."""
    head_pooling: Literal["avg", "max", "avgmax"] = "avg"
    """Pooling before the head. `avg`: the architecture's own pooling. `max`, `avgmax`: over positions."""
    head_hidden: int = Field(default=0, ge=0, le=8192)
    """Width of a hidden layer in the head; 0: none."""
    image_size: int = Field(default=0, ge=0, le=1024)
    """Side in pixels of the square image that the network sees; 0: the data set's `image_size`."""
    combine: Combine = "mean"
    """How the predictions of a case's images become one prediction, if the unit is not the image."""
    strategy: Strategy = "fixed"
    """Which parts of the network are trained, and when: see `definitions.strategies`."""
    l2_sp_alpha: float = Field(default=0.01, ge=0, le=100)
    """For the strategy `l2-sp`: how strongly weights are pulled to their start. It replaces weight decay."""
    lora_rank: int = Field(default=8, ge=1, le=256)
    """For the strategy `lora`: the rank of the adapters."""
    norm: Literal["shared", "per_dataset"] = "shared"
    """With several data sets: whether trained batch norm has its own statistics, scale and shift for each."""
    sampling: Literal["proportional", "equal", "temperature"] = "proportional"
    """With several data sets: how many images of each are in an epoch. `proportional`: every image once.
    `equal`: the same number of each data set. `temperature`: between the two, by `sampling_temperature`."""
    sampling_temperature: float = Field(default=2.0, ge=1, le=100)
    """For the sampling `temperature` T: shares are proportional to the number of images to the power 1 /
    T."""


class Dimension(Schema):
    """One hyperparameter: a `value`, `choices`, or a range from `low` to `high`."""

    role: Role = "nuisance"
    """`scientific`: the study compares its values. `nuisance`: it is tuned, so that the comparison is fair.
    `fixed`: it has one value."""
    value: Value | None = None
    """The only value."""
    choices: list[Value] | None = Field(default=None, min_length=1)
    """The values to choose from."""
    low: float | int | None = None
    """Start of a range."""
    high: float | int | None = None
    """End of a range, included."""
    log: bool = False
    """Draw from the range on a logarithmic scale."""

    @model_validator(mode="before")
    @classmethod
    def _a_value_is_fixed(cls, data: Any) -> Any:
        if isinstance(data, dict) and "value" in data and "role" not in data:
            return {**data, "role": "fixed"}
        return data

    @model_validator(mode="after")
    def _one_form(self) -> Dimension:
        forms = [
            self.value is not None,
            self.choices is not None,
            self.low is not None or self.high is not None,
        ]
        if sum(forms) != 1:
            raise ValueError("give exactly one of value, choices, or low and high")
        if (self.role == "fixed") != (self.value is not None):
            raise ValueError(
                f"role 'fixed' needs a value, and only 'fixed' may have one; got role={self.role!r}"
            )
        if self.choices is not None and len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError(f"choices repeat themselves: {self.choices}")
        if forms[2]:
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(f"`low < high` must hold, but got (low={self.low}, high={self.high})")
            if self.log and self.low <= 0:
                raise ValueError(f"a log range needs low > 0, but got low={self.low}")
        return self

    @property
    def ends(self) -> list[Value]:
        """The values to check against the parameter's own range: all of them, or the range's two ends."""
        if self.choices is not None:
            return self.choices
        return [v for v in (self.value, self.low, self.high) if v is not None]

    def in_floats(self) -> Dimension:
        """With floats for whole numbers. Raises ValueError where choices then repeat."""
        numbers = {
            name: getattr(self, name) for name in ("value", "choices") if getattr(self, name) is not None
        }
        return Dimension.model_validate({"role": self.role, **{n: _in_floats(v) for n, v in numbers.items()}})


def _in_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_floats(each) for each in value]
    return float(value) if type(value) is int else value


class SpaceConfig(Schema):
    """The `[space]` table: dimensions by name, and combinations left out."""

    dimensions: dict[str, Dimension]
    exclude: list[dict[str, Value]] = Field(default_factory=list)
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _dimensions_stand_at_top_level(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "dimensions" in data:
            return data
        own = {k: v for k, v in data.items() if k in ("exclude", "description")}
        for name in data:
            if name not in own and name not in TrialParams.model_fields:
                known = did_you_mean(name, TrialParams.model_fields)
                raise ValueError(f"unknown hyperparameter {name!r}; {known}")
        return {**own, "dimensions": {k: v for k, v in data.items() if k not in own}}

    @model_validator(mode="after")
    def _numbers_of_one_kind(self) -> SpaceConfig:
        """`train_fraction = 1` is 1.0, as trials have it: a stratum has one name."""
        for name, dimension in self.dimensions.items():
            whole = dimension.choices is not None or dimension.value is not None
            if whole and name in TrialParams.model_fields and _field_type(name) is float:
                self.dimensions[name] = dimension.in_floats()
        return self

    @model_validator(mode="after")
    def _names_and_values(self) -> SpaceConfig:
        if "architecture" not in self.dimensions:
            raise ValueError("the space names no architecture: give [space.architecture]")
        for name, dimension in self.dimensions.items():
            for value in dimension.ends:
                _check_value(name, value)
            if name == "image_size" and (dimension.low is not None or min(map(int, dimension.ends)) < 8):
                raise ValueError(
                    f"image_size: give choices from 8 to 1024, as the data are prepared for each, but got "
                    f"{' to '.join(map(str, dimension.ends))}"
                )
            if dimension.role == "scientific" and not _enumerable(name, dimension):
                raise ValueError(f"{name}: a scientific dimension needs choices or an integer range")
        self._check_exclusions()
        self._check_strategies()
        return self

    def _check_exclusions(self) -> None:
        for entry in self.exclude:
            for name, value in entry.items():
                dimension = self.dimensions.get(name)
                if dimension is None or not _enumerable(name, dimension):
                    raise ValueError(
                        f"exclude names {name!r}, which is not a dimension of this space that has choices"
                    )
                if value not in values_of(name, dimension):
                    raise ValueError(f"exclude: {name} = {value!r} is not among {values_of(name, dimension)}")
        if self.exclude and not self.allowed_combinations():
            raise ValueError("exclude leaves no combination")

    def _check_strategies(self) -> None:
        """Raise ValueError for a strategy, a depth or an init that means nothing with any of the others."""
        for name in JUDGED if "strategy" in self.dimensions else ():
            for value in self.values(name):
                reasons = self._refusals({name: value})
                if all(reasons.values()):
                    (strategy, depth, init), why = next(iter(reasons.items()))
                    raise ValueError(
                        f"strategy = {strategy!r} means nothing with unfreeze_depth = {depth} and init = "
                        f"{init!r}: {why}; leave {name} = {value!r} out"
                    )

    def _refusals(self, known: Params) -> dict[tuple[str, int, str], str | None]:
        """Each (strategy, depth, init) that these parameters leave open -> why it means nothing."""
        axes = [[known[name]] if name in known else self.values(name) for name in JUDGED]
        places = [(str(s), int(d), str(i)) for s, d, i in product(*axes)]
        return {place: refusal(*place) for place in places}

    def left_out(self) -> list[str]:
        """A line for each strategy that means nothing with some of the space's depths or inits."""
        lines: dict[str, list[str]] = {}
        for (strategy, depth, init), why in self._refusals({}).items():
            if why:
                lines.setdefault(f"strategy {strategy}", []).append(f"depth {depth} with {init}")
        return [f"left out: {name} at {', '.join(cells)}" for name, cells in lines.items()]

    @property
    def joint(self) -> list[str]:
        """The dimensions sampled together, in the space's order, because an exclusion names them."""
        named = {name for entry in self.exclude for name in entry} | self._judged_together()
        return [name for name in self.dimensions if name in named and self.dimensions[name].value is None]

    def _judged_together(self) -> set[str]:
        """The dimensions of which it depends whether a strategy means something."""
        if "strategy" not in self.dimensions:
            return set()
        refused = [place for place, why in self._refusals({}).items() if why]
        names = set()
        for k, name in enumerate(JUDGED):
            others = {place[:k] + place[k + 1 :] for place in refused}
            everywhere = len(refused) == len(others) * len(self.values(name))
            if refused and not everywhere:
                names.add(name)
        return names

    def allowed_combinations(self) -> list[dict[str, Value]]:
        """Every allowed combination of the joint dimensions, in order."""
        grid = product(*(values_of(name, self.dimensions[name]) for name in self.joint))
        combinations = [dict(zip(self.joint, values, strict=True)) for values in grid]
        return [c for c in combinations if not self.excluded(c)]

    def excluded(self, params: Params) -> bool:
        """Whether an exclusion matches these parameters, or their strategy means nothing for them."""
        fixed = {n: d.value for n, d in self.dimensions.items() if d.value is not None}
        known = {**fixed, **params}
        if any(all(known.get(k) == v for k, v in entry.items()) for entry in self.exclude):
            return True
        return "strategy" in self.dimensions and all(self._refusals(known).values())

    def values(self, name: str) -> list[Value]:
        """All values that trials can have of a hyperparameter; its default where the space leaves it out."""
        dimension = self.dimensions.get(name)
        return values_of(name, dimension) if dimension else [TrialParams.model_fields[name].default]

    @property
    def depths(self) -> frozenset[int]:
        """The unfreeze depths that trials can have."""
        return frozenset(map(int, self.values("unfreeze_depth")))

    def scientific(self) -> list[str]:
        """Names of the dimensions that are compared, in the space's order."""
        return [name for name, d in self.dimensions.items() if d.role == "scientific"]

    def strata(self) -> list[dict[str, Value]]:
        """Every allowed combination of the scientific dimensions."""
        names = self.scientific()
        grid = product(*(values_of(name, self.dimensions[name]) for name in names))
        combinations = [dict(zip(names, values, strict=True)) for values in grid]
        return [c for c in combinations if not self.excluded(c)]


def _field_type(name: str) -> Any:
    return TrialParams.model_fields[name].annotation


def _enumerable(name: str, dimension: Dimension) -> bool:
    return dimension.low is None or _field_type(name) is int


def _check_value(name: str, value: Value) -> None:
    """Raise ValueError where `TrialParams` would refuse the value."""
    field = TrialParams.model_fields[name]
    kind: Any = field.annotation
    try:
        TypeAdapter(kind, config=None).validate_python(value, strict=kind is not float)
        TrialParams.model_validate({"architecture": "any", name: value})
    except ValidationError as error:
        raise ValueError(f"{name} = {value!r}: {error.errors()[0]['msg'].lower()}") from None


def values_of(name: str, dimension: Dimension) -> list[Value]:
    """All values of a dimension that can be enumerated."""
    if dimension.value is not None:
        return [dimension.value]
    if dimension.choices is not None:
        return dimension.choices
    if not _enumerable(name, dimension) or dimension.low is None or dimension.high is None:
        raise ValueError(f"{name} has a continuous range: it cannot be enumerated")
    return list(range(int(dimension.low), int(dimension.high) + 1))


def label(combination: Params) -> str:
    """A combination as text: `init=imagenet unfreeze_depth=1`; with it strata and joint choices are named."""
    return " ".join(f"{name}={value}" for name, value in combination.items())


CELL_NAMES = ("architecture", "init", "unfreeze_depth", "strategy")
"""Hyperparameters that results have columns of their own for."""


def further_settings(stratum: Params) -> str:
    """What else a stratum holds, as text: two results that differ in it are no repeats of one another.

    >>> further_settings({"architecture": "vgg16", "train_fraction": 0.25, "image_size": 64})
    'train_fraction=0.25, image_size=64'
    """
    return ", ".join(f"{name}={value}" for name, value in stratum.items() if name not in CELL_NAMES)


def suggest(trial: BaseTrial, space: SpaceConfig) -> TrialParams:
    """Ask the trial's sampler for every dimension of the space.

    Args:
        trial: an Optuna trial (or a `FixedTrial`).
        space: what is searched.

    Returns:
        The trial's parameters; what the space leaves out has its default.
    """
    joint = space.joint
    params: dict[str, Value] = {}
    if joint:
        combinations = {label(c): c for c in space.allowed_combinations()}
        params.update(combinations[trial.suggest_categorical("+".join(joint), list(combinations))])
    for name, dimension in space.dimensions.items():
        if name not in joint:
            params[name] = _suggest_one(trial, name, dimension)
    return TrialParams.model_validate(params)


def _suggest_one(trial: BaseTrial, name: str, dimension: Dimension) -> Value:
    if dimension.value is not None:
        return dimension.value
    if dimension.choices is not None:
        chosen: Value = trial.suggest_categorical(name, dimension.choices)  # type: ignore[assignment]
        return chosen
    if dimension.low is None or dimension.high is None:
        raise ValueError(f"{name} has neither choices nor a range")
    if _field_type(name) is int:
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def stratum_of(params: TrialParams, space: SpaceConfig) -> str:
    """The trial's combination of scientific hyperparameters, as text."""
    return label({name: getattr(params, name) for name in space.scientific()})
