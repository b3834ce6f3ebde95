"""The best configuration of every stratum, trained again with several seeds and judged on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from optuna.study import Study
from optuna.trial import TrialState

from medfathom.confirmation.as_html import confirmation_html
from medfathom.confirmation.choice import unfinished_search
from medfathom.confirmation.find import (
    CONFIRMS,
    SUBGROUPS,
    confirmation_name,
    confirmed_folder,
    definition_of,
    find_confirmation,
)
from medfathom.confirmation.jobs import Job, enqueue, list_jobs, withdraw
from medfathom.confirmation.openings import remember_opening
from medfathom.confirmation.results import ConfirmationSummary
from medfathom.confirmation.sources import check_sources, leakage_through
from medfathom.confirmation.words import best_sentence
from medfathom.dashboard.notes import BESIDE, CONFIRMED, NotesAndPictures, save_note, study_note
from medfathom.data.leakage import DEFINED_IN, LEAKAGE, copies_note, leakage_note
from medfathom.data.prepared import names_of, parts_of
from medfathom.definitions.config import ObjectivesConfig, SamplerConfig, SchedulerConfig, StudyConfig
from medfathom.definitions.dataset import DatasetConfig
from medfathom.definitions.joint import JointDataset, members
from medfathom.errors import DataError, InputError, StorageError
from medfathom.files import home
from medfathom.machine import check_ray
from medfathom.study.choice import choice_of, choice_sentences, objective_of, rule_of
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.precision import settled_precision
from medfathom.study.read import read_study
from medfathom.study.sources import settle_sources, sources_of
from medfathom.study.watcher import Watcher, default_watcher
from medfathom.study.weights import keep_to_its_weights
from medfathom.urls import HIDDEN

if TYPE_CHECKING:
    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.gain import Gains
    from medfathom.confirmation.views import TestViews
    from medfathom.data.prepared import PreparedData
    from medfathom.evaluation.own_test import Columns
    from medfathom.evaluation.subgroups import Subgroups
    from medfathom.study.driver import Driver

SEEDS = 3


@dataclass(frozen=True)
class Confirmation:
    """What a call of `confirm_study` left behind.

    Attributes:
        summary: all confirmed models so far, those of earlier calls too.
        halted: why the call ended early; empty: it did not.
        subgroups: of the test split, by the model that `export` takes; None: none were asked for.
        ensemble: of confirmed models; None: none was asked for, or the call ended early.
        views: test-time views of the best model; None: likewise.
    """

    summary: ConfirmationSummary
    halted: str
    subgroups: Subgroups | None = None
    ensemble: Ensemble | None = None
    views: TestViews | None = None

    def _repr_html_(self) -> str:
        """In a notebook: a row for each configuration."""
        return confirmation_html(self.summary, self.halted)


def confirm_study(
    name: str,
    *,
    seeds: int = SEEDS,
    top: int | None = None,
    trials: Sequence[int] = (),
    by: str = "",
    ensemble: int | None = None,
    keep_ensemble: bool = False,
    views: bool = False,
    keep_views: bool = False,
    storage: str | None = None,
    address: str | None = None,
    watcher: Watcher | None = None,
) -> Confirmation:
    """Retrain the best configuration of every stratum and judge it on the test split, or continue that.

    Args:
        name: of a study in the storage.
        seeds: how often each configuration is trained; the seeds are the same for all.
        top: only so many strata, the best by validation; None: see `confirmation.jobs.list_jobs`.
        trials: further search trials to confirm, by number.
        by: subgroups of the test split, by columns that the definition keeps: `sex,age:10`.
        ensemble: choose so many models, at most, whose probabilities are averaged; see
            `confirmation.ensemble`.
        keep_ensemble: keep it for `export` even if it gains nothing that chance does not explain.
        views: average the best model's outputs over flips of each image; see `confirmation.views`.
        keep_views: `export` writes them with the model even if they gain nothing that chance does not
            explain.
        storage: an Optuna storage URL.
        address: of a Ray cluster; None: this machine alone.
        watcher: is told what happens.

    Raises:
        InputError: no such study or trial, nothing is complete, the data or the weights that its trials
            start from changed, no test split.
        RunError: the storage or the cluster failed.
    """
    if keep_ensemble and ensemble is None:
        raise InputError("--keep-ensemble: also give --ensemble N, the largest number of models")
    if keep_views and not views:
        raise InputError("--keep-views: also give --views")
    watcher = watcher or default_watcher()
    url = storage or default_url()
    study = read_study(url, name)
    check_ray()
    check_sources(study)
    jobs = list_jobs(study, seeds, top, trials)
    config = _without_stopping(study)
    keep_to_its_weights(study, config)
    _refuse_for_several(config, by, ensemble, views)
    if views:
        _check_views(config)
    columns = _columns(config, by)
    data = _prepared(config, study)
    named = str(study.user_attrs.get(DEFINED_IN, name))
    leaks = leakage_note(data, config.dataset, named)
    leaks = "; ".join(filter(None, (leaks, leakage_through(sources_of(study), data))))
    study.set_user_attr(LEAKAGE, leaks)
    choice = choice_of(study, study.get_trials(deepcopy=False))
    stands = choice_sentences(choice) if choice else []
    for note in filter(None, (leaks, copies_note(data, named), unfinished_search(study), *stands)):
        watcher.note(note)
    # A confirmation of a study that was set aside since goes the same way.
    marks = {CONFIRMS: study.user_attrs["uid"]}
    # Held from the queue to its end: another call in between would withdraw what this one asked for.
    with open_study(config, url, data.fingerprint, marks=marks, tell=watcher.note) as driver:
        left = _queue(driver, study, data, jobs, watcher)
        halted = _train(driver, study, address, watcher) if left else ""
    summary = _judged(study, config.resources.cpus_per_trial, halted)
    together = None if halted or ensemble is None else _ensemble(study, summary, ensemble, keep_ensemble)
    flipped = _views(study, summary, config, keep_views) if views and not halted else None
    return Confirmation(summary, halted, _subgroups(study, summary, columns), together, flipped)


def _refuse_for_several(config: StudyConfig, by: str, ensemble: int | None, views: bool) -> None:
    """Raise InputError for what is not there for a model of several data sets."""
    asked = ["--by"] * bool(by) + ["--ensemble"] * (ensemble is not None) + ["--views"] * views
    if asked and isinstance(config.dataset, JointDataset):
        raise InputError(
            f"{asked[0]}: cannot be used for a model of several data sets; leave it out, or confirm the "
            "study of one of them (--set only=NAME)"
        )


def _columns(config: StudyConfig, by: str) -> Columns:
    """What `by` names, before anything is trained."""
    if not by:
        return {}
    from medfathom.evaluation.own_test import columns_by_name  # noqa: PLC0415  imports image readers

    return columns_by_name(members(config.dataset)[0], by)


def _subgroups(study: Study, summary: ConfirmationSummary, columns: Columns) -> Subgroups | None:
    """Of the best model on its test split; the study keeps them."""
    if not columns or not summary.strata:
        return None
    from medfathom.confirmation.summary import best_model  # noqa: PLC0415  imports pandas
    from medfathom.evaluation.own_test import kept_form, own_subgroups  # noqa: PLC0415

    model = best_model(summary.strata[0], rule_of(study))
    found = own_subgroups(model, columns)
    study.set_user_attr(SUBGROUPS, kept_form(model, found))
    return found


def _ensemble(study: Study, summary: ConfirmationSummary, most: int, requested: bool) -> Ensemble | None:
    """Of all models that are confirmed so far; the study keeps it. None: there are none."""
    if not summary.strata:
        return None
    from medfathom.confirmation.ensemble import ENSEMBLE, ensemble_lines, find_ensemble  # noqa: PLC0415  imports pandas

    found = find_ensemble(study, summary, most, requested=requested)
    _keep(study, ENSEMBLE, found, ensemble_lines(found))
    return found


def _keep(study: Study, option: str, found: Gains, lines: Sequence[str]) -> None:
    """Keep what an option of `confirm` found, and tell it on the study's page; what was there is replaced."""
    study.set_user_attr(option, found.model_dump(mode="json"))
    study.set_user_attr(BESIDE, {**study.user_attrs.get(BESIDE, {}), option: list(lines)})
    save_note(study, study_note(study, study.get_trials(deepcopy=False)))


