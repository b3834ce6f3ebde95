"""Sentences about a confirmation that terminal, card and report share. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from medfathom.confirmation.results import COSTS, Efficiency, ModelCost, StratumResult
from medfathom.metrics.rules import (
    AT_SPECIFICITY,
    CALIBRATIONS,
    includes_chance,
    is_auc,
    is_loss,
    objective_title,
)
from medfathom.text import number_of, stratum_words
from medfathom.units import counted

if TYPE_CHECKING:
    from medfathom.confirmation.gap import Gap, Part
    from medfathom.confirmation.openings import Opening
    from medfathom.confirmation.results import ConfirmationSummary, ConfirmedModel
    from medfathom.metrics.rules import CalibrationKind

CAUTION = (
    "The fronts use point estimates on the test split and ignore their intervals. "
    "They describe these models; do not choose a model by them"
)


WHO = {"images": "patients (or slides)", "cases": "patients"}
"""Whose images or cases stay together where an interval counts them."""


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def what_varies(result: StratumResult) -> str:
    """What a configuration's interval accounts for."""
    drawn = _listed(_drawn(name, one) for name, one in result.each.items())
    if len(result.models) > 1:
        return f"over test {drawn} and seeds"
    return f"over test {drawn}, for this one seed only"


def _drawn(name: str, one: StratumResult) -> str:
    return WHO[_kind(one)] if by_groups(one.models[0]) else _judged(name, one)


def by_groups(model: ConfirmedModel) -> bool:
    """Whether the intervals count patients or slides, not images."""
    return "group" in (model.test.auc_interval or "")


def _units(result: StratumResult) -> str:
    """What is judged: of several data sets some may be of cases."""
    return _listed(_judged(name, one) for name, one in result.each.items())


def _judged(name: str, one: StratumResult) -> str:
    return f"{one.unit}s" if name == "" else _kind(one)


def _listed(words: Iterable[str]) -> str:
    return " and ".join(sorted(set(words), reverse=True))


def _kind(one: StratumResult) -> str:
    return "images" if one.models[0].test.n_cases is None else "cases"


def best_sentence(best: StratumResult) -> str:
    """What the best configuration by validation is worth on the test split."""
    low, high = best.ci
    asked = "" if best.chosen else f" (trial {best.search_trial})"
    return (
        f"Best model on validation: {stratum_words(best.stratum)}{asked}, test AUC {best.test_auc:.4f} "
        f"(95 % interval {low:.3f} to {high:.3f}, {what_varies(best)})."
    )


def datasets_sentence(best: StratumResult) -> str:
    """What a configuration of several data sets is worth on each; empty: there is one only."""
    if not best.datasets:
        return ""
    each = [
        f"{name} {one.test_auc:.4f} ({one.ci[0]:.3f} to {one.ci[1]:.3f})"
        for name, one in best.datasets.items()
    ]
    return f"This is the mean over data sets. Test AUC of each: {', '.join(each)}."


def objective_sentence(result: StratumResult, objective: str) -> str:
    """What a configuration reached of the search's objective; empty: the search looked for AUC."""
    value = result.metric_means.get("objective_value")
    if is_auc(objective) or value is None:
        return ""
    found = "" if result.search_value is None else f"{result.search_value:.4f} on validation in the search, "
    how = "mean over the seeds"
    if is_loss(objective):
        how += "; in the search, probabilities were not calibrated"
    elif objective.startswith(AT_SPECIFICITY):
        how += "; the threshold is chosen on the test split itself"
    return (
        f"Objective of the search, {objective_title(objective)}: {found}{value:.4f} on the test split "
        f"({how})."
    )


def chance_warning(result: StratumResult, model: ConfirmedModel | None = None) -> str:
    """That a configuration, or one model of it, may be no better than chance; empty: it is better.

    Args:
        result: over its seeds.
        model: of one seed, judged beside it.
    """
    judged = [(result.test_auc, *result.ci)]
    if model is not None and model.test.auc_ci_low is not None and model.test.auc_ci_high is not None:
        judged.append((model.test_auc, model.test.auc_ci_low, model.test.auc_ci_high))
    auc, low, high = min(judged, key=lambda found: found[1])
    if not includes_chance(low):
        return ""
    return (
        f"Perhaps no better than chance: the 95 % interval of its test AUC {auc:.4f} is {low:.3f} to "
        f"{high:.3f}, and guessing reaches 0.5."
    )


