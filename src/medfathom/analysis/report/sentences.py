"""Verdicts and methods in words that a clinician can read.

"Not significant" is never written as "no effect".
"""

from __future__ import annotations

import numpy as np

from medfathom.analysis.pipeline import Analysis, Counts, ModalityFindings, NothingCompared
from medfathom.analysis.predictors import BUILT_IN
from medfathom.analysis.questions.ranking import Ranking
from medfathom.analysis.questions.transfer import Transfer
from medfathom.analysis.questions.unfreezing import DepthsOverDatasets
from medfathom.analysis.report.numbers import per_unit
from medfathom.analysis.report.one_model_words import one_model_details, one_model_sentence
from medfathom.analysis.report.pretraining_words import SHORT, gained, with_interval
from medfathom.analysis.report.strategy_words import strategy_sentences
from medfathom.analysis.report.universality_words import universality_sentence
from medfathom.analysis.size.association import Association, NoSlope
from medfathom.analysis.size.multiplicity import ALPHA, Verdict
from medfathom.text import number_of

NAMES = {predictor.name: predictor.noun for predictor in BUILT_IN.values()}

EXPLORATORY = (
    "Exploratory: these are search trials, judged on validation images. The search has tuned some strata "
    "more than others. The results suggest what to confirm; they prove nothing."
)

