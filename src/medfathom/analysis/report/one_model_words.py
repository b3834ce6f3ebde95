"""The price of one model for several data sets, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from medfathom.analysis.questions.one_model import OneModel
from medfathom.analysis.report.drawing import between, signed
from medfathom.analysis.report.table import Table
from medfathom.analysis.report.universality_words import HEADINGS, price_rows


def one_model_sentence(found: OneModel) -> str:
    """What one model for these data sets costs."""
    names = ", ".join(found.datasets)
    if found.model is None:
        return f"What one model for {names} costs cannot be said: {found.reason}."
    whole = found.modalities[-1]
    known = None not in whole.ci95
    ends = f" (95 % interval {between(whole.ci95, 4)}, for {whole.speaks_for})" if known else ""
    worse = "below" if whole.price >= 0 else "above"
    return (
        f"One model for {names} has a mean test AUC {abs(whole.price):.4f} {worse} that of the best model "
        f"for each{ends}."
    )


def one_model_details(found: OneModel) -> list[str]:
    """What it rests on: each modality, which models, what was left out."""
    if found.model is None:
        return []
    said = []
    for each in found.modalities[:-1]:
        ends = f" (95 % interval {between(each.ci95, 4)})" if None not in each.ci95 else ""
        said.append(f"{each.modality} {signed(each.price, 4)}{ends}")
    lines = [
        f"The price of one model, in test AUC below the best for each, by modality: {'; '.join(said)}.",
        f"The one model is {found.model}, chosen by its mean validation AUC; the best for each are chosen by "
        "the validation AUC there.",
    ]
    if found.alone:
        lines.append(f"Left out, as no model was trained on it alone: {', '.join(found.alone)}.")
    return lines


def one_model_table(found: Sequence[OneModel]) -> Table:
    """A row for each data set, then the means, by collection of data sets; no rows without an answer."""
    rows = [row for each in found for row in price_rows(each.prices, each.modalities)]
    note = (
        "One network with a head for each data set, against the best network for each alone, both chosen by "
        "validation. The price is the difference of their test AUCs. The interval of one data set is over "
        "seeds and test images, and counts the images of the two as different ones, so that it is too wide "
        "rather than too narrow; that of a mean is over data sets where there are three that differ."
    )
    return Table("The price of universality: one model for several data sets", HEADINGS, rows, note)
