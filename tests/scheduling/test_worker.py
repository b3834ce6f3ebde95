"""What a worker does with an assignment before it trains."""

import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medfathom.data.prepare import prepare
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.errors import MedfathomError, OtherDataError, OtherPrecisionError
from medfathom.scheduling.messages import EpochResult, Failure, Order, Result, RunSettings
from medfathom.scheduling.worker import _checkpoint, results, task_of
from medfathom.study.assignment import Assignment
from storm_storages import small_disk


@pytest.fixture
def settings(workdir: Path) -> RunSettings:
    return RunSettings(load_definition("demo", []), workdir, 1, "cpu", workdir, "data")


def order(number: int, running: tuple[int, ...] | None) -> Order:
    """A trial as it is handed out."""
    params = TrialParams(architecture="tf_efficientnet_lite0", init="random", unfreeze_depth=0)
    return Order(Assignment(number, params, "", 0), f"study/trial-{number:05d}.pt", running)


def test_sources_lie_in_this_nodes_storage(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_definition("demo", ["dataset.image_size=32", "dataset.n_train=24", "dataset.n_val=12"])
    data = prepare(config.dataset, workdir / "node" / "cache")
    monkeypatch.setenv("MEDFATHOM_STORAGE", str(workdir / "node"))
    sources = {"study:oct": {"resnet18": "confirmed/oct-1/trial-00002"}}
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint, sources=sources)
    folder = workdir / "node" / "confirmed" / "oct-1" / "trial-00002"
    assert task_of(settings, order(0, None)).sources == {"study:oct": {"resnet18": folder}}


def left(settings: RunSettings, *numbers: int) -> Path:
    """Checkpoints that trials left on this node."""
    folder = settings.storage / "checkpoints" / "study"
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"trial-{number:05d}.pt").touch()
    return folder


def kept(folder: Path) -> list[int]:
    """Numbers of the trials whose checkpoints are still there."""
    return sorted(int(path.stem.removeprefix("trial-")) for path in folder.glob("trial-*.pt"))


def test_checkpoints_of_ended_trials_are_removed(settings: RunSettings) -> None:
    folder = left(settings, 0, 1, 2)
    assert _checkpoint(settings, order(3, (1, 3))) == folder / "trial-00003.pt"
    assert kept(folder) == [1]


def test_checkpoints_of_trials_begun_since_stay(settings: RunSettings) -> None:
    """A trial whose worker died hours later is given out again as it was: 4, 5 and 7 were begun meanwhile."""
    folder = left(settings, 0, 1, 3, 4, 5, 7)
    _checkpoint(settings, order(3, (1, 2, 3)))
    assert kept(folder) == [1, 3, 4, 5, 7]


def test_an_adopted_trial_knows_of_higher_numbers(settings: RunSettings) -> None:
    folder = left(settings, 0, 1, 5, 6, 7)
    _checkpoint(settings, order(1, (1, 6)))
    assert kept(folder) == [1, 6, 7]


def test_one_node_alone_leaves_them_to_the_driver(settings: RunSettings) -> None:
    folder = left(settings, 0, 1)
    _checkpoint(settings, order(2, None))
    assert kept(folder) == [0, 1]


def test_a_worker_trains_on_the_studys_data_only(settings: RunSettings) -> None:
    """The demo's data are drawn from a seed; the settings name others."""
    with pytest.raises(OtherDataError, match=r"the data here have changed.*the study's is data\)"):
        task_of(settings, order(0, None))


def test_a_trial_has_its_own_image_size(settings: RunSettings) -> None:
    few = ["dataset.image_size=32", "dataset.n_train=24", "dataset.n_val=12", "dataset.n_test=6"]
    small = replace(settings, config=load_definition("demo", few))
    records = []
    for size in (0, 32, 64):
        found = outcome(small, architecture="test_resnet", init="random", image_size=size)
        assert isinstance(found, EpochResult)
        records.append(found.record)
        shutil.rmtree(settings.storage / "checkpoints")  # else the next would go on from it
    assert [record.image_size for record in records] == [32, 32, 64]
    macs = [record.macs or 0 for record in records]
    assert macs[0] == macs[1] < macs[2] / 3
    assert records[0].dataset_fingerprint == records[1].dataset_fingerprint != records[2].dataset_fingerprint


@pytest.mark.large
def test_folds_are_judged_at_the_trials_own_size(workdir: Path) -> None:
    """The first fold, then the later ones of a finalist, at a size that is not the data set's own."""
    changes = ["dataset.n_train=24", "dataset.n_val=12", "dataset.n_test=12", "dataset.splits.folds=3"]
    whole = load_definition("demo", [*changes, "budget.epochs=1"]).model_dump(exclude_defaults=True)
    del whole["dataset"]["image_size"]
    space = {"architecture": {"value": "lcnet_050"}, "image_size": {"choices": [32, 48]}}
    config = StudyConfig.model_validate({**whole, "space": space})
    data = prepare(config.dataset, workdir / "cache")
    settings = RunSettings(config, workdir, 1, "cpu", workdir, data.fingerprint)
    params = TrialParams(architecture="lcnet_050", init="random", unfreeze_depth=0, image_size=48)
    first = next(results(settings, Order(Assignment(0, params, "", 7), "study/trial-00000.pt")))
    assert isinstance(first, EpochResult)
    assert first.record.folds is not None
    goes_on = Assignment(1, params, "", 7, scored=first.record.folds)
    last = list(results(settings, Order(goes_on, "study/trial-00001.pt")))[-1]
    assert isinstance(last, EpochResult)
    assert (first.record.image_size, last.record.image_size) == (48, 48)
    assert last.record.fold_aucs is not None
    assert first.record.fold_aucs == last.record.fold_aucs[:1]
    assert len(last.record.fold_aucs) == 3
    assert last.record.auc == pytest.approx(sum(last.record.fold_aucs) / 3)