def _check_views(config: StudyConfig) -> None:
    """Raise InputError, before anything is trained, where the modality has no views."""
    from medfathom.confirmation.views import views_of  # noqa: PLC0415  imports pandas

    views_of(members(config.dataset)[0])


def _views(
    study: Study, summary: ConfirmationSummary, config: StudyConfig, requested: bool
) -> TestViews | None:
    """Of the best model; the study keeps them. None: nothing is confirmed."""
    if not summary.strata:
        return None
    from medfathom.confirmation.views import VIEWS_FOUND, find_views, views_lines  # noqa: PLC0415

    found = find_views(study, summary, members(config.dataset)[0], requested=requested)
    _keep(study, VIEWS_FOUND, found, views_lines(found))
    return found


def _without_stopping(study: Study) -> StudyConfig:
    """The study's definition as its confirmation runs it: the queue alone, to full length, without limits."""
    config = definition_of(study)
    budget = {"minutes": None, "device_hours": None, "patience": None, "trial_minutes": None}
    return config.model_copy(
        update={
            # Not the definition's name: a study that was set aside has another one by now.
            "name": confirmation_name(study.study_name),
            "question": f"Confirmation of {study.study_name}: {config.question}",
            "goal": "best",
            "sampler": SamplerConfig(name="random"),
            "scheduler": SchedulerConfig(name="none"),
            "objective": "auc",  # the search's own is judged by the worker
            "objectives": ObjectivesConfig(),
            "dataset": _with_one_split(config.dataset),
            "budget": config.budget.model_copy(update=budget),
            "resources": config.resources.model_copy(update={"checkpoint_url": _usable(config)}),
        }
    )