METHODS = (
    ("Unit of inference", (
        "The unit is the architecture, never the run. A cell is one combination of data set, init, "
        "unfreeze depth and further settings. Runs of an architecture in a cell are averaged. Where "
        "architectures of a cell have different seeds, the effect that a seed has on all of them is "
        "removed first. Effects of cells are removed by least squares, so that gaps in the table cause no "
        "bias. Where missing results depend on the predictor, only cells with all networks are used. Each "
        "data set has the same weight. The result is one effect per architecture, and the slopes are fitted "
        "to these effects. Where test sets differ in size (auc_se, n_test), effects are weighted.")),
    ("Families", (
        "Architectures of one family are alike. Where families have several members, the model has a "
        "random effect for each family. The ratio of family to architecture variance is not known: the "
        "slope is averaged over it, weighted by the restricted likelihood. Studies of this design are "
        "then simulated, and the confidence distribution is widened until at most 5 % of them are false "
        "alarms, whatever the ratio. Where no family has two members, or there is only one family, the "
        "predictor is permuted among architectures (all arrangements where they are few). Each permuted "
        "slope is divided by the larger of its classical and its robust (HC2) standard error. A second "
        "analysis guards both: a regression in which networks at the ends of the predictor's range may be "
        "noisier than the others, calibrated in the same way. The larger of the two p-values counts, and "
        "the reported interval contains both intervals. The within-family test permutes only among "
        "members of a family and assumes nothing about families.")),
    ("Data sets", (
        "With one or two data sets, a verdict is about these data sets only. With three or more, the "
        "spread of slopes beyond noise widens the interval, with Hartung and Knapp's degrees of freedom. "
        "The verdict is then about data sets of the modality, as far as those at hand represent them, and "
        "the prediction interval is for one more data set. There is no verdict over data sets whose "
        "slopes differ significantly and give different verdicts.")),
    ("Several tests", (
        "P-values of slopes are adjusted by Holm's method over modalities and all predictors asked for. "
        "Tests for a difference and tests for equivalence are adjusted separately: the chance of any "
        "false verdict of one kind is at most 5 %, of any at all at most 10 %. ImageNet accuracy, where "
        "it is not asked for, is a separate question, adjusted over modalities. Differences between "
        "levels or modalities are adjusted over their pairs. Comparisons of models are adjusted within each "
        "class and study. Tests of pretraining are adjusted over the networks of a setting, or over data "
        "sets and settings. The verdict on pretraining in each modality is adjusted over modalities and "
        "inits. Benefits by number of training images or by image size are adjusted over all of them. Tests "
        "within families, with another predictor held fixed, by data set, and of the generalisation gap are "
        "not adjusted. Intervals are not adjusted.")),
    ("Verdicts", (
        "A verdict is about the effect over the range of the architectures at hand, on the fitted line. "
        "Negligible: two one-sided tests show that the effect is within the margin, and a fitted parabola "
        "stays within it too. Increases or decreases: the effect differs significantly from zero. It does "
        "not depend on one network (p stays at most 0.2 when any one is left out), a correlated predictor "
        "does not explain it as well, and the curve does not turn within the range. Inconclusive: neither. "
        "This does not prove that size does not matter.")),
    ("What this cannot show", (
        "Architectures were chosen, not drawn at random, and size is related to design, year and "
        "pretraining. An association does not prove that enlarging one network helps.")),
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
    return {name: verdict(modality, answer, found.counts) for name, answer in found.predictors.items()}


PLAIN = {
    "increases": ("AUC rises with {}", "AUC rises with {}"),
    "decreases": ("AUC falls with {}", "AUC falls with {}"),
    "negligible": ("{} makes no difference that matters", "{} make no difference that matters"),
    "inconclusive": ("not known whether {} matters", "not known whether {} matter"),
}
"""Verdict -> what it means for one predictor, and for several."""


NOTHING_COMPARED = (
    "Not available: no two architectures were trained with the same data, init and unfreeze depth."
)

WAYS_TO_COMPARE = (
    'A study with goal = "compare" trains every architecture in every setting. `medfathom confirm --trial` '
    "adds settings that a search has tried."
)


def headline(found: ModalityFindings | NothingCompared) -> str:
    """One line of plain words over all predictors."""
    answers = {**found.predictors, found.imagenet.predictor.name: found.imagenet}.values()
    parts = []
    for word, text in PLAIN.items():
        nouns = [a.predictor.noun for a in answers if a.verdict == word and a.slope is not None]
        if nouns:
            parts.append(text[len(nouns) > 1].format(_listed(nouns)))
    if not found.counts.n_cells:
        return f"{NOTHING_COMPARED} {WAYS_TO_COMPARE}"
    said = "; ".join(parts) or "no answer is possible with these results"
    return f"{said[:1].upper()}{said[1:]}."


def _listed(nouns: list[str]) -> str:
    return " and ".join([", ".join(nouns[:-1]), nouns[-1]] if nouns[1:] else nouns)


def with_verdicts(analysis: Analysis) -> list[tuple[Verdict, str]]:
    """(verdict, sentence) for each modality and predictor, ImageNet accuracy included where it is known.

    Nothing of modalities in which nothing can be compared: their headline says it.
    """
    return [
        (answer.verdict, verdict(name, answer, found.counts))
        for name, found in analysis.modalities.items()
        if found.counts.n_cells
        for answer in {**found.predictors, found.imagenet.predictor.name: found.imagenet}.values()
    ]


def further(analysis: Analysis) -> list[str]:
    """What else was found, a sentence each; nothing of what there is nothing to say of."""
    found = [gained(each, analysis.margin) for each in analysis.pretraining_over_datasets]
    found += _transferred(analysis.transfer, analysis.margin)
    found += strategy_sentences(analysis)
    found += [_unfrozen(each) for each in analysis.unfreezing_over_datasets[:MOST_POOLED]]
    scope, regret = analysis.ranking_agreement.scopes["all"], analysis.ranking_agreement.regret
    if isinstance(scope, Ranking):
        found.append(
            "Agreement of data sets on the order of architectures: Kendall's W = "
            f"{scope.kendalls_w:.2f} (1 is the same order everywhere; about {1 / scope.n_datasets:.2f} is "
            f"expected by chance; p = {scope.p_value:.2g}), from {scope.n_architectures} architectures and "
            f"{scope.n_datasets} data sets."
        )
    found += [
        line for each in analysis.one_model for line in (one_model_sentence(each), *one_model_details(each))
    ]
    price = universality_sentence(analysis.universality)
    if price:
        found.append(price)
    elif regret.universal and regret.all:  # no validation AUC to choose by
        low, high = regret.all.ci95
        over = (
            "" if low is None or high is None else f" (95 % interval over data sets {low:.4f} to {high:.4f})"
        )
        found.append(
            f"One architecture for all data sets: {regret.universal} has the best mean AUC. To choose the "
            f"architecture from the other data sets costs {regret.all.mean:.4f} AUC on average{over}. "
            "Noise makes this number too large."
        )
    return found


MOST_CELLS = 3
"""Cells of a matrix that a sentence names one by one."""


def _transferred(cells: list[Transfer], margin: float) -> list[str]:
    """What weights from other data bring; nothing where there are none."""
    if not cells:
        return []
    words = [cell.mean.verdict for cell in cells]
    if len(cells) <= MOST_CELLS:
        said = [
            f"{c.source} to {c.dataset}, unfreeze depth {c.unfreeze_depth}: {SHORT[c.mean.verdict]} "
            f"({with_interval(c.mean, margin)})"
            for c in cells
        ]
    else:
        said = [f"{SHORT[word]} in {words.count(word)} of {len(words)}" for word in SHORT if word in words]
    return [f"Weights from other data against {cells[0].reference}: {'; '.join(said)}."]


MOST_POOLED = 3
"""Sentences on unfreezing over data sets; the table has all."""


def _unfrozen(each: DepthsOverDatasets) -> str:
    first, others = each.depths[0], each.depths[1:]
    ranks = ", ".join(f"{d.unfreeze_depth}: {d.mean_rank:.2f}" for d in each.depths)
    test = "" if each.p_value is None else f"; the test of equal ranks has p = {each.p_value:.2g}"
    behind = ", ".join(f"{d.unfreeze_depth}: {d.mean_auc - first.mean_auc:+.4f}" for d in others[:4])
    more = "" if len(others) <= 4 else ", …"
    where = "all data sets" if each.modality == "all" else f"the data sets of {each.modality}"
    return (
        f"Unfreeze depth ({each.init}): {first.unfreeze_depth} has the best mean AUC over {where}, "
        f"{first.mean_auc:.4f} (differences of the others from it: {behind}{more}). It is the best in "
        f"{first.wins:g} of {each.n_cells} cells. Mean ranks (1 is the best): {ranks}{test}."
    ).replace("-0", "−0")


def verdict(modality: str, answer: Association | NoSlope, counts: Counts) -> str:
    """The verdict as one sentence, with the numbers it rests on."""
    name = answer.predictor.noun
    if isinstance(answer, NoSlope):
        who = (
            f"{number_of(counts.n_architectures, 'architecture')}, {number_of(counts.n_datasets, 'data set')}"
        )
        return f"{modality} ({who}): it is not known whether {name} predicts AUC: {answer.reason}."
    who = (
        f"{number_of(answer.n_architectures, 'architecture')} of "
        f"{number_of(len(answer.compared.family_names), 'family')}, "
        f"{number_of(len(answer.per_dataset), 'data set')}"
    )
    start, end = f"{modality} ({who}): ", f"{_on(answer)}{_beside_it(answer)}"
    numbers = effect_words(answer)
    if answer.verdict == "negligible":
        margin = f"within ±{answer.margin:g}, p = {answer.p_equivalence_holm:.3g} after Holm"
        return (
            f"{start}{name} makes a negligible difference to AUC{_here(answer)}: {numbers}; {margin}).{end}"
        )
    if answer.verdict == "inconclusive":
        return (
            f"{start}it is inconclusive whether {name} predicts AUC{_here(answer)}: {numbers}). "
            f"{_what_is_missing(answer)}{end}"
        )
    direction = "rises" if answer.verdict == "increases" else "falls"
    said = f"AUC {direction} with {name}{_here(answer)}: {numbers}"
    return f"{start}{said}; p = {answer.p_holm:.3g} after Holm).{end}"


def effect_words(answer: Association) -> str:
    """The effect over the range, with its interval; the bracket is left open."""
    low, high = (("−∞", "∞")[i] if end is None else f"{end:+.4f}" for i, end in enumerate(answer.effect_ci95))
    first, last = (answer.predictor.shown(value) for value in answer.range)
    text = f"{answer.effect:+.4f} AUC from {first} to {last} (95 % interval {low} to {high}".replace("-", "−")
    slope = f"{'+' if answer.slope >= 0 else ''}{per_unit(answer.slope)}"
    return text if answer.predictor.level else f"{text}; {slope} {answer.predictor.change}"


def _here(answer: Association) -> str:
    count = len(answer.per_dataset)
    return {1: " on this data set", 2: " on these two data sets"}.get(count, "")


def _on(answer: Association) -> str:
    """What holds beyond these data sets, and which family the slope rests on."""
    family = answer.diagnostics.family
    text = ""
    if None not in answer.prediction95:
        low, high = (f"{end:+.3f}".replace("-", "−") for end in answer.prediction95 if end is not None)
        text = (
            f" In another data set like these the effect would be {low} to {high} (95 % prediction interval)."
        )
    if answer.verdict in ("increases", "decreases") and family is not None and family.decides:
        text += (
            f" It depends on one family: without {family.left_out} the slope has p = {family.p_value:.2g}."
        )
    return text


def _beside_it(answer: Association) -> str:
    """The odds of error, where AUC near 1 hides what they do; what is particular about the networks."""
    logit = next((v.estimate for v in answer.sensitivity if v.name == "logit AUC"), None)
    text = ""
    silent = answer.verdict in ("negligible", "inconclusive")
    if silent and logit and logit.slope is not None and logit.p_value is not None and logit.p_value <= ALPHA:
        text = (
            f" On the logit scale AUC {'rises' if logit.slope > 0 else 'falls'}: over the range the odds of "
            f"error are multiplied by {np.exp(-logit.slope * answer.span):.2g} "
            f"(p = {logit.p_value:.2g}, not adjusted)."
        )
    return text + "".join(f" {note[:1].upper()}{note[1:]}." for note in answer.notes)


def _what_is_missing(answer: Association) -> str:
    why = f"{answer.reason[:1].upper()}{answer.reason[1:]}."
    shown = (
        min(answer.p_holm, answer.p_equivalence_holm) <= ALPHA
    )  # more networks of this kind change nothing
    if shown or not answer.architectures_needed:
        return why
    low, high = (f"{end:,}" if end else "any number" for end in answer.architectures_needed95)
    return (
        f"{why} To find a difference of {answer.margin:g} over the range with 80 % power, about "
        f"{answer.architectures_needed:,} architectures spread like these (95 % interval {low} to {high}) "
        "would be needed."
    )
