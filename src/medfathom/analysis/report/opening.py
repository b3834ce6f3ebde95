"""What a report opens with: the question of its studies, the answer in one sentence, one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.questions.attention import AttentionBenefit
from medfathom.analysis.questions.pretraining import MeanBenefit
from medfathom.analysis.questions.resolution import ResolutionStep, enough
from medfathom.analysis.questions.turning_point import TurningPoint
from medfathom.analysis.report.drawing import signed
from medfathom.analysis.report.one_model_words import one_model_details, one_model_sentence
from medfathom.analysis.report.pretraining_words import PRETRAINING, pretraining_sentence
from medfathom.analysis.report.strategy_words import strategy_sentences
from medfathom.analysis.size.estimate import Interval
from medfathom.definitions.config import Asks
from medfathom.text import number_of

TITLES: dict[Asks, str] = {
    "size": "Does network size predict AUC?",
    "pretraining": "Does pretraining help?",
    "turning_point": "When does pretraining stop helping?",
    "resolution": "Which resolution is enough?",
    "attention": "Does attention help a convolutional network of equal size?",
    "strategies": "Which transfer strategy is best?",
    "one_model": "What does one model for several data sets cost?",
}


PICTURES: dict[Asks, str] = {"turning_point": "turning_points"}
"""Figures that are not called as what is asked."""


@dataclass(frozen=True)
class Opening:
    """The first lines of a report.

    Attributes:
        title: the question.
        answer: one sentence.
        details: sentences on what it rests on.
        picture: name of the figure that stands below.
    """

    title: str
    answer: str
    details: list[str]
    picture: str


def opening(analysis: Analysis) -> Opening | None:
    """What all studies of the analysis ask for; None where that is network size, or where they differ."""
    asked = {told.asks for told in analysis.studies}
    asks: Asks = asked.pop() if len(asked) == 1 else "size"
    known: dict[Asks, Callable[[Analysis], tuple[str, list[str]]]] = {
        "pretraining": _pretraining,
        "turning_point": _turning_points,
        "resolution": _resolution,
        "attention": _attention,
        "strategies": _strategies,
        "one_model": _one_model,
    }
    return Opening(TITLES[asks], *known[asks](analysis), PICTURES.get(asks, asks)) if asks in known else None


def _strategies(analysis: Analysis) -> tuple[str, list[str]]:
    """A sentence for each setting."""
    first, *others = strategy_sentences(analysis) or [
        "Not available: no network was trained both with `fixed` and with another strategy."
    ]
    return first, others


def _one_model(analysis: Analysis) -> tuple[str, list[str]]:
    """The first collection of data sets; then what it rests on, and the others."""
    if not analysis.one_model:
        return "Not available: no model was trained on several data sets together.", []
    first, *others = analysis.one_model
    details = [line for each in others for line in (one_model_sentence(each), *one_model_details(each))]
    return one_model_sentence(first), [*one_model_details(first), *details]


def _attention(analysis: Analysis) -> tuple[str, list[str]]:
    """The widest scope, all kinds together; then each."""
    if not analysis.attention:
        return "Not available: no network was trained both with and without an attention module.", []
    first, *others = reversed(analysis.attention)
    word = PRETRAINING[first.mean.verdict]
    answer = f"Attention {word} ({first.scope}, {first.attention}): {_with_attention(first)}"
    said = [
        f"{each.scope}, {each.attention}: attention {PRETRAINING[each.mean.verdict]}: {_with_attention(each)}"
        for each in reversed(others)
    ]
    return answer, said


def _with_attention(each: AttentionBenefit) -> str:
    pairs = number_of(len(each.pairs), "pair")
    low, high = each.mean.ci95
    alone = low is not None and high is not None and not low <= 0 <= high
    only_alone = alone and each.mean.verdict == "inconclusive"
    holm = " (significant on its own, but not after Holm correction)" if only_alone else ""
    return (
        f"{signed(each.mean.benefit, 4)} AUC{_interval(each.mean.ci95)}, over {pairs} of networks and "
        f"{number_of(each.n_datasets, 'data set')}{holm}{_only(each.mean, each.pairs)}."
    )


def _pretraining(analysis: Analysis) -> tuple[str, list[str]]:
    """The widest scope's answer."""
    if not analysis.pretraining:
        return "Not available: no network was trained both with and without pretrained weights.", []
    widest = analysis.pretraining[-1].scope
    first = next(each for each in analysis.pretraining if each.scope == widest)
    details = [_turning_points(analysis)[0]] if analysis.turning_points else []
    return f"Pretraining {pretraining_sentence(first, analysis.margin)}", details


