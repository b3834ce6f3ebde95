"""Which finished trial of a study is called best, and what is said of those that may be as good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from medfathom.data.prepared import Units
from medfathom.metrics.auc import delong_interval, roc_auc_score
from medfathom.metrics.classification import log_loss
from medfathom.metrics.probabilities import probabilities
from medfathom.study.choice import choice_of, choice_sentences, completed, rule_of
from medfathom.study.predictions import keep_predictions, predictions_path, read_predictions_of
from medfathom.trial.validation import ValidationPredictions

LABELS = (np.arange(200) % 3 == 0).astype(np.int64)


def study_of(logits: list[np.ndarray], choice: dict[str, str] | None = None, *, kept: bool = True) -> Study:
    """A study whose trials said this of 200 validation images."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("uid", "abc")
    study.set_user_attr("definition", {} if choice is None else {"choice": choice})
    for number, each in enumerate(logits):
        two = np.stack([-each / 2, each / 2], axis=1)
        values = probabilities("binary", two)
        interval = delong_interval(LABELS == 1, values)
        study.add_trial(
            create_trial(
                value=float(roc_auc_score(LABELS == 1, values)[0]),
                user_attrs={
                    "log_loss": log_loss("binary", LABELS, values),
                    "auc_ci_low": interval.mean_low,
                    "auc_ci_high": interval.mean_high,
                },
            )
        )
        if kept:
            units = Units(LABELS, None, [str(i) for i in range(len(LABELS))])
            content = ValidationPredictions.of("binary", units, two).to_bytes()
            keep_predictions(study, number, content)
    return study


def test_predictions_of_a_copy_of_the_storage_tell_nothing(workdir: Path) -> None:
    """It has the same trials' numbers, and writes into the same home folder."""
    random = np.random.default_rng(0)
    of_class = np.where(LABELS == 1, 1.0, -1.0)
    logits = [of_class + random.normal(0, 1, 200) for _ in range(3)]
    study = study_of(logits)
    assert choice_of(study, study.trials).compared == 3  # type: ignore[union-attr]
    study_of([random.normal(0, 1, 200), *logits[1:]])
    assert choice_of(study, study.trials).compared == 2  # type: ignore[union-attr]


def test_a_saturated_study_is_decided_by_log_loss_and_says_so(workdir: Path) -> None:
    perfect = np.where(LABELS == 1, 1.0, -1.0)
    study = study_of([perfect, 9 * perfect, 3 * perfect], {"by": "auc_then_log_loss"})
    found = choice_of(study, study.trials)
    assert found is not None
    assert (found.best, found.tied, found.compared, found.units) == (1, (0, 1, 2), 3, 200)
    text = " ".join(choice_sentences(found))
    assert (
        "Trial 1 is called best: it has the lowest validation log loss within 0.005 of the highest AUC"
        in text
    )
    assert "3 of 3 finished trials may have the highest AUC: on the same 200 validation images" in text
    assert "all trials compared" in text


def test_only_trials_that_the_images_cannot_tell_from_the_best_are_counted(workdir: Path) -> None:
    random = np.random.default_rng(0)
    shared = random.standard_normal(200) + 2 * LABELS
    good = [shared + 0.3 * random.standard_normal(200) for _ in range(3)]
    middling, bad = 0.4 * shared + 0.6 * random.standard_normal(200), random.standard_normal(200)
    study = study_of([*good, middling, bad])
    found = choice_of(study, study.trials)
    assert found is not None
    assert found.tied == (0, 1, 2)
    assert found.compared == 5, "trial 4's interval does not reach the best's: it need not be read"


def test_one_trial_above_all_others_is_said_to_be_alone(workdir: Path) -> None:
    random = np.random.default_rng(0)
    good = random.standard_normal(200) + 3 * LABELS
    study = study_of([good, 0.3 * good + random.standard_normal(200), random.standard_normal(200)])
    found = choice_of(study, study.trials)
    assert found is not None
    assert found.tied == (0,)
    (line,) = (line for line in choice_sentences(found) if "DeLong" in line)
    assert line.startswith("Trial 0 alone has the highest AUC: on the same 200 validation images the AUCs of")


def test_equal_trials_are_named_and_not_decided_in_silence(workdir: Path) -> None:
    perfect = np.where(LABELS == 1, 1.0, -1.0)
    study = study_of([perfect, perfect, 0.5 * perfect])
    found = choice_of(study, study.trials)
    assert found is not None
    assert (found.best, found.equal) == (0, (1,))
    assert "Equal to it in AUC and log loss: trial 1. The lowest number is taken." in choice_sentences(found)


def test_a_best_trial_no_better_than_chance_is_said_first(workdir: Path) -> None:
    study = study_of([np.random.default_rng(1).standard_normal(200)])
    found = choice_of(study, study.trials)
    assert found is not None
    assert choice_sentences(found)[0].startswith("Perhaps no better than chance: the 95 % interval")


def test_trials_whose_predictions_are_elsewhere_are_not_counted_as_told_apart(workdir: Path) -> None:
    random = np.random.default_rng(2)
    shared = random.standard_normal(200) + 2 * LABELS
    study = study_of([shared + 0.3 * random.standard_normal(200) for _ in range(3)])
    by_auc = completed(study.trials, "auc")
    predictions_path(study, by_auc[1].number).write_bytes(b"damaged")
    found = choice_of(study, study.trials)
    assert found is not None
    assert found.compared == 2
    assert "2 of 3 trials compared" in " ".join(choice_sentences(found))
    predictions_path(study, by_auc[0].number).unlink()
    found = choice_of(study, study.trials)
    assert found is not None
    assert found.tied is None
    assert "is not known" in " ".join(choice_sentences(found))


def test_a_study_of_an_earlier_version_stays_with_auc(workdir: Path) -> None:
    study = optuna.create_study(direction="maximize")
    for auc, loss in ((0.9, 0.1), (0.901, 0.9)):
        study.add_trial(create_trial(value=auc, user_attrs={"val_loss": loss}))
    assert rule_of(study) == "auc"
    assert [t.number for t in completed(study.trials, "auc")] == [1, 0]
    assert [t.number for t in completed(study.trials, "auc_then_log_loss")] == [0, 1], "val_loss is known"
    study.set_user_attr("definition", {"choice": {"by": "log_loss"}})
    study.add_trial(create_trial(value=0.7, user_attrs={"val_loss": 0.01, "unit": "slide"}))
    found = choice_of(study, study.trials)
    assert found is not None
    assert found.best == 1
    assert "by AUC alone" in choice_sentences(found)[0], "the loss of a slide's images is not the slide's"


def test_a_stopped_trial_is_never_the_best() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(value=0.8))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.9))
    assert [t.number for t in completed(study.trials, "auc")] == [0]
    assert choice_of(study, study.trials[1:]) is None


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_predictions_come_back_as_they_were(workdir: Path, task: str) -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, (20, 3)) if task == "multilabel" else random.integers(0, 2, 20)
    units = Units(labels, np.array([f"p{i // 2}" for i in range(20)]), [str(i) for i in range(20)])
    logits = random.standard_normal((20, 2 if task == "binary" else 3)).astype(np.float32)
    study = optuna.create_study()
    study.set_user_attr("uid", "abc")
    keep_predictions(study, 3, ValidationPredictions.of(task, units, logits).to_bytes())  # type: ignore[arg-type]
    found = read_predictions_of(study, [3])[3]
    assert found is not None
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.groups is not None
    np.testing.assert_array_equal(found.groups, np.unique(units.groups, return_inverse=True)[1])  # type: ignore[arg-type]
    assert read_predictions_of(study, [4]) == {}
