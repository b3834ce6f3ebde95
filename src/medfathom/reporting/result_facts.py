"""What a report says of the results: the internal test, other data, subgroups, failures, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medfathom.confirmation.find import SUBGROUPS
from medfathom.confirmation.words import chance_warning, gap_words, judged_on, what_varies
from medfathom.metrics.rules import objective_title
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.reporting.record import Answer, Confirmed, Fact, StudyRecord
from medfathom.text import command
from medfathom.trial.record import METRIC_TITLES, SplitMetrics

OPERATING = ("sensitivity", "specificity", "precision", "npv")
"""What depends on the threshold, with predictive values."""

CALIBRATION = ("log_loss", "brier_loss", "calibration_error")

SITES = ("site", "centre", "center", "hospital", "institution", "scanner", "view")
"""Columns of subgroups that are clusters."""

TITLES = dict(METRIC_TITLES)


def test_auc(record: StudyRecord) -> Answer:
    """The AUC on the own test split, over seeds."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    own = chosen.result
    low, high = own.ci
    text = (
        f"Test AUC {own.test_auc:.4f} (95 % interval {low:.3f} to {high:.3f}, {what_varies(own)}) on "
        f"{judged_on(record.summary)}. {chance_warning(own)}"
    )
    return Fact(text.strip(), f"confirmed trials of search trial {own.search_trial}, `test_auc`")


def internal_test(record: StudyRecord) -> Answer:
    """That there is an internal test, and how the model was kept from it."""
    if record.confirmed is None:
        return record.confirm_first
    times = len(record.summary.openings)
    text = (
        f"Tested on {judged_on(record.summary)} of the same data set. Training and search did not read them; "
        f"`confirm` opened them {times} time{'' if times == 1 else 's'}."
    )
    return Fact(text, "study, `test_openings`")


def test_metrics(record: StudyRecord) -> Answer:
    """All other metrics of the model on its test split."""
    return _of_model(record, [n for n in TITLES if n not in ("auc", *OPERATING, *CALIBRATION)], "Test")


def operating_point(record: StudyRecord) -> Answer:
    """At the threshold from validation."""
    config = None if record.confirmed is None else record.confirmed.config
    several = config is not None and config.task == "multiclass"
    each = "each class against the others at its threshold from validation, mean over classes"
    return _of_model(record, OPERATING, f"Test, {each if several else 'at the threshold from validation'}")


def calibration(record: StudyRecord) -> Answer:
    """Calibration on the test split."""
    return _of_model(record, CALIBRATION, "Test, calibration")


def _of_model(record: StudyRecord, names: Sequence[str], what: str) -> Answer:
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    known = [words for name in names if (words := _metric(chosen.model.test, name))]
    if not known:
        return "This metric is not recorded for this task."
    return Fact(f"{what} (one model): {'; '.join(known)}.", f"{chosen.source}, `test_*`")


def _metric(metrics: SplitMetrics, name: str) -> str:
    value = getattr(metrics, name)
    low, high = (getattr(metrics, f"{name}_ci_{end}", None) for end in ("low", "high"))
    if value is None:
        return ""
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{TITLES[name]} {value:.3f}{interval}"


def cross_table(record: StudyRecord) -> Answer:
    """Counts of the chosen model's decisions on the test split."""
    counts = _decisions(record)
    if counts is None:
        return _no_decisions(record)
    text = "; ".join(
        f"{name}: {tp} true positive, {fp} false positive, {fn} false negative, {tn} true negative"
        for name, (tp, fp, fn, tn) in counts.items()
    )
    return Fact(f"{text}.", "test.parquet; medfathom.json, `thresholds`")


def failures(record: StudyRecord) -> Answer:
    """How many errors, and where they are shown."""
    counts, chosen = _decisions(record), record.confirmed
    if counts is None or chosen is None:
        return _no_decisions(record)
    text = "; ".join(
        f"{name}: {fp} false positive, {fn} false negative" for name, (_, fp, fn, _) in counts.items()
    )
    shown = [name for name in ("mistakes.png", "gradcam.png") if name in chosen.model.pictures]
    where = f" Shown in {' and '.join(shown)} of {chosen.model.folder.name}." if shown else ""
    return Fact(f"{text}.{where}", "test.parquet; medfathom.json, `thresholds`")


