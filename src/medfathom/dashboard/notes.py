"""Notes and pictures that optuna-dashboard shows beside each trial and study."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.dashboard.diagnosis import Finding, diagnose
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.space import CELL_NAMES, Params
from medfathom.definitions.strategies import unfrozen
from medfathom.files import home
from medfathom.metrics.rules import Rule, is_auc, objective_title
from medfathom.study.choice import (
    choice_of,
    choice_sentences,
    completed,
    objective_of,
    rule_of,
)
from medfathom.study.front import front_of, front_sentence
from medfathom.study.hyperparameters import Hyperparameters
from medfathom.study.ids import storage_of, study_id_of, trial_id_of
from medfathom.study.record import record_of
from medfathom.study.summary import WITHDRAWN, count_states
from medfathom.text import clock, harmless
from medfathom.trial.record import SplitMetrics, TrialRecord
from medfathom.units import counted

NOTE_CHUNK = 2045
"""Characters in one attribute of a note, as optuna-dashboard has it."""

VERDICTS = "verdicts"
"""Attribute of a study: sentences of its latest analysis."""


CONFIRMED = "confirmed"
"""Attribute of a study: what `confirm` found on the test split, in a sentence."""


BESIDE = "confirmed_beside"
"""Attribute of a study: what `confirm --ensemble` and `--views` found, by the option's name, in sentences."""

EVALUATIONS = "evaluations"
"""Attribute of a study: what `evaluate` found of its models on other data, by the data's name."""

BETWEEN_STUDY_NOTES_S = 10.0


def artifact_store() -> FileSystemArtifactStore:
    """Where pictures lie; made where it is absent."""
    folder = home() / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def save_note(study: Study, body: str, trial: FrozenTrial | None = None) -> None:
    """Write a trial's note, or the study's, which stays as it is where it says so already."""
    # optuna_dashboard.save_note's own form; importing that package takes seconds (its server, plots and all).
    storage, known_as = storage_of(study), study_id_of(study)
    body = harmless(body)  # the page shows HTML and pictures that it finds in a note
    place = "dashboard:" if trial is None else f"dashboard:{trial_id_of(trial)}:"
    # A trial's note is written once, when it ends; to read all notes for it would cost more with each trial.
    attributes = storage.get_study_system_attrs(known_as) if trial is None else {}
    chunks = [body[i : i + NOTE_CHUNK] for i in range(0, len(body), NOTE_CHUNK)]
    wanted = {key: "" for key in attributes if key.startswith(f"{place}note_str:")}
    wanted |= {f"{place}note_str:{i}": chunk for i, chunk in enumerate(chunks)}
    if all(attributes.get(key) == text for key, text in wanted.items()):
        return
    version = int(attributes.get(f"{place}note_ver", 0)) + 1
    storage.set_study_system_attr(known_as, f"{place}note_ver", version)
    for key, text in wanted.items():
        storage.set_study_system_attr(known_as, key, text)


class NotesAndPictures:
    """Records every trial of a study as it ends; `study.recorder.Recorder`.

    Cheap: text, and pictures that are there.

    Pictures are added before a trial ends (Optuna adds none to a finished one), notes after. Learning curves
    are not among them: the dashboard draws intermediate values itself.
    """

    def __init__(self, study: Study, say: Callable[[str], None], *, folder: Path | None = None) -> None:
        """`folder`: where trials keep pictures of their own."""
        self._study = study
        self._say = say
        self._folder = folder
        self._failed = False
        self._noted = float("-inf")

    def before_end(self, number: int) -> None:
        """Add the pictures that the trial's worker drew."""
        trial = self._study.get_trials(deepcopy=False)[number]
        try:
            for name in trial.user_attrs.get("pictures", []):
                upload_artifact(
                    artifact_store=artifact_store(),
                    file_path=str((self._folder or Path()) / trial.user_attrs["folder"] / name),
                    study_or_trial=trial,
                    storage=storage_of(self._study),
                )
        except OSError as error:  # a full disk must not cost the trial
            if not self._failed:
                self._say(f"pictures cannot be saved ({error.strerror or error})")
            self._failed = True

    def after_end(self, number: int) -> None:
        """Write the trial's note, and now and then the study's anew."""
        trials = self._study.get_trials(deepcopy=False)
        params = self._hyperparameters.of(trials[number])
        note = trial_note(trials[number], trials, rule_of(self._study), objective_of(self._study), params)
        save_note(self._study, note, trials[number])
        if time.monotonic() - self._noted > BETWEEN_STUDY_NOTES_S:
            # Without the comparison image by image: it can take seconds, and workers wait for this process.
            save_note(self._study, study_note(self._study, trials, compare=False))
            self._noted = time.monotonic()

    @cached_property
    def _hyperparameters(self) -> Hyperparameters:
        return Hyperparameters(self._study)

    def close(self) -> None:
        """Write the study's note as things are."""
        save_note(self._study, study_note(self._study, self._study.get_trials(deepcopy=False)))


