"""TOML -> `StudyConfig`: lookup, overrides, checks. Nothing here imports more than pydantic.

A study definition names pieces of search/ (`sampler = "tpe"`), takes one as its base and changes it
(`[sampler]` with `base = "tpe"`), or spells it out. The same rule serves space, sampler, scheduler, budget.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import FOLDED, one_of_several
from medfathom.definitions.space import TrialParams
from medfathom.errors import DefinitionError, did_you_mean
from medfathom.metrics.rules import is_auc

PIECES = {"space": "spaces", "sampler": "samplers", "scheduler": "schedulers", "budget": "budgets"}
"""Key of a study definition -> folder of search/ where its named pieces lie."""


DEFAULTS = {
    "best": {"space": "lite", "sampler": "gain", "scheduler": "curve", "budget": "small"},
    "compare": {"space": "lite", "sampler": "tpe", "scheduler": "asha", "budget": "small"},
}
"""Goal -> pieces of search/ that a definition has where it names none. Not defaults of `StudyConfig`: a study
whose definition names them, and one that does not, are the same study."""


def folders(kind: str) -> list[Path]:
    """Where definitions of a kind (`study_defs`, `search/spaces`, …) lie, first match wins.

    The working folder, then what travels with the program: in the wheel, or beside src/ in a checkout.
    """
    package = Path(__file__).resolve().parents[1]
    return [Path(kind), package / "_shipped" / kind, package.parents[1] / kind]


def names(kind: str) -> dict[str, Path]:
    """Name -> file of every definition of a kind."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


def find(kind: str, name: str, asked_by: str) -> Path:
    """The file of a named definition. Raises DefinitionError with the nearest names."""
    known = names(kind)
    if name not in known:
        raise DefinitionError(f"{asked_by}: no {kind}/{name}.toml; {did_you_mean(name, known)}")
    return known[name]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's content. Raises DefinitionError for a file that is absent, unreadable, or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DefinitionError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise DefinitionError(f"{path}: tables or lists are nested too deep") from None


def definition_file(reference: str, what: str) -> Path:
    """The TOML file itself, or the one of this name in `study_defs/`; `what` is named where there is none."""
    path = Path(reference)
    by_name = path.suffix != ".toml" and not path.is_file()
    return find("study_defs", reference, f"{what} {reference!r}") if by_name else path


