"""The price of one architecture for all data sets, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from medfathom.analysis.questions.universality import MeanPrice, Price, Universality
from medfathom.analysis.report.drawing import between, signed
from medfathom.analysis.report.numbers import interval, number
from medfathom.analysis.report.table import Table

HEADINGS = [
    "modality",
    "data set",
    "best for this data set",
    "its test AUC",
    "test AUC of the one for all",
    "price (AUC)",
    "95 % interval",
    "applies to",
]
"""Of tables of prices."""


def universality_sentence(found: Universality) -> str:
    """What one architecture for all costs, by modality; empty where it is not known."""
    if found.universal is None:
        return ""
    said = []
    for each in found.modalities:
        where = "all data sets" if each.modality == "all" else each.modality
        known = None not in each.ci95
        ends = f" (95 % interval {between(each.ci95, 4)})" if known else ""
        said.append(f"{where} {signed(each.price, 4)}{ends}")
    return (
        f"Price of one architecture for all data sets ({found.universal}, chosen by validation AUC), as test "
        f"AUC of the best for each minus that of the one for all: {'; '.join(said)}."
    )


def universality_table(found: Universality) -> Table:
    """A row for each data set, then the means; no rows where the price is not known."""
    rows = price_rows(found.datasets, found.modalities)
    note = (
        f"{found.universal} has the highest mean validation AUC of {found.n_architectures} architectures. "
        "The price is the test AUC of the network with the highest validation AUC on a data set, minus the "
        "test AUC of the one for all. It can be negative, as the validation AUC can choose a worse network. "
        "The interval of one data set is over seeds and test images. The interval of a mean is over data "
        "sets, if there are at least three that differ."
    )
    return Table("The price of one architecture for all data sets", HEADINGS, rows, note)


def price_rows(prices: Sequence[Price], means: Sequence[MeanPrice]) -> list[list[str]]:
    """A row for each data set, then the mean prices."""
    rows = [
        [
            each.modality,
            each.dataset,
            each.best,
            number(each.best_auc),
            number(each.universal_auc),
            number(each.price),
            interval(each.ci95),
            "this data set",
        ]
        for each in prices
    ]
    return rows + [
        [
            each.modality,
            f"mean of {each.n_datasets}",
            *("",) * 3,
            number(each.price),
            interval(each.ci95),
            each.speaks_for or "–",
        ]
        for each in means
    ]
