"""Verdicts and methods in words that a clinician can read.

"Not significant" is never written as "no effect".
"""

from __future__ import annotations

from medfathom.analysis.pipeline import Counts, ModalityFindings, NothingCompared
from medfathom.analysis.predictors import PREDICTORS, Predictor
from medfathom.analysis.size.association import Association, NoSlope

NAMES = {name: predictor.noun for name, predictor in PREDICTORS.items()}

EXPLORATORY = (
    "Exploratory: these are search trials, judged on validation images, tuned more where the search "
    "looked more. "
    "They suggest what to confirm; they confirm nothing."
)

METHODS = (
    ("Unit of inference", (
        "The architecture, never the run. Runs of an architecture in a cell (data set, init, unfreeze "
        "depth) are "
        "averaged; cell effects are taken out by least squares, so that gaps in the table do not bias; "
        "data sets weigh "
        "the same. What remains is one effect per architecture, and slopes are fitted to these.")),
    ("Families", (
        "Architectures of one family are alike. Where families have several members, the slope is "
        "estimated with "
        "random families, averaged over the ratio of family to architecture variance with the weights of the "
        "restricted likelihood; the resulting confidence distribution is stretched by a factor found "
        "by simulation on "
        "this very design, so that false alarms are held at 5 % whatever that ratio is. Where no "
        "family has two "
        "members (or there is one family), the predictor is permuted among architectures, all "
        "arrangements where they "
        "are few; where cells have gaps, a regression weighs each architecture by its precision instead. "
        "The within-family test permutes among members of a family only: it assumes nothing "
        "about families, "
        "and sees only what differs inside them.")),
    ("Data sets", (
        "With one or two data sets a verdict speaks for these. With three or more, the spread of "
        "slopes beyond noise "
        "is added to the interval with Hartung and Knapp's degrees of freedom; the verdict then speaks "
        "for data sets "
        "of the modality, as far as those at hand stand for them. Errors that architectures share over "
        "data sets are "
        "not averaged out.")),
    ("Several tests", (
        "The p-values of the slopes are adjusted by Holm's method over modalities and predictors, those "
        "for a difference and those for equivalence each; differences between levels or modalities over "
        "their pairs; compared models within each class and study. Those within families, with the other "
        "predictor held fixed, by data set, of pretraining and of the generalisation gap are not adjusted. "
        "A verdict is reached on adjusted values; intervals are not adjusted.")),
    ("Verdicts", (
        "Negligible: two one-sided tests show the slope to be within the margin. Increases or "
        "decreases: the slope differs "
        "significantly from zero. Inconclusive: neither; that is no evidence that size does not matter.")),
    ("What this cannot say", (
        "Architectures were chosen, not drawn at random, and size comes with much else (design, year, "
        "pretraining): "
        "an association is no promise that enlarging one network helps.")),
)  # fmt: skip

REFERENCES = (
    "Holm S. A simple sequentially rejective multiple test procedure. Scand J Statist 1979;6:65-70.",
    "Knapp G, Hartung J. Improved tests for a random effects meta-regression. Stat Med 2003;22:2693-2710.",
    "Schuirmann DJ. A comparison of the two one-sided tests procedure. J Pharmacokinet Biopharm "
    "1987;15:657-680.",
    "Garthwaite PH. Confidence intervals from randomization tests. Biometrics 1996;52:1387-1393.",
    "Patterson HD, Thompson R. Recovery of inter-block information when block sizes are unequal. "
    "Biometrika 1971;58:545-554.",
    "Banerjee SK. Approximate confidence interval for linear functions of means of k populations. "
    "Sankhya 1960;22:357-358.",
    "Demsar J. Statistical comparisons of classifiers over multiple data sets. JMLR 2006;7:1-30.",
    "DeLong ER et al. Comparing the areas under two or more correlated ROC curves. Biometrics "
    "1988;44:837-845.",
    "Dodge J et al. Show your work: improved reporting of experimental results. EMNLP 2019.",
)


def verdicts(modality: str, found: ModalityFindings | NothingCompared) -> dict[str, str]:
    """One sentence for each predictor."""
    return {
        name: verdict(modality, PREDICTORS[name], answer, found.counts)
        for name, answer in found.predictors.items()
    }


def verdict(modality: str, predictor: Predictor, answer: Association | NoSlope, counts: Counts) -> str:
    """The verdict as one sentence, with the numbers it rests on."""
    name = predictor.noun
    who = f"{_count(counts.n_architectures, 'architecture')} of {_count(counts.n_families, 'family')}"
    start = f"{modality} ({who}, {_count(counts.n_datasets, 'data set')}): "
    if isinstance(answer, NoSlope):
        return f"{start}whether {name} predicts AUC cannot be said: {answer.reason}."
    low, high = (("−∞", "∞")[i] if end is None else f"{end:+.4f}" for i, end in enumerate(answer.ci95))
    numbers = f"{answer.slope:+.4f} AUC {predictor.change} (95 % interval {low} to {high}".replace("-", "−")
    if answer.verdict == "negligible":
        margin = f"within ±{answer.margin:g}, p = {answer.p_equivalence_holm:.3g} after Holm"
        return f"{start}{name} makes a negligible difference to AUC: {numbers}; {margin})."
    if answer.verdict == "inconclusive":
        return f"{start}inconclusive whether {name} predicts AUC: {numbers}). {_what_is_missing(answer)}"
    direction = "rises" if answer.verdict == "increases" else "falls"
    return f"{start}AUC {direction} with {name}: {numbers}; p = {answer.p_holm:.3g} after Holm)."


def _what_is_missing(answer: Association) -> str:
    why = f"{answer.reason[:1].upper()}{answer.reason[1:]}."
    if not answer.architectures_needed:
        return why
    needed = f"About {answer.architectures_needed:,} architectures spread like these would be needed"
    return f"{why} {needed} to find a slope of {answer.margin:g} with 80 % power."


def _count(number: int, noun: str) -> str:
    plural = {"family": "families"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"
