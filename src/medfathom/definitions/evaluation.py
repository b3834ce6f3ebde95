"""A data set of another place, as `evaluate` takes it: its `[dataset]`, and how its classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.load import SMOKE, definition_file, explain, read_toml
from medfathom.definitions.schema import Schema
from medfathom.errors import DefinitionError, did_you_mean

LEFT_OUT = ""
"""What a class is mapped to whose images are left out on purpose."""


class EvaluationConfig(Schema):
    """What a model is evaluated on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """How the evaluation is called in the model's card and the storage. Default: the file's name."""
    dataset: DatasetConfig
    """The data. `image_size`, and for files `fit`, `window`, `unit` and the like, are the model's."""
    map: dict[str, str] = Field(default={})
    """The data's name of a class -> the model's name: `PNEUMONIA = "pneumonia"`. An empty name leaves the
    images of this class out."""


def load_evaluation(reference: str, model: Mapping[str, object]) -> EvaluationConfig:
    """Read what a model is evaluated on: a TOML file with `[dataset]`, or a whole study definition.

    Args:
        reference: the file, or the name of one in `study_defs/`.
        model: keys of `[dataset]` as the model has them: `image_size` always holds, the others where the
            source has such a key and the file does not give it.

    Raises:
        DefinitionError: in one line, for anything that is not right.
    """
    path = definition_file(reference, "data")
    data = read_toml(path)
    _check_keys(path, data)
    dataset = data.get("dataset")
    if not isinstance(dataset, dict):
        raise DefinitionError(f"{path}: dataset: missing; give the table [dataset] with its source")
    known = _keys_of(dataset.get("source"))
    own = {key: value for key, value in model.items() if key in known and value is not None}
    # Splits are not drawn, and the model says which class is the positive one.
    given = {key: value for key, value in dataset.items() if key not in ("splits", "positive")}
    content = {"name": data.get("name", path.stem), "map": data.get("map", {})}
    content["dataset"] = {**own, **given, "image_size": model["image_size"]}
    try:
        return EvaluationConfig.model_validate(content)
    except ValidationError as error:
        raise DefinitionError(f"{path}: {explain(error, content)}") from None


def _check_keys(path: Path, data: Mapping[str, Any]) -> None:
    """Other keys of a study definition may be there; what is none of either is a misspelling."""
    if "datasets" in data:
        raise DefinitionError(
            f"{path}: datasets: a model is evaluated on one data set; write it as [dataset]"
        )
    known = set(EvaluationConfig.model_fields) | set(StudyConfig.model_fields) | {SMOKE}
    if strange := [key for key in data if key not in known]:
        raise DefinitionError(f"{path}: {strange[0]}: unknown key; {did_you_mean(strange[0], known)}")


def _keys_of(source: object) -> set[str]:
    """The keys of a source's table; none for a source that does not exist."""
    schema = EvaluationConfig.model_json_schema()
    reference = schema["properties"]["dataset"]["discriminator"]["mapping"].get(source, "")
    return set(schema["$defs"].get(reference.rpartition("/")[2], {}).get("properties", {}))
