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
        return f"It is not known what one model for {names} costs: {found.reason}."
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
        "Price of one model by modality (test AUC of the best model for each data set minus that of the one "
        f"model): {'; '.join(said)}.",
        f"The one model is {found.model}. It has the highest mean validation AUC. The best model for each "
        "data set has the highest validation AUC there.",
    ]
    if found.alone:
        lines.append(f"Left out, as no model was trained on these alone: {', '.join(found.alone)}.")
    return lines


def one_model_table(found: Sequence[OneModel]) -> Table:
    """A row for each data set, then the means, by collection of data sets; no rows without an answer."""
    rows = [row for each in found for row in price_rows(each.prices, each.modalities)]
    note = (
        "One network with a head for each data set is compared with the best network for each data set "
        "alone, both chosen by validation AUC. The price is the difference of their test AUCs. The interval "
        "of one data set is over seeds and test images. It treats the test images of the two networks as "
        "different images, so it is rather too wide. The interval of a mean is over data sets, if there are "
        "at least three that differ."
    )
    return Table("The price of one model for several data sets", HEADINGS, rows, note)
