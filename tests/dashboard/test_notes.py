"""Notes and pictures of trials in every state; a disk that takes no pictures costs no trial."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from medfathom.dashboard.notes import (
    BESIDE,
    CONFIRMED,
    NotesAndPictures,
    add_picture,
    artifact_store,
    save_note,
    study_note,
    trial_note,
)
from medfathom.data.leakage import LEAKAGE
from medfathom.definitions.load import load_definition
from medfathom.study.connection import default_url
from medfathom.study.ids import storage_of, study_id_of, trial_id_of
from medfathom.study.open import open_study


def ended(said: list[str]) -> Any:
    """Three trials: complete with a picture, stopped, failed before its first epoch."""
    folder = Path("confirmed")
    (folder / "trial-00000").mkdir(parents=True)
    (folder / "trial-00000" / "roc.png").write_bytes(b"a picture")
    with open_study(
        load_definition("demo", ["budget.trials=3", "sampler=random"]), default_url(), "data"
    ) as driver:
        driver.recorder = NotesAndPictures(driver.study, said.append, folder=folder)
        for assignment in iter(driver.assign, None):
            number = assignment.number
            for epoch in (1, 2) if number < 2 else ():
                driver.report(number, epoch, 0.6 + epoch / 10)
            facts = {"auc": 0.8, "epochs": 2, "losses": {"train": [0.7, 0.3], "val": [0.7, 0.5]}}
            if number == 0:
                driver.complete(number, 0.8, facts | {"folder": "trial-00000", "pictures": ["roc.png"]})
            elif number == 1:
                driver.prune(number, facts, "stopped by asha at epoch 2")
            else:
                driver.fail(number, "out of memory", {})
        driver.close_records()
        study = driver.study
        trials = study.get_trials()
        names = [[m.filename for m in get_all_artifact_meta(t, storage=storage_of(study))] for t in trials]
        return study.get_trials(), names, storage_of(study).get_study_system_attrs(study_id_of(study))


def note(attributes: dict[str, Any], trial: optuna.trial.FrozenTrial | None = None) -> str:
    place = "dashboard:" if trial is None else f"dashboard:{trial_id_of(trial)}:"
    return str(attributes[f"{place}note_str:0"])


def test_every_end_is_noted(workdir: Path) -> None:
    said: list[str] = []
    trials, names, attributes = ended(said)
    assert names == [["roc.png"], [], []]
    assert "its rank was 1 of 1 complete" in note(attributes, trials[0])
    assert "stopped by asha at epoch 2" in note(attributes, trials[1])
    assert "It failed: out of memory" in note(attributes, trials[2])
    assert "1 complete, 1 stopped early, 1 failed, 0 running." in note(attributes)
    assert said == []
    assert len(list((workdir / "storage" / "artifacts").iterdir())) == 1


def test_a_confirmed_study_tells_its_test_auc(workdir: Path) -> None:
    with open_study(load_definition("demo", ["sampler=random"]), default_url(), "data") as driver:
        driver.study.add_trial(optuna.trial.create_trial(value=0.9))
        trials = driver.study.get_trials()
        assert "Run `medfathom confirm` for its test AUC" in study_note(driver.study, trials)
        driver.study.set_user_attr(CONFIRMED, "Best by validation: x, test AUC 0.8123.")
        said = study_note(driver.study, trials)
    assert "**On the test split.** Best by validation: x, test AUC 0.8123." in said
    assert "Run `medfathom confirm`" not in said
    trials[0].set_user_attr("test_auc", 0.81)
    assert "**Its test AUC is 0.8100**" in study_note(driver.study, trials)


def test_the_study_note_tells_accepted_leakage(workdir: Path) -> None:
    with open_study(load_definition("demo", ["budget.trials=1"]), default_url(), "data") as driver:
        assert "Leakage" not in study_note(driver.study, [])
        driver.study.set_user_attr(LEAKAGE, "Leakage: 3 patients or slides are in several splits")
        assert "**Leakage: 3 patients or slides are in several splits.**" in study_note(driver.study, [])


def test_a_disk_without_room_for_pictures_costs_no_trial(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optuna.artifacts.FileSystemArtifactStore.write", full)
    said: list[str] = []
    trials, _, attributes = ended(said)
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert said == ["pictures cannot be saved (No space left on device)"]
    assert "its rank was 1 of 1 complete" in note(attributes, trials[0])


def test_a_studys_picture_is_replaced_in_place(workdir: Path) -> None:
    study = optuna.create_study()
    file = workdir / "front.png"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        add_picture(study, file)
    (meta,) = get_all_artifact_meta(study)
    with artifact_store().open_reader(meta.artifact_id) as reader:
        assert reader.read() == b"two"


def test_the_note_of_a_trial_on_volumes_tells_both_aucs() -> None:
    facts = {"unit": "volume", "combine": "mean", "image_auc": 0.7, "auc": 0.9, "n_cases": 20, "epochs": 2}
    test = {"test_auc": 0.85, "n_test": 160, "test_n_cases": 20}
    trial = optuna.trial.create_trial(value=0.9, user_attrs=facts | test)
    text = trial_note(trial, [trial], "auc")
    assert "Validation AUC per volume 0.9000" in text
    assert "AUC per image 0.7000. The probability of a volume is the mean over its images." in text
    assert "**Test AUC 0.8500** on 20 test volumes (160 images)." in text


def test_names_make_no_html_and_no_picture_in_a_note(workdir: Path) -> None:
    config = load_definition("demo", ["question=<script>x</script> ![a](http://b/c.png) ![a][d]"])
    with open_study(config, default_url(), "data") as driver:
        save_note(driver.study, study_note(driver.study, driver.trials()))
        study = driver.study
        attributes = storage_of(study).get_study_system_attrs(study_id_of(study))
    (note,) = (text for key, text in attributes.items() if "note_str" in key)
    assert "&lt;script>" in note
    assert "<" not in note
    assert "](" not in note
    assert "][" not in note


def test_what_confirm_found_beside_is_told_on_the_study_s_page(workdir: Path) -> None:
    config = load_definition("demo", ["sampler=random", "budget.trials=1"])
    with open_study(config, default_url(), "data") as driver:
        assert driver.assign() is not None
        driver.complete(0, 0.8, {})
        driver.study.set_user_attr(CONFIRMED, "Best by validation: x.")
        driver.study.set_user_attr(BESIDE, {"ensemble": ["Ensemble of 3 models.", "Kept."]})
        note = study_note(driver.study, driver.trials())
    assert "**On the test split.** Best by validation: x.\n- Ensemble of 3 models. Kept." in note
