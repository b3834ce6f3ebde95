"""The rules of a trial's diagnosis, each at its border; notes as text."""

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from medfathom.dashboard.diagnosis import SIGNATURES, diagnose, signatures
from medfathom.dashboard.notes import save_note, study_note, trial_note
from medfathom.study.ids import storage_of, study_id_of
from medfathom.study.summary import WITHDRAWN

NUMBERS = iter(range(10**6))


def trial(auc: float, init: str = "imagenet", depth: int = 5, **attributes: Any) -> FrozenTrial:
    curve = attributes.pop("curve", [auc])
    state = attributes.pop("state", TrialState.COMPLETE)
    facts = {"architecture": "resnet18", "init": init, "unfreeze_depth": depth, "auc": auc, **attributes}
    made = create_trial(
        state=state,
        value=None if state == TrialState.FAIL else auc,  # Optuna gives stopped trials one too
        user_attrs=facts,
        intermediate_values=dict(enumerate(curve, start=1)),
    )
    made.number = next(NUMBERS)
    return made


def words(made: FrozenTrial, *others: FrozenTrial) -> list[str]:
    return [finding.word for finding in diagnose(made, others)]


def test_overfitting_needs_both_losses_to_part() -> None:
    falling = [0.6, 0.4, 0.2]
    assert words(trial(0.8, losses={"train": falling, "val": [0.6, 0.5, 0.56]})) == ["overfitting"]
    assert words(trial(0.8, losses={"train": falling, "val": [0.6, 0.5, 0.54]})) == []
    assert words(trial(0.8, losses={"train": falling, "val": [0.6, 0.5, 0.4]})) == []
    assert words(trial(0.8, losses={"train": [0.6, 0.4, 0.39], "val": [0.6, 0.5, 0.56]})) == []


def test_overfitting_is_also_a_gap_between_the_aucs() -> None:
    assert words(trial(0.80, train_auc=0.91)) == ["overfitting"]
    assert words(trial(0.80, train_auc=0.89)) == []


def test_underfitting_is_a_loss_that_stays_or_an_auc_that_still_rises() -> None:
    assert words(trial(0.8, losses={"train": [0.7, 0.68], "val": [0.7, 0.7]})) == ["underfitting"]
    assert words(trial(0.8, losses={"train": [0.7, 0.5], "val": [0.7, 0.7]})) == []
    assert words(trial(0.83, curve=[0.7, 0.8, 0.83])) == ["underfitting"]
    assert words(trial(0.805, curve=[0.7, 0.8, 0.805])) == []


def test_folds_are_not_one_curve() -> None:
    """Each fold is another training, on other images: only the last is judged by its curves."""
    even: dict[str, Any] = {"train": [0.7, 0.5, 0.6, 0.4], "val": [0.5, 0.4, 0.7, 0.6]}  # of folds 2 and 3
    found = {"epochs": 6, "max_epochs": 6, "losses": even}
    # The first fold is the hardest: the mean over folds rises all the time, no fold's AUC does.
    curve = [0.6, 0.6, 0.7, 0.7, 0.75, 0.75]
    assert words(trial(0.75, curve=curve, fold_aucs=[0.6, 0.8, 0.85], **found)) == []
    worse = {"train": [0.7, 0.5, 0.4, 0.7, 0.5, 0.4], "val": [0.5, 0.4, 0.3, 0.5, 0.4, 0.46]}
    made = trial(0.8, fold_aucs=[0.8, 0.8, 0.8], epochs=9, losses=worse)
    (finding,) = diagnose(made, [])
    assert finding.word == "overfitting"
    assert finding.why.startswith("in the last fold, since epoch 2 ")
    # The AUC on training images is the last fold's network's.
    assert words(trial(0.75, fold_aucs=[0.5, 1.0], train_auc=0.99, epochs=4)) == []
    rising = [0.7, 0.7, 0.7, 0.7, 0.75, 0.8]  # of the second fold alone: .7, .8, .9
    (finding,) = diagnose(trial(0.8, curve=rising, fold_aucs=[0.7, 0.9], epochs=6), [])
    assert "in the last fold, validation AUC still rose by 0.100" in finding.why


def test_a_training_loss_that_rises_is_divergence() -> None:
    """Also of a stopped trial; it is never told to learn faster."""
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        losses = {"train": [124.0, 900.0, 6720.0], "val": [130.0, 800.0, 7000.0]}
        made = trial(0.5, losses=losses, state=state)
        (finding,) = diagnose(made, [])
        assert finding.word == "diverged"
        assert "rose from 124 to 6720" in finding.why
        assert "lower learning rate or more warm-up" in finding.why
    assert words(trial(0.8, losses={"train": [0.5, 0.56], "val": [0.5, 0.5]})) == ["diverged"]
    assert words(trial(0.8, losses={"train": [0.5, 0.54], "val": [0.5, 0.5]})) == ["underfitting"]


def test_a_stopped_trial_is_not_said_to_underfit() -> None:
    rising: dict[str, Any] = {"curve": [0.7, 0.8, 0.83]}
    flat: dict[str, Any] = {"losses": {"train": [0.7, 0.68], "val": [0.7, 0.7]}}
    for numbers in (rising, flat):
        assert words(trial(0.83, **numbers)) == ["underfitting"]
        assert words(trial(0.83, state=TrialState.PRUNED, **numbers)) == []


