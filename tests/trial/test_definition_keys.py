"""Keys of a study definition that concern networks reach the network that a trial trains."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.models.batch_norm import calibrate_batch_norm
from medfathom.models.build import Network
from medfathom.trial import network as trial_network
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

SMALL = ["dataset.image_size=64", "dataset.n_train=24", "dataset.n_val=12", "dataset.n_test=6"]


def definition(*overrides: str) -> StudyConfig:
    fixed = ["space.architecture={value='test_resnet'}", "space.init={value='random'}"]
    return load_definition("demo", [*SMALL, *fixed, "budget.epochs=1", *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(definition().dataset, tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(data: PreparedData, tmp_path: Path) -> Callable[..., TrialRecord]:
    """Runs the definition's first trial for an epoch."""

    def run(*overrides: str, **chosen: object) -> TrialRecord:
        study = definition(*overrides)
        fixed = {n: d.value for n, d in study.space.dimensions.items() if d.value is not None}
        params = TrialParams.model_validate({"unfreeze_depth": 1, **fixed, **chosen})
        task = TrialTask(data, study.training, study.budget.epochs, 0, tmp_path, None, "cpu", 1)
        (record,) = run_trial(params, task)
        return record

    return run


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """The networks whose batch-norm statistics a trial has estimated."""
    found: list[Network] = []

    def watched(network: Network, batches: object) -> None:
        calibrate_batch_norm(network, batches)  # type: ignore[arg-type]
        found.append(network)

    monkeypatch.setattr(trial_network, "calibrate_batch_norm", watched)
    return found


def test_a_random_frozen_prefix_is_calibrated_unless_the_definition_says_no(
    run: Callable[..., TrialRecord], calibrated: list[Network]
) -> None:
    with_statistics = run()
    (network,) = calibrated
    mean = network.backbone.get_buffer("bn1.running_mean")
    assert not torch.equal(mean, torch.zeros_like(mean))
    without = run("training.calibrate_batch_norm=false")
    assert len(calibrated) == 1
    assert with_statistics.val_loss != without.val_loss
    assert (with_statistics.calibrated, without.calibrated) == (True, False)


def test_with_nothing_frozen_nothing_is_calibrated(
    run: Callable[..., TrialRecord], calibrated: list[Network]
) -> None:
    assert run(unfreeze_depth=5).calibrated is False
    assert calibrated == []


def test_grey_images_are_repeated_unless_the_definition_says_sum(run: Callable[..., TrialRecord]) -> None:
    repeated, summed = run().attributes(), run("training.grey=sum").attributes()
    first_layer = 16 * 3 * 3  # test_resnet's first convolution, per input channel
    assert repeated["n_params"] - summed["n_params"] == 2 * first_layer


def test_head_options_are_hyperparameters(run: Callable[..., TrialRecord]) -> None:
    plain = run()
    hidden = run("space.head_hidden={value=8}")
    assert hidden.depth == plain.depth + 1
    assert hidden.n_params != plain.n_params
    for changed in ("space.head_dropout={value=0.9}", "space.head_pooling={value='max'}"):
        assert run(changed).train_loss != plain.train_loss


def test_the_record_says_how_much_is_trained(run: Callable[..., TrialRecord]) -> None:
    records = [run(unfreeze_depth=depth).attributes() for depth in range(6)]
    for name in ("trainable_fraction", "trainable_layer_fraction"):
        fractions = [record[name] for record in records]
        assert fractions == sorted(set(fractions))
        assert fractions[0] > 0
        assert fractions[-1] == 1
