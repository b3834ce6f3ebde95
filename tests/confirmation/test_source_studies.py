"""`init = "study:NAME"`: which confirmed model it stands for, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from made_confirmations import confirmed, load, searched
from made_models import CONFIG
from medfathom.confirm import confirm_study
from medfathom.confirmation.find import by_configuration, confirmed_folder
from medfathom.confirmation.sources import find_sources, leakage_through, model_folders
from medfathom.data.manifest import FILE
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig, TrainingConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.errors import StorageError, WeightsError
from medfathom.files import home
from medfathom.models.build import build_network
from medfathom.models.folder import WEIGHTS_FILE, write_config
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.sources import settle_sources, sources_of
from medfathom.trial.network import network_of
from medfathom.trial.task import TrialTask
from medfathom.validate import check_definition, sources_for

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def source(config: StudyConfig) -> Any:
    """A confirmed study `demo`: configurations of lite0, none of lite1; each model has its own weights."""
    study = searched(config)
    for trials in by_configuration(confirmed(config, study, seeds=2)).values():
        for trial in trials:
            folder = confirmed_folder(study) / str(trial.user_attrs["folder"])
            network = build_network(
                LITE0,
                init="random",
                num_outputs=1,
                unfreeze_depth=5,
                image_size=32,
                in_channels=1,
                seed=trial.number,
            )
            save_file(dict(network.state_dict()), folder / WEIGHTS_FILE)
            write_config(folder, CONFIG.model_copy(update={"modality": "OCT", "mean": [0.1, 0.2, 0.3]}))
    return study


def target(name: str, init: str = "study:demo", *more: str) -> StudyConfig:
    overrides = [f"name='{name}'", f"space.init.value='{init}'", "space.architecture.value='" + LITE0 + "'"]
    small = ["dataset.image_size=32", "dataset.n_train=24", "dataset.n_val=12", "dataset.n_test=12"]
    return load_definition("demo", [*overrides, *small, *more])


def begun(config: StudyConfig, sources: Any) -> Any:
    with open_study(config, default_url(), "data") as driver:
        settle_sources(driver.study, sources)
    return load(config.name)


def test_a_trial_starts_from_the_confirmed_model(source: Any, data: PreparedData, tmp_path: Path) -> None:
    """The best by validation (all are equal here: the first); its own normalisation comes with it."""
    found = sources_for(target("next"))
    chosen = found["study:demo"][LITE0]
    assert chosen.modality == "OCT"
    task = TrialTask(data, TrainingConfig(), 1, 7, tmp_path, None, "cpu", 1, sources=model_folders(found))
    params = TrialParams(architecture=LITE0, init="study:demo", unfreeze_depth=0)
    network = network_of(params, task, data.split("train"))
    seed = int(Path(chosen.folder).name.removeprefix("trial-"))
    expected = build_network(
        LITE0, init="random", num_outputs=1, unfreeze_depth=0, image_size=32, in_channels=1, seed=seed
    )
    for name, tensor in expected.backbone.state_dict().items():
        torch.testing.assert_close(network.backbone.state_dict()[name], tensor, rtol=0, atol=0)
    assert network.backbone_normalization[0] == (0.1, 0.2, 0.3)
    assert "study demo" in network.init_source
    assert "made, OCT" in network.init_source


@pytest.mark.parametrize("told", [False, True])
def test_copies_in_the_sources_training_images_are_told(source: Any, data: PreparedData, told: bool) -> None:
    """The same images, their splits drawn anew: some that are trained on there are tested on here."""
    found = sources_for(target("next"))
    known = {
        init: {name: replace(one, fingerprint=data.fingerprint) for name, one in own.items()}
        for init, own in found.items()
    }
    note = leakage_through(known, data if not told else drawn_anew(data))
    assert ("study:demo was trained on exact copies" in note) == told
    assert leakage_through(found, data).startswith(
        "Not checked: whether study:demo has learnt from images of"
    )


def test_copies_in_what_a_model_of_several_data_sets_learnt_from_are_told(
    source: Any, data: PreparedData
) -> None:
    found = sources_for(target("next"))
    folder = home() / found["study:demo"][LITE0].folder
    for name, fingerprint in (("here", data.fingerprint), ("elsewhere", "0" * 64)):
        (folder / name).mkdir()
        head = {"dataset": name, "dataset_fingerprint": fingerprint, "head": 0}
        write_config(folder / name, CONFIG.model_copy(update=head))
    write_config(folder, CONFIG.model_copy(update={"heads": ["here", "elsewhere"]}))
    unknown, leakage = leakage_through(found, drawn_anew(data)).split("; Leakage: ")
    assert "(elsewhere) is not prepared on this machine" in unknown
    assert leakage.startswith("study:demo was trained on exact copies of images of this data set (")


def drawn_anew(data: PreparedData) -> PreparedData:
    """The same prepared images, those of train and test exchanged in the manifest."""
    folder = home() / "anew"
    shutil.copytree(data.folder, folder)
    manifest = (folder / FILE).read_text()
    swapped = manifest.replace(",train,", ",?,").replace(",test,", ",train,").replace(",?,", ",test,")
    (folder / FILE).write_text(swapped)
    return replace(data, folder=folder)


def test_validate_says_what_fits(source: Any) -> None:
    config = target("next")
    (note,) = check_definition(config, sources=sources_for(config))
    assert "tensors matched" in note
    assert note.startswith("study demo, trial-0000")


def test_an_architecture_that_was_not_confirmed_is_refused(source: Any) -> None:
    config = target("next", "study:demo", "space.architecture.value='tf_efficientnet_lite1'")
    with pytest.raises(WeightsError, match=r"no confirmed model of tf_efficientnet_lite1; .*exclude"):
        check_definition(config, sources=sources_for(config))


@pytest.mark.parametrize(
    ("name", "init", "error", "message"),
    [
        ("demo", "study:demo", WeightsError, "a study cannot start from itself"),
        ("next", "study:demp", StorageError, r"init 'study:demp': .*no study 'demp'; did you mean 'demo'"),
        ("next", "study:bare", WeightsError, "study 'bare' has no confirmed model yet; .*confirm bare"),
    ],
)
def test_what_names_no_confirmed_study_is_refused(
    source: Any, name: str, init: str, error: type[Exception], message: str
) -> None:
    searched(target("bare", "imagenet", "budget.trials=8", "sampler=random"))
    with pytest.raises(error, match=message):
        sources_for(target(name, init))


def test_where_there_is_no_storage_yet_it_says_which_study_is_missing(workdir: Path) -> None:
    with pytest.raises(StorageError, match="init 'study:demo': study 'demo' has not been run yet"):
        sources_for(target("next"))


def test_a_chain_that_comes_back_is_refused(source: Any) -> None:
    """`demo` is begun anew by a definition that starts from `next`, which started from the old `demo`."""
    config = target("next")
    begun(config, sources_for(config))
    with pytest.raises(WeightsError, match="the chain of studies demo <- next <- demo refers to itself"):
        find_sources(target("demo", "study:next"), default_url(), fresh=True)


def test_a_study_keeps_what_it_began_with(source: Any) -> None:
    """Though its source was since begun anew and has no confirmed model now."""
    config = target("next")
    first = sources_for(config)
    study = begun(config, first)
    with open_study(load_definition("demo", ["seed=9"]), default_url(), "data", fresh=True):
        pass
    assert sources_for(config) == first == sources_of(study)
    with pytest.raises(WeightsError, match="no confirmed model yet"):
        sources_for(config, fresh=True)


def test_changed_weights_are_refused(source: Any) -> None:
    config = target("next")
    study = begun(config, sources_for(config))
    weights = home() / sources_of(study)["study:demo"][LITE0].folder / WEIGHTS_FILE
    kept = weights.read_bytes()
    weights.write_bytes(kept + b"\0")
    with pytest.raises(WeightsError, match=r"model\.safetensors has changed since the first trials"):
        sources_for(config)
    with pytest.raises(WeightsError, match="has changed"):
        confirm_study("next")
    weights.unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors is gone, .*--fresh"):
        sources_for(config)