def _no_decisions(record: StudyRecord) -> str:
    if record.confirmed is None:
        return record.confirm_first
    if record.confirmed.config is not None and record.confirmed.config.task == "multiclass":
        return "Which classes are confused with which? See confusion.png in the model's folder."
    return "The predictions on the test split have been deleted. Which cases were wrong?"


def _decisions(record: StudyRecord) -> dict[str, tuple[int, int, int, int]] | None:
    """Class -> true positives, false positives, false negatives, true negatives."""
    chosen, found = record.confirmed, record.test_predictions
    if chosen is None or chosen.config is None or found is None or chosen.config.task == "multiclass":
        return None
    counts = {}
    for c, (name, at) in enumerate(zip(found.class_names, chosen.config.thresholds, strict=True)):
        called = found.probabilities[:, c] >= (0.5 if at is None else at)
        yes, no = is_present(found.positive[:, c]), is_absent(found.positive[:, c])
        counts[name] = tuple(
            int(np.sum(both)) for both in (called & yes, called & no, ~called & yes, ~called & no)
        )
    return counts  # type: ignore[return-value]


def metrics(record: StudyRecord) -> Answer:
    """Which metrics are reported."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    known = [title for name, title in METRIC_TITLES if getattr(chosen.model.test, name) is not None]
    looked_for = objective_title(record.summary.objective)
    text = f"{', '.join(known)}. The search used the validation {looked_for}."
    return Fact(text, f"{chosen.source}, `test_*`; definition, `objective`")


def intervals(record: StudyRecord) -> Answer:
    """How intervals were computed."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    how = chosen.model.test.auc_interval or "DeLong"
    several = ", with the effective number of images and Student's quantile where patients have several"
    units = f"{chosen.result.unit}s"
    covers = f"of the mean over seeds, it covers chance in test {units} and seeds"
    if len(chosen.result.models) == 1:
        covers = f"it covers chance in test {units}, for this one seed only"
    text = f"95 %. AUC: {how}; {covers}. Proportions: Wilson{several if 'group' in how else ''}."
    return Fact(text, f"{chosen.source}, `test_auc_interval`")


def seed_spread(record: StudyRecord) -> Answer:
    """How much the seed matters."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    sd = chosen.result.seed_sd
    if sd is None:
        return f"Only one seed was trained: `{command('confirm', record.name, '--seeds', 3)}` trains more."
    text = f"Standard deviation of the test AUC between {len(chosen.result.models)} seeds: {sd:.4f}."
    return Fact(text, "confirmed trials, `test_auc`")


def gap(record: StudyRecord) -> Answer:
    """Search optimism, and validation against test."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    words = gap_words(chosen.result)
    if not words and record.definition.dataset.splits.folds:
        return (
            "How optimistic the search was is not known: it was cross-validated, and its AUC is of other "
            "images than the validation AUC of the final models."
        )
    if not words:
        return "How optimistic the search was is not known: an older version confirmed the study."
    return Fact(" ".join(words), "confirmation, `gap`")


