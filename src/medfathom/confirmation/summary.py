"""What a confirmation is worth on the test split, from what its trials left: one result for each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.analysis.results import JOINT
from medfathom.confirmation.choice import Choices, MissingStratum, choose, unfinished_search
from medfathom.confirmation.find import (
    by_configuration,
    confirmed_folder,
    definition_of,
    job_key,
    predictions_file,
)
from medfathom.confirmation.gap import gap_of
from medfathom.confirmation.openings import read_openings
from medfathom.confirmation.predictions import Predicted, read_predictions_with
from medfathom.confirmation.record import TEST, VALIDATION, ConfirmedRecord
from medfathom.confirmation.results import (
    ConfirmationSummary,
    ConfirmedModel,
    FailedModel,
    Interval,
    StratumResult,
)
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import JointDataset
from medfathom.definitions.space import Params, further_settings, label
from medfathom.definitions.strategies import DEFAULT
from medfathom.errors import StorageError
from medfathom.metrics.auc import delong_interval
from medfathom.metrics.choice import best_first
from medfathom.metrics.intervals import error_from_ends, interval_of_mean, reach_over_seeds
from medfathom.metrics.rules import Rule
from medfathom.study.choice import log_loss_of, objective_of, rule_of
from medfathom.study.hyperparameters import Hyperparameters
from medfathom.study.record import auc_of, record_of
from medfathom.study.summary import WITHDRAWN
from medfathom.trial.record import SplitMetrics

MEANS = (
    "sensitivity",
    "specificity",
    "precision",
    "accuracy",
    "average_precision",
    "brier_loss",
    "calibration_error",
    "image_auc",
    "objective_value",
)
"""Metrics of the test split that are averaged over seeds, besides the AUC; `image_auc` only of cases,
`objective_value` only where the search looked for something else than AUC."""


def summarize_confirmation(study: Study, confirmation: Study | None) -> ConfirmationSummary:
    """Everything known of a study's confirmation; reads the test predictions of every confirmed model.

    Raises:
        StorageError: no search trial is complete, or predictions are gone.
    """
    choices = choose(study)
    chosen = {t.number for t in choices.trials}
    trials = by_configuration(confirmation) if confirmation else {}
    searched = study.get_trials(deepcopy=False)
    folder = confirmed_folder(study)
    named = Hyperparameters(study)
    strata = [
        _result(searched[n], named.of(searched[n]), own, folder, chosen=n in chosen)
        for n, own in sorted(trials.items())
    ]
    waiting = [_not_confirmed(t, choices) for t in choices.trials if t.number not in trials]
    by = rule_of(study)
    order = best_first([_by_rule(s.models, by) for s in strata], _losses(strata), by)
    return ConfirmationSummary(
        study=study.study_name,
        modality=study.user_attrs["modality"],
        objective=objective_of(study),
        unfinished=unfinished_search(study),
        openings=tuple(read_openings(study)),
        strata=tuple(strata[i] for i in order),
        missing=(*choices.missing, *waiting),
        failures=tuple(_failures(confirmation)) if confirmation else (),
    )


def best_model(configuration: StratumResult, by: Rule) -> ConfirmedModel:
    """Of a configuration's seeds the best on validation, by a rule of `metrics.rules`."""
    models = configuration.models
    return models[int(best_first([_by_rule([m], by) for m in models], _losses(models), by)[0])]


def _by_rule(models: Sequence[ConfirmedModel], by: Rule) -> float:
    """What a rule takes for the validation AUC, mean over models: the objective, where that is the rule."""
    if by != "objective":
        return float(np.mean([model.val_auc for model in models]))
    values = [model.validation.objective_value if model.validation else None for model in models]
    return float(np.mean([0.0 if value is None else value for value in values]))


def _losses(judged: Sequence[StratumResult | ConfirmedModel]) -> list[float]:
    """Log loss on validation, NaN where it is not known."""
    return [np.nan if each.val_log_loss is None else each.val_log_loss for each in judged]


def _not_confirmed(trial: FrozenTrial, choices: Choices) -> MissingStratum:
    """Why the best trial of a stratum was not confirmed."""
    why = ""
    if choices.as_good is not None and trial not in choices.as_good:
        lower = ": its validation AUC is significantly lower than the highest"
        unknown = ": not known to be as good as the best (not all trials were compared with it)"
        why = lower if choices.all_compared else unknown
    return MissingStratum(str(trial.user_attrs["stratum"]), f"not confirmed{why}")


def _result(
    search: FrozenTrial, params: Params, trials: list[FrozenTrial], folder: Path, *, chosen: bool
) -> StratumResult:
    """One configuration from its search trial and its confirmed trials, one for each seed."""
    models = tuple(_model(trial, folder) for trial in trials)
    searched, confirmed = record_of(search).datasets or {}, ConfirmedRecord.of(trials[0].user_attrs).datasets
    each = {
        name: _one(
            search, params, _of_dataset(models, trials, name), searched[name].auc or 0.0, chosen=chosen
        )
        for name in confirmed or {}
    }
    return _one(search, params, models, float(auc_of(search) or 0.0), each, chosen=chosen)


