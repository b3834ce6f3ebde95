"""`medfathom analyze`: studies and published tables in, verdicts and a report folder out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import pandas as pd
from optuna.study import Study

from medfathom.analysis import Analysis, analyze, from_trials, read_tables, write_report
from medfathom.analysis.pipeline import MARGIN
from medfathom.analysis.planning import Planned, plan_from
from medfathom.analysis.report import sentences
from medfathom.analysis.report.power import write_power
from medfathom.analysis.results import Exclusion
from medfathom.analysis.tables import Reading
from medfathom.analysis.told import CostOfTrial, FailureSignature, ToldOfStudy, TunedStratum
from medfathom.confirmation.comparison import ClassComparison, compare_confirmed
from medfathom.confirmation.find import by_configuration, definition_of, find_confirmation, pictures_of_best
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.confirmation.summary import (
    analysis_records,
    dataset_columns,
    joint_setting,
    summarize_confirmation,
)
from medfathom.dashboard.diagnosis import SIGNATURES, signatures
from medfathom.dashboard.notes import VERDICTS, save_note, study_note
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.joint import members
from medfathom.definitions.space import label
from medfathom.errors import ResultsError
from medfathom.files import home
from medfathom.shift import with_shifts
from medfathom.study.choice import rule_of
from medfathom.study.connection import default_url
from medfathom.study.front import COSTS, front_of, front_sentence
from medfathom.study.read import read_study, records
from medfathom.study.sources import sources_of
from medfathom.study.summary import once
from medfathom.study.tuning import tuning_sentences, tunings
from medfathom.text import command

EXPLORATORY = "-exploratory"
"""After a report's name: it never replaces the one on confirmed results."""


def analyze_all(
    studies: Sequence[str],
    tables: Sequence[Path] = (),
    *,
    storage: str | None = None,
    reading: Reading | None = None,
    margin: float = MARGIN,
    predictors: Sequence[str] = (),
    exploratory: bool = False,
    out: Path | None = None,
) -> tuple[Analysis, Path]:
    """Analyse studies and tables together and write the report.

    Args:
        studies: names in the storage.
        tables: CSV files of published results.
        storage: an Optuna storage URL.
        reading: how the tables are read.
        margin: AUC over the range of the architectures below which an effect is negligible.
        predictors: asked about beside parameters and depth, as `analysis.predictors.parse_predictor`
            reads them.
        exploratory: analyse the studies' search trials, not their confirmed results.
        out: the report's folder; by default named after studies and tables.

    Returns:
        The analysis, and the folder.

    Raises:
        InputError: no such study, table or column; a study is not confirmed; values that cannot be used.
    """
    found = _studies(storage or default_url(), studies, confirmed=not exploratory)
    frame, exclusions = _frame(found, tables, reading or Reading(), exploratory)
    folder = out or home() / "reports" / (_name(studies, tables) + EXPLORATORY * exploratory)
    analysis = replace(
        analyze(
            frame,
            margin=margin,
            predictors=predictors,
            exploratory=exploratory,
            exclusions=exclusions,
        ),
        confirmed=[s.summary.to_dict() for s in found if s.summary],
        model_comparison=[c.to_dict() for s in found for c in s.comparisons],
        studies=[_told(s.study) for s in found],
    )
    for each in found:
        if each.summary is not None:
            _note_verdicts(each.study, analysis)
    write_report(analysis, folder, [picture for s in found for picture in s.pictures])
    return analysis, folder


def plan_all(
    studies: Sequence[str],
    tables: Sequence[Path],
    *,
    storage: str | None = None,
    reading: Reading | None = None,
    margin: float = MARGIN,
    exploratory: bool = False,
) -> tuple[list[Planned], dict[str, str], list[Path]]:
    """What an analysis needs, from studies and tables as a pilot; arguments as in `analyze_all`.

    Returns:
        What is needed; for what no number can be given, and why; the picture and its data.

    Raises:
        InputError: as in `analyze_all`.
    """
    found = _studies(storage or default_url(), studies, confirmed=not exploratory)
    frame, _ = _frame(found, tables, reading or Reading(), exploratory)
    planned, without = plan_from(frame, margin=margin)
    return planned, without, write_power(planned, home() / "reports", _name(studies, tables))


def _name(studies: Sequence[str], tables: Sequence[Path]) -> str:
    return "-".join([*studies, *(t.stem for t in tables)])


