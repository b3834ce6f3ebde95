"""Sentences about an evaluation that terminal, card and dashboard share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.data.check.across import SEES as BY_IMAGE
from medfathom.data.prints import LIKENESS
from medfathom.evaluation.results import Calibration, Evaluation, Value, metric
from medfathom.metrics.rules import CHANCE
from medfathom.text import number_of
from medfathom.trial.record import METRIC_TITLES

if TYPE_CHECKING:
    from medfathom.evaluation.subgroups import Subgroups

SEES = (
    "they show exact copies, and copies that were saved again or have another brightness, contrast or "
    "resolution; they do not show crops, shifts or other aspect ratios"
)
"""What the search by fingerprints sees."""

TITLES = tuple(pair for pair in METRIC_TITLES if pair[0] != "image_auc")
"""Of the metrics that are compared: all of them per unit."""


def shown(value: Value, digits: int = 3) -> str:
    """`0.812 (0.780 to 0.841)`; empty where it is undefined."""
    if value.value is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def judged_on(found: Evaluation) -> str:
    """What was judged, in words."""
    images = f"{found.n_images} images"
    units = images if found.unit == "image" else f"{found.n_units} {found.unit}s ({images})"
    patients = "patients not known" if found.n_patients is None else f"{found.n_patients} patients"
    counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
    return f"{units}, {patients}: {counts}"


def warnings_of(found: Evaluation) -> list[str]:
    """What must be read before any number."""
    return [*_flip(found), *_overlap(found), *_chance(found)]


def _flip(found: Evaluation) -> list[str]:
    if found.flipped is None:
        return []
    inverted = found.flipped.inverted
    tried = (
        ""
        if inverted is None
        else f" With white and black exchanged the AUC is {inverted:.3f}: "
        + (
            "the grey values are probably inverted."
            if inverted > CHANCE
            else "the grey values are not the cause."
        )
    )
    return [
        f"AUC {shown(found.flipped.auc)} and its interval are below 0.5: probably the classes are exchanged, "
        f"or black and white are. Check [map] and the images before you report this.{tried}"
    ]


def _overlap(found: Evaluation) -> list[str]:
    seen = found.overlap
    if not (seen.exact or seen.near or seen.patients):
        return []
    parts = [
        f"{number_of(count, what)} of training images"
        for count, what in ((seen.exact, "exact copy"), (seen.near, "near copy"))
        if count
    ]
    if seen.patients:
        parts.append(
            f"{seen.patients} patients ({seen.patient_images} images) with the name of a training patient "
            "(this means nothing if each site numbers its own patients)"
        )
    without = (
        "Too few images remain without them for an AUC over the same classes."
        if seen.auc_without is None
        else f"AUC without them: {shown(seen.auc_without)}."
    )
    return [f"The model has seen some of these images: {', and '.join(parts)}. {without}"]


def _chance(found: Evaluation) -> list[str]:
    auc = metric(found.metrics, "auc")
    if found.flipped or auc.low is None or auc.low > CHANCE:
        return []
    return [f"Perhaps no better than chance: the 95 % interval of the AUC {shown(auc)} includes 0.5."]


def looked_for(found: Evaluation) -> str:
    """How training images were looked for."""
    if found.overlap.compared is None:
        return (
            "These data were not searched for training images: the model has no fingerprints of them (it was "
            "exported by an older version, with --no-fingerprints, or after the prepared data were deleted)."
        )
    seen = found.overlap
    none = "" if seen.exact or seen.near else " No copy was found."
    if seen.by_image:
        return (
            f"These data were searched for copies of {seen.compared} training and validation images. "
            f"{BY_IMAGE}.{none}"
        )
    return (
        f"These data were searched for training images by {seen.compared} fingerprints (correlation of at "
        f"least {LIKENESS:g}): {SEES}. `--copies` finds those too.{none}"
    )


def left_out(found: Evaluation) -> list[str]:
    """Images that were not judged, and classes without images."""
    lines = [
        f"Left out: {number_of(count, 'image')} of class {name}, which the model does not know."
        for name, count in found.left_out.items()
    ]
    if found.unreadable:
        first, why = next(iter(found.unreadable.items()))
        lines.append(
            f"Left out: {number_of(len(found.unreadable), 'image')} cannot be used, the first is {first}: "
            f"{why}"
        )
    if found.missing:
        lines.append(f"The data have no image of class {', '.join(found.missing)}.")
    if found.metrics.undefined and found.internal is not None:
        lines.append("Means of the own test split are over the classes that these data have too.")
    return [*lines, *(found.metrics.undefined or [])]


def fell(found: Evaluation) -> str:
    """The change of the AUC against the internal test split, in a sentence."""
    if found.internal is None or "auc" not in found.drop:
        return "The model has no comparable record of its own test split, so no drop can be computed."
    drop = found.drop["auc"]
    own, here = (shown(metric(metrics, "auc")) for metrics in (found.internal, found.metrics))
    assert drop.low is not None  # noqa: S101  `difference_interval` gives all three
    assert drop.high is not None  # noqa: S101
    if drop.low > 0:
        verdict = "It is lower on these data"
    elif drop.high < 0:
        verdict = "It is higher on these data"
    else:
        verdict = "The interval includes 0, so these data do not show whether it differs"
    return f"AUC {own} on its own test split, {here} on these data: a drop of {shown(drop)}. {verdict}."


def calibration_line(line: Calibration) -> str:
    """One class's calibration in a line."""
    parts = [
        f"mean probability {line.mean_probability:.3f}, observed share {line.share:.3f}",
        *(
            f"{name} {shown(value, 2)}"
            for name, value in (
                ("slope", line.slope),
                ("intercept", line.intercept),
                ("calibration in the large", line.in_the_large),
            )
            if value.value is not None
        ),
    ]
    if line.error is not None:
        parts.append(f"ECE {line.error:.3f}")
    if line.slope.value is None:
        parts.append(
            "no calibration line: the classes are separated, one is missing, or all probabilities are equal"
        )
    return f"{line.name}: {', '.join(parts)}"