def add_picture(study: Study, file: Path) -> None:
    """Add a picture to a study; one of the same name is replaced."""
    for known in get_all_artifact_meta(study):
        if known.filename == file.name:
            with file.open("rb") as content:
                artifact_store().write(known.artifact_id, content)
            return
    upload_artifact(artifact_store=artifact_store(), file_path=str(file), study_or_trial=study)


def trial_note(
    trial: FrozenTrial,
    trials: Sequence[FrozenTrial],
    by: Rule,
    objective: str = "auc",
    params: Params | None = None,
) -> str:
    """What was run, the result in words with its rank by a rule, a diagnosis; Markdown.

    Args:
        trial: to describe.
        trials: all of its study.
        by: the study's rule of choice.
        objective: what the study looks for.
        params: the trial's hyperparameters; None: as Optuna has them.
    """
    record = record_of(trial)
    parts = [
        f"### Trial {trial.number}: {_network(record)}",
        _what(trial.params if params is None else params, record),
    ]
    parts.append(_result(trial, record, trials, by, objective))
    if trial.state != TrialState.FAIL:
        parts.append(_diagnosis(diagnose(trial, trials)))
    return "\n\n".join(parts)


def _network(record: TrialRecord) -> str:
    architecture, init, depth = (
        "?" if value is None else value for value in (record.architecture, record.init, record.unfreeze_depth)
    )
    return f"{architecture}, init {init}, unfreeze_depth {unfrozen(depth, record.strategy)}"


def _what(params: Params, record: TrialRecord) -> str:
    told = [f"{name} {_value(value)}" for name, value in params.items() if name not in CELL_NAMES]
    text = ", ".join(told) or "defaults"
    if record.n_params is not None:
        text += f"; {record.n_params / 1e6:.1f} M parameters"
    if record.n_trainable_params is not None:
        trained = "all" if record.n_trainable_params == record.n_params else f"{record.n_trainable_params:,}"
        text += f", {trained} of them trained"
    text += f". {record.epochs or 0} of {record.max_epochs or '?'} epochs{_phases(record)}"
    if record.train_seconds is not None:
        text += f", {clock(record.train_seconds)}"
    if record.device is not None:
        text += f" on {record.device}"
    return f"**Run.** {text}; seed {'?' if record.seed is None else record.seed}."


def _phases(record: TrialRecord) -> str:
    """What was trained in which epochs, where that changed."""
    phases = record.phases or []
    if len({tuple(phase.groups) for phase in phases}) < 2:
        return ""
    parts = [
        f"{p.first_epoch} to {p.last_epoch} {'groups ' + _span(p.groups) if p.groups else 'the head alone'}"
        for p in phases
    ]
    return f" ({'; '.join(parts)})"


def _span(groups: Sequence[int]) -> str:
    return f"{groups[0]} to {groups[-1]}" if len(groups) > 1 else str(groups[0])


