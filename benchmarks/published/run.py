"""What published tables say today on size, depth and ImageNet accuracy: every table analysed, one page.

    python benchmarks/published/run.py [--shared ../shared/tables] [--reports DIR] [--page docs/published.md]

`sources.toml` names the tables. Each is analysed by itself, with a report of its own below --reports; those
with AUCs are then analysed together, networks being compared only within one table. The page follows.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pandas as pd

from medfathom.analysis import Analysis, analyze, read_tables, write_report
from medfathom.analysis.report.drawing import VERDICT_COLOURS, between, signed
from medfathom.analysis.report.overview import answers
from medfathom.analysis.report.sentences import headline
from medfathom.analysis.tables import Reading

HERE = Path(__file__).parent
AUC = "AUC"
TOGETHER = "All tables of AUC together"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table of `sources.toml`."""

    name: str
    file: str
    source: str
    licence: str
    what: str
    outcome: str = "auc"
    metric: str = AUC
    percent: bool = False
    maps: dict[str, str] = field(default_factory=dict)
    wheres: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)

    def path(self, shared: Path) -> Path:
        """Where the file lies."""
        start, _, name = self.file.rpartition("shared:")
        return shared / name if start or self.file.startswith("shared:") else HERE / "tables" / name

    def rows(self, shared: Path) -> pd.DataFrame:
        """The rows, as `analyze` takes them; the table's own other columns of words are left out."""
        maps = self.maps if self.outcome == "auc" else {**self.maps, "auc": self.outcome}
        reading = Reading(
            maps=maps,
            wheres=self.wheres,
            fixed=self.fixed,
            names=self.names,
            settings=self.settings,
            percent=self.percent,
        )
        return read_tables([self.path(shared)], reading=reading)[0]


@dataclass(frozen=True)
class Effort:
    """How much is simulated, as `analyze` takes it."""

    draws: int
    permutations: int


def sources() -> list[Source]:
    """All tables, in the order of the file."""
    return [Source(**entry) for entry in tomllib.loads((HERE / "sources.toml").read_text("utf-8"))["table"]]


def analysed(source: Source, rows: pd.DataFrame, reports: Path, effort: Effort) -> Analysis:
    """A table's analysis, and its report written."""
    found = analyze(rows, draws=effort.draws, permutations=effort.permutations)
    if source.metric != AUC:
        found = replace(
            found, notes=[f"the outcome is {source.metric}: read AUC as {source.metric}", *found.notes]
        )
    write_report(found, reports / source.path(Path()).stem)
    return found


def together(parts: Sequence[tuple[Source, pd.DataFrame]]) -> pd.DataFrame:
    """One frame of all tables; networks are compared within a data set, a setting and a table."""
    columns = [
        "architecture",
        "dataset",
        "modality",
        "auc",
        "init",
        "unfreeze_depth",
        "setting",
        "n_params",
        "depth",
    ]
    frames = []
    for source, rows in parts:
        own = rows.reindex(columns=[*columns, "family", "_row", "_source"])
        own["setting"] = (
            source.file + "; " + own["setting"].astype(object).where(own["setting"].notna(), "").astype(str)
        )
        frames.append(own.dropna(axis="columns", how="all"))
    return pd.concat(frames, ignore_index=True)


def lines(name: str, metric: str, found: Analysis) -> Iterator[list[str]]:
    """One line of the page's table for each modality and predictor with a slope."""
    for modality, answer in answers(found):
        low, high = (answer.predictor.shown(value) for value in answer.range)
        yield [
            modality,
            answer.predictor.noun,
            name,
            metric,
            str(answer.n_architectures),
            str(len(answer.per_dataset)),
            f"{low} to {high}",
            f"{signed(answer.effect)} ({_interval(answer.effect_ci95)})",
            answer.verdict,
        ]


def _interval(ends: tuple[float | None, float | None]) -> str:
    """An interval for reading; one that leaves out no difference between AUCs is not spelled out."""
    if any(end is None or abs(end) > 1 for end in ends):
        return "anything"
    return between(ends)


HEADINGS = [
    "predictor",
    "table",
    "outcome",
    "networks",
    "data sets",
    "range",
    "effect over the range (95 %)",
    "verdict",
]


def contradictions(found: Sequence[tuple[Source, Analysis]]) -> list[str]:
    """Pairs of tables of one modality whose 95 % intervals lie on different sides of 0."""
    sides: dict[tuple[str, str], dict[str, list[str]]] = {}
    for source, analysis in found:
        for modality, answer in answers(analysis):
            low, high = answer.effect_ci95
            side = "up" if low is not None and low > 0 else "down" if high is not None and high < 0 else ""
            if side:
                key = modality, answer.predictor.noun
                told = f"{source.name} ({signed(answer.effect)} {source.metric})"
                sides.setdefault(key, {"up": [], "down": []})[side].append(told)
    return [
        f"**{modality}, {noun}**: up in {', '.join(both['up'])}; down in {', '.join(both['down'])}."
        for (modality, noun), both in sides.items()
        if both["up"] and both["down"]
    ]


def depend(found: Sequence[tuple[Source, Analysis]]) -> list[str]:
    """Data sets of one table and modality whose slopes differ significantly."""
    return [
        f"**{modality}, {answer.predictor.noun}** in {source.name}: slopes differ between its "
        f"{len(answer.per_dataset)} data sets (p = {answer.heterogeneity.p_value:.2g})."
        for source, analysis in found
        for modality, answer in answers(analysis)
        if answer.heterogeneity
        and answer.heterogeneity.p_value is not None
        and answer.heterogeneity.p_value <= 0.05
    ]