def subgroup_table(found: Subgroups | None) -> list[list[str]]:
    """Subgroups as rows of text, a header first; empty where none were asked for."""
    if found is None:
        return []
    header = ["subgroup", "n", "patients", "positive", "AUC", "sensitivity", "specificity", "slope"]
    rows = [[*header, "AUC minus the others'", "p (Holm)"]]
    for each in found.groups:
        patients = "" if each.n_patients is None else str(each.n_patients)
        row = [f"{each.column} {each.value}", str(each.n), patients, str(each.positives)]
        if each.why:
            rows.append([*row, "too few", *[""] * 5])
            continue
        slope = each.calibration[0].slope if len(each.calibration) == 1 else Value(None)
        values = [each.auc, each.sensitivity, each.specificity, slope, each.difference]
        p = "" if each.p_holm is None else f"{each.p_holm:.3f}"
        rows.append([*row, *(shown(value or Value(None), 2) for value in values), p])
    return rows


def subgroup_lines(found: Subgroups | None) -> list[str]:
    """What a table of subgroups does not say."""
    if found is None:
        return []
    lines = [
        f"Largest gap by {gap.column}: AUC of {gap.best} minus AUC of {gap.worst} is {shown(gap.gap)}. The "
        "interval holds for all pairs."
        for gap in found.gaps
    ]
    lines += [
        f"In no subgroup, as {column} is not known: {count} of {count + _in_groups(found, column)}."
        for column, count in found.left_out.items()
        if count
    ]
    return lines + [f"{e.column} {e.value}: {e.why}" for e in found.groups if e.why]


def _in_groups(found: Subgroups, column: str) -> int:
    """Images (or cases) that have a value of the column."""
    return sum(each.n for each in found.groups if each.column == column)


def recalibration_lines(evaluation: Evaluation) -> list[str]:
    """What recalibration changed on the rest; nothing where it was not asked for."""
    found = evaluation.recalibrated
    if found is None:
        return []
    drawn = "drawn by patient" if evaluation.n_patients is not None else "drawn at random"
    lines = [
        f"Recalibrated on {found.n_used} {evaluation.unit}s {drawn} ({found.how}) and judged on the other "
        f"{found.n_judged}:"
    ]
    names = [(key, title) for key, title in TITLES if key in found.before and key in found.after]
    lines += [
        f"{title}: {found.before[key]:.3f} before, {found.after[key]:.3f} after" for key, title in names
    ]
    return lines + [f"calibration after, {calibration_line(line)}" for line in found.lines_after]
