"""Checks before anything is spent that go by this machine, or not."""

from pathlib import Path

import pytest

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import DefinitionError, InputError
from medfathom.machine import cpus
from medfathom.validate import check_definition, validate_study


@pytest.fixture
def greedy(workdir: Path) -> StudyConfig:
    """A study that takes more CPUs for a trial than this machine has."""
    return load_definition("demo", [f"resources.cpus_per_trial={cpus() + 1}"])


def test_a_trial_fits_this_machine(greedy: StudyConfig) -> None:
    with pytest.raises(DefinitionError, match=r"resources\.cpus_per_trial = \d+, but this machine has \d+"):
        check_definition(greedy)


def test_a_clusters_nodes_may_be_larger(greedy: StudyConfig) -> None:
    """The driver of a large cluster may be a small login node."""
    assert check_definition(greedy, "10.0.0.7:6379") == check_definition(load_definition("demo", []))


def test_a_working_folder_that_is_not_utf8(
    greedy: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w\udcf6rk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"w\\xf6rk: the name of this folder is not UTF-8; rename it"):
        check_definition(greedy)


def test_a_gpu_is_not_asked_for_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for asked in ("1", "0.5"):
        config = load_definition("demo", [f"resources.gpus_per_trial={asked}"])
        with pytest.raises(DefinitionError, match=rf"gpus_per_trial = {asked}, but this machine has no GPU;"):
            check_definition(config)
        check_definition(config, address="a-cluster:6379")
    for asked in ('"auto"', "0"):
        check_definition(load_definition("demo", [f"resources.gpus_per_trial={asked}"]))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    check_definition(load_definition("demo", ["resources.gpus_per_trial=0.5"]))


@pytest.mark.parametrize(
    ("name", "other", "value"), [("lora_rank", "strategy", "bitfit"), ("l2_sp_alpha", "strategy", "lp-ft")]
)
def test_a_dimension_without_effect_is_refused(name: str, other: str, value: str) -> None:
    given = [f"space.{name}.choices=[1, 2]", "space.unfreeze_depth.value=3", "space.init.value=imagenet"]
    for overrides in (given, [*given, f"space.{other}.choices=['fixed', {value!r}]"]):
        with pytest.raises(DefinitionError, match=rf"space\.{name} has no effect without {other} = "):
            check_definition(load_definition("demo", overrides))
    needed = "l2-sp" if name == "l2_sp_alpha" else "lora"
    if needed == "l2-sp":  # the other needs a package
        check_definition(load_definition("demo", [*given, f"space.{other}.choices=['fixed', {needed!r}]"]))


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (
            ["scheduler.grace_epochs=9", "budget.epochs=9"],
            "= 9 and budget.epochs = 9: no trial is stopped early",
        ),
        (
            ["sampler=random", "sampler.portfolio=off"],
            "sampler.portfolio = 'off' has no effect with sampler.name",
        ),
        (
            ["scheduler=median", "scheduler.reduction_factor=4"],
            'has no effect with scheduler.name = "median"',
        ),
        (
            ["goal=compare", "sampler=tpe", "budget.trials=40", "budget.patience=5"],
            "may end the comparison before",
        ),
    ],
)
def test_a_key_that_does_not_do_what_one_expects_is_told(
    workdir: Path, overrides: list[str], note: str
) -> None:
    assert any(note in line for line in validate_study("demo", overrides).notes)


def test_the_shipped_files_have_no_key_without_effect(workdir: Path) -> None:
    for kind in ("sampler", "scheduler"):
        for path in sorted(Path(f"search/{kind}s").glob("*.toml")):
            overrides = [f"{kind}={path.stem}", "budget.epochs=20", "space.augmentation.choices=['cxr']"]
            overrides += [] if path.stem != "grid" else ["space=small"]
            assert not any("effect" in line for line in validate_study("demo", overrides).notes), path