def explainability(record: StudyRecord) -> Answer:
    """Grad-CAM, where it was drawn."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    if "gradcam.png" not in chosen.model.pictures:
        return "No Grad-CAM was drawn for this model. Was another method used?"
    text = "Grad-CAM of confident right and wrong test predictions (gradcam.png). It was not validated."
    return Fact(text, f"{chosen.source}, `pictures`")


def _evaluate_first(record: StudyRecord) -> str:
    typed = command("evaluate", record.name, "other.toml")
    return f"No test on data from another source is recorded: `{typed}`."


def external(record: StudyRecord) -> Answer:
    """What `evaluate` found on other data."""
    if not record.evaluations:
        return _evaluate_first(record)
    parts = []
    for name, each in record.evaluations.items():
        found = record.external_metrics(name)
        at = "; ".join(words for key in ("auc", *OPERATING) if (words := _metric(found, key)))
        parts.append(f"{name} ({each['when']}; {each['model']}): {at}; drop of the AUC {_drop(each)}.")
    return Fact(" ".join(parts), "study, `evaluations`")


def _drop(each: Mapping[str, Any]) -> str:
    drop = each["drop"].get("auc")
    if drop is None:
        return "not known"
    return f"{drop['value']:.3f} ({drop['low']:.3f} to {drop['high']:.3f})"


def external_counts(record: StudyRecord) -> Answer:
    """Who the other data are."""
    if not record.evaluations:
        return _evaluate_first(record)
    parts = []
    for name, each in record.evaluations.items():
        counts: Any = each["counts"]
        patients = "patients not known" if each["n_patients"] is None else f"{each['n_patients']} patients"
        classes = ", ".join(f"{label} {count}" for label, count in counts.items())
        parts.append(f"{name}: {each['n_images']} images, {patients}; {classes}{_seen_before(each)}.")
    return Fact(" ".join(parts), "study, `evaluations`, `counts`, `overlap`")


def _seen_before(each: Mapping[str, Any]) -> str:
    seen = each["overlap"]
    if seen["compared"] is None:
        return "; they were not searched for training images"
    return f"; {seen['exact']} exact and {seen['near']} near copies of training images among them"


def subgroups(record: StudyRecord) -> Answer:
    """For whom it works."""
    found = _all_groups(record)
    if not found:
        typed = command("confirm", record.name, "--by", "sex,age:10")
        return f"No subgroups were judged: keep their columns (`[dataset] keep`), then `{typed}`."
    return Fact(" ".join(found), "study, `subgroups`, `evaluations`")


def by_site(record: StudyRecord) -> Answer:
    """Over centres, where a column names them."""
    found = _all_groups(record, SITES)
    if not found:
        return "Do the data come from several centres or devices? No subgroups by site were judged."
    return Fact(" ".join(found), "study, `subgroups`, `evaluations`")


def _all_groups(record: StudyRecord, columns: Sequence[str] = ()) -> list[str]:
    """Of the own test split, and of other data, a sentence each."""
    places = {"own test split": record.study.user_attrs.get(SUBGROUPS)}
    places |= {name: each.get("subgroups") for name, each in record.evaluations.items()}
    return [words for name, found in places.items() if found and (words := _groups(name, found, columns))]


def _groups(name: str, found: Mapping[str, Any], columns: Sequence[str]) -> str:
    groups = found["groups"]
    shown = [_group(g) for g in groups if not columns or str(g["column"]).lower() in columns]
    return f"{name}: {'; '.join(shown)}." if shown else ""


def _group(group: Mapping[str, Any]) -> str:
    head = f"{group['column']} {group['value']} (n = {group['n']})"
    auc = group["auc"]
    if group["why"] or auc is None or auc["value"] is None:
        return f"{head} too few"
    low, high = auc["low"], auc["high"]
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{head} AUC {auc['value']:.3f}{interval}"


def updating(record: StudyRecord) -> Answer:
    """Recalibration elsewhere."""
    parts = [
        _recalibrated(name, found)
        for name, each in record.evaluations.items()
        if (found := each.get("recalibrated"))
    ]
    if not parts:
        return Fact("The model was not updated or recalibrated on other data.", "study, `evaluations`")
    return Fact(" ".join(parts), "study, `evaluations`, `recalibrated`")


def _recalibrated(name: str, found: Any) -> str:
    before, after = found["before"].get("brier_loss"), found["after"].get("brier_loss")
    known = before is not None and after is not None
    brier = f", Brier loss {before:.3f} before, {after:.3f} after" if known else ""
    how, judged = found["how"], found["n_judged"]
    return f"{name}: recalibrated on {found['n_used']} ({how}), judged on {judged}{brier}."


def sample_size(record: StudyRecord) -> Answer:
    """What the test set's size allowed."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    low, high = chosen.result.ci
    judged = judged_on(record.summary)
    text = f"Tested on {judged}; the 95 % interval of the test AUC is {high - low:.3f} wide."
    return Fact(text, "confirmation, `n_test`, `ci`")


def limitations(record: StudyRecord) -> Answer:
    """What the record itself shows."""
    known = list(filter(None, (_one_place(record), _unknown_patients(record), _chance(record.confirmed))))
    known += [text for text in (record.summary.unfinished, record.study.user_attrs.get("leakage")) if text]
    if not known:
        return "Which limitations does the study have?"
    return Fact(f"From the record: {'; '.join(known)}. The author must add others.", "study; confirmation")


def _one_place(record: StudyRecord) -> str:
    return "" if record.evaluations else "tested on one data set only"


def _unknown_patients(record: StudyRecord) -> str:
    if record.manifest is None or (record.manifest.group != "").any():
        return ""
    return "patients are not named, so that intervals are too narrow if some have several images"


def _chance(chosen: Confirmed | None) -> str:
    return "" if chosen is None else chance_warning(chosen.result).rstrip(".")