def test_pretraining_without_gain_compares_the_same_network_only() -> None:
    pretrained = trial(0.90)
    assert words(pretrained) == []
    assert words(pretrained, trial(0.90, "random")) == ["pretraining without gain"]
    assert words(pretrained, trial(0.89, "random")) == []
    assert words(pretrained, trial(0.90, "random", depth=3)) == []
    assert words(pretrained, trial(0.90, "random"), trial(0.95)) == []
    assert words(pretrained, trial(0.90, "random", state=TrialState.PRUNED)) == []
    assert words(trial(0.90, "random"), trial(0.90)) == []


def test_a_stopped_trial_does_not_judge_pretraining() -> None:
    """As Optuna has it: a stopped trial's value is its last AUC."""
    study = optuna.create_study(direction="maximize")
    for init, aucs, state in (
        ("random", [0.90], TrialState.COMPLETE),
        ("imagenet", [0.71], TrialState.PRUNED),
    ):
        asked = study.ask()
        for key, value in {"architecture": "resnet18", "unfreeze_depth": 5, "init": init}.items():
            asked.set_user_attr(key, value)
        for epoch, auc in enumerate(aucs, start=1):
            asked.report(auc, epoch)
        study.tell(asked, aucs[-1] if state == TrialState.COMPLETE else None, state=state)
    stopped = study.trials[1]
    assert stopped.value == 0.71
    assert words(stopped, *study.trials) == []


def test_a_shortcut_is_what_untrained_features_or_the_border_tell() -> None:
    assert words(trial(0.95, "random", depth=0)) == ["shortcut suspected"]
    assert words(trial(0.89, "random", depth=0)) == []
    assert words(trial(0.95, "random", depth=1)) == []
    assert words(trial(0.8, cam_border_share=0.7)) == ["shortcut suspected"]
    assert words(trial(0.8, cam_border_share=0.4)) == []


def test_a_note_says_what_was_run_what_came_of_it_and_why() -> None:
    made = trial(
        0.83, curve=[0.7, 0.8, 0.83], n_params=3_400_000, train_seconds=61.0, auc_ci_low=0.8, auc_ci_high=0.86
    )
    text = trial_note(made, [made, trial(0.9)], "auc")
    for part in (
        "resnet18",
        "3.4 M parameters",
        "1m01s",
        "0.8300",
        "0.800 to 0.860",
        "its rank was 2 of 2 complete trials",
        "underfitting",
    ):
        assert part in text
    failed = trial(0.5, state=TrialState.FAIL, stop_reason="out of memory")
    assert "It failed: out of memory." in trial_note(failed, [failed], "auc")
    assert "Diagnosis" not in trial_note(failed, [failed], "auc")


def test_a_withdrawn_trial_is_not_said_to_have_failed() -> None:
    """The page's own lists show it as Fail."""
    state = {"state": TrialState.FAIL, "curve": []}
    withdrawn = trial(0.5, **state, stop_reason="the run ended", **{WITHDRAWN: True})
    failed = trial(0.5, **state, stop_reason="out of memory")
    note = trial_note(withdrawn, [withdrawn], "auc")
    assert "It was withdrawn: the run ended." in note
    assert "It failed" not in note
    whole = study_note(optuna.create_study(), [failed, withdrawn])
    assert "1 failed, 0 running. 1 withdrawn" in whole
    assert "withdrawn" not in study_note(optuna.create_study(), [failed])


def test_a_note_that_says_so_already_stays() -> None:
    study = optuna.create_study()
    text = "é" * 3000
    for body, version in (("x" * 6000, 1), (text, 2), (text, 2)):
        save_note(study, body)
        assert storage_of(study).get_study_system_attrs(study_id_of(study))["dashboard:note_ver"] == version


def test_a_trial_without_problems_says_what_was_checked() -> None:
    made = trial(0.8, curve=[0.8, 0.8, 0.8])
    text = trial_note(made, [made], "auc")
    assert "No problems found when it ended (checked for overfitting," in text
    assert all(word in text for word in (*SIGNATURES[:2], "divergence", *SIGNATURES[3:5], "shortcuts"))


@pytest.mark.parametrize(
    ("n_trained", "said"), [(2_562, "2,562"), (3_399_000, "3,399,000"), (3_400_000, "all")]
)
def test_a_note_says_how_much_is_trained_where_it_is_little_or_nearly_all(n_trained: int, said: str) -> None:
    made = trial(0.8, n_params=3_400_000, n_trainable_params=n_trained, trainable_fraction=n_trained / 3.4e6)
    assert f"3.4 M parameters, {said} of them trained." in trial_note(made, [made], "auc")


def test_a_studys_note_calls_its_best_validation_score_optimistic() -> None:
    made = trial(0.8)
    assert "is optimistic. Run `medfathom confirm` for its test AUC." in study_note(
        optuna.create_study(), [made]
    )


def test_a_study_without_a_complete_trial_has_a_note() -> None:
    assert "No trial is complete" in study_note(optuna.create_study(), [])


def test_frozen_features_that_fall_behind_are_a_domain_shift() -> None:
    frozen, trained = trial(0.80, depth=1), trial(0.83, depth=5)
    assert words(frozen, trained) == ["domain shift"]
    assert words(trained, frozen) == []
    assert words(trial(0.811, depth=1), trained) == []
    assert words(frozen, trial(0.9, "imagenet:other")) == []


def test_signatures_are_counted_over_all_trials_that_ended() -> None:
    found = signatures(
        [
            frozen := trial(0.80, depth=1),
            fitted := trial(0.86, depth=5, train_auc=0.99),
            stopped := trial(0.6, state=TrialState.PRUNED, train_auc=0.99),
            trial(0.5, state=TrialState.FAIL),
        ]
    )
    assert found == {
        frozen.number: {"domain shift"},
        fitted.number: {"overfitting"},
        stopped.number: {"overfitting"},
    }