def _value(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _result(
    trial: FrozenTrial, record: TrialRecord, trials: Sequence[FrozenTrial], by: Rule, objective: str
) -> str:
    reason = record.stop_reason or ""
    if WITHDRAWN in trial.user_attrs:
        return f"**Result.** It was withdrawn: {reason}. It is no failure, and counts as no trial."
    if trial.state == TrialState.FAIL:
        return f"**Result.** It failed: {reason}."
    if record.auc is None:
        return f"**Result.** No AUC; {reason}."
    low, high = record.auc_ci_low, record.auc_ci_high
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    per = f" per {record.unit}" if record.unit else ""
    text = f"**Result.** Validation AUC{per} {record.auc:.4f}{interval}{_folds(record)}; {reason}."
    if record.objective_value is not None:
        looked_for = f"Objective of the search: validation {objective_title(objective)}"
        text = f"**Result.** {looked_for} {record.objective_value:.4f}. {text.removeprefix('**Result.** ')}"
    if record.image_auc is not None:
        text += (
            f" AUC per image {record.image_auc:.4f}. The probability of a {record.unit} is the "
            f"{record.combine} over its images."
        )
    if record.datasets:
        text += f" The AUC is the mean over data sets: {_each(record.datasets)}."
    for name, value in (("Sensitivity", record.sensitivity), ("Specificity", record.specificity)):
        if value is not None:
            text += f" {name} {value:.3f}."
    if trial.state == TrialState.COMPLETE:
        numbers = [t.number for t in completed(trials, by)]
        rank = 1 + numbers.index(trial.number)
        text += f" When it ended, its rank was {rank} of {len(numbers)} complete trials."
    if "test_auc" in trial.user_attrs:  # of a confirmation
        found = trial.user_attrs
        on = counted(found["n_test"], found.get("test_n_cases"), record.unit or "image")
        text += f" **Test AUC {found['test_auc']:.4f}** on {on}."
    return text


def _each(datasets: Mapping[str, SplitMetrics]) -> str:
    return ", ".join(f"{name} {'?' if m.auc is None else f'{m.auc:.4f}'}" for name, m in datasets.items())


def _folds(record: TrialRecord) -> str:
    aucs = record.fold_aucs or []
    if not aucs:
        return ""
    if len(aucs) == 1:
        return " on the first fold"
    return f", the mean of {len(aucs)} folds from {min(aucs):.3f} to {max(aucs):.3f}"


def _diagnosis(found: Sequence[Finding]) -> str:
    if not found:
        return (
            "**Diagnosis.** No problems found when it ended (checked for overfitting, underfitting, "
            "divergence, domain shift, pretraining without gain, shortcuts)."
        )
    return "**Diagnosis.**\n" + "\n".join(f"- {finding}" for finding in found)


def study_note(study: Study, trials: Sequence[FrozenTrial], *, compare: bool = True) -> str:
    """The question, the data, the state, the verdict so far; Markdown.

    Args:
        study: to describe.
        trials: all of it.
        compare: say how many trials may be as good as the best, see `choice_of`.
    """
    attributes = study.user_attrs
    counts = count_states(list(trials))
    data = f"{_named(attributes)}, {attributes.get('modality', '?')}"
    state = (
        f"{counts.complete} complete, {counts.pruned} stopped early, {counts.failed} failed, "
        f"{counts.running} running."
    )
    if withdrawn := sum(WITHDRAWN in t.user_attrs for t in trials):
        state += f" {withdrawn} withdrawn, which count as no trials; lists on this page show them as Fail."
    leakage = attributes.get(LEAKAGE)
    return "\n\n".join(
        [
            f"### {attributes.get('question') or study.study_name}",
            f"**Data.** {data}, {_sizes(study)} pixels, fingerprint "
            f"`{str(attributes.get('dataset_fingerprint', ''))[:12]}`.",
            *([f"**{leakage}.**"] if leakage else []),
            *_looks_for(study),
            f"**State.** {state}",
            f"**So far.** {_so_far(study, trials, compare=compare)}",
            *_elsewhere(attributes.get(EVALUATIONS, {})),
        ]
    )


def _named(attributes: Mapping[str, Any]) -> str:
    """What the study's data set is called, or all of its data sets."""
    dataset = attributes.get("definition", {}).get("dataset", {})
    own = dataset.get("datasets", [dataset])
    return ", ".join(str(one.get("name") or one.get("source", "?")) for one in own)


def _looks_for(study: Study) -> list[str]:
    """The objective, where it is not the AUC of what is judged."""
    objective = objective_of(study)
    if is_auc(objective):
        return []
    return [f"**Objective.** The search optimises {objective_title(objective)} (`objective`), not AUC."]


def _elsewhere(found: Mapping[str, Mapping[str, object]]) -> list[str]:
    """What models reached on other data."""
    if not found:
        return []
    return [
        "**On other data.**\n" + "\n".join(f"- {name}: {each['sentence']}" for name, each in found.items())
    ]


def _sizes(study: Study) -> str:
    """The image sizes of its trials."""
    definition = study.user_attrs.get("definition", {})
    dimension = definition.get("space", {}).get("dimensions", {}).get("image_size", {})
    dataset = definition.get("dataset", {})
    own = dataset.get("datasets", [dataset])  # of several all have one size
    sizes = dimension.get("choices") or [own[0].get("image_size", "?")]
    return ", ".join(map(str, sizes))


def _so_far(study: Study, trials: Sequence[FrozenTrial], *, compare: bool) -> str:
    verdicts = study.user_attrs.get(VERDICTS)
    choice = choice_of(study, trials, compare=compare)
    if choice is None:
        return "No trial is complete."
    best = next(t for t in trials if t.number == choice.best)
    record = record_of(best)
    per = f"per {record.unit} " if record.unit else ""
    text = " ".join(choice_sentences(choice, compared=compare))
    text += f" Trial {choice.best} is {_network(record)}; AUCs are {per}on the validation split."
    if record.positive is not None:
        text += f" Positive class: {record.positive}."
    if front := front_of(study, trials):
        text += f"\n\n**Front.** {front_sentence(front)}\n\n"
    if "test_auc" in best.user_attrs:  # of a confirmation
        return (
            f"{text} **Its test AUC is {best.user_attrs['test_auc']:.4f}**. The note of each other trial has "
            "that trial's test AUC."
        )
    advice = "The best validation score of a search is optimistic. Run `medfathom confirm` for its test AUC."
    confirmed = study.user_attrs.get(CONFIRMED)
    text += f"\n\n**On the test split.** {confirmed}" if confirmed else f" {advice}"
    text += "".join(f"\n- {' '.join(lines)}" for lines in study.user_attrs.get(BESIDE, {}).values())
    return text + "".join(f"\n- {sentence}" for sentence in verdicts or ())
