"""Notes and pictures that optuna-dashboard shows beside each trial and study."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.dashboard.diagnosis import Finding, diagnose
from medfathom.files import home
from medfathom.study.ids import storage_of, study_id_of, trial_id_of
from medfathom.study.summary import completed, count_states
from medfathom.text import clock

NOTE_CHUNK = 2045
"""Characters in one attribute of a note, as optuna-dashboard has it."""

VERDICTS = "verdicts"
"""Attribute of a study: sentences of its latest analysis."""


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
    """Records every trial of a study as it ends; `driver.Recorder`. Cheap: text, and pictures that are there.

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
                self._say(f"pictures cannot be kept ({error.strerror or error})")
            self._failed = True

    def after_end(self, number: int) -> None:
        """Write the trial's note, and now and then the study's anew."""
        trials = self._study.get_trials(deepcopy=False)
        save_note(self._study, trial_note(trials[number], trials), trials[number])
        if time.monotonic() - self._noted > BETWEEN_STUDY_NOTES_S:
            self.close()

    def close(self) -> None:
        """Write the study's note as things are."""
        save_note(self._study, study_note(self._study, self._study.get_trials(deepcopy=False)))
        self._noted = time.monotonic()


def add_picture(study: Study, file: Path) -> None:
    """Add a picture to a study; one of the same name is replaced."""
    for known in get_all_artifact_meta(study):
        if known.filename == file.name:
            with file.open("rb") as content:
                artifact_store().write(known.artifact_id, content)
            return
    upload_artifact(artifact_store=artifact_store(), file_path=str(file), study_or_trial=study)


def trial_note(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """What was run, the result in words, a diagnosis; Markdown."""
    parts = [f"### {_headline(trial)}", _what(trial), _result(trial, trials)]
    if trial.state != TrialState.FAIL:
        parts.append(_diagnosis(diagnose(trial, trials)))
    return "\n\n".join(part for part in parts if part)


def _headline(trial: FrozenTrial) -> str:
    attributes = trial.user_attrs
    what = f"{attributes.get('architecture', '?')}, init {attributes.get('init', '?')}"
    return f"Trial {trial.number}: {what}, unfreeze_depth {attributes.get('unfreeze_depth', '?')}"


def _what(trial: FrozenTrial) -> str:
    attributes = trial.user_attrs
    known = ("architecture", "init", "unfreeze_depth")
    rest = ", ".join(
        f"{k} {_value(v)}" for k, v in trial.params.items() if not set(k.split("+")) & set(known)
    )
    size = ""
    if "n_params" in attributes:
        trained = attributes.get("trainable_fraction", 1.0)
        size = f"; {attributes['n_params'] / 1e6:.1f} M parameters, {trained:.0%} of them trained"
    seconds = f", {clock(attributes['train_seconds'])}" if "train_seconds" in attributes else ""
    where = f" on {attributes['device']}" if "device" in attributes else ""
    epochs = f"{attributes.get('epochs', 0)} of {attributes.get('max_epochs', '?')} epochs"
    return (
        f"**Run.** {rest or 'defaults'}{size}. {epochs}{seconds}{where}; seed {attributes.get('seed', '?')}."
    )


def _value(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _result(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    attributes = trial.user_attrs
    reason = attributes.get("stop_reason", "")
    if trial.state == TrialState.FAIL:
        return f"**Result.** It failed: {reason}."
    auc = attributes.get("auc")
    if auc is None:
        return f"**Result.** No AUC; {reason}."
    low, high = attributes.get("auc_ci_low"), attributes.get("auc_ci_high")
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    text = f"**Result.** Validation AUC {auc:.4f}{interval}; {reason}."
    for name in ("sensitivity", "specificity"):
        if name in attributes:
            text += f" {name.capitalize()} {attributes[name]:.3f}."
    if trial.state == TrialState.COMPLETE:
        done = completed(list(trials))
        rank = 1 + sum((t.value or 0.0) > (trial.value or 0.0) for t in done)
        text += f" Rank {rank} of {len(done)} complete trials."
    if "test_auc" in attributes:
        text += f" **Test AUC {attributes['test_auc']:.4f}** on {attributes['n_test']} images."
    return text


def _diagnosis(found: Sequence[Finding]) -> str:
    if not found:
        return (
            "**Diagnosis.** No rule applies (overfitting, underfitting, pretraining without gain, shortcut)."
        )
    return "**Diagnosis.**\n" + "\n".join(f"- {finding}" for finding in found)


def study_note(study: Study, trials: Sequence[FrozenTrial]) -> str:
    """The question, the data, the state, the verdict so far; Markdown."""
    attributes = study.user_attrs
    counts = count_states(list(trials))
    dataset = attributes.get("definition", {}).get("dataset", {})
    data = f"{dataset.get('name') or dataset.get('source', '?')}, {attributes.get('modality', '?')}"
    state = (
        f"{counts.complete} complete, {counts.pruned} stopped early, {counts.failed} failed, "
        f"{counts.running} running."
    )
    return "\n\n".join(
        [
            f"### {attributes.get('question') or study.study_name}",
            f"**Data.** {data}, {dataset.get('image_size', '?')} pixels, fingerprint "
            f"`{str(attributes.get('dataset_fingerprint', ''))[:12]}`.",
            f"**State.** {state}",
            f"**So far.** {_so_far(study, trials)}",
        ]
    )


def _so_far(study: Study, trials: Sequence[FrozenTrial]) -> str:
    verdicts = study.user_attrs.get(VERDICTS)
    done = completed(list(trials))
    if not done:
        return "No trial is complete."
    best = done[0]
    text = (
        f"Best validation AUC {best.value:.4f}: trial {best.number}, {best.user_attrs.get('architecture')}, "
        f"init {best.user_attrs.get('init')}, unfreeze_depth {best.user_attrs.get('unfreeze_depth')}."
    )
    if verdicts:
        return text + "".join(f"\n- {sentence}" for sentence in verdicts)
    return (
        text + " The best of a search flatters: `medfathom confirm` tells what it is worth on the test split."
    )
