"""The tables of a report, folded away at its end: what was found, number by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medfathom.analysis.pipeline import Analysis, ModalityFindings, NothingCompared
from medfathom.analysis.questions.moderation import Difference
from medfathom.analysis.report.numbers import interval, number, p_value, per_unit, per_unit_interval
from medfathom.analysis.report.sentences import NAMES
from medfathom.analysis.report.setting_tables import setting_tables
from medfathom.analysis.report.table import MOST_ROWS, Table, more_rows
from medfathom.analysis.size.association import Association, NoSlope

Answers = Mapping[str, Association | NoSlope]


def tables(analysis: Analysis) -> list[Table]:
    """All tables with something in them, in the order of the report."""
    found = [
        table for name, modality in analysis.modalities.items() for table in _of_modality(name, modality)
    ]
    found += [
        _between_modalities(analysis),
        *setting_tables(analysis),
    ]
    found += [_gap(analysis), _left_out(analysis), _results(analysis)]
    return [table for table in found if table.rows]


def _of_modality(name: str, found: ModalityFindings | NothingCompared) -> list[Table]:
    answers = {**found.predictors, found.imagenet.predictor.name: found.imagenet}
    return [
        _numbers(name, answers),
        _by_dataset(name, answers),
        _margins(name, answers),
        _together(name, found),
        _sensitivity(name, answers),
        _moderation(name, found),
    ]


QUANTITIES: dict[str, Callable[[Association], str]] = {
    "verdict": lambda a: a.verdict,
    "effect over the range (AUC)": lambda a: number(a.effect),
    "95 % interval of the effect": lambda a: interval(a.effect_ci95),
    "95 % prediction interval, another data set": lambda a: interval(a.prediction95),
    "slope": lambda a: f"{per_unit(a.slope)} {'' if a.predictor.level else a.predictor.change}",
    "95 % interval of the slope": lambda a: per_unit_interval(a.ci95),
    "p": lambda a: p_value(a.p_value),
    "p (Holm)": lambda a: p_value(a.p_holm),
    "smallest p possible with this design": lambda a: p_value(a.smallest_reachable_p),
    "p within families": lambda a: p_value(a.p_within_family),
    "p of equivalence": lambda a: p_value(a.p_equivalence),
    "p of equivalence (Holm)": lambda a: p_value(a.p_equivalence_holm),
    "Spearman, Kendall": lambda a: f"{number(a.ranks.spearman, 2)}, {number(a.ranks.kendall, 2)}",
    "architectures": lambda a: number(a.n_architectures, 0),
    "architectures needed": lambda a: number(a.architectures_needed, 0),
    "applies to": lambda a: a.speaks_for,
    "spread of slopes over data sets (tau)": lambda a: per_unit(getattr(a.heterogeneity, "tau", None)),
    "p of different slopes by data set": lambda a: p_value(getattr(a.heterogeneity, "p_value", None)),
    "largest p without one architecture": lambda a: _without(a.diagnostics.architecture),
    "largest p without one family": lambda a: _without(a.diagnostics.family),
    "median slope of all pairs (Theil-Sen)": lambda a: per_unit(a.diagnostics.robust_slope),
    "p of curvature": lambda a: p_value(getattr(a.diagnostics.curve, "p_value", None)),
    "range of the fitted parabola (AUC)": lambda a: number(getattr(a.diagnostics.curve, "reach", None)),
    "method": lambda a: a.method,
}  # fmt: skip
"""A row each of a modality's numbers."""


def _without(left: object) -> str:
    return "–" if left is None else f"{left.left_out}: p = {p_value(left.p_value)}"  # type: ignore[attr-defined]


def _numbers(name: str, answers: Answers) -> Table:
    shown = [answer for answer in answers.values() if isinstance(answer, Association)]
    rows = [[what, *(told(answer) for answer in shown)] for what, told in QUANTITIES.items()] if shown else []
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return Table(f"{name}: all numbers", ["", *(answer.predictor.noun for answer in shown)], rows)


def _by_dataset(name: str, answers: Answers) -> Table:
    rows = [
        [
            answer.predictor.noun,
            dataset,
            per_unit(each.estimate.slope),
            per_unit_interval(each.estimate.ci95),
            str(each.n_architectures),
            each.reason,
        ]
        for answer in answers.values()
        if isinstance(answer, Association) and len(answer.per_dataset) > 1
        for dataset, each in answer.per_dataset.items()
    ]
    return Table(
        f"{name}: slopes by data set",
        ["predictor", "data set", "slope", "95 % interval", "architectures", "remark"],
        rows,
    )


def _margins(name: str, answers: Answers) -> Table:
    shown = [answer for answer in answers.values() if isinstance(answer, Association)]
    margins = shown[0].curve_of_margins if shown else {}
    rows = [[f"±{m}", *(p_value(answer.curve_of_margins.get(m)) for answer in shown)] for m in margins]
    note = (
        "A small p-value shows that the effect over the range is smaller than the margin (before Holm's "
        "method)."
    )
    return Table(
        f"{name}: would another margin change the verdict?",
        ["margin (AUC)", *(a.predictor.noun for a in shown)],
        rows,
        note,
    )


