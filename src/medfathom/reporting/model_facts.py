"""What a report says of the model: what it is, how it was trained, searched and chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.confirmation.words import opened
from medfathom.definitions.space import Dimension, TrialParams
from medfathom.definitions.strategies import DEFAULT
from medfathom.metrics.rules import CALIBRATIONS, threshold_words
from medfathom.models.folder import HEAD_FILE
from medfathom.reporting.record import Answer, Confirmed, Fact, StudyRecord
from medfathom.study.choice import choice_of, choice_sentences, rule_words
from medfathom.study.tuning import settles
from medfathom.text import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medfathom.confirmation.results import StratumResult
    from medfathom.definitions.space import Value

AUGMENTATION = "augmentation"

TRAINED_BY = (
    *("optimizer", "learning_rate", "head_lr_factor", "layer_decay", "weight_decay", "batch_size", "decay"),
    *("warmup_fraction", "label_smoothing", "head_dropout", "train_fraction"),
)
"""Hyperparameters that describe a training."""


def technology(record: StudyRecord) -> Answer:
    """The kind of AI."""
    classes = f" into {', '.join(record.classes)}" if record.classes else ""
    modality = record.definition.dataset.modality
    text = f"Deep learning: a neural network classifies {modality} images{classes}."
    return Fact(text, "definition, `dataset.modality`; trial record, `architecture`")


def question(record: StudyRecord) -> Answer:
    """What the study asks."""
    text = record.definition.question
    if not text:
        return "What are aims and hypotheses? The definition has no `question`."
    return Fact(text, "definition, `question`")


def goal(record: StudyRecord) -> Answer:
    """Best model or comparison."""
    until = ", but for those of which further trials were expected to gain less than the noise of the AUC"
    until = until if settles(record.definition) else ""
    words = {
        "best": f"Development of a model with {rule_words(record.study)}",
        "compare": f"Comparison of configurations, each with the same budget{until}",
    }
    text = f"{words[record.definition.goal]}, with a test on images that the search did not use."
    return Fact(text, "definition, `goal`")


def model(record: StudyRecord) -> Answer:
    """Architecture and size."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    own = chosen.result
    trained = "only the head trained" if own.unfreeze_depth == 0 else f"head and {_groups(own)} trained"
    text = (
        f"{own.architecture} (family {own.family}): {own.n_params:,} parameters, {own.n_trainable_params:,} "
        f"of them trained ({trained}), {own.depth} weighted layers, {own.macs:,} multiply-accumulates for an "
        f"image.{_head(chosen)}"
    )
    return Fact(text, f"{chosen.source}, `architecture`, `n_params`, `unfreeze_depth`, `depth`, `macs`")


def _groups(own: StratumResult) -> str:
    """Which groups the strategy trains, and what of them."""
    where = "first" if own.strategy == "surgical" else "last"
    groups = f"the {where} {own.unfreeze_depth} of 5 layer groups"
    return groups if own.strategy == DEFAULT else f"{groups} by the strategy {own.strategy}"


def _head(chosen: Confirmed) -> str:
    config = chosen.config
    if config is None:
        return ""
    hidden = f", a hidden layer of {config.head_hidden}" if config.head_hidden else ""
    dropout = f", dropout {config.head_dropout:g}" if config.head_dropout else ""
    return f" Head: {config.head_pooling} pooling{hidden}{dropout}, one linear layer."


def outputs(record: StudyRecord) -> Answer:
    """What comes out, and how it is calibrated."""
    chosen = record.confirmed
    if chosen is None or chosen.config is None:
        return record.confirm_first
    config = chosen.config
    function = "sigmoid, for each label" if config.task == "multilabel" else "softmax"
    combined = (
        "" if config.unit == "image" else f" The images of a {config.unit} are combined by {config.combine}."
    )
    text = (
        f"A probability for each of {', '.join(config.class_names)}: {function} of the logits divided by the "
        f"temperature {config.temperature:.4g}, which was fitted on the validation split.{combined}"
    )
    if config.calibration != "temperature":
        how = CALIBRATIONS[config.calibration]
        text = (
            f"A probability for each of {', '.join(config.class_names)}: {function} of the logits, "
            f"calibrated by {how} on the validation split.{combined}"
        )
    return Fact(text, f"{chosen.source}, medfathom.json, `calibration`, `class_names`")


