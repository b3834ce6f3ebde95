"""The tables about settings: where weights start, how far they are unfrozen, one architecture for all."""

from __future__ import annotations

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.report.numbers import interval, number, p_value
from medfathom.analysis.report.one_model_words import one_model_table
from medfathom.analysis.report.strategy_words import strategy_table
from medfathom.analysis.report.table import MOST_ROWS, Table, more_rows
from medfathom.analysis.report.universality_words import universality_table


def setting_tables(analysis: Analysis) -> list[Table]:
    """In the order of the report; some may be empty."""
    return [
        _pretraining(analysis),
        _transfer(analysis),
        Table("Transfer strategies against `fixed`", *strategy_table(analysis)),
        _unfreezing(analysis),
        _unfreezing_pooled(analysis),
        universality_table(analysis.universality),
        one_model_table(analysis.one_model),
        _regrets(analysis),
    ]


def _pretraining(analysis: Analysis) -> Table:
    rows = [
        [
            b.dataset,
            f"{b.init} minus {b.baseline}",
            b.unfreeze_depth,
            b.architecture or "all",
            number(b.mean.benefit),
            interval(b.mean.ci95),
            p_value(b.mean.p_holm),
            b.mean.verdict,
            f"{b.mean.n} {b.mean.unit}{'' if b.mean.n == 1 else 's'}",
        ]
        for b in analysis.pretraining_benefit
    ]
    note = (
        "AUC with pretrained weights minus AUC without, paired. The interval is over architectures, with "
        "families as random effects. For one architecture it is over seeds. P-values of single architectures "
        "are adjusted over the architectures of a data set and setting. P-values over all architectures are "
        "adjusted over data sets and settings."
    )
    headings = [
        "data set",
        "inits",
        "unfreeze depth",
        "architecture",
        "benefit",
        "95 % interval",
        "p (Holm)",
        "verdict",
        "over",
    ]
    return Table("Benefit of pretraining", headings, rows[:MOST_ROWS], note + more_rows(len(rows)))


def _transfer(analysis: Analysis) -> Table:
    rows = [
        [
            c.source,
            c.dataset,
            c.modality,
            c.unfreeze_depth,
            c.reference,
            number(c.mean.benefit),
            interval(c.mean.ci95),
            p_value(c.mean.p_holm),
            c.mean.verdict,
            f"{c.mean.n} {c.mean.unit}{'' if c.mean.n == 1 else 's'}",
        ]
        for c in analysis.transfer
    ]
    note = (
        "AUC with the source's weights minus AUC with the reference's, paired within architecture. P-values "
        "are adjusted over the table. An interval over the seeds of one architecture applies to this one "
        "only."
    )
    headings = [
        "source",
        "target",
        "modality",
        "unfreeze depth",
        "reference",
        "difference",
        "95 % interval",
        "p (Holm)",
        "verdict",
        "over",
    ]
    return Table("Weights from other data", headings, rows[:MOST_ROWS], note + more_rows(len(rows)))


def _unfreezing(analysis: Analysis) -> Table:
    rows = [
        [
            u.dataset,
            u.init,
            u.best or "–",
            ", ".join(u.not_worse) if u.best else "–",
            str(u.n_architectures),
            u.reason,
        ]
        for u in analysis.unfreeze_depth
    ]
    headings = ["data set", "init", "best depth", "may be as good as the best", "architectures", "remark"]
    return Table("How far to unfreeze", headings, rows)


def _unfreezing_pooled(analysis: Analysis) -> Table:
    rows = [
        [
            each.modality,
            each.init,
            depth.unfreeze_depth,
            number(depth.mean_auc),
            number(depth.mean_rank, 2),
            f"{number(depth.wins, 1)} of {each.n_cells}",
            str(each.n_datasets),
            str(each.n_architectures),
            p_value(each.p_value),
        ]
        for each in analysis.unfreezing_over_datasets
        for depth in each.depths
    ]
    left_out = sum(each.n_left_out for each in analysis.unfreezing_over_datasets)
    note = (
        "A row is over all combinations of architecture, data set and setting that have every depth. Data "
        "sets have the same weight. A tie for the best is shared. The p-value tests that all depths have "
        "equal mean ranks over the data sets."
    )
    if left_out:
        note += f" {left_out} combinations lack a depth and are left out."
    headings = [
        "modality",
        "init",
        "depth",
        "mean AUC",
        "mean rank",
        "wins",
        "data sets",
        "architectures",
        "p (ranks differ)",
    ]
    return Table("How far to unfreeze, over data sets", headings, rows, note)


def _regrets(analysis: Analysis) -> Table:
    regret = analysis.ranking_agreement.regret
    rows = [
        [kind, dataset, chosen.chosen, number(chosen.regret)]
        for kind, m in regret.modalities.items()
        for dataset, chosen in m.datasets.items()
    ]
    headings = ["modality", "data set", "best on the other data sets", "AUC lost with it"]
    return Table("The architecture that the other data sets would choose", headings, rows)