def _turning_points(analysis: Analysis) -> tuple[str, list[str]]:
    points = analysis.turning_points
    if not points:
        return (
            "Not available: no network was trained with and without pretrained weights on training sets of "
            "at least two sizes."
        ), []
    words = [at.mean.verdict for point in points for at in point.at]
    turns = [point for point in points if point.turns_at is not None]
    settings = number_of(len(points), "setting")
    changes = f"The fitted benefit changes sign in {len(turns)} of {settings}"
    if len(points) == 1 and turns:
        changes = f"The fitted benefit changes sign at {_images(turns[0])}"
    answer = (
        f"Pretraining helps in {words.count('helps')} and harms in {words.count('harms')} of "
        f"{number_of(len(words), 'comparison')} by number of training images and unfreeze depth "
        f"({words.count('negligible')} negligible, {words.count('inconclusive')} inconclusive). {changes}."
    )
    return answer, [_turning_point(point) for point in points] + _shifts(analysis)


def _turning_point(point: TurningPoint) -> str:
    fewest, most = point.at[0], point.at[-1]
    ends = " and ".join(
        f"{at.mean.verdict} with {at.n_train:,} ({signed(at.mean.benefit, 4)} AUC{_interval(at.mean.ci95)})"
        for at in (fewest, most)
    )
    turn = f"It changes sign at {_images(point)}."
    if point.turns_at is None:
        turn = f"It does not change sign between {fewest.n_train:,} and {most.n_train:,} images."
    slope = ""
    if point.slope.slope is not None:
        slope = (
            f" For ten times as many images the benefit changes by {signed(point.slope.slope, 4)}"
            f"{_interval(point.slope.ci95)}."
        )
    return (
        f"{point.dataset}, unfreeze depth {point.unfreeze_depth}, {point.init} against {point.baseline}: "
        f"{ends} training images. {turn}{slope}"
    )


def _images(point: TurningPoint) -> str:
    low, high = (None if end is None else round(end) for end in point.turns_ci95)
    if low is None and high is None:
        interval = "the 95 % interval includes all numbers that were tried"
    elif low is None:
        interval = f"95 % interval up to {high:,}"
    elif high is None:
        interval = f"95 % interval {low:,} or more"
    else:
        interval = f"95 % interval {low:,} to {high:,}"
    return f"about {round(point.turns_at or 0):,} training images ({interval})"


def _shifts(analysis: Analysis) -> list[str]:
    """The domain shift of each data set; the benefit's slope on it where there are data sets enough."""
    shifts = {p.dataset: p.domain_shift for p in analysis.turning_points}
    known = [f"{name} {shift:.3g}" for name, shift in shifts.items() if shift is not None]
    said = [f"Measured domain shift (mean over the networks): {', '.join(known)}."] if known else []
    missing = [name for name, shift in shifts.items() if shift is None]
    if missing:
        said.append(
            f"Domain shift is not known for {', '.join(missing)}: `medfathom data shift STUDY` measures it."
        )
    for each in analysis.pretraining_over_datasets:
        slope = each.against["domain_shift"].estimate if "domain_shift" in each.against else None
        if slope is not None and slope.slope is not None:
            said.append(
                f"Over data sets the benefit at unfreeze depth {each.unfreeze_depth} changes by "
                f"{signed(slope.slope, 4)}{_interval(slope.ci95)} per unit of domain shift."
            )
    return said


def _interval(ci95: Interval) -> str:
    low, high = ci95
    return "" if low is None or high is None else f", 95 % interval {signed(low, 4)} to {signed(high, 4)}"


def _resolution(analysis: Analysis) -> tuple[str, list[str]]:
    steps = analysis.resolution
    if not steps:
        return "Not available: no network was trained at two image sizes.", []
    widest = steps[-1].scope
    own = [step for step in steps if step.scope == widest]
    least, largest = enough(steps, widest), own[-1].largest
    worse = [step for step in own if step.mean.verdict == "worse"]
    if least is not None:
        step = next(step for step in own if step.image_size == least)
        answer = f"{least} px is enough: {_step(step, analysis.margin)}"
    elif worse:
        answer = f"{largest} px is better than {worse[-1].image_size} px: {_step(worse[-1], analysis.margin)}"
    else:
        answer = (
            f"It is inconclusive whether fewer than {largest} px are enough: "
            f"{_step(own[-1], analysis.margin)}"
        )
    return f"{answer}.", [f"{step.scope}: {_step(step, analysis.margin)}." for step in steps]


def _step(step: ResolutionStep, margin: float) -> str:
    mean = step.mean
    word = f"within ±{margin:g} AUC of" if mean.verdict == "as good" else f"{mean.verdict} against"
    networks = number_of(len(step.architectures), "network")
    return (
        f"{step.image_size} px is {word} {step.largest} px ({signed(mean.benefit, 4)} AUC"
        f"{_interval(mean.ci95)}; {networks}, {number_of(step.n_datasets, 'data set')}"
        f"{_only(mean, step.architectures)})"
    )


def _only(mean: MeanBenefit, names: Sequence[str]) -> str:
    """That one network was judged, over its seeds or data sets; empty where there are several."""
    if mean.unit not in ("seed", "data set"):
        return ""
    return f", over {number_of(mean.n, mean.unit)}; this applies to {', '.join(names)} only"