def gap_words(result: StratumResult) -> list[str]:
    """What "the search flattered" consists of for one configuration, in sentences; none: not known."""
    gap = result.gap
    if gap is None:
        return []
    search = _part(gap.search) if gap.search.ci else f"{gap.search.value:+.4f} (one seed: no interval)"
    lines = [
        f"Search AUC minus test AUC is {result.optimism:+.4f}. It has two parts: {search} from the search "
        f"(the best of many, minus the same configuration trained again), and {_part(gap.splits)} from the "
        "splits (validation AUC minus test AUC of the same networks)."
    ]
    if not gap.told_from_zero:
        return [
            *lines,
            "The splits are too small to show whether they differ: the second interval includes 0.",
        ]
    better = "easier" if gap.splits.value > 0 else "harder"
    causes = "another population, copies of training images in one of them, or another prevalence"
    return [
        *lines,
        f"The validation split is {better} than the test split{_rates(gap)}. Possible causes: {causes}.",
    ]


def _part(part: Part) -> str:
    low, high = part.ci or (0.0, 0.0)
    return f"{part.value:+.4f} ({low:+.3f} to {high:+.3f})"


def _rates(gap: Gap) -> str:
    if gap.val is None or gap.test is None:
        return ""
    both = [
        f"{name} {getattr(gap.val, name):.3f} and {getattr(gap.test, name):.3f}"
        for name in ("sensitivity", "specificity", "prevalence")
    ]
    return f" (validation and test, at the threshold chosen on validation: {', '.join(both)})"


def judged_on(summary: ConfirmationSummary) -> str:
    """What the test split consists of, in words."""
    if not summary.strata:
        return counted(summary.n_test or 0, None)
    first = summary.strata[0]
    if first.datasets and _units(first) != "images":
        return ", ".join(f"{name} {in_test_split(one, 'case')}" for name, one in first.datasets.items())
    return in_test_split(first, first.unit)


def in_test_split(one: StratumResult, unit: str) -> str:
    """Images or cases of the test split, in words."""
    return counted(one.models[0].n_test, one.models[0].test.n_cases, unit)


def calibration_rows(result: StratumResult) -> list[list[str]]:
    """A head and a row for each way of calibration, mean over the seeds; empty: not known."""
    known = [model.calibrations for model in result.models]
    if not all(known):
        return []
    rows = [["calibration (validation, cross-validated)", "log loss", "Brier loss", "calibration error"]]
    for place, first in enumerate(known[0]):
        each = [scores[place] for scores in known]
        means = [
            sum(getattr(scores, name) for scores in each) / len(each)
            for name in ("log_loss", "brier_loss", "calibration_error")
        ]
        name = CALIBRATIONS.get(cast("CalibrationKind", first.kind), first.kind)
        used = " (in use)" if first.kind == result.models[0].calibration else ""
        rows.append([f"{name}{used}", *(f"{mean:.4f}" for mean in means)])
    return rows


def per_image(result: StratumResult) -> str:
    """The test AUC per image, where cases are judged, in a sentence; empty: images are."""
    value = result.metric_means.get("image_auc")
    if value is None:
        return ""
    how = result.models[0].record.combine
    return f"AUCs are per {result.unit} ({how} over its images). The test AUC per image is {value:.4f}."


def opened(openings: Sequence[Opening]) -> str:
    """How often the test split was opened, in words."""
    if not openings:
        return "The test split has not been opened."
    times = "once" if len(openings) == 1 else f"{len(openings)} times"
    when = ", ".join(f"{o.when} for {number_of(len(o.models), 'model')}" for o in openings)
    return f"The test split was opened {times}: {when}."


def front_words(found: Efficiency) -> list[str]:
    """What fronts are worth; then a line for each kind of cost: who is on its front, cheapest first."""
    lines = [f"{CAUTION}."]
    for kind, title in COSTS.items():
        front = "; ".join(
            f"{named(m.architecture, m.stratum)} ({_cost(m, kind)}, AUC {m.auc:.4f})"
            for m in found.front(kind)
        )
        lines.append(f"AUC against {title.removesuffix(', ms')}: {front}")
    return lines


def _cost(model: ModelCost, kind: str) -> str:
    value = model.costs[kind]
    return f"{value:.3g} ms" if kind == "latency_ms" else f"{value / 1e6:,.1f} M"


def named(architecture: str, stratum: str) -> str:
    """A model in short words: its stratum, and its architecture where that is none of the strata's."""
    words = stratum_words(stratum)
    return words if architecture in stratum else " · ".join(filter(None, [architecture, words]))