def _one(
    search: FrozenTrial,
    params: Params,
    models: tuple[ConfirmedModel, ...],
    search_auc: float,
    datasets: Mapping[str, StratumResult] = MappingProxyType({}),
    *,
    chosen: bool,
) -> StratumResult:
    """One configuration over its seeds, on one data set, or on the mean of several."""
    test = np.array([model.test_auc for model in models])
    test_auc, val = float(test.mean()), [model.val_auc for model in models]
    folders = [model.folder for model in models]
    own = list(datasets.values())
    sampling_ci = (
        interval_of_mean([each.test_auc for each in own], [each.sampling_ci for each in own])
        if own
        else sampling_interval(models)
    )
    seed_sd = float(test.std(ddof=1)) if len(test) > 1 else None
    facts, record = models[0].row, record_of(search)
    # Folds are other images, and networks trained on more of them: the search alone did not make the gap.
    one_gap = not own and not record.folds
    return StratumResult(
        stratum=str(facts["stratum"]),
        search_trial=search.number,
        chosen=chosen,
        architecture=facts["architecture"],
        family=facts["family"],
        init=facts["init"],
        unfreeze_depth=facts["unfreeze_depth"],
        strategy=facts.get("strategy", DEFAULT),
        n_params=facts["n_params"],
        n_trainable_params=facts["n_trainable_params"],
        depth=facts["depth"],
        macs=facts["macs"],
        params=params,
        search_auc=search_auc,
        search_value=record.objective_value,
        val_auc=float(np.mean(val)),
        test_auc=test_auc,
        seed_sd=seed_sd,
        sampling_ci=sampling_ci,
        ci=interval_over_images_and_seeds(test_auc, *sampling_ci, seed_sd, len(test)),
        metric_means={name: _mean([getattr(model.test, name) for model in models]) for name in MEANS},
        models=models,
        gap=gap_of(search_auc, val, test.tolist(), folders) if one_gap else None,
        datasets=datasets,
    )


def _of_dataset(
    models: Sequence[ConfirmedModel], trials: Sequence[FrozenTrial], name: str
) -> tuple[ConfirmedModel, ...]:
    """Models of several data sets as models of one of them."""
    found = []
    for model, trial in zip(models, trials, strict=True):
        kept = (ConfirmedRecord.of(trial.user_attrs).datasets or {}).get(name)
        searched = (model.record.datasets or {}).get(name)
        if kept is None or searched is None or kept.test.auc is None or searched.auc is None:
            raise StorageError(
                f"confirmed trial {trial.number} has no AUC of data set {name!r}; confirm the study again"
            )
        own = [p.removeprefix(f"{name}/") for p in model.pictures if p.startswith(f"{name}/")]
        found.append(
            replace(
                model,
                folder=model.folder / name,
                val_auc=_validation_auc(kept.validation, searched.auc),
                val_log_loss=searched.log_loss,
                test_auc=kept.test.auc,
                n_test=kept.n_test,
                test=kept.test,
                validation=kept.validation,
                calibration=kept.calibration,
                calibrations=tuple(kept.calibrations or ()),
                record=model.record.model_copy(update=searched.model_dump()),
                pictures=tuple(own),
            )
        )
    return tuple(found)


def _model(trial: FrozenTrial, folder: Path) -> ConfirmedModel:
    """A confirmed trial's attributes by name."""
    attributes = trial.user_attrs
    kept = ConfirmedRecord.of(attributes)
    if trial.value is None or kept.test.auc is None:
        raise StorageError(f"confirmed trial {trial.number} has no AUC; confirm the study again")
    return ConfirmedModel(
        trial=trial.number,
        seed=attributes["seed_index"],
        folder=folder / kept.folder,
        val_auc=_validation_auc(kept.validation, trial.value),
        val_log_loss=log_loss_of(trial),
        test_auc=kept.test.auc,
        n_test=kept.n_test,
        test=kept.test,
        validation=kept.validation,
        calibration=kept.calibration,
        calibrations=tuple(kept.calibrations or ()),
        record=record_of(trial),
        pictures=tuple(kept.pictures or ()),
        row={name: value for name, value in attributes.items() if not name.startswith((TEST, VALIDATION))},
    )


def _validation_auc(validation: SplitMetrics | None, after_training: float) -> float:
    """Of the predictions that are kept, computed as the test split's; training may judge in bfloat16.

    Args:
        validation: None: an earlier version did not keep it.
        after_training: what the trial reported of its last epoch.
    """
    return after_training if validation is None or validation.auc is None else validation.auc


