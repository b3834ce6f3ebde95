"""A report as Markdown, and as HTML that word processors open with its tables whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from medfathom.reporting.filled import FilledItem, Report

STATES = {"filled": "filled in", "partly": "filled in, with a question", "open": "question"}

STYLE = (
    "body{font-family:Calibri,Arial,sans-serif;font-size:11pt;max-width:60em;margin:2em auto}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #999;padding:4pt;vertical-align:top;"
    "text-align:left}.source{color:#555;font-size:9pt}.ask{font-weight:bold}"
)


def summary_line(report: Report) -> str:
    """How many items are filled in."""
    filled, partly, asked = (report.count(state) for state in STATES)
    return (
        f"{len(report.items)} items: {filled} filled in from the record, {partly} filled in with a question "
        f"to the author, {asked} for the author alone."
    )


def as_markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [
        f"# {report.checklist}: {report.study}",
        "",
        f"{report.about}. {report.source}. Item texts are in medfathom's words.",
        *(["", report.note] if report.note else []),
        "",
        summary_line(report),
        "",
        "## Methods paragraph",
        "",
        report.methods,
    ]
    for section, items in _sections(report.items):
        lines += ["", f"## {section}", ""]
        for item in items:
            lines += _markdown_item(item)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_item(item: FilledItem) -> list[str]:
    number = f"{item.number}. " if item.number else ""
    facts = [f"- {fact.text} *({fact.source})*" for fact in item.facts]
    questions = [f"- **To the author:** {question}" for question in item.questions]
    return [f"**{number}{item.text}**", "", *facts, *questions, ""]


def as_html(report: Report) -> str:
    """The report as one HTML file: plain tables, no script."""
    parts = [
        f"<h1>{escape(report.checklist)}: {escape(report.study)}</h1>",
        f"<p>{escape(report.about)}. {escape(report.source)}. Item texts are in medfathom's words.</p>",
        f"<p>{escape(report.note)}</p>" if report.note else "",
        f"<p>{escape(summary_line(report))}</p>",
        f"<h2>Methods paragraph</h2><p>{escape(report.methods)}</p>",
    ]
    for section, items in _sections(report.items):
        rows = "".join(_html_row(item) for item in items)
        head = "<tr><th>No.</th><th>Item</th><th>Answer</th></tr>"
        parts.append(f"<h2>{escape(section)}</h2><table>{head}{rows}</table>")
    title = f"{escape(report.checklist)}: {escape(report.study)}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _html_row(item: FilledItem) -> str:
    facts = "".join(
        f'<p>{escape(fact.text)} <span class="source">({escape(fact.source)})</span></p>'
        for fact in item.facts
    )
    asked = "".join(f'<p class="ask">To the author: {escape(question)}</p>' for question in item.questions)
    return f"<tr><td>{escape(item.number)}</td><td>{escape(item.text)}</td><td>{facts}{asked}</td></tr>"


def _sections(items: Sequence[FilledItem]) -> Iterator[tuple[str, list[FilledItem]]]:
    """Sections in order, each once."""
    for section in dict.fromkeys(item.section for item in items):
        yield section, [item for item in items if item.section == section]
