"""A study on a Ray cluster of two nodes that share no folder; one of them dies."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from medfathom.confirmation.find import confirmed_folder, find_confirmation, is_kept
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.models.folder import WEIGHTS_FILE
from medfathom.study.connection import default_url
from medfathom.study.read import read_study

STUDY = """
version = 1
name = "spread"
question = "Does a study survive the loss of a node?"
scheduler = "none"
sampler = "random"
budget = { trials = 5, epochs = 6 }
[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 32
n_train = 36
n_val = 24
n_test = 24
[space.architecture]
choices = ["tf_efficientnet_lite0"]
[space.unfreeze_depth]
value = 2
[space.learning_rate]
low = 1e-3
high = 1e-2
log = true
"""


@pytest.fixture
def nodes(workdir: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A head without CPUs, and two nodes of one CPU that share no folder."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found = {
        name: cluster.add_node(num_cpus=1, env_vars={"MEDFATHOM_STORAGE": str(workdir / name)})
        for name in ("one", "two")
    }
    yield cluster, found
    cluster.shutdown()


def medfathom(*arguments: str) -> str:
    """Run the program with the default storage folder; returns what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "MEDFATHOM_STORAGE"}
    done = subprocess.run(
        [sys.executable, "-c", "from medfathom.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_confirmed_models_come_back_from_nodes_that_share_no_folder(
    workdir: Path, nodes: tuple[Any, dict[str, Any]]
) -> None:
    cluster, _ = nodes
    (workdir / "spread.toml").write_text(STUDY)
    medfathom("run", "spread.toml", "--address", cluster.address, "--set", "budget.trials=2")
    medfathom("confirm", "spread", "--seeds", "4", "--address", cluster.address)
    search = read_study(default_url(), "spread")
    confirmation = find_confirmation(search)
    assert confirmation is not None
    folder = confirmed_folder(search)
    models = summarize_confirmation(search, confirmation).strata[0].models
    assert [model.seed for model in models] == [0, 1, 2, 3]
    for model in models:
        assert is_kept(model.folder)
        assert all((model.folder / name).is_file() for name in model.pictures)
    assert models[0].pictures
    assert {path.name for path in folder.iterdir()} >= {model.folder.name for model in models}
    for name in ("one", "two"):  # both trained, and neither keeps a model
        assert list((workdir / name / "cache" / "datasets").glob("*/prepared.json"))
        assert not list((workdir / name).rglob(WEIGHTS_FILE))
    medfathom("export", "spread", "--out", "exported", "--no-onnx")
    assert len(medfathom("predict", "exported", str(next(workdir.rglob("*.png"))))) > 0


@pytest.mark.parametrize("shared_checkpoints", [False, True])
def test_a_node_is_lost(workdir: Path, nodes: tuple[Any, dict[str, Any]], shared_checkpoints: bool) -> None:
    cluster, found = nodes
    (workdir / "spread.toml").write_text(STUDY)
    command = ["run", "spread.toml", "--address", cluster.address]
    if shared_checkpoints:
        command += ["--set", f"resources.checkpoint_url='file://{workdir}/everyone'"]
    environment = {k: v for k, v in os.environ.items() if k != "MEDFATHOM_STORAGE"}
    with subprocess.Popen(
        [sys.executable, "-c", "from medfathom.cli import main; main()", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as driver:
        assert driver.stdout
        printed = []
        for line in driver.stdout:
            printed.append(line)
            if line.startswith("trial") and list((workdir / "two" / "checkpoints").rglob("*.pt")):
                break
        cluster.remove_node(found["two"], allow_graceful=False)
        printed.append(driver.stdout.read())
    print("".join(printed))  # noqa: T201  pytest shows it where the test fails
    assert "5 of 5 trials (5 complete)" in "".join(printed)
    trials = read_study(default_url(), "spread").get_trials()
    assert [t.number for t in trials] == list(range(5))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, 7))
        assert trial.value == trial.user_attrs["auc"]
    for name in ("one", "two"):
        assert list((workdir / name / "cache" / "datasets").glob("*/prepared.json"))
    assert len(list((workdir / "one" / "checkpoints").rglob("*.pt"))) <= 2  # the last ones
    if shared_checkpoints:
        assert [p for p in (workdir / "everyone").rglob("*") if p.is_file()] == []
