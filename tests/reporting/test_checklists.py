"""A checklist filled in: every item has a number from the record with its source, or a question."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from made_confirmations import confirmed, load, searched
from medfathom.confirmation.find import SUBGROUPS
from medfathom.dashboard.notes import EVALUATIONS
from medfathom.data.prepared import Facts
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.dataset import CsvDataset
from medfathom.errors import InputError
from medfathom.models.folder import ModelConfig
from medfathom.report import fill_checklist, write_pages
from medfathom.reporting.checklists import CHECKLISTS, read_checklist
from medfathom.reporting.facts import FACTS
from medfathom.reporting.methods import methods_paragraph
from medfathom.reporting.pages import as_html, as_markdown
from medfathom.reporting.record import Confirmed, StudyRecord, gather
from medfathom.study.choice import choice_of
from medfathom.trial.record import SplitMetrics

EXTERNAL = {
    "when": "2026-11-27 10:00:00",
    "model": "lite0 of demo",
    "n_images": 100,
    "n_patients": None,
    "counts": {"well": 60, "ill": 40},
    "overlap": {"compared": None, "exact": 0, "near": 0},
    "metrics": {"auc": 0.812, "auc_ci_low": 0.72, "auc_ci_high": 0.89, "sensitivity": 0.75},
    "drop": {"auc": {"value": 0.1, "low": 0.02, "high": 0.18}},
    "recalibrated": None,
    "subgroups": {
        "groups": [
            {
                "column": "Sex",
                "value": "f",
                "n": 50,
                "why": "",
                "auc": {"value": 0.8, "low": 0.7, "high": 0.9},
            },
            {"column": "site", "value": "B", "n": 9, "why": "4 positives", "auc": None},
        ]
    },
}


@pytest.mark.parametrize("name", CHECKLISTS)
def test_checklists_ask_only_for_facts_that_there_are_and_every_item_can_be_answered(name: str) -> None:
    found = read_checklist(name)
    assert {key for item in found.items for key in item.facts} <= set(FACTS)
    assert all(item.facts or item.ask for item in found.items)
    numbers = [item.number for item in found.items]
    if name == "claim":
        assert numbers == [str(k) for k in range(1, 45)]
    elif name == "tripod-ai":
        assert len(numbers) == len(set(numbers))
        assert list(dict.fromkeys(int(n.rstrip("abcdefg")) for n in numbers)) == list(range(1, 28))
    else:
        assert set(numbers) == {""}
        assert "numbers" in found.note


def test_every_fact_is_asked_for_by_some_checklist() -> None:
    asked = {key for name in CHECKLISTS for item in read_checklist(name).items for key in item.facts}
    assert asked == set(FACTS)


def test_an_unknown_checklist_is_refused_with_the_three(workdir: Path) -> None:
    with pytest.raises(InputError, match=r"consort.*claim, tripod-ai or stard-ai"):
        fill_checklist("demo", "consort")


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_is_filled_or_asked_and_no_number_is_without_its_source(
    config: StudyConfig, name: str
) -> None:
    study = searched(config)
    confirmed(config, study)
    report = fill_checklist(config.name, name)
    assert all(item.facts or item.questions for item in report.items)
    assert all(fact.source and fact.text for item in report.items for fact in item.facts)
    assert len(report.items) == sum(report.count(state) for state in ("filled", "partly", "open"))
    assert report.count("filled") >= 4
    assert all(item.text in as_markdown(report) for item in report.items)


def test_numbers_are_those_of_the_record(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    report = fill_checklist(config.name, "claim")
    text = {item.number: " ".join(fact.text for fact in item.facts) for item in report.items}
    states = [trial.state.name for trial in study.get_trials()]
    assert f"{states.count('COMPLETE')} ran their full length" in text["25"]
    assert "1 failed" in text["25"]
    assert "3 seeds" in text["30"]
    assert "60 test images" in text["32"]
    # Nothing was evaluated elsewhere, and the prepared data are not here: asked, not claimed.
    questions = {item.number: " ".join(item.questions) for item in report.items}
    assert "medfathom evaluate" in questions["33"]
    assert "prepared data are not on this machine" in questions["20"]
    assert not text["33"]
    assert not text["20"]


def test_external_data_and_subgroups_are_told_where_they_were_judged(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    study.set_user_attr(EVALUATIONS, {"other": EXTERNAL})
    report = fill_checklist(config.name, "tripod-ai")
    text = {item.number: " ".join(fact.text for fact in item.facts) for item in report.items}
    assert "AUC 0.812 (0.720 to 0.890)" in text["23a"]
    assert "drop of the AUC 0.100 (0.020 to 0.180)" in text["23a"]
    assert "Sex f (n = 50) AUC 0.800" in text["14"]
    assert text["12d"] == "other: site B (n = 9) too few."
    assert "well 60, ill 40" in text["20c"]
    assert "100 images of other" in report.methods


def test_subgroups_of_the_own_test_split_are_told(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    study.set_user_attr(SUBGROUPS, EXTERNAL["subgroups"])
    report = fill_checklist(config.name, "tripod-ai")
    text = {item.number: " ".join(fact.text for fact in item.facts) for item in report.items}
    assert text["14"].startswith("own test split: Sex f (n = 50) AUC 0.800 (0.700 to 0.900)")


def test_the_methods_paragraph_says_nothing_of_what_was_not_done(config: StudyConfig) -> None:
    searched(config)
    methods = fill_checklist(config.name, "claim").methods
    assert "test split was not read" in methods
    assert "was opened" not in methods
    assert "calibrated" not in methods
    assert "of other" not in methods


def test_three_forms_have_the_same_items(config: StudyConfig, tmp_path: Path) -> None:
    searched(config)
    report = fill_checklist(config.name, "stard-ai")
    files = write_pages(report, tmp_path / "report", "stard-ai")
    assert [file.suffix for file in files] == [".md", ".html", ".json"]
    content: Any = json.loads(files[2].read_text())
    assert len(content["items"]) == len(report.items)
    html = as_html(report)
    assert html.count("<tr><td>") == len(report.items)
    assert "<script" not in html


def facts_of(record: StudyRecord, *keys: str) -> str:
    answers = [FACTS[key](record) for key in keys]
    return " ".join(answer if isinstance(answer, str) else answer.text for answer in answers)


def test_what_the_search_looked_for_is_told_as_it_was(config: StudyConfig) -> None:
    """Before, each search "used the validation AUC"."""
    asha = config.scheduler.model_copy(update={"name": "asha"})
    other = config.model_copy(update={"objective": "auprc", "goal": "best", "scheduler": asha})
    study = searched(other)
    confirmed(other, study)
    record = gather(load(other.name))
    told = facts_of(record, "metrics", "goal")
    assert "The search used the validation AUPRC." in told
    assert "the highest validation AUPRC" in told
    assert "validation AUC" not in told


def test_one_seed_is_no_chance_in_seeds(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study, seeds=1)
    record = gather(load(config.name))
    assert "in test images, for this one seed only" in facts_of(record, "intervals")
    assert "and seeds" not in facts_of(record, "intervals")


def test_which_groups_are_trained_is_told_by_the_strategy(config: StudyConfig) -> None:
    """Before, surgical fine-tuning of the first groups was one of the last."""
    study = searched(config)
    confirmed(config, study)
    record = gather(load(config.name))
    assert record.confirmed is not None
    other = replace(record.confirmed.result, unfreeze_depth=2, strategy="surgical")
    surgical = replace(record, summary=replace(record.summary, strata=(other,)))
    assert "head and the first 2 of 5 layer groups by the strategy surgical trained" in facts_of(
        surgical, "model"
    )
    plain = replace(record, summary=replace(record.summary, strata=(replace(other, strategy="fixed"),)))
    assert "head and the last 2 of 5 layer groups trained" in facts_of(plain, "model")


def test_labels_that_were_set_are_imputed(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    table = {
        "source": "csv",
        "path": "t.csv",
        "modality": "CXR",
        "image_size": 32,
        "label_columns": ["a", "b"],
    }
    notes = ["'a' is not known of 2 images, and is taken from others of their case"]

    def told(notes: list[str], **keys: Any) -> str:
        dataset = CsvDataset.model_validate(table | keys)
        data = Facts(data=None, notes=notes)  # type: ignore[arg-type]  # nothing of it is told
        definition = config.model_copy(update={"dataset": dataset})
        return facts_of(replace(gather(load(config.name)), definition=definition, data=data), "missing")

    assert "Nothing was imputed" in told([], uncertain="ignore")
    assert "Imputed labels: 'a' is not known of 2 images" in told(notes, uncertain="ignore")
    assert "Imputed labels: an empty cell was taken for absent" in told([], missing="zero")
    said = told([], missing={"a": "ignore"}, uncertain={"b": "one"})
    assert "Imputed labels: -1 of b was taken for present." in said


def test_a_cross_validated_search_is_no_older_version(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    record = gather(load(config.name))
    splits = config.dataset.splits.model_copy(update={"folds": 5})
    dataset = config.dataset.model_copy(update={"splits": splits})
    folded = replace(record, definition=config.model_copy(update={"dataset": dataset}))
    assert "it was cross-validated" in facts_of(folded, "gap")
    assert "an older version confirmed the study" in facts_of(record, "gap")


def test_a_cross_validated_search_tells_who_had_which_folds(config: StudyConfig) -> None:
    """Trials that ended with their first fold were "stopped early (none)"."""
    study = searched(config, complete=False)
    splits = config.dataset.splits.model_copy(update={"folds": 5})
    dataset = config.dataset.model_copy(update={"splits": splits})
    record = replace(gather(load(config.name)), definition=config.model_copy(update={"dataset": dataset}))
    counts = record.counts
    first = next(t for t in study.trials if t.state == TrialState.PRUNED)
    first.user_attrs |= {"epochs": config.budget.epochs, "folds": [{"auc": 0.7}]}
    others = [t for t in record.trials if t.number != first.number]
    record = replace(record, trials=sorted([*others, first], key=lambda t: t.number))
    early = counts.pruned - 1
    methods = methods_paragraph(record)
    assert "trained on up to 5 folds of the images outside the test split" in methods
    assert (
        f"; {counts.complete} ran all 2 epochs of each of the 5, 1 ran those of the first fold alone"
        in methods
    )
    assert f", {early} were stopped early (" in methods
    assert f"1 had their first fold alone, {early} were stopped early, 1 failed" in facts_of(record, "tried")


def test_methods_tell_which_configurations_were_trained_again(config: StudyConfig) -> None:
    """Before, the reported one was "the configuration with the highest AUC", and the only one."""
    study = searched(config)
    confirmed(config, study)
    record = gather(load(config.name))
    strata = record.summary.strata
    methods = methods_paragraph(record)
    assert len(strata) == 2
    assert "2 configurations were trained again (6 models in all) and judged on the test split" in methods
    assert "of these, mean over its 3 seeds, was tf_efficientnet_lite0" in methods
    best = choice_of(record.study, record.trials)
    assert best is not None
    # "Trial N is called best" is of the search: another may be the best when trained again.
    first = strata[0].search_trial
    final = f"The final model is of search trial {first}: the best by this rule of 2 configurations"
    assert f"{final} trained again, mean over seeds. Of its 3 seeds it is the best" in facts_of(
        record, "selection"
    )
    for result in strata:
        one = methods_paragraph(replace(record, summary=replace(record.summary, strata=(result,))))
        of_search = f"The configuration of search trial {result.search_trial} was" in one
        assert of_search == (result.search_trial != best.best)
        assert "It was trained again with 3 seeds and judged" in one


def test_several_classes_are_judged_one_against_the_others(config: StudyConfig) -> None:
    study = searched(config)
    confirmed(config, study)
    record = gather(load(config.name))
    assert record.confirmed is not None
    model = replace(record.confirmed.model, test=SplitMetrics(auc=0.8, sensitivity=0.7))
    for task, words in (
        ("multiclass", "each class against the others at its threshold from validation, mean over classes"),
        ("binary", "Test, at the threshold from validation"),
    ):
        known = ModelConfig.model_construct(
            task=task, class_names=["well", "ill"], thresholds=[0.4, 0.3], threshold_rule="youden"
        )
        if task == "binary":
            known = known.model_copy(update={"thresholds": [0.3]})
        own = replace(record)
        own.__dict__["confirmed"] = Confirmed(record.confirmed.result, model, known)
        told = facts_of(own, "operating_point")
        assert words in told
        assert "sensitivity 0.700" in told
        assert "ill from 0.3000" in facts_of(own, "threshold")
        assert ("well from 0.4000" in facts_of(own, "threshold")) == (task == "multiclass")
