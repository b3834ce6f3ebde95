"""The card's table, what it says of intervals, seeds, leakage and training."""

import io
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from made_confirmations import made_model, made_result
from made_models import CONFIG
from medfathom.confirmation.card import model_card
from medfathom.confirmation.find import NO_MAP, SUBGROUPS
from medfathom.confirmation.openings import remember_opening
from medfathom.confirmation.results import ConfirmationSummary, ConfirmedModel, StratumResult
from medfathom.data.leakage import LEAKAGE
from medfathom.export import Exported
from medfathom.models.folder import ModelConfig
from medfathom.terminal import export
from medfathom.terminal.confirmation import confirmation_text
from medfathom.trial.record import SplitMetrics, TrialRecord


def card(
    model: ConfirmedModel | None = None,
    result: StratumResult | None = None,
    config: ModelConfig = CONFIG,
    leakage: str | None = None,
    onnx: float | None = None,
    subgroups: dict[str, object] | None = None,
) -> str:
    study = optuna.create_study()
    study.set_user_attr(SUBGROUPS, subgroups)
    remember_opening(study, [(0, 0)], 100)
    if leakage is not None:
        study.set_user_attr(LEAKAGE, leakage)
    model = model or made_model()
    return model_card(config, study, result or made_result(models=(model,)), model, onnx)


def test_an_interval_that_is_undefined_is_left_empty() -> None:
    values = {"auc": 0.5, "auc_ci_low": 0.25, "auc_ci_high": 0.75}
    classes = {"rare": {"auc": 1.0}, "common": values, "none": {}}
    text = card(made_model(test=SplitMetrics(auc=0.75, per_class=classes)))
    assert "| AUC |  | 0.7500 |  |" in text
    assert "| AUC of rare | | 1.0000 |  |" in text
    assert "| AUC of common | | 0.5000 | 0.2500 to 0.7500 |" in text
    assert "AUC of none" not in text


def test_what_was_measured_before_calibration_is_left_out() -> None:
    test = SplitMetrics(auc=0.75, brier_loss=0.1)
    text = card(made_model(test=test, record=TrialRecord(auc=0.9, brier_loss=0.3)))
    assert "| AUC | 0.9000 | 0.7500 |  |" in text
    assert "| Brier loss |  | 0.1000 |  |" in text


def test_the_card_says_what_intervals_count() -> None:
    grouped = card(made_model(test=SplitMetrics(auc_interval="DeLong, logit, clustered by group")))
    assert "- Intervals treat patients (or slides) as independent, not images." in grouped
    assert "AUC intervals: DeLong, logit, clustered by group. Other intervals: Wilson, with the" in grouped
    how = "DeLong; Newcombe by numbers of images where that has no width"
    plain = card(made_model(test=SplitMetrics(auc_interval=how)))
    assert "intervals are\n  too narrow" in plain
    assert "has no width. Other intervals: Wilson.\n" in plain


def test_the_card_says_how_many_seeds_there_were() -> None:
    one = card()
    assert "Trained with one seed: mean test AUC 0.8000, 95 % interval 0.7000 to 0.9000 (over test" in one
    assert "for this one seed only). The\n  intervals" in one
    models = (made_model(), made_model(trial=1, seed=1))
    two = card(result=made_result(models=models, seed_sd=0.0125))
    assert "Trained with 2 different seeds" in two
    assert "(over test images and seeds), standard deviation between seeds 0.0125." in two


def test_the_card_says_why_there_is_no_map() -> None:
    assert "Grad-CAM" not in card()  # nothing was drawn of this model
    assert "Grad-CAM" not in card(made_model(pictures=("roc.png", "gradcam.png")))
    assert f"\n- There is {NO_MAP}.\n" in card(made_model(pictures=("roc.png", "mistakes.png")))


@pytest.mark.parametrize(("search_auc", "words"), [(0.85, "0.0500 above"), (0.78, "0.0200 below")])
def test_optimism_has_a_direction(search_auc: float, words: str) -> None:
    assert f"{words} the mean test AUC" in card(result=made_result(search_auc=search_auc))


@pytest.mark.parametrize(
    ("depth", "words"),
    [(0, "only the head was trained"), (2, "the head and the last 2 of the 5 layer groups were trained")],
)
def test_the_card_says_what_was_trained(depth: int, words: str) -> None:
    assert words in card(config=CONFIG.model_copy(update={"unfreeze_depth": depth}))


def test_onnx_is_in_the_card_where_it_is_in_the_folder() -> None:
    assert "model.onnx" not in card()
    assert "differed from torch's by at most 2e-07." in card(onnx=2e-7)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (None, ""),
        (
            "",
            "\n- No image has an exact copy in another split, and no known patient or slide is in two",
        ),
        ("Leakage: 8 images", "\n- Leakage: 8 images.\n"),
    ],
)
def test_the_card_says_what_is_in_two_splits(said: str | None, line: str) -> None:
    text = card(leakage=said)
    limits = text[text.index("## Limits") : text.index("## Provenance")]
    assert limits.count("\n- ") == 5 + bool(line)
    assert line in limits


