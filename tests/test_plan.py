"""`medfathom plan`: which kinds of trials there are, what was measured of them, what is forecast."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from joint_sets import chest, joined, prepared, task_on, tissue
from making_cases import volume_config, volume_table
from medfathom.cli import main
from medfathom.data.prepare import prepare
from medfathom.data.prepared import JointData
from medfathom.definitions.config import StudyConfig, TrainingConfig
from medfathom.definitions.grid import trials_of
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.forecast import Cost, Forecast, KindForecast, Measured, forecast, next_to_measure
from medfathom.plan import classes_in_turn, measure, plan_study, sample_images
from medfathom.scheduling.cluster import Node, slots_from
from medfathom.trial.kinds import kinds_of
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial
from strategies import spaces

STUDY = """
version = 1
name = "planned"
question = "How long will it take?"
goal = "compare"
sampler = "random"
scheduler = { name = "asha", grace_epochs = 2 }
budget = { trials = 12, epochs = 10 }
[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 32
n_train = 400
n_val = 80
n_test = 12
[space]
architecture = { choices = ["resnet10t"], role = "scientific" }
init = { choices = ["random", "file:weights.safetensors"], role = "scientific" }
unfreeze_depth = { choices = [0, 5], role = "scientific" }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { value = 16 }
[[space.exclude]]
init = "random"
unfreeze_depth = 0
"""


@pytest.fixture
def definition(workdir: Path) -> Path:
    import timm  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file(timm.create_model("resnet10t").state_dict(), workdir / "weights.safetensors")
    path = workdir / "planned.toml"
    path.write_text(STUDY)
    return path


def test_kinds_follow_the_allowed_combinations(definition: Path) -> None:
    kinds = kinds_of(load_definition(str(definition)))
    assert [(k.params.unfreeze_depth, k.inits, k.trials) for k in kinds] == [
        (0, ("file:weights.safetensors",), 4.0),
        (5, ("random",), 4.0),
        (5, ("file:weights.safetensors",), 4.0),
    ]
    assert {k.params.batch_size for k in kinds} == {16}
    assert kinds[0].params.learning_rate == pytest.approx(1e-3)  # the middle of a logarithmic range


@given(space=spaces(), goal=st.sampled_from(["best", "compare"]))
@settings(max_examples=50)
def test_every_trial_is_of_one_kind(space: object, goal: str) -> None:
    base = load_definition("demo")
    config = base.model_copy(update={"space": space, "goal": goal})
    assert sum(kind.trials for kind in kinds_of(config)) == pytest.approx(trials_of(config))


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_classes_come_in_turns(labels: list[int]) -> None:
    array = np.array(labels)
    order = classes_in_turn(array)
    assert sorted(order) == list(range(len(labels)))
    first = array[order[: len(set(labels))]]
    assert sorted(first) == sorted(set(labels))


def test_combinations_of_labels_come_in_turns() -> None:
    labels = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [1, 1]], dtype=np.uint8)
    assert list(classes_in_turn(labels)) == [0, 2, 4, 1, 3]


def made_cost() -> Cost:
    return Cost(
        startup=2.0,
        train=0.01,
        validate=0.002,
        feature=0.005,
        views=4,
        peak_memory_bytes=10**9,
        device_memory_bytes=None,
    )


def test_the_dearest_kind_is_measured_first_then_the_cheapest() -> None:
    config = load_definition("demo")
    kinds = kinds_of(config)
    order: list[int] = []
    while (i := next_to_measure(config, kinds, order)) is not None:
        order.append(i)
    assert sorted(order) == list(range(len(kinds)))
    shapes = [(kinds[i].params.architecture[-1], kinds[i].params.unfreeze_depth) for i in order]
    assert shapes[:3] == [("2", 5), ("0", 0), ("2", 4)]
    assert len(set(shapes[:18])) == 18  # each network and depth once, before one comes with another init


def test_what_was_not_measured_is_estimated() -> None:
    config = load_definition("demo")
    kinds = kinds_of(config)
    slots = slots_from(config, [Node(2)])
    found = forecast(config, kinds, {0: made_cost()}, {"train": 240, "val": 180}, slots)
    assert found.n_estimated == len(kinds) - 1
    rows = [each.measured for each in found.kinds]
    assert all(isinstance(row, Measured) for row in rows)
    seconds = {
        (
            each.kind.params.architecture[-1],
            each.kind.params.unfreeze_depth,
            each.kind.inits[0],
        ): row.seconds_per_epoch
        for each, row in zip(found.kinds, rows, strict=True)
        if isinstance(row, Measured)
    }
    assert seconds["0", 0, "random"] == seconds["0", 0, "imagenet"]
    assert [seconds["0", d, "imagenet"] for d in range(6)] == sorted(
        seconds["0", d, "imagenet"] for d in range(6)
    )
    assert seconds["2", 5, "imagenet"] > seconds["1", 5, "imagenet"] > seconds["0", 5, "imagenet"]
    failed = forecast(config, kinds, {0: "out of memory"}, {"train": 240, "val": 180}, slots)
    assert len(failed.failures) == len(kinds)


def test_costs_are_scaled_up() -> None:
    cost = made_cost()
    sizes = {"train": 1000, "val": 200, "test": 5000}
    # start, then epochs of 1,000 trained and 200 validated, at last the AUC of 500 training images
    assert cost.trial(sizes, 1.0, 10) == pytest.approx(2 + 10 * (10 + 0.4) + 1)
    assert cost.trial(sizes, 0.1, 10) == pytest.approx(2 + 10 * (1 + 0.4) + 0.2)
    assert cost.features(sizes, 10) == pytest.approx(0.005 * (4 * 1000 + 200))
    assert cost.features(sizes, 3) == pytest.approx(0.005 * (3 * 1000 + 200))


def hours_of_folds(goal: str, trials: int) -> float:
    """The most that a plan with 5 folds says, over that of one training of each trial."""
    space = ["space.unfreeze_depth={value=5}", "space.init={value='random'}"]
    folds = ["dataset.splits.folds=5", "sampler=random", "scheduler=none", f"goal={goal}"]
    config = load_definition("demo", [*space, *folds, f"budget.trials={trials}"])
    kinds, slots = kinds_of(config), slots_from(config, [Node(2)])
    found = forecast(config, kinds, dict.fromkeys(range(3), made_cost()), {"train": 240, "val": 60}, slots)
    least, most = found.device_hours
    return most / least


def test_the_later_folds_of_a_small_study_are_planned() -> None:
    """One trial, or one of each of three strata, has its 4 later folds in any case: `study.finalists`."""
    assert hours_of_folds("best", 30) == pytest.approx(2)
    assert hours_of_folds("best", 2) == pytest.approx((2 + 4) / 2)
    assert hours_of_folds("compare", 6) == pytest.approx((6 + 3 * 4) / 6)
    assert hours_of_folds("compare", 2) == pytest.approx(1 + 4)


@pytest.mark.slow
def test_a_plan_is_measured_and_leaves_nothing(definition: Path) -> None:
    config = load_definition(str(definition), ["resources.concurrent=1"])
    told: list[str] = []
    found = plan_study(config, told.append)
    assert told[-1] == "measuring resnet10t, unfreeze_depth 5 (3 of 3 kinds of trials)"
    assert found.n_estimated == 0
    rows = [each.measured for each in found.kinds]
    assert all(isinstance(row, Measured) for row in rows)
    head, drawn, whole = (row for row in rows if isinstance(row, Measured))
    assert head.features == "once"
    assert head.seconds_of_features > 0
    assert drawn.seconds_of_features == whole.seconds_of_features == 0
    for row in (drawn, head, whole):
        assert row.side_by_side == 1
        assert row.seconds_per_trial > 10 * row.seconds_per_epoch > 0
        assert row.peak_memory_bytes > 50e6
    assert head.seconds_per_epoch < whole.seconds_per_epoch
    least, most = found.hours
    assert 0 < least < most == pytest.approx(found.device_hours[1])
    in_all = sum(
        each.kind.trials * row.seconds_per_trial
        for each, row in zip(found.kinds, (head, drawn, whole), strict=True)
    )
    assert most == pytest.approx((in_all + head.seconds_of_features) / 3600)
    assert {path.name for path in Path("storage").iterdir()} == {
        "cache"
    }  # the prepared data, as `run` leaves it


def test_json_has_a_row_for_each_kind(definition: Path) -> None:
    first, second, third = kinds_of(load_definition(str(definition)))
    measured = Measured(
        seconds_per_epoch=1.0,
        seconds_per_trial=10.0,
        seconds_of_features=2.0,
        features="once",
        images_per_second=None,
        peak_memory_bytes=10**8,
        side_by_side=2,
        seconds_in_all=(360.0, 3600.0),
    )
    kinds = (
        KindForecast(first, measured),
        KindForecast(second, "out of memory"),
        KindForecast(third, measured, estimated=True),
    )
    told = json.loads(json.dumps(Forecast("planned", "cpu", 12, 10, 2, kinds).to_dict()))
    row, failed, third_row = told.pop("kinds")
    assert told == {
        "study": "planned",
        "device": "cpu",
        "trials": 12,
        "epochs": 10,
        "concurrent": 2,
        "hours": [0.1, 1.0],
        "device_hours": [0.2, 2.0],
    }
    of_kind = {
        "architecture": "resnet10t",
        "batch_size": 16,
        "trials": 4.0,
        "image_size": None,
        "strategy": "fixed",
        "estimated": False,
    }
    assert third_row["estimated"] is True
    assert failed == {**of_kind, "inits": ["random"], "unfreeze_depth": 5, "failure": "out of memory"}
    assert row == {
        **of_kind,
        "inits": ["file:weights.safetensors"],
        "unfreeze_depth": 0,
        "seconds_per_epoch": 1.0,
        "seconds_per_trial": 10.0,
        "seconds_of_features": 2.0,
        "features": "once",
        "images_per_second": None,
        "peak_memory_bytes": 10**8,
        "side_by_side": 2,
        "seconds_in_all": [360.0, 3600.0],
    }


@pytest.mark.slow
def test_a_kind_that_fails_is_named(
    definition: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = definition.parent / "start.safetensors"
    network = timm.create_model("resnet10t")
    network.get_parameter("layer4.0.bn2.bias").data.fill_(3e38)  # overflows where positions are pooled
    save_file(network.state_dict(), weights)
    arguments = ["plan", str(definition), "--json", "--set", f"space.init={{value='file:{weights}'}}"]
    arguments += ["--set", "space.unfreeze_depth={value=5}", "--set", "space.exclude=[]"]
    monkeypatch.setattr(sys, "argv", ["medfathom", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    (row,) = json.loads(capsys.readouterr().out)["kinds"]
    assert "training diverged" in row["failure"]


def test_few_images_have_every_class(definition: Path, tmp_path: Path) -> None:
    from medfathom.data.prepare import prepare  # noqa: PLC0415

    config: StudyConfig = load_definition(str(definition))
    data = prepare(config.dataset, tmp_path / "cache")
    (tmp_path / "few").mkdir()
    few = sample_images(data, tmp_path / "few", batch_size=16)
    assert few.sizes == {"train": 96, "val": 64}
    for name in ("train", "val"):
        split = few.split(name)  # type: ignore[arg-type]
        assert len(split.images) == len(split.labels) == few.sizes[name]
        assert set(split.labels) == {0, 1, 2}
    assert few.fingerprint != data.fingerprint


@pytest.mark.large
@pytest.mark.parametrize("combine", ["max", "attention"])
def test_trials_on_volumes_are_measured(combine: str, tmp_path: Path) -> None:
    data = prepare(volume_config(volume_table(tmp_path)), tmp_path / "cache")
    (tmp_path / "few").mkdir()
    few = sample_images(data, tmp_path / "few", 16)
    assert few.split("val").cases is not None
    params = TrialParams(architecture="test_resnet", init="random", batch_size=16, combine=combine)  # type: ignore[arg-type]
    task = TrialTask(few, TrainingConfig(precision="float32"), 1, 0, tmp_path, None, "cpu", 1)
    (record,) = run_trial(params, task)
    assert record.unit == "volume"


def test_several_data_sets_are_measured_together(tmp_path: Path) -> None:
    data = prepared(joined(chest(n_train=200), tissue(n_train=200, patients_train=100)), tmp_path / "cache")
    (tmp_path / "few").mkdir()
    few = sample_images(data, tmp_path / "few", 16)
    assert isinstance(few, JointData)
    assert few.sizes == {"train": 192, "val": 32}
    labels = few.split("train").labels
    assert np.bincount(labels[:, 0]).tolist() == [96, 96]
    assert {tuple(row) for row in labels.tolist()} == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
    params = TrialParams(architecture="test_resnet", init="random", batch_size=16, norm="per_dataset")
    assert measure(params, task_on(few, tmp_path, epochs=3)).train > 0