def threshold(record: StudyRecord) -> Answer:
    """Where it decides, and that this was fixed before the test."""
    chosen = record.confirmed
    if chosen is None or chosen.config is None:
        return record.confirm_first
    config = chosen.config
    if config.task == "multiclass" and not config.thresholds:
        return Fact("No threshold: the class with the highest probability.", "medfathom.json, `task`")
    names = config.class_names[1:] if config.task == "binary" else config.class_names
    each = ", ".join(
        f"{name} from {'(none)' if value is None else f'{value:.4f}'}"
        for name, value in zip(names, config.thresholds, strict=True)
    )
    text = f"{each}; chosen by {threshold_words(config.threshold_rule)} on validation, before the test."
    if config.task == "multiclass":
        text = (
            "The class with the highest probability is predicted. Sensitivity, specificity and predictive "
            f"values judge each class against the others: {text}"
        )
    return Fact(text, f"{chosen.source}, medfathom.json, `thresholds`, `threshold_rule`")


def software(record: StudyRecord) -> Answer:
    """Packages and versions."""
    chosen = record.confirmed
    versions = None if chosen is None else chosen.model.record.versions
    if not chosen or not versions:
        return record.confirm_first
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Fact(f"{text}.", f"{chosen.source}, `versions`")


def initialisation(record: StudyRecord) -> Answer:
    """Where training started."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    came = chosen.model.record.init_source
    text = f"init = {chosen.result.init}{f' ({came})' if came else ''}; the head at random."
    return Fact(text, f"{chosen.source}, `init`, `init_source`")


def _values_of(record: StudyRecord, chosen: Confirmed) -> Mapping[str, Value]:
    """All hyperparameters of the chosen configuration, defaults included."""
    fixed = {k: d.value for k, d in record.definition.space.dimensions.items() if d.value is not None}
    defaults = {name: f.default for name, f in TrialParams.model_fields.items() if not f.is_required()}
    return defaults | fixed | dict(chosen.result.params)


def hyperparameters(record: StudyRecord) -> Answer:
    """How the chosen model was trained."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    own = _values_of(record, chosen)
    shown = ", ".join(f"{key} {_short(own[key])}" for key in TRAINED_BY)
    epochs = chosen.model.record.max_epochs or record.definition.budget.epochs
    loss = "binary cross-entropy" if _task(record) == "multilabel" else "cross-entropy"
    text = f"{epochs} epochs, {loss}; {shown}."
    return Fact(text, f"search trial {chosen.result.search_trial}, parameters; `max_epochs`")


def augmentation(record: StudyRecord) -> Answer:
    """Of training images."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    preset = _values_of(record, chosen)[AUGMENTATION]
    text = "none" if preset == "none" else f"the preset {preset!r} (trial/augmentation.py)"
    return Fact(
        f"Augmentation of training images: {text}.",
        f"search trial {chosen.result.search_trial}, `augmentation`",
    )


def imbalance(record: StudyRecord) -> Answer:
    """Weights and sampling."""
    chosen = record.confirmed
    if chosen is None:
        return record.confirm_first
    own = _values_of(record, chosen)
    done = [
        words
        for key, words in (
            ("class_weights", "the loss was weighted by inverse class frequency"),
            ("balanced_sampling", "every class was drawn as often as the others"),
        )
        if own[key]
    ]
    text = " and ".join(done) or "nothing was done about it in training"
    return Fact(
        f"{text[0].upper()}{text[1:]}; probabilities were calibrated on the validation split afterwards.",
        f"search trial {chosen.result.search_trial}, `class_weights`, `balanced_sampling`",
    )


def searched(record: StudyRecord) -> Answer:
    """Hyperparameters and their ranges."""
    own = record.definition
    each = "; ".join(f"{name}: {_range(d)}" for name, d in own.space.dimensions.items())
    text = f"Searched by the sampler {own.sampler.name}, early stopping {own.scheduler.name}: {each}."
    return Fact(text, "definition, `space`, `sampler`, `scheduler`")


def tried(record: StudyRecord) -> Answer:
    """How many models were trained."""
    counts, models = record.counts, sum(len(result.models) for result in record.summary.strata)
    alone = record.first_fold_alone
    first = f"{alone} had their first fold alone, " if record.definition.dataset.splits.folds else ""
    text = (
        f"{counts.finished} trials in the search: {counts.complete} ran their full length, {first}"
        f"{counts.pruned - alone} were stopped early, {counts.failed} failed. Then "
        f"{len(record.summary.strata)} configurations were trained again, {models} models in all."
    )
    return Fact(text, "study, states of the trials; confirmation, trials")


def selection(record: StudyRecord) -> Answer:
    """The rule, what may be as good, how often the test split was opened."""
    choice = choice_of(record.study, record.trials)
    if choice is None:
        return "No trial has run its full length yet, so nothing was chosen."
    rule = f"By {rule_words(record.study)}."
    text = " ".join([rule, *choice_sentences(choice), *_final(record), opened(record.summary.openings)])
    return Fact(text, "definition, `choice.by`; study, `test_openings`")


def _final(record: StudyRecord) -> list[str]:
    """Which model is reported: trained again, another trial than the search's best may be the best."""
    if record.confirmed is None:
        return []
    own, strata = record.confirmed.result, record.summary.strata
    why = f": the best by this rule of {len(strata)} configurations trained again" if len(strata) > 1 else ""
    seeds = len(own.models)
    why += ", mean over seeds" if why and seeds > 1 else ""
    one = f". Of its {seeds} seeds it is the best by this rule" if seeds > 1 else ""
    return [f"The final model is of search trial {own.search_trial}{why}{one}."]