def _usable(config: StudyConfig) -> str | None:
    """The search's place for checkpoints; None where it had a password, which no study keeps."""
    url = config.resources.checkpoint_url
    return None if url is None or HIDDEN in url else url


def _with_one_split(dataset: DatasetConfig | JointDataset) -> DatasetConfig | JointDataset:
    """Models are trained on the training split, with the validation split beside, whatever the search did."""
    if isinstance(dataset, JointDataset):  # never cross-validated
        return dataset
    splits = dataset.splits.model_copy(update={"folds": None, "repeats": 1})
    return dataset.model_copy(update={"splits": splits})


def _prepared(config: StudyConfig, study: Study) -> PreparedData:
    """The study's data set. Raises InputError where it is not that of the search, or has no test split."""
    from medfathom.data.sizes import prepare_sizes  # noqa: PLC0415  imports image readers

    data = prepare_sizes(config.dataset, config.sizes, home() / "cache")
    known = study.user_attrs["dataset_fingerprint"]
    if data.fingerprint != known:
        raise StorageError(
            f"study {study.study_name!r} was searched on other data (fingerprint {known[:12]}, now "
            f"{data.fingerprint[:12]}); restore the old data, or run it with --fresh"
        )
    for name, part in zip(names_of(data), parts_of(data), strict=True):
        if not part.sizes.get("test"):
            raise DataError(
                f"study {study.study_name!r}: its data set {name}{' ' * bool(name)}has no test split; "
                "[dataset.splits] draws one"
            )
    return data


def _queue(driver: Driver, study: Study, data: PreparedData, jobs: Sequence[Job], watcher: Watcher) -> bool:
    """Settle what is to be trained, apart from other drivers.

    Returns:
        Whether any of the jobs is still to be done.
    """
    abandoned = {assignment.number for assignment in driver.adopt()}  # takes the lock itself: not within
    with driver.exclusively():
        _open_test_split(study, data, jobs)
        withdrawn = withdraw(driver, abandoned, {job.key for job in jobs})
        if withdrawn:
            watcher.note(
                f"{withdrawn} models of an earlier call are not trained, as this call does not ask for them"
            )
        left = enqueue(driver, jobs, driver.config.seed, confirmed_folder(study))
    driver.release()  # the run adopts them
    return left


def _open_test_split(study: Study, data: PreparedData, jobs: Sequence[Job]) -> None:
    """Write down that the test split is opened, for which models."""
    remember_opening(study, [job.key for job in jobs], data.sizes["test"])


def _train(driver: Driver, study: Study, address: str | None, watcher: Watcher) -> str:
    """Train what is queued. Returns why it ended early; empty: it did not."""
    from medfathom.confirmation.worker import confirmed_results  # noqa: PLC0415  imports torch
    from medfathom.scheduling import run_trials  # noqa: PLC0415  imports Ray

    folder = confirmed_folder(study)
    settle_sources(driver.study, sources_of(study))
    if precision := settled_precision(study):
        driver.settle_precision(precision)
    driver.queue_only, counts = True, driver.counts()
    driver.budget = counts.finished + counts.running + len(driver.trials(TrialState.WAITING))
    driver.recorder = NotesAndPictures(driver.study, watcher.note, folder=folder)
    first_seeds = frozenset(t.number for t in driver.trials() if t.user_attrs.get("seed_index") == 0)
    work = partial(
        confirmed_results,
        study=study.study_name,
        folder=folder.absolute(),
        pictures=first_seeds,
        objective=objective_of(study),
    )
    try:
        halted = run_trials(driver.config, driver, watcher, home(), address, work)
    finally:
        watcher.end()
    driver.close_records()
    return halted


def _judged(study: Study, threads: int, halted: str) -> ConfirmationSummary:
    """All confirmed models so far on the test split; where none is to come, with what their AUC costs."""
    from medfathom.confirmation import efficiency  # noqa: PLC0415  imports torch
    from medfathom.confirmation.summary import summarize_confirmation  # noqa: PLC0415  imports pandas

    summary = summarize_confirmation(study, find_confirmation(study))
    if summary.strata:
        study.set_user_attr(CONFIRMED, best_sentence(summary.strata[0]))
        save_note(study, study_note(study, study.get_trials(deepcopy=False)))
    if not summary.strata or halted:
        return summary
    found = efficiency.keep(study, summary.strata, confirmed_folder(study), threads)
    return replace(summary, efficiency=found)