def _frame(
    found: Sequence[_Found], tables: Sequence[Path], reading: Reading, exploratory: bool
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """The rows of studies and tables, and what was left out."""
    if not found and not tables:
        raise ResultsError("nothing to analyse: name a study, or give --table FILE.csv")
    parts = []
    if found:
        parts.append(from_trials([r for s in found for r in s.records], exploratory=exploratory))
    if tables:
        parts.append(read_tables(tables, reading=reading))
    exclusions = [left for _, left_out in parts for left in left_out]
    return pd.concat([frame for frame, _ in parts], ignore_index=True), exclusions


@dataclass(frozen=True)
class _Found:
    """What one study brings into an analysis; of a search, which is not confirmed, only its records."""

    study: Study
    records: list[dict[str, object]]
    summary: ConfirmationSummary | None = None
    comparisons: list[ClassComparison] = field(default_factory=list)
    pictures: list[tuple[str, Path, str]] = field(default_factory=list)


def _studies(url: str, names: Sequence[str], *, confirmed: bool) -> list[_Found]:
    """Raises ResultsError where confirmed results are wanted of a study that has none."""
    found, without = [], []
    for name in names:
        study = read_study(url, name)
        if not confirmed:
            found.append(_Found(study, _rows(_of_each_dataset(study, records(study)))))
            continue
        confirmation = find_confirmation(study)
        if confirmation is None or not by_configuration(confirmation):
            without.append(name)
            continue
        found.append(_confirmed(study, confirmation))
    if without:
        raise ResultsError(
            f"no confirmed results of {', '.join(without)}: `{command('confirm', without[0])}` makes them; "
            "--exploratory analyses the search trials instead, whose results must be confirmed"
        )
    return found


def _told(study: Study) -> ToldOfStudy:
    """What the study's record has of leakage, the positive class and how well its strata are tuned."""
    positive = (record.get("positive") for record in records(study))
    front, cost, costs = _costs(study)
    failures, diagnosed = _failures(study)
    return ToldOfStudy(
        study.study_name,
        study.user_attrs.get(LEAKAGE, ""),
        next((str(name) for name in positive if name is not None), None),
        *_tuned(study),
        front=front,
        cost=cost,
        costs=costs,
        asks=definition_of(study).asks,
        failures=failures,
        diagnosed=diagnosed,
        sources=_sources(study),
    )


def _sources(study: Study) -> dict[str, str]:
    """What the weights were trained on that its inits `study:NAME` stand for."""
    trained = {
        init: sorted({f"{source.dataset}, {source.modality}" for source in own.values()})
        for init, own in sources_of(study).items()
    }
    return {init: "; ".join(names) for init, names in trained.items()}


def _costs(study: Study) -> tuple[str, str, list[CostOfTrial]]:
    """The front in words, what the cost is, and all finished trials; nothing where AUC is alone."""
    front = front_of(study, study.get_trials(deepcopy=False))
    if front is None:
        return "", "", []
    rows = [
        CostOfTrial(t.number, t.stratum, t.auc, t.auc_ci_low, t.auc_ci_high, t.cost, on_front)
        for part, on_front in ((front.trials, True), (front.beaten, False))
        for t in part
    ]
    return front_sentence(front), COSTS[front.cost], rows


def _failures(study: Study) -> tuple[list[FailureSignature], int]:
    """Signatures of failure by count and by stratum, the most frequent first; trials looked at."""
    trials = once(study.get_trials(deepcopy=False))
    found = signatures(trials)
    stratum = {t.number: str(t.user_attrs.get("stratum", "")) for t in trials}
    of = Counter(stratum[number] for number in found)
    counted = []
    for word in SIGNATURES:
        mine = Counter(stratum[number] for number, words in found.items() if word in words)
        by_share = sorted(mine, key=lambda name: (-mine[name] / of[name], -mine[name]))
        if mine:
            strata = {name: (mine[name], of[name]) for name in by_share}
            counted.append(FailureSignature(word, mine.total(), strata))
    return sorted(counted, key=lambda each: -each.trials), len(found)


def _tuned(study: Study) -> tuple[list[TunedStratum], list[str]]:
    """How well a study's strata are tuned, and that in words; nothing where they are not compared."""
    config = definition_of(study)
    if config.goal != "compare":
        return [], []
    strata = [label(s) for s in config.space.strata()]
    found = tunings(once(study.get_trials(deepcopy=False)), strata, rule_of(study))
    rows = [
        TunedStratum(name, t.trials, t.among, t.expected, t.low, t.high, t.settled)
        for name, t in found.items()
    ]
    return rows, tuning_sentences(found)


def _of_each_dataset(study: Study, found: Iterable[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Records of search trials; one of several data sets becomes a record for each."""
    dataset = definition_of(study).dataset
    for record in found:
        several = record.get("datasets")
        if not isinstance(several, Mapping):
            yield record
            continue
        for name, own in several.items():
            setting = joint_setting(dataset, name, str(record.get("setting", "")))
            yield {**record, **own, **dataset_columns(dataset, name, study.study_name), "setting": setting}


def _rows(found: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """Records as rows of a table, with domain shifts; curves, versions and the like have no place there."""
    flat = ({k: v for k, v in record.items() if not isinstance(v, list | dict)} for record in found)
    return with_shifts(flat)


def _confirmed(study: Study, confirmation: Study) -> _Found:
    summary = summarize_confirmation(study, confirmation)
    return _Found(
        study,
        _rows(analysis_records(study, summary)),
        summary,
        compare_confirmed(summary),
        pictures_of_best(summary),
    )


def _note_verdicts(study: Study, analysis: Analysis) -> None:
    """Put the verdicts of the study's modalities into its note."""
    modalities = dict.fromkeys(one.modality for one in members(definition_of(study).dataset))
    words = [sentences.verdicts(name, analysis.modalities[name]).values() for name in modalities]
    study.set_user_attr(VERDICTS, list(chain.from_iterable(words)))
    save_note(study, study_note(study, study.get_trials(deepcopy=False)))
