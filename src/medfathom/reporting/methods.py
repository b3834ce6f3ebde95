"""A methods paragraph in plain English. It says only what the record shows to have been done."""

from __future__ import annotations

from medfathom.definitions.joint import members
from medfathom.metrics.rules import CALIBRATIONS, threshold_words
from medfathom.reporting.data_facts import FIT, flow, partitions
from medfathom.reporting.model_facts import hardware, hyperparameters, initialisation, software
from medfathom.reporting.record import Confirmed, Fact, StudyRecord
from medfathom.reporting.result_facts import intervals
from medfathom.study.choice import choice_of, rule_words


def methods_paragraph(record: StudyRecord) -> str:
    """What was done, a sentence after the other; what is not known is left out."""
    sentences = [*_data(record), *_search(record), *_confirmation(record), *_elsewhere(record)]
    return " ".join(sentences)


def _data(record: StudyRecord) -> list[str]:
    own = record.definition
    if record.data is None:
        return [f"{own.dataset.modality} images were classified."]
    classes = ", ".join(record.classes)
    sizes = "; ".join(f"{split}: {words}" for split, words in record.sizes().items())
    lines = [f"{own.dataset.modality} images were classified into {classes} ({sizes})."]
    lines += [answer.text for answer in (partitions(record), flow(record)) if isinstance(answer, Fact)]
    pixels = " or ".join(map(str, own.sizes))
    return [*lines, f"Images were {FIT[members(own.dataset)[0].fit]} to {pixels} x {pixels} pixels."]


def _search(record: StudyRecord) -> list[str]:
    own, counts = record.definition, record.counts
    if not counts.finished:
        return []
    names = ", ".join(name for name, d in own.space.dimensions.items() if d.value is None) or "nothing"
    alone, folds = record.first_fold_alone, own.dataset.splits.trainings
    where, length = "the training split", f"all {own.budget.epochs} epochs"
    if folds > 1:
        where = f"up to {folds} folds of the images outside the test split, with one fold for validation"
        length += f" of each of the {folds}"
    first = f", {alone} ran those of the first fold alone" if alone else ""
    early = counts.pruned - alone
    stopped = f", {early} were stopped early ({own.scheduler.name})" if early else ""
    failed = f", {counts.failed} failed" if counts.failed else ""
    return [
        f"{counts.finished} configurations that differed in {names} were drawn by the sampler "
        f"{own.sampler.name} (seed {own.seed}) and trained on {where}; {counts.complete} ran "
        f"{length}{first}{stopped}{failed}.",
        "They were compared on the validation split; the test split was not read.",
    ]


def _confirmation(record: StudyRecord) -> list[str]:
    chosen = record.confirmed
    if chosen is None:
        return []
    config = chosen.config
    lines = _trained_again(record, chosen)
    for title, answer in (
        ("Weights at the start", initialisation(record)),
        ("Training", hyperparameters(record)),
    ):
        lines += [f"{title}: {answer.text}"] if isinstance(answer, Fact) else []
    if config is not None:
        what = "thresholds at which each class is judged against the others were"
        if config.task != "multiclass":
            what = "threshold was"
        rule = f", and the {what} chosen there by {threshold_words(config.threshold_rule)}"
        lines.append(
            f"Probabilities were calibrated by {CALIBRATIONS[config.calibration]} on the validation split"
            f"{rule if config.thresholds else ''}."
        )
    told = (("Intervals", intervals(record)), ("Hardware", hardware(record)), ("Software", software(record)))
    return [*lines, *(f"{title}: {answer.text}" for title, answer in told if isinstance(answer, Fact))]


def _trained_again(record: StudyRecord, chosen: Confirmed) -> list[str]:
    """Which configurations were trained again and tested, and which of them is reported."""
    own, strata = chosen.result, record.summary.strata
    seeds = "one seed" if len(own.models) == 1 else f"{len(own.models)} seeds"
    sizes = f"{own.n_params:,} parameters, of which {own.n_trainable_params:,} were trained"
    what = f"{own.architecture} with {sizes}"
    times = len(record.summary.openings)
    tested = "judged on the test split, which was opened " + (
        "once" if times == 1 else f"in {times} sessions"
    )
    rule = f"The configuration with {rule_words(record.study)}"
    if len(strata) > 1:
        models = sum(len(result.models) for result in strata)
        return [
            f"{len(strata)} configurations were trained again ({models} models in all) and {tested}.",
            f"{rule} of these, mean over its {seeds}, was {what}."
            if len(own.models) > 1
            else f"{rule} of these was {what} (one seed).",
        ]
    found = choice_of(record.study, record.trials)
    best = found is not None and found.best == own.search_trial
    which = rule if best else f"The configuration of search trial {own.search_trial}"
    return [f"{which} was {what}.", f"It was trained again with {seeds} and {tested}."]


def _elsewhere(record: StudyRecord) -> list[str]:
    return [
        f"The model was then judged on {each['n_images']} images of {name}, with the threshold carried over."
        for name, each in record.evaluations.items()
    ]
