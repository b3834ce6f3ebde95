"""A checklist filled in from a study's record: each item with what is known, or a question to the author."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, TypedDict

from medfathom.reporting.checklists import Checklist, Item
from medfathom.reporting.facts import FACTS
from medfathom.reporting.methods import methods_paragraph
from medfathom.reporting.record import Fact, StudyRecord


class ItemJson(TypedDict):
    """One item: what the checklist asks for, what the record says and does not say, and its state."""

    number: str
    section: str
    text: str
    facts: list[Annotated[dict[str, object], Fact]]
    questions: list[str]
    state: str


@dataclass(frozen=True)
class FilledItem:
    """One item.

    Attributes:
        number, section, text: as in the checklist.
        facts: what the record says, each with its source.
        questions: what the record does not say.
    """

    number: str
    section: str
    text: str
    facts: Sequence[Fact]
    questions: Sequence[str]

    @property
    def state(self) -> str:
        """`filled`, `partly` or `open`."""
        if not self.questions:
            return "filled"
        return "partly" if self.facts else "open"

    def to_dict(self) -> ItemJson:
        """JSON form."""
        return {
            "number": self.number,
            "section": self.section,
            "text": self.text,
            "facts": [asdict(fact) for fact in self.facts],
            "questions": list(self.questions),
            "state": self.state,
        }


@dataclass(frozen=True)
class Report:
    """A study as a checklist asks for it.

    Attributes:
        study: its name.
        checklist: its title; `about`, `source` and `note` as its file says.
        items: in the checklist's order.
        methods: a paragraph that says what was done.
    """

    study: str
    checklist: str
    about: str
    source: str
    note: str
    items: Sequence[FilledItem]
    methods: str

    def count(self, state: str) -> int:
        """Items of a state."""
        return sum(item.state == state for item in self.items)

    def to_dict(self) -> dict[str, object]:
        """JSON form."""
        return asdict(self) | {"items": [item.to_dict() for item in self.items]}


def fill(checklist: Checklist, record: StudyRecord) -> Report:
    """Fill a checklist in."""
    return Report(
        study=record.name,
        checklist=checklist.title,
        about=checklist.about,
        source=checklist.source,
        note=checklist.note,
        items=[_filled(item, record) for item in checklist.items],
        methods=methods_paragraph(record),
    )


def _filled(item: Item, record: StudyRecord) -> FilledItem:
    answers = [FACTS[key](record) for key in item.facts]
    asked = [answer for answer in answers if isinstance(answer, str)]
    facts = [answer for answer in answers if isinstance(answer, Fact)]
    # "Confirm first" answers many facts of one item: it is asked once.
    questions = list(dict.fromkeys([*asked, *([item.ask] if item.ask else [])]))
    return FilledItem(item.number, item.section, item.text, facts, questions)
