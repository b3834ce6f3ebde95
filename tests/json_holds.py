"""What `--json` prints is as its schema says: `holds("show", value)`."""

import json
from typing import Any

import jsonschema

from medfathom.terminal.schemas import json_schema


def closed(schema: Any) -> Any:
    """The schema, in which a key that it does not tell is an error."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(each) for key, each in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


def holds(command: str, value: Any) -> None:
    """The value is as the schema says, as JSON has it, and has no other keys."""
    jsonschema.validate(json.loads(json.dumps(value)), closed(json_schema(command)))