def test_no_thresholds_is_not_a_class_called_none() -> None:
    changes = {"task": "multiclass", "class_names": ["none", "a", "b"], "thresholds": []}
    text = card(config=CONFIG.model_copy(update=changes))
    assert "There are no thresholds: the class with the highest probability is predicted." in text
    assert "hresholds: none" not in text


def test_subgroups_are_of_the_network_without_views() -> None:
    """`confirm --by` judges the network alone; what is exported may average over flips."""
    kept: dict[str, object] = {"trial": 0, "table": [["sex", "AUC"], ["F", "0.8"]], "lines": []}
    assert "\nSubgroups of the test split:\n" in card(subgroups=kept)
    flipped = CONFIG.model_copy(update={"views": ["as_is", "mirrored"]})
    text = card(config=flipped, subgroups=kept)
    assert "\nSubgroups of the test split (of the same network without views of each image):\n" in text


def test_the_limits_say_what_the_thresholds_weigh() -> None:
    assert "Thresholds give sensitivity and specificity equal weight" in card()
    wanted = card(config=CONFIG.model_copy(update={"threshold_rule": {"sensitivity": 0.95}}))
    changes = {"task": "multiclass", "class_names": ["a", "b", "c"], "thresholds": [0.3, 0.4, 0.5]}
    several = card(config=CONFIG.model_copy(update=changes))
    assert "equal weight" not in wanted + several


@pytest.mark.parametrize(
    ("temperature", "words"),
    [(19.9999, "say almost nothing about the class"), (0.0501, "classified (almost) without errors")],
)
def test_a_temperature_at_the_end_of_its_range_is_said(temperature: float, words: str) -> None:
    text = card(config=CONFIG.model_copy(update={"temperature": temperature}))
    assert "This temperature is at the end of the searched range (0.05 to 20)" in text
    assert words in text
    assert "end of the searched range" not in card(config=CONFIG.model_copy(update={"temperature": 1.5}))


def test_the_card_names_thresholds_by_class() -> None:
    changes = {"task": "multilabel", "class_names": ["fluid", "drusen"], "thresholds": [0.25, None]}
    text = card(config=CONFIG.model_copy(update=changes))
    assert "`fluid` at 0.2500 or more, `drusen` at 0.5 (none could be chosen) or more." in text
    assert "the test split was opened once" in text.lower()


def test_the_card_of_a_model_of_volumes_says_what_is_judged() -> None:
    config = CONFIG.model_copy(update={"unit": "volume", "combine": "max"})
    found = SplitMetrics(auc=0.9, image_auc=0.75, image_auc_ci_low=0.7, image_auc_ci_high=0.8, n_cases=24)
    model = made_model(n_test=192, test=found, record=TrialRecord(unit="volume", combine="max"))
    text = card(model, config=config)
    assert "Test split: 24 volumes (192 images) that neither" in text
    assert "| AUC per image |  | 0.7500 | 0.7000 to 0.8000 |" in text
    assert "The probability of a volume is\nthe largest of its images' probabilities" in text
    assert "several test volumes, the intervals are" in text
    assert "(over test volumes, for this one seed only)" in text
    assert "volume" not in card()


def test_a_model_that_may_only_guess_says_so_first() -> None:
    guess = made_result(test_auc=0.55, ci=(0.45, 0.65))
    below_the_title = card(result=guess).partition("\n# ")[2].splitlines()[2]
    assert below_the_title.startswith(
        "**Perhaps no better than chance: the 95 % interval of its test AUC 0.5500 is"
    )
    # One seed's own interval counts too.
    seed = made_model(test_auc=0.6, test=SplitMetrics(auc=0.6, auc_ci_low=0.49, auc_ci_high=0.7))
    assert (
        "Perhaps no better than chance: the 95 % interval of its test AUC 0.6000 is 0.490 to 0.700"
        in card(seed)
    )
    assert "chance" not in card().partition("## Use")[0]


def test_export_and_confirm_say_it_first_too() -> None:
    guess = made_result(test_auc=0.55, ci=(0.45, 0.65))
    exported = Exported(Path("model"), guess, made_model(), None, whole_in_timm=True)
    assert export._text(exported).startswith("Perhaps no better than chance")
    summary = ConfirmationSummary(
        study="oct", modality="OCT", unfinished=None, openings=(), strata=(guess,), missing=(), failures=()
    )
    console = Console(file=io.StringIO(), width=300)
    console.print(confirmation_text(summary))
    assert "Perhaps no better than chance" in console.file.getvalue().splitlines()[1]  # type: ignore[attr-defined]


def test_the_thresholds_behind_the_table_of_several_classes_are_told() -> None:
    """Before, the card said that there are none, beside sensitivities that were had at some."""
    changes = {
        "task": "multiclass",
        "class_names": ["none", "drusen", "fluid"],
        "thresholds": [0.25, 0.5, 0.75],
    }
    text = card(config=CONFIG.model_copy(update=changes))
    assert "The class with the highest probability is predicted." in text
    assert "against the others (mean over classes), at thresholds chosen by Youden's J" in text
    assert "`none` at 0.2500 or more, `drusen` at 0.5000 or more, `fluid` at 0.7500 or more." in text
    assert "There are no thresholds" not in text