def _mean(values: Sequence[float | None]) -> float | None:
    """Over all seeds; None where it is undefined for one of them: the mean of the others would flatter."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _failures(confirmation: Study) -> list[FailedModel]:
    """Failed trials of which no later one with the same configuration and seed is complete."""
    trials = confirmation.get_trials(deepcopy=False)
    done = {job_key(t) for t in trials if t.state == TrialState.COMPLETE}
    return [
        FailedModel(t.user_attrs["stratum"], t.user_attrs["seed_index"], t.user_attrs.get("stop_reason", "?"))
        for t in trials
        if t.state == TrialState.FAIL and WITHDRAWN not in t.user_attrs and job_key(t) not in done
    ]


def interval_over_images_and_seeds(
    mean: float, low: float, high: float, seed_sd: float | None, n_seeds: int
) -> Interval:
    """95 % interval of the mean AUC over seeds, test images and seeds both drawn anew.

    Squared half-widths add, each with its own quantile: Student's for a standard deviation known from few
    seeds only (Banerjee 1960: the coverage is at least nominal). One seed says nothing of others: the
    interval is then that over test images alone.

    Args:
        mean: of the test AUC over seeds.
        low: end of the interval over test images.
        high: the other end.
        seed_sd: standard deviation between seeds; None for one seed.
        n_seeds: how many.
    """
    seeds = 0.0 if seed_sd is None else reach_over_seeds(seed_sd, n_seeds)
    down = float(np.hypot(mean - low, seeds))
    up = float(np.hypot(high - mean, seeds))
    return max(0.0, mean - down), min(1.0, mean + up)


def sampling_interval(models: Sequence[ConfirmedModel]) -> Interval:
    """DeLong's 95 % interval of the mean test AUC of some models, images (or groups) drawn anew.

    The models share the images: influences are averaged over models before they are squared.

    Raises:
        StorageError: predictions are gone, or another model's.
    """
    parts = [_own_predictions(model) for model in models]
    positive = np.concatenate([p.positive for p in parts], axis=1)
    values = np.concatenate([p.probabilities for p in parts], axis=1)
    found = delong_interval(positive, values, parts[0].groups)
    return found.mean_low, found.mean_high


def _own_predictions(model: ConfirmedModel) -> Predicted:
    read = read_predictions_with(file := predictions_file(model.folder, "test"), model.test_auc)
    if read is not None:
        return read
    raise StorageError(
        f"{file}: its AUC is not {model.test_auc:.4f}, as the study says: a copy of the storage confirmed "
        "another model there; confirm the study again, and give each copy a folder of its own "
        "(MEDFATHOM_STORAGE)"
    )


def analysis_records(study: Study, summary: ConfirmationSummary) -> list[dict[str, object]]:
    """Confirmed models as results: `auc` is the test split's, one row for each seed.

    Only configurations that are the best of their stratum. An init, unfreeze depth or strategy that was
    tuned, not compared, is named "tuned": architectures are then compared each at its own best. Other
    scientific hyperparameters are the row's `setting`. Where several strata share all of these, the best of
    them by validation stands for them.
    """
    definition = definition_of(study)
    dimensions = definition.space.dimensions
    tuned: dict[str, str] = {
        name: "tuned"
        for name in ("init", "unfreeze_depth", "strategy")
        if name in dimensions and dimensions[name].role == "nuisance"
    }
    common = {"study": study.study_name, "state": "COMPLETE"}
    further = {label(stratum): further_settings(stratum) for stratum in definition.space.strata()}
    best: dict[tuple[str, ...], StratumResult] = {}
    for result in summary.best_of_strata:
        setting = {
            "init": result.init,
            "unfreeze_depth": str(result.unfreeze_depth),
            "strategy": result.strategy,
        } | tuned
        others = further.get(result.stratum, "")
        best.setdefault((result.architecture, *setting.values(), others), result)
    return [
        {
            **model.row,
            **common,
            **dataset_columns(definition.dataset, name, study.study_name),
            "auc": model.test_auc,
            "val_auc": model.val_auc,
            "n_test": model.n_test,
            "seed": model.seed,
            "setting": joint_setting(definition.dataset, name, further.get(result.stratum, "")),
            **tuned,
            "auc_se": error_from_ends(model.test_auc, model.test.auc_ci_low, model.test.auc_ci_high),
        }
        for result in best.values()
        for name, own in result.each.items()
        for model in own.models
    ]


def dataset_columns(dataset: DatasetConfig | JointDataset, name: str, study: str) -> dict[str, object]:
    """What a row of results says of its data set; of one of several also which were trained together.

    Args:
        dataset: of the search.
        name: of the data set; empty where there is one only.
        study: name of the search, for a data set without a name.
    """
    if not name or not isinstance(dataset, JointDataset):
        return {"dataset": dataset.name or study, "modality": dataset.modality}
    return {"dataset": name, "modality": dataset.member(name).modality, JOINT: dataset.name}


def joint_setting(dataset: DatasetConfig | JointDataset, name: str, others: str) -> str:
    """What else a row's model holds: of a model of several data sets also that it is one for all of them."""
    together = f"one model for {dataset.name}" if name else ""
    return ", ".join(filter(None, (others, together)))
