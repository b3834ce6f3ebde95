"""The checklists, read from the TOML files beside this module. Item texts are our own short words."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field

from medfathom.definitions.schema import Schema
from medfathom.errors import InputError

CHECKLISTS = ("claim", "tripod-ai", "stard-ai")


class Item(Schema):
    """One item.

    Attributes:
        number: in the published checklist; empty: this file leaves numbers out.
        section: of the checklist.
        text: what is asked for, in our words.
        facts: keys of `facts.FACTS` that answer it.
        ask: what only the author knows; empty: the facts are all.
    """

    number: str = ""
    section: str
    text: str
    facts: list[str] = Field(default_factory=list)
    ask: str = ""


class Checklist(Schema):
    """A checklist; `source` is the publication, `note` what a reader must know of this form of it."""

    title: str
    about: str
    source: str
    note: str = ""
    items: list[Item]


def read_checklist(name: str) -> Checklist:
    """One of `CHECKLISTS`.

    Raises:
        InputError: there is none of this name.
    """
    if name not in CHECKLISTS:
        raise InputError(f"--checklist {name}: no such checklist; choose claim, tripod-ai or stard-ai")
    text = Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    return Checklist.model_validate(tomllib.loads(text))
