"""A methods paragraph in plain English. It says only what the record shows to have been done."""

from __future__ import annotations

from medfathom.definitions.joint import members
from medfathom.metrics.rules import CALIBRATIONS, threshold_words
from medfathom.reporting.data_facts import FIT, flow, partitions
from medfathom.reporting.model_facts import hardware, hyperparameters, initialisation, software
from medfathom.reporting.record import Fact, StudyRecord
from medfathom.reporting.result_facts import intervals
from medfathom.study.choice import rule_words


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
    stopped = f", {counts.pruned} were stopped early ({own.scheduler.name})" if counts.pruned else ""
    failed = f", {counts.failed} failed" if counts.failed else ""
    return [
        f"{counts.finished} configurations that differed in {names} were drawn by the sampler "
        f"{own.sampler.name} (seed {own.seed}) and trained on the training split; {counts.complete} ran all "
        f"{own.budget.epochs} epochs{stopped}{failed}.",
        "They were compared on the validation split; the test split was not read.",
    ]


def _confirmation(record: StudyRecord) -> list[str]:
    chosen = record.confirmed
    if chosen is None:
        return []
    own, config = chosen.result, chosen.config
    seeds = "one seed" if len(own.models) == 1 else f"{len(own.models)} seeds"
    lines = [
        f"The configuration with {rule_words(record.study)} was {own.architecture} with "
        f"{own.n_params:,} parameters, of which {own.n_trainable_params:,} were trained.",
    ]
    for title, answer in (
        ("Weights at the start", initialisation(record)),
        ("Training", hyperparameters(record)),
    ):
        lines += [f"{title}: {answer.text}"] if isinstance(answer, Fact) else []
    times = len(record.summary.openings)
    opened = "once" if times == 1 else f"in {times} sessions"
    lines.append(
        f"It was trained again with {seeds} and judged on the test split, which was opened {opened}."
    )
    if config is not None:
        rule = f", and the threshold was chosen there by {threshold_words(config.threshold_rule)}"
        lines.append(
            f"Probabilities were calibrated by {CALIBRATIONS[config.calibration]} on the validation split"
            f"{'' if config.task == 'multiclass' else rule}."
        )
    told = (("Intervals", intervals(record)), ("Hardware", hardware(record)), ("Software", software(record)))
    return [*lines, *(f"{title}: {answer.text}" for title, answer in told if isinstance(answer, Fact))]


def _elsewhere(record: StudyRecord) -> list[str]:
    return [
        f"The model was then judged on {each['n_images']} images of {name}, with the threshold carried over."
        for name, each in record.evaluations.items()
    ]
