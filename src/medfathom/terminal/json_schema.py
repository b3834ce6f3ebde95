"""JSON schemas of typed values: a dataclass, a TypedDict or a pydantic model -> its schema, draft 2020-12.

What a key means comes from the docstring of the class. `Annotated[…, SomeClass]` stands for the JSON form of
that class; where `to_dict` of a dataclass returns a TypedDict, that is its form. The metadata of fields
(`analysis.as_json`) is followed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue

Schema = JsonSchemaValue
"""A JSON schema, or a part of one."""

Kinds = dict[str, object]
"""Name -> type."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN = {
    str: "string",
    Path: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    types.NoneType: "null",
}
"""Python's type -> its name in a schema."""

ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n     +.*)*)", re.MULTILINE)
"""An entry below `Attributes:` of a docstring: its names, and what they are."""


def schema_of(kind: Any, *, instead: Mapping[str, object] | None = None, nan_is_null: bool = False) -> Schema:
    """The schema of the JSON form of values of a type.

    Args:
        kind: the type.
        instead: field of that type -> the type of its JSON form, where its annotation does not tell.
        nan_is_null: numbers that are not finite are written as `null`.
    """
    writer = _Writer(nan_is_null)
    writer.instead = dict(instead or {})
    schema = writer.of(kind)
    return {"$schema": DIALECT, **schema, "$defs": dict(sorted(writer.definitions.items()))}


class _Writer:
    """Writes parts of one schema; classes go into its definitions, once each."""

    def __init__(self, nan_is_null: bool) -> None:
        self.definitions: dict[str, Schema] = {}
        self.instead: Kinds = {}
        self._nan_is_null = nan_is_null
        self._names: dict[Any, str] = {}

    def of(self, kind: Any) -> Schema:
        origin, parts = get_origin(kind), get_args(kind)
        if origin in (Annotated, Required, NotRequired):
            return self.of(next((part for part in parts[1:] if isinstance(part, type)), parts[0]))
        if kind in PLAIN:
            null = kind is float and self._nan_is_null
            return {"type": [PLAIN[kind], "null"] if null else PLAIN[kind]}
        if origin is Literal:
            return {"enum": list(parts)}
        if origin in (Union, types.UnionType):
            return _any_of([self.of(part) for part in parts])
        if isinstance(origin, type):
            return self._collection(origin, parts)
        return self._class(kind) if isinstance(kind, type) and kind is not object else {}

    def _collection(self, origin: type, parts: tuple[Any, ...]) -> Schema:
        if issubclass(origin, Mapping):
            inner = self.of(parts[1])
            return {"type": "object"} | ({"additionalProperties": inner} if inner else {})
        if issubclass(origin, tuple) and parts[1:] != (...,):
            items = [self.of(part) for part in parts]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if issubclass(origin, Sequence):
            return {"type": "array", "items": self.of(parts[0])}
        return {}

    def _class(self, kind: type) -> Schema:
        if issubclass(kind, BaseModel):
            return self._model(kind)
        if not (is_dataclass(kind) or is_typeddict(kind)):
            return {}
        if kind not in self._names:
            taken = kind.__name__ in self.definitions
            name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}" if taken else kind.__name__
            self._names[kind] = name
            self.definitions[name] = {}  # a class may hold itself
            self.definitions[name] = self._object(kind)
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _model(self, kind: type[BaseModel]) -> Schema:
        schema = kind.model_json_schema(ref_template="#/$defs/{model}", mode="serialization")
        parts = schema.pop("$defs", {}) | {kind.__name__: schema}
        for part in parts.values():  # all keys are written, but some models leave out those that are null
            known = part.get("properties", {})
            part["required"] = [name for name in known if not _nullable(known[name])]
        self.definitions |= parts
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def _object(self, kind: type) -> Schema:
        form = _hints(kind.to_dict).get("return") if hasattr(kind, "to_dict") else None
        if isinstance(form, type) and is_dataclass(kind) and is_typeddict(form):
            return self._object(form)
        properties, required, open_to = self._properties(kind)
        found: Schema = {"type": "object", "description": _summary(kind), "properties": properties}
        return {**found, "required": required, **({"patternProperties": open_to} if open_to else {})}

    def _properties(self, kind: type) -> tuple[Schema, list[str], Schema]:
        """The keys, those that are always there, and those whose names only begin alike."""
        hints, meanings = _hints(kind), meanings_of(kind)
        instead, self.instead = self.instead, {}
        properties: Schema = {}
        required: list[str] = []
        open_to: Schema = {}
        for name, how, always in _fields(kind):
            hint = instead.get(name, hints[name])
            if how == "flat":
                self._flat(name, hint, properties, required, open_to)
                continue
            inner = self.of(hint)
            properties[name] = inner | ({"description": meanings[name]} if name in meanings else {})
            required += [name] if always else []
        return properties, required, open_to

    def _flat(self, name: str, hint: Any, into: Schema, required: list[str], open_to: Schema) -> None:
        """The keys of a value that stand in its place; of one of several classes, or of a mapping."""
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        always: list[set[str]] = []
        for kind in kinds:
            if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
                open_to[f"^{name}_"] = self.of(get_args(kind)[1])
                continue
            properties, needed, more = self._properties(kind)
            into |= properties
            open_to |= more
            always.append(set(needed))
        required += sorted(set.intersection(*always)) if always else []


