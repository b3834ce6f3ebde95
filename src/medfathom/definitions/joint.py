"""Several data sets in one study: the `[[datasets]]` tables, and the study of one of them by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medfathom.definitions.dataset import DatasetConfig, SplitsConfig
from medfathom.definitions.schema import Schema
from medfathom.errors import DefinitionError, did_you_mean

ONLY = "only"
"""Key that names the one data set of several that a study is to be about."""

JOINT_KEYS = ("norm", "sampling", "sampling_temperature")
"""Hyperparameters that mean something with several data sets alone."""

FOLDED = ("source", "datasets")
"""Keys of `JointDataset` that `[joint]` does not have."""

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class JointDataset(Schema):
    """`[[datasets]]`: data sets that one network is trained on, with a head for each.

    A definition writes the tables at its top, and `[joint]` beside them.
    """

    source: Literal["joint"]
    datasets: list[DatasetConfig] = Field(min_length=1)
    """As `[dataset]` would have them, each with a name of its own."""
    channels: Literal[3] | None = None
    """3: grey images become three equal channels where another data set has colour. Default: all data sets
    must have the same number of channels."""

    @model_validator(mode="after")
    def _can_be_joined(self) -> JointDataset:
        for place, one in enumerate(self.datasets):
            if one.name is None or not re.fullmatch(NAME, one.name):
                raise ValueError(
                    f"datasets.{place}.name = {one.name!r}: each of [[datasets]] needs a name of letters, "
                    "digits, '.', '_' and '-'; its head and its results are called by it"
                )
            if one.splits.folds is not None:
                raise ValueError(
                    f"datasets.{place}.splits.folds: several data sets are not cross-validated together; "
                    "leave it out"
                )
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"two of [[datasets]] are called {twice[0]!r}; give each its own name")
        sizes = {str(one.name): one.image_size for one in self.datasets}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(
                f"image_size: one network needs images of one size, but got {told}; give the same size "
                "everywhere"
            )
        return self

    @property
    def names(self) -> list[str]:
        """Of the data sets, in their order."""
        return [str(dataset.name) for dataset in self.datasets]

    def member(self, name: str) -> DatasetConfig:
        """The data set of that name, which is one of `names`."""
        return self.datasets[self.names.index(name)]

    @property
    def name(self) -> str:
        """All of them: `cxr+oct`."""
        return "+".join(self.names)

    @property
    def modality(self) -> str:
        """All that they have: `CXR+OCT`."""
        return "+".join(dict.fromkeys(dataset.modality for dataset in self.datasets))

    @property
    def image_size(self) -> int:
        """Side in pixels, the same for all."""
        return self.datasets[0].image_size

    @property
    def splits(self) -> SplitsConfig:
        """Each data set has its own; there is no cross-validation."""
        return SplitsConfig()


StudyDataset = Annotated[DatasetConfig | JointDataset, Field(discriminator="source")]
"""What a study is about: one data set, or several."""


def members(dataset: DatasetConfig | JointDataset) -> list[DatasetConfig]:
    """The data sets of a study, one or several."""
    return dataset.datasets if isinstance(dataset, JointDataset) else [dataset]


def the_one(dataset: DatasetConfig | JointDataset, what: str) -> DatasetConfig:
    """The data set of a study that has one.

    Raises:
        DefinitionError: it has several; `what` looks at one.
    """
    if isinstance(dataset, JointDataset):
        raise DefinitionError(
            f"{what} uses one data set, but this definition has several: name one with `--set only=NAME` "
            f"({', '.join(dataset.names)})"
        )
    return dataset


def folded(data: Mapping[str, object]) -> dict[str, object]:
    """A definition's `[[datasets]]` and `[joint]` as the one key `dataset`; without them it stays as it is.

    Raises:
        ValueError: they do not go together.
    """
    rest = {key: value for key, value in data.items() if key not in ("datasets", "joint")}
    if "datasets" not in data:
        if "joint" in data:
            raise ValueError("[joint] goes with several data sets; give [[datasets]], or leave it out")
        return rest
    if "dataset" in data:
        raise ValueError("give [dataset] or [[datasets]], not both")
    joint = data.get("joint", {})
    if not isinstance(joint, Mapping):
        raise ValueError(f"[joint] must be a table, but got joint = {joint!r}")
    return {**rest, "dataset": {**joint, "source": "joint", "datasets": data["datasets"]}}


def unfolded(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inverse of `folded`."""
    dataset = content["dataset"]
    if dataset["source"] != "joint":
        return content
    joint = {key: value for key, value in dataset.items() if key not in FOLDED}
    rest = {key: value for key, value in content.items() if key != "dataset"}
    return {**rest, **({"joint": joint} if joint else {}), "datasets": dataset["datasets"]}


def one_of_several(data: Mapping[str, object], where: str) -> dict[str, object]:
    """The definition of one data set by itself, where `only` names it; else the definition as it is.

    It is called `STUDY-DATASET`. What means something with several data sets alone is left out of the space;
    where that was compared the trials are as many fewer, so that each of the others' combinations gets as
    many as in the joint study: trial by trial, all data sets by themselves show the networks as many images
    as the joint study does.

    Raises:
        DefinitionError: there are not several data sets, or none has this name.
    """
    rest = {key: value for key, value in data.items() if key != ONLY}
    if ONLY not in data:
        return rest
    only, tables = data[ONLY], data.get("datasets")
    if not isinstance(tables, list):
        raise DefinitionError(f"{where}: only = {only!r} needs several data sets; leave it out")
    named = {str(table.get("name")): table for table in tables if isinstance(table, Mapping)}
    if str(only) not in named:
        raise DefinitionError(f"{where}: only = {only!r}: no such data set; {did_you_mean(str(only), named)}")
    rest = {key: value for key, value in rest.items() if key not in ("datasets", "joint")}
    space, dropped = _space_of_one(rest.get("space"))
    rest |= {"dataset": named[str(only)], "name": f"{rest.get('name')}-{only}", "space": space}
    budget = rest.get("budget")
    if dropped > 1 and isinstance(budget, Mapping) and isinstance(budget.get("trials"), int):
        rest["budget"] = {**budget, "trials": max(1, budget["trials"] // dropped)}
    return rest


def _space_of_one(space: object) -> tuple[object, int]:
    """A space without what needs several data sets; how many of its combinations that compared."""
    if not isinstance(space, Mapping):
        return space, 1
    compared = [
        len(dimension["choices"])
        for name in JOINT_KEYS
        if isinstance(dimension := space.get(name), Mapping)
        and dimension.get("role") == "scientific"
        and isinstance(dimension.get("choices"), list)
    ]
    left = {name: value for name, value in space.items() if name not in JOINT_KEYS}
    if isinstance(left.get("exclude"), list):
        left["exclude"] = [entry for entry in left["exclude"] if not {*JOINT_KEYS} & {*entry}]
    return left, prod(compared)