def load_definition(reference: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Parse and check a study definition.

    Args:
        reference: a TOML file, or the name of one in `study_defs/` (the working folder's, or shipped).
        overrides: `key=value` pairs as `--set` gives them, dotted keys, TOML values (bare words are strings).

    Raises:
        DefinitionError: in one line, for anything that is not right.
    """
    path = definition_file(reference, "study")
    data = read_toml(path)
    overrides = _small(data, overrides, str(path))
    data |= _usual_pieces(data, overrides)
    for override in overrides:
        _override(data, override)
    for key, kind in PIECES.items():
        if key in data:
            data[key] = _resolve(data[key], kind, f"{path}: {key}")
    whole = one_of_several(data, str(path))
    try:
        return StudyConfig.model_validate(whole)
    except ValidationError as error:
        raise DefinitionError(f"{path}: {explain(error, whole)}") from None


SMOKE = "smoke"
"""Table of a definition: what replaces its keys for a run of minutes, asked for with `--set smoke=true`."""


def _small(data: MutableMapping[str, object], overrides: Sequence[str], where: str) -> list[str]:
    """Put the smoke table's keys in place where it is asked for; the overrides that are left."""
    table = data.pop(SMOKE, None)
    asked = [o for o in overrides if o.partition("=")[0].strip() == SMOKE]
    wanted = [o.partition("=")[2].strip() for o in asked]
    if any(text not in ("true", "false") for text in wanted):
        raise DefinitionError(f"--set {asked[0]}: expected smoke=true")
    if wanted and wanted[-1] == "true":
        if not isinstance(table, Mapping):
            raise DefinitionError(f"{where}: has no [smoke] table; leave --set smoke=true out")
        data.update(table)
    return [o for o in overrides if o not in asked]


def study_name(reference: str) -> str:
    """A study's name in the storage: what the definition says where a file is given, else the name itself."""
    return load_definition(reference).name if reference.endswith(".toml") else reference


def _resolve(piece: Any, kind: str, where: str) -> Any:
    """A piece of search/: by name, by name with changes, or spelled out."""
    if isinstance(piece, str):
        return read_toml(find(f"search/{kind}", piece, where))
    if isinstance(piece, Mapping) and "base" in piece:
        changes = {k: v for k, v in piece.items() if k != "base"}
        return _merged(_resolve(str(piece["base"]), kind, where), changes)
    return piece


def _usual_pieces(data: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    """The pieces, those of the goal where none are named; an override may set the goal."""
    pairs = [override.partition("=") for override in overrides]

    def latest(name: str, otherwise: str) -> str:
        """Of a key: what is set last."""
        given = [text.strip(" \"'") for key, _, text in pairs if key.strip() == name]
        return [str(data.get(name, otherwise)), *given][-1]

    usual = DEFAULTS.get(latest("goal", "best"), DEFAULTS["best"])
    if not is_auc(latest("objective", "auc")):  # `gain` and `curve` reckon with AUCs
        usual = {**usual, "sampler": "tpe", "scheduler": "asha"}
    searches_front = data.get("objectives") or any(key.strip() == "objectives.cost" for key, *_ in pairs)
    if searches_front:  # nothing that looks at AUC alone goes with it
        usual = {**usual, "sampler": "tpe", "scheduler": "none"}
    return {key: _with_base(data.get(key, name), key, name) for key, name in usual.items()}


def _with_base(piece: Any, key: str, usual: str) -> Any:
    """A sampler or scheduler that names neither its base nor itself changes the usual one."""
    named = not isinstance(piece, Mapping) or {"base", "name"} & piece.keys()
    bare = key in ("sampler", "scheduler") and not named
    return {"base": usual, **piece} if bare else piece


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`; of a dimension (a table inside the piece) what is not named stays as well."""
    return {
        **base,
        **{
            key: _dimension(base[key], change)
            if isinstance(base.get(key), Mapping) and isinstance(change, Mapping)
            else change
            for key, change in changes.items()
        },
    }


FORMS = ({"value"}, {"choices"}, {"low", "high", "log"})
"""Keys of a dimension's forms, of which it has one."""


def _dimension(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dimension with changes: another form takes the place of its own; a value also that of its role."""
    given = [form for form in FORMS if form & changes.keys()]
    others = set().union(*(form for form in FORMS if given and form not in given))
    role = {"role"} if "value" in changes or (given and "value" in base) else set()
    return {key: value for key, value in base.items() if key not in others | role} | dict(changes)


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise DefinitionError(f"--set {override}: expected key=value, for example budget.trials=8")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = data
    for depth, part in enumerate(parts[:-1]):
        inner = table.setdefault(part, {})
        if depth == 0 and part in PIECES and isinstance(inner, str):
            inner = table[part] = {"base": inner}
        if not isinstance(inner, dict):
            raise DefinitionError(
                f"--set {override}: {'.'.join(parts[: depth + 1])} is {inner!r}, not a table"
            )
        table = inner
    table[parts[-1]] = value


def explain(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints as one line: key, value, what would do; then how many more."""
    # A key that is misspelt is also one that is missing: the misspelling is what to mend.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    path = _as_written([str(part) for part in first["loc"]], data)
    key = ".".join(path) or "definition"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; {_meant(path, data)}"
    elif first["type"] == "missing":
        message = "missing; give it a value"
    elif first["type"].startswith("union_tag"):
        key, message = f"{key}.source", _no_such_source(_source(data, path))
    elif not isinstance(first["input"], Mapping):
        message = f"{message[:1].lower()}{message[1:]}, but got {first['input']!r}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{key}: {message}{more}"


def _meant(path: list[str], data: Mapping[str, Any]) -> str:
    """The key that was meant: a hyperparameter belongs below `space`."""
    if len(path) == 1 and path[0] in TrialParams.model_fields:
        return f"did you mean space.{path[0]}?"
    return did_you_mean(path[-1], _known_keys(path[:-1], data))


def _as_written(path: list[str], data: Mapping[str, Any]) -> list[str]:
    """Where a key stands in the file, from where pydantic found it: without what only the parser knows."""
    if path[:2] == ["dataset", "joint"]:
        path = path[2:] if path[2:3] == ["datasets"] else ["joint", *path[2:]]
    if path[:2] == ["space", "dimensions"]:
        del path[1]
    place = 2 if path[:1] == ["datasets"] else 1
    if path[:1] in (["dataset"], ["datasets"]) and path[place : place + 1] == [_source(data, path)]:
        del path[place]
    return path


def _source(data: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The source of the data set in which a key stands; of several they are counted from 0."""
    table = data.get(path[0])
    if isinstance(table, list) and len(path) > 1 and path[1].isdigit():
        table = table[int(path[1])]
    return table.get("source") if isinstance(table, Mapping) else None


def _sources() -> dict[str, str]:
    """What `source` can be, with the name of its schema."""
    mapping = StudyConfig.model_json_schema()["properties"]["dataset"]["discriminator"]["mapping"]
    return {name: schema for name, schema in mapping.items() if name != "joint"}


def _no_such_source(given: object) -> str:
    mapping = _sources()
    if given is None:
        return f"missing; give it one of {', '.join(mapping)}"
    return f"no such source {given!r}; {did_you_mean(str(given), mapping)}"


def _known_keys(path: list[str], data: Mapping[str, Any]) -> list[str]:
    """The keys that the table at `path` could have."""
    schema = StudyConfig.model_json_schema()
    if path[:1] == ["joint"]:
        return [key for key in schema["$defs"]["JointDataset"]["properties"] if key not in FOLDED]
    node: dict[str, Any] = schema
    if path[:1] == ["datasets"]:
        named = _sources().get(str(_source(data, path)), "").rpartition("/")[2]
        node, path = schema["$defs"].get(named, {}), path[2:]
    for part in path:
        node = node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(_source(data, ["dataset"]), "")}
        if "$ref" in node:
            node = schema["$defs"].get(node["$ref"].rpartition("/")[2], {})
    written_otherwise = ["datasets", "joint"] if node is schema else []
    return [*node.get("properties", {}), *written_otherwise]