def _nullable(schema: Schema) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())


def _any_of(schemas: list[Schema]) -> Schema:
    """One of several; plain types become one list of types."""
    unique = [schema for k, schema in enumerate(schemas) if schema not in schemas[:k]]
    if {} in unique:
        return {}
    if all(set(schema) == {"type"} for schema in unique):
        names = [schema["type"] for schema in unique]
        flat = dict.fromkeys(x for name in names for x in (name if isinstance(name, list) else [name]))
        return {"type": list(flat)} if len(flat) > 1 else unique[0]
    return {"anyOf": unique} if len(unique) > 1 else unique[0]


def _fields(kind: type) -> list[tuple[str, str | None, bool]]:
    """Name, form in JSON and whether it is always there, of each field."""
    if is_typeddict(kind):
        return [(name, None, get_origin(hint) is not NotRequired) for name, hint in _hints(kind).items()]
    told = [(each.name, each.metadata.get("json")) for each in fields(kind)]
    return [(name, how, how != "optional") for name, how in told if how != "hidden"]


def _hints(of: Any) -> Kinds:
    """Annotations as types, also those that are imported for annotations alone."""
    try:
        return get_type_hints(of, include_extras=True)
    except NameError:
        names = _for_annotations(sys.modules[of.__module__])
        return get_type_hints(of, localns=names, include_extras=True)


def _for_annotations(module: types.ModuleType) -> Kinds:
    """What a module imports below `if TYPE_CHECKING:`."""
    found: Kinds = {}
    for block in ast.parse(inspect.getsource(module)).body:
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING":
            for line in block.body:
                found |= _imported(line)
    return found


def _imported(line: ast.stmt) -> Kinds:
    if isinstance(line, ast.ImportFrom):
        source = importlib.import_module(line.module or "")
        return {alias.asname or alias.name: getattr(source, alias.name, Any) for alias in line.names}
    names = line.names if isinstance(line, ast.Import) else []
    return {alias.asname or alias.name: importlib.import_module(alias.name) for alias in names}


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].split())


def meanings_of(kind: type) -> dict[str, str]:
    """Field -> what it means: from `Attributes:` of the docstring, or the text below the field.

    Fields that a class of this program inherits are among them.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("medfathom."):
            found |= _own_meanings(each)
    return found


def _own_meanings(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for names, text in ATTRIBUTE.findall(inspect.cleandoc(kind.__doc__ or "")):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    module = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    classes = [each for each in module.body if isinstance(each, ast.ClassDef) and each.name == kind.__name__]
    body = classes[0].body if classes else []  # a TypedDict that a call made has no body
    for line, below in pairwise(body):
        told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        text = ast.literal_eval(below.value) if told else None  # type: ignore[attr-defined]
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(text, str):
            found[line.target.id] = " ".join(text.split())
    return found