def ensemble(record: StudyRecord) -> Answer:
    """Whether there is one, or views of each image, and what they gained."""
    from medfathom.confirmation.ensemble import ensemble_lines, read_ensemble  # noqa: PLC0415  imports pandas
    from medfathom.confirmation.views import read_views, views_lines  # noqa: PLC0415

    found, flips, chosen = read_ensemble(record.study), read_views(record.study), record.confirmed
    if flips is not None and (chosen is None or chosen.model.trial != flips.trial):
        flips = None  # of a model that is not the best any more
    lines = ["No ensemble: the model is one network."] if found is None else ensemble_lines(found)
    lines += [] if flips is None else views_lines(flips)
    if (found is not None and found.kept) or (flips is not None and flips.kept):
        lines.append("All other items are about the single network, without views of each image.")
    sources = [f"`{name}`" for name, known in (("ensemble", found), ("views", flips)) if known is not None]
    return Fact(" ".join(lines), f"study, {', '.join(sources)}" if sources else "confirmation, models")


def seeds(record: StudyRecord) -> Answer:
    """Of search and confirmation."""
    chosen = record.confirmed
    again = f"; the chosen configuration was trained with {len(chosen.result.models)} seeds" if chosen else ""
    return Fact(
        f"Seed of the search {record.definition.seed}{again}.", "definition, `seed`; confirmation, `seed`"
    )


def hardware(record: StudyRecord) -> Answer:
    """Device and hours; energy is not measured."""
    devices = {t.user_attrs.get("device") for t in record.trials} - {None}
    if not devices:
        return "Which hardware trained the models? The trials do not record it."
    search, confirmation = record.seconds
    text = (
        f"{', '.join(sorted(map(str, devices)))}. Training took {clock(search)} in the search and "
        f"{clock(confirmation)} in the confirmation, summed over trials. Energy was not measured."
    )
    return Fact(text, "trial records, `device`, `train_seconds`")


def reproduce(record: StudyRecord) -> Answer:
    """What another needs for the same study."""
    text = (
        f"The definition of study {record.name!r} (SHA-256 {record.definition.definition_hash[:12]}), run by "
        "medfathom on the same data gives the same splits, space and seeds."
    )
    return Fact(text, "study, `definition`")


def availability(record: StudyRecord) -> Answer:
    """The author's decision."""
    head = f"`medfathom export {record.name} --out model` writes weights, preprocessing and card"
    return f"Will model, code and data be given to others? {head} ({HEAD_FILE} where timm lacks the head)."


def _task(record: StudyRecord) -> str | None:
    return None if record.data is None else record.data.data.task


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(dimension: Dimension) -> str:
    if dimension.value is not None:
        return f"held at {dimension.value}"
    if dimension.choices is not None:
        return ", ".join(map(str, dimension.choices))
    return f"{dimension.low} to {dimension.high}{' (log)' if dimension.log else ''}"