def _together(name: str, found: ModalityFindings | NothingCompared) -> Table:
    joint = found.joint
    rows = [
        [NAMES[predictor], number(a.slope), interval(a.ci95), p_value(a.p_value)]
        for predictor, a in joint.partial.items()
    ]
    headings = ["predictor, the other held fixed", "slope", "95 % interval", "p"]
    if joint.r2_total is None or joint.r2_adjusted is None:
        return Table(name, headings, [])
    (one, first), (other, second) = ((n, share or 0.0) for n, share in joint.r2_unique.items())
    shared, names = joint.r2_shared or 0.0, (NAMES[one], NAMES[other])
    note = (
        f"Variance between architectures explained by {names[0]} alone: {_percent(first + shared)}; by "
        f"{names[1]} alone: {_percent(second + shared)}; by both: {_percent(joint.r2_total)} "
        f"({_percent(joint.r2_adjusted)} adjusted for two predictors). With {names[1]} known, {names[0]} "
        f"adds {_percent(first)}. With {names[0]} known, {names[1]} adds {_percent(second)}. Shared by both: "
        f"{_percent(shared)} (a negative share means that each hides the effect of the other). Their "
        "correlation is "
        f"{number(joint.predictor_correlation, 2)}.{f' Note: {joint.reason}.' if joint.reason else ''}"
    )
    return Table(f"{name}: both predictors together", headings, rows, note)


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"


def _sensitivity(name: str, answers: Answers) -> Table:
    rows = [
        [
            a.predictor.noun,
            s.name,
            s.unit,
            per_unit(s.estimate.slope),
            per_unit_interval(s.estimate.ci95),
            p_value(s.estimate.p_value),
            s.reason,
        ]
        for a in answers.values()
        for s in a.sensitivity
    ]
    return Table(
        f"{name}: the same question with other choices of the analysis",
        ["predictor", "choice", "unit", "slope", "95 % interval", "p", "remark"],
        rows,
    )


def _moderation(name: str, found: ModalityFindings | NothingCompared) -> Table:
    rows = [
        [
            moderator,
            NAMES[predictor],
            *_cells(pair),
        ]
        for moderator, m in found.moderation.items()
        for predictor, a in m.predictors.items()
        for pair in a.pairs
    ]
    headings = [
        "moderator",
        "predictor",
        "levels",
        *DIFFERENCE,
    ]
    return Table(f"{name}: do slopes differ between inits or unfreeze depths?", headings, rows)


DIFFERENCE = ("difference of slopes", "95 % interval", "p (Holm)", "architectures")


def _cells(pair: Difference) -> list[str]:
    """A difference of slopes, under its levels' heading and `DIFFERENCE`."""
    return [
        " → ".join(pair.levels),
        number(pair.difference),
        interval(pair.ci95),
        p_value(pair.p_holm),
        str(pair.n_architectures),
    ]


def _between_modalities(analysis: Analysis) -> Table:
    rows = [
        [
            NAMES[predictor],
            *_cells(pair),
            pair.speaks_for or "",
        ]
        for predictor, a in analysis.modality_difference.items()
        for pair in a.pairs
    ]
    headings = [
        "predictor",
        "modalities",
        *DIFFERENCE,
        "applies to",
    ]
    return Table("Do slopes differ between modalities?", headings, rows)


def _gap(analysis: Analysis) -> Table:
    rows = [
        [
            kind,
            number(g.mean_gap),
            NAMES[predictor],
            number(a.estimate.slope),
            interval(a.estimate.ci95),
            p_value(a.estimate.p_value),
        ]
        for kind, g in analysis.generalisation_gap.modalities.items()
        for predictor, a in g.predictors.items()
    ]
    split = "validation" if analysis.exploratory else "test"
    headings = ["modality", "mean gap", "predictor", "slope", "95 % interval", "p"]
    return Table(
        "Generalisation gap", headings, rows, f"Training AUC minus {split} AUC, and its slope against size."
    )


def _left_out(analysis: Analysis) -> Table:
    rows = [[left.reason, str(left.rows), left.source] for left in analysis.exclusions]
    return Table("Results that were left out", ["reason", "rows", "source"], rows)


def _results(analysis: Analysis) -> Table:
    keys = ["modality", "dataset", "architecture", "family", "init", "unfreeze_depth", "setting"]
    means = analysis.rows.groupby(keys, observed=True, sort=True).agg(
        auc=("auc", "mean"), runs=("auc", "size"), n_params=("n_params", "median"), depth=("depth", "median")
    )
    listed = list(means.reset_index().itertuples(index=False))
    rows = [
        [*map(str, each[:7]), number(each[7]), str(each[8]), number(each[9], 0), number(each[10], 0)]
        for each in listed[:MOST_ROWS]
    ]
    headings = [
        "modality",
        "data set",
        "architecture",
        "family",
        "init",
        "unfreeze depth",
        "setting",
        "mean AUC",
        "runs",
        "parameters",
        "depth",
    ]
    return Table("Results", headings, rows, f"Every result is in results.csv.{more_rows(len(listed))}")