IDENTITY = (
    *("architecture", "family", "unfreeze_depth", "seed", "max_epochs", "dataset_fingerprint", "versions"),
    *("n_params", "n_trainable_params", "trainable_fraction", "trainable_layer_fraction", "depth", "macs"),
    *("device", "compute_type"),
)


def outcome(settings: RunSettings, **params: Any) -> Result:
    """The first that a worker says of a trial, on the study's own data."""
    data = prepare(settings.config.dataset, settings.storage / "cache")
    chosen = TrialParams(unfreeze_depth=1, **params)
    trial = Order(Assignment(0, chosen, "", 7), "study/trial-00000.pt")
    return next(results(replace(settings, fingerprint=data.fingerprint), trial))


@pytest.mark.large
def test_a_trial_that_fails_before_its_first_epoch_says_what_it_is(settings: RunSettings) -> None:
    """Its weights are missing: no network was made, and yet its size is known."""
    failed = outcome(settings, architecture="resnet18", init="file:absent.pt")
    ran = outcome(settings, architecture="resnet18", init="random")
    assert isinstance(failed, Failure)
    assert isinstance(ran, EpochResult)
    assert "absent.pt" in failed.reason
    assert failed.identity is not None
    for name in IDENTITY:
        assert getattr(failed.identity, name) == getattr(ran.record, name), name
    assert (failed.identity.epochs, failed.identity.auc) == (0, None)


def test_an_unknown_architecture_fails_without_a_description(settings: RunSettings) -> None:
    failed = outcome(settings, architecture="no_such_network", init="random")
    assert isinstance(failed, Failure)
    assert "no_such_network" in failed.reason
    assert failed.identity is None


@pytest.fixture
def known_data(settings: RunSettings) -> RunSettings:
    """The settings of a study on the demo's own data."""
    return replace(
        settings, fingerprint=prepare(settings.config.dataset, settings.storage / "cache").fingerprint
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_worker_trains_in_the_studys_precision(
    known_data: RunSettings, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the node's own choice would be another."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    settings = replace(known_data, precision=precision)
    assert task_of(settings, order(0, None)).training.precision == precision


def test_a_node_that_emulates_the_studys_precision_ends_the_run(
    known_data: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    settings = replace(known_data, precision="bfloat16")
    words = (
        rf"node {re.escape(platform.node())}: .*take the node out.* training.precision = \"float32\".*--fresh"
    )
    with pytest.raises(OtherPrecisionError, match=words) as caught:
        task_of(settings, order(0, None))
    assert Failure.of(caught.value).mend
    assert task_of(replace(settings, precision="float32"), order(0, None)).training.precision == "float32"


def test_a_node_without_the_data_ends_the_run(settings: RunSettings) -> None:
    """Else it would fail every trial that it gets, in a second each."""
    whole = settings.config.model_dump(exclude_defaults=True)
    whole["dataset"] = {"source": "npz", "path": "absent.npz", "modality": "OCT", "image_size": 32}
    lacking = replace(settings, config=StudyConfig.model_validate(whole))
    failed = next(results_or_failure(lacking, order(0, None)))
    assert failed.mend
    assert failed.reason.startswith(f"node {platform.node()}: ")
    assert "absent.npz" in failed.reason
    assert failed.mend.startswith("give the node the same data or take the node out of the cluster")


def test_a_full_disk_ends_the_run(settings: RunSettings, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    with small_disk(folder, 24) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        on_it = replace(settings, storage=folder)
        data = prepare(on_it.config.dataset, folder / "cache")
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        trial = order(0, None)
        failed = next(results_or_failure(replace(on_it, fingerprint=data.fingerprint), trial))
    assert failed.mend
    assert re.match(rf"node {re.escape(platform.node())}: .*trial-00000.*No space left", failed.reason)


def results_or_failure(settings: RunSettings, trial: Order) -> Iterator[Failure]:
    """What a worker would tell the driver, where it tells of failures only."""
    try:
        for each in results(settings, trial):
            assert isinstance(each, Failure)
            yield each
    except (MedfathomError, OSError) as error:
        yield Failure.of(error)


def test_bfloat16_that_the_definition_asks_for_may_be_emulated(
    known_data: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    config = load_definition("demo", ["training.precision=bfloat16"])
    settings = replace(known_data, config=config, precision="bfloat16")
    assert task_of(settings, order(0, None)).training.precision == "bfloat16"
