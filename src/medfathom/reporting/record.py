"""Everything that is known of a study, gathered once: what the facts of a report are taken from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from medfathom.confirmation.find import definition_of, find_confirmation
from medfathom.dashboard.notes import EVALUATIONS
from medfathom.data.manifest import Manifest, read_manifest
from medfathom.data.prepared import SPLIT_NAMES, Facts, read_facts
from medfathom.data.prints import find_prepared
from medfathom.files import home
from medfathom.models.folder import ModelConfig, config_file, read_config
from medfathom.study.choice import rule_of
from medfathom.study.finalists import has_first_fold
from medfathom.study.record import record_of
from medfathom.study.summary import GOES_ON_FROM, Counts, count_states, once
from medfathom.text import command
from medfathom.trial.record import SplitMetrics

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from medfathom.confirmation.predictions import Predicted
    from medfathom.confirmation.results import ConfirmationSummary, ConfirmedModel, StratumResult
    from medfathom.definitions.config import StudyConfig


@dataclass(frozen=True)
class Fact:
    """What is known, and where it comes from: a file, a key of the definition, an attribute of a trial."""

    text: str
    source: str


Answer = Fact | str
"""A fact, or the question to the author that takes its place."""


@dataclass(frozen=True)
class Confirmed:
    """The model that `export` would take, and the configuration that it is of."""

    result: StratumResult
    model: ConfirmedModel
    config: ModelConfig | None

    @property
    def source(self) -> str:
        """Where its numbers stand."""
        return f"confirmed trial {self.model.trial}"


@dataclass(frozen=True)
class StudyRecord:
    """A study with its confirmation, its prepared data and its evaluations elsewhere.

    Attributes:
        study: in the storage.
        trials: of the search.
        definition: as the latest run had it.
        summary: of the confirmation.
        data: what preparation found; None: the prepared data are not on this machine.
    """

    study: Study
    trials: list[FrozenTrial]
    definition: StudyConfig
    summary: ConfirmationSummary
    data: Facts | None

    @property
    def name(self) -> str:
        """Of the study."""
        return self.study.study_name

    @property
    def confirm_first(self) -> str:
        """The question where nothing is confirmed."""
        return f"This is not known before the study is confirmed: `{command('confirm', self.name)}`."

    @property
    def prepare_first(self) -> str:
        """The question where the prepared data are not here."""
        return (
            "The prepared data are not on this machine: write the report where they are, or prepare them "
            f"again by `{command('data', 'prepare', self.name)}`."
        )

    @cached_property
    def counts(self) -> Counts:
        """Trials of the search by state."""
        return count_states(self.trials)

    @cached_property
    def first_fold_alone(self) -> int:
        """Configurations of a cross-validation that had no more than their first fold, and that whole."""
        epochs = self.definition.budget.epochs
        firsts = [t for t in once(self.trials) if GOES_ON_FROM not in t.user_attrs]
        return sum(has_first_fold(t, epochs) for t in firsts)

    @cached_property
    def confirmed(self) -> Confirmed | None:
        """The best configuration and its best model, both by validation; None: nothing is confirmed."""
        from medfathom.confirmation.summary import best_model  # noqa: PLC0415  imports pandas

        if not self.summary.strata:
            return None
        result = self.summary.strata[0]
        model = best_model(result, rule_of(self.study))
        config = read_config(model.folder) if config_file(model.folder).is_file() else None
        return Confirmed(result, model, config)

    @cached_property
    def manifest(self) -> Manifest | None:
        """A row for each prepared image."""
        return None if self.data is None else read_manifest(self.data.data.folder)

    @cached_property
    def test_predictions(self) -> Predicted | None:
        """Of the chosen model on the test split; None: nothing is confirmed, or the file is gone."""
        from medfathom.confirmation.find import predictions_file  # noqa: PLC0415
        from medfathom.confirmation.predictions import read_predictions  # noqa: PLC0415  imports pandas

        if self.confirmed is None:
            return None
        file = predictions_file(self.confirmed.model.folder, "test")
        return read_predictions(file) if file.is_file() else None

    @property
    def evaluations(self) -> Mapping[str, Mapping[str, object]]:
        """What `evaluate` found of the study's models, by the name of the data."""
        found: Mapping[str, Mapping[str, object]] = self.study.user_attrs.get(EVALUATIONS, {})
        return found

    def external_metrics(self, name: str) -> SplitMetrics:
        """Of one evaluation."""
        return SplitMetrics.model_validate(self.evaluations[name]["metrics"])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty: not known here."""
        if self.data is not None:
            return self.data.data.class_names
        if self.confirmed is not None and self.confirmed.config is not None:
            return tuple(self.confirmed.config.class_names)
        return ()

    def sizes(self) -> dict[str, str]:
        """Split -> its images, cases and patients in words; empty: the prepared data are not here."""
        manifest = self.manifest
        if manifest is None:
            return {}
        words: dict[str, str] = {}
        for split in SPLIT_NAMES:
            rows = manifest.split == split
            parts = [f"{int(rows.sum())} images"]
            for values, what in (
                (manifest.case[rows], "cases"),
                (manifest.group[rows], "patients or slides"),
            ):
                if known := set(values.tolist()) - {""}:
                    parts.append(f"{len(known)} {what}")
            words[split] = ", ".join(parts)
        return words

    def labels(self) -> dict[str, dict[str, int]]:
        """Split -> class -> images; with several labels an image counts for each."""
        manifest = self.manifest
        counts: dict[str, dict[str, int]] = {}
        if manifest is None or self.data is None:
            return {}
        for split in SPLIT_NAMES:
            cells = manifest.label[manifest.split == split].tolist()
            if self.data.data.task == "multilabel":
                columns = zip(*(cell.split() for cell in cells), strict=True)
                numbers = [column.count("1") for column in columns]
            else:
                found = Counter(cells)
                numbers = [found[str(k)] for k in range(len(self.classes))]
            counts[split] = dict(zip(self.classes, numbers, strict=False))
        return counts

    @property
    def seconds(self) -> tuple[float, float]:
        """Training time of all trials of the search, and of all confirmed models."""
        search = sum(record_of(trial).train_seconds or 0.0 for trial in self.trials)
        models = [model for result in self.summary.strata for model in result.models]
        return search, sum(model.record.train_seconds or 0.0 for model in models)


def gather(study: Study) -> StudyRecord:
    """The record of a study."""
    prepared = find_prepared(home() / "cache", study.user_attrs["dataset_fingerprint"])
    return StudyRecord(
        study=study,
        trials=study.get_trials(deepcopy=False),
        definition=definition_of(study),
        summary=_summary(study),
        data=None if prepared is None else read_facts(prepared.folder),
    )


def _summary(study: Study) -> ConfirmationSummary:
    """Of the confirmation; empty where the search has no complete trial yet."""
    from medfathom.confirmation.results import ConfirmationSummary  # noqa: PLC0415
    from medfathom.confirmation.summary import summarize_confirmation  # noqa: PLC0415  imports pandas

    confirmation = find_confirmation(study)
    if confirmation is not None:
        return summarize_confirmation(study, confirmation)
    modality = study.user_attrs["modality"]
    return ConfirmationSummary(
        study=study.study_name,
        modality=modality,
        unfinished=None,
        openings=(),
        strata=(),
        missing=(),
        failures=(),
    )
