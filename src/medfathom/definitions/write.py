"""`StudyConfig` -> TOML that gives the same study again."""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.joint import unfolded


def key_line(key: str, value: object) -> str:
    """One `key = value` of a table, in one line."""
    if isinstance(value, list):
        return f"{key} = [{', '.join(key_line('_', item).partition(' = ')[2] for item in value)}]"
    return tomli_w.dumps({key: value}).strip()


def resolved(config: StudyConfig) -> str:
    """The whole definition, with every default and without names of pieces, as TOML."""
    content = dict(unfolded(config.model_dump(mode="json", exclude_none=True)))
    space = content["space"]
    content["space"] = {k: v for k, v in space.items() if k != "dimensions"} | {
        name: _dimension(dimension) for name, dimension in space["dimensions"].items()
    }
    return tomli_w.dumps(content)


def _dimension(dimension: Mapping[str, object]) -> dict[str, object]:
    """Without `log = false`, which goes with a range alone."""
    return {k: v for k, v in dimension.items() if k != "log" or v}
