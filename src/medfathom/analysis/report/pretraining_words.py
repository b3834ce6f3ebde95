"""What pretraining does, in words: first in a report."""

from __future__ import annotations

from collections.abc import Sequence

from medfathom.analysis.questions.pretraining import Benefit, MeanBenefit
from medfathom.analysis.questions.pretraining_over_datasets import BOTH, BenefitOverDatasets
from medfathom.analysis.questions.pretraining_verdict import OVER_ALL, PretrainingVerdict
from medfathom.text import number_of

PRETRAINING = {
    "helps": "helps",
    "harms": "harms",
    "negligible": "makes a negligible difference",
    "inconclusive": "is inconclusive",
}
"""Verdict on pretraining -> what it does."""

SHORT = {
    "helps": "helps",
    "harms": "harms",
    "negligible": "makes a negligible difference",
    "inconclusive": "inconclusive",
}
"""The same without a subject."""

MOST_DEPTHS = 3
"""Unfreeze depths that a sentence names one by one."""


def pretraining_lines(
    verdicts: Sequence[PretrainingVerdict], benefits: Sequence[Benefit], margin: float
) -> dict[str, str]:
    """What pretraining does, in one line for each modality, and over all data sets.

    Args:
        verdicts: one for each scope and pair of inits.
        benefits: by data set and unfreeze depth; they are counted.
        margin: the smallest benefit that matters, in AUC.
    """
    lines: dict[str, str] = {}
    for each in verdicts:
        scope = "all data sets" if each.scope == OVER_ALL else each.scope
        first = lines.get(scope)
        said = pretraining_sentence(each, margin)
        lines[scope] = f"{first} {said[:1].upper()}{said[1:]}" if first else said
    for modality, counted in _by_comparison(benefits).items():
        lines[modality] = f"{lines[modality]} {counted}"
    return lines


def pretraining_sentence(each: PretrainingVerdict, margin: float) -> str:
    """The word, what it rests on, whom it speaks for: without a subject."""
    mean = each.mean
    depths = each.unfreeze_depths
    shown = ", ".join(depths) if len(depths) <= MOST_DEPTHS else f"{depths[0]} to {depths[-1]}"
    averaged = "" if depths == ["not given"] else f", unfreeze depth{'s' if depths[1:] else ''} {shown}"
    if each.settings[1:]:
        averaged += (
            f", mean of {len(each.settings)} further settings: {each.settings[0]} to {each.settings[-1]}"
        )
    return (
        f"{PRETRAINING[mean.verdict]} ({each.init} against {each.baseline}{averaged}): "
        f"{with_interval(mean, margin)}{_over(each)}."
    )


def _over(each: PretrainingVerdict) -> str:
    """What the mean is over, and for whom it therefore speaks."""
    mean, names = each.mean, each.architectures
    networks = number_of(len(names), "network")
    sets = number_of(each.n_datasets, "data set")
    if mean.unit == BOTH:
        return f", over {networks} and {sets}"
    if mean.unit == "architecture":
        whom = "this data set" if each.n_datasets == 1 else f"these {sets}"
        return f", over {networks}; this applies to {whom} only"
    return f", over {number_of(mean.n, mean.unit)} of {names[0]}; this applies to {names[0]} only"


def _by_comparison(benefits: Sequence[Benefit]) -> dict[str, str]:
    """Modality -> how many of its comparisons have which verdict, where they are several."""
    found = {}
    for modality in dict.fromkeys(b.modality for b in benefits):
        words = [
            b.mean.verdict
            for b in benefits
            if b.modality == modality and b.architecture is None and b.mean.p_value is not None
        ]
        if len(words) > 1:
            said = [f"{SHORT[word]} in {words.count(word)}" for word in SHORT if word in words]
            found[modality] = (
                f"Of {len(words)} comparisons by data set and unfreeze depth: {', '.join(said)}."
            )
    return found


def with_interval(found: MeanBenefit | BenefitOverDatasets, margin: float) -> str:
    """The benefit, its interval, and the p-value that the verdict rests on."""
    low, high = found.ci95
    text = f"{_signed(found.benefit)} AUC"
    if low is None or high is None or found.p_holm is None:
        return f"{text}, no interval"
    p = f"p = {found.p_holm:.2g} after Holm"
    if found.verdict == "negligible" and found.p_equivalence_holm is not None:
        p = f"within ±{margin:g}, p = {found.p_equivalence_holm:.2g} after Holm"
    return f"{text}, 95 % interval {_signed(low)} to {_signed(high)}, {p}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def gained(each: BenefitOverDatasets, margin: float) -> str:
    """What pretraining does at one unfreeze depth, on average over data sets."""
    return (
        f"Pretraining ({each.init} against {each.baseline}, unfreeze depth {each.unfreeze_depth}) "
        f"{PRETRAINING[each.verdict]} on average over {each.n_architectures} architectures and "
        f"{each.n_datasets} data sets: {with_interval(each, margin)}."
    )