def page(
    found: Sequence[tuple[Source, Analysis]],
    whole: Analysis | None,
    absent: Sequence[Source],
    counts: tuple[int, int],
    effort: Effort,
) -> str:
    """docs/published.md."""
    architectures, modalities = counts
    parts = [
        "# What published tables say today\n",
        f"{date.today()}. {len(found)} published tables with {architectures} architectures and {modalities} "
        "modalities were analysed, each by itself with `analyze` (margin 0.01 over the range of its "
        "networks, Holm's method within the table). Then all tables of AUC were analysed together. This "
        f"page is written by `python benchmarks/published/run.py --draws {effort.draws} --permutations "
        f"{effort.permutations}`; no number in it is typed by hand. It shows what these tables say about the "
        "networks that their authors chose.\n",
        "## In short\n",
        *_in_short(found),
    ]
    if whole is not None:
        parts.append(f"## {TOGETHER}\n")
        parts += [f"- **{name}**: {headline(each)}" for name, each in sorted(whole.modalities.items())]
        parts.append(
            "\nNetworks are compared only within one table, data set and setting. "
            "A verdict on one or two data sets applies to these alone.\n"
        )
        parts.append(_table(["modality", *HEADINGS], list(lines("together", AUC, whole))))
    rows = [line for source, analysis in found for line in lines(source.name, source.metric, analysis)]
    for modality in sorted({row[0] for row in rows}):
        parts.append(f"## {modality}\n")
        own = [row[1:] for row in rows if row[0] == modality]
        parts.append(_table(HEADINGS, sorted(own, key=lambda row: row[0])))
    parts.append("## Where tables contradict one another\n")
    said = [*contradictions(found), *depend(found)]
    parts.append("\n".join(f"- {each}" for each in said) + "\n" if said else "Nowhere.\n")
    parts.append("Intervals on different sides of 0, not adjusted for the number of tables.\n")
    parts.append("## Pretraining\n")
    parts.append(
        _table(
            ["table", "data set", "unfreeze depth", "inits", "networks", "gain (95 %)"], list(_gains(found))
        )
    )
    parts.append("## The tables\n")
    parts.append(
        _table(
            ["table", "what", "rows", "source", "licence"],
            [[s.name, s.what, str(len(a.rows)), s.source, s.licence] for s, a in found],
        )
    )
    if absent:
        parts.append(f"Not at hand when this page was written: {', '.join(s.name for s in absent)}.\n")
    parts.append((HERE / "after.md").read_text("utf-8"))
    return "\n".join(parts)


def _in_short(found: Sequence[tuple[Source, Analysis]]) -> Iterator[str]:
    """How often each verdict was reached, by predictor; a sentence each."""
    verdicts: dict[str, list[str]] = {}
    for source, analysis in found:
        for modality, answer in answers(analysis):
            verdicts.setdefault(answer.predictor.noun, []).append(answer.verdict)
            if answer.verdict != "inconclusive":
                noun, metric = answer.predictor.noun, source.metric
                yield f"- {modality}, {source.name}: {noun}: {answer.verdict} (outcome: {metric})."
    for noun, own in verdicts.items():
        counted = ", ".join(f"{own.count(word)} {word}" for word in VERDICT_COLOURS)
        yield f"- **{noun}**: {len(own)} answers, one for each table and modality: {counted}."
    yield ("\nInconclusive means that the table has too few networks, or results too noisy, for an answer.\n")


def _gains(found: Sequence[tuple[Source, Analysis]]) -> Iterator[list[str]]:
    for source, analysis in found:
        for b in analysis.pretraining_benefit:
            if b.architecture is None:
                ends = between(b.mean.ci95)
                gain = f"{signed(b.mean.benefit)}{f' ({ends})' if ends else ''}"
                yield [
                    source.name,
                    b.dataset,
                    b.unfreeze_depth,
                    f"{b.init} less {b.baseline}",
                    str(b.mean.n),
                    gain,
                ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    listed = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in listed) + "\n" if rows else "None.\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=HERE.parents[2] / "shared" / "tables")
    parser.add_argument("--reports", type=Path, default=Path("storage/reports/published"))
    parser.add_argument("--draws", type=int, default=12_000, help="of the calibration, as analyze has it")
    parser.add_argument("--permutations", type=int, default=9_999, help="likewise")
    parser.add_argument("--page", type=Path, default=HERE.parents[1] / "docs" / "published.md")
    options = parser.parse_args()
    listed, effort = sources(), Effort(options.draws, options.permutations)
    absent = [source for source in listed if not source.path(options.shared).is_file()]
    read = [(source, source.rows(options.shared)) for source in listed if source not in absent]
    found = []
    for source, rows in read:
        found.append((source, analysed(source, rows, options.reports, effort)))
        print(source.name, len(rows), "rows", flush=True)
    rows = pd.concat([analysis.rows for _, analysis in found])
    counts = rows["architecture"].nunique(), rows["modality"].nunique()
    options.page.write_text(page(found, None, absent, counts, effort), "utf-8")
    aucs = [(source, rows) for source, rows in read if source.metric == AUC]
    whole = analyze(together(aucs), draws=effort.draws, permutations=effort.permutations)
    write_report(whole, options.reports / "together")
    options.page.write_text(page(found, whole, absent, counts, effort), "utf-8")
    print(f"{len(found)} tables, {counts[0]} architectures, {counts[1]} modalities -> {options.page}")


if __name__ == "__main__":
    main()
