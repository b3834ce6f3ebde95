"""A study on a Ray cluster of two nodes that share no folder; one of them dies."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from medfathom.confirmation.find import confirmed_folder, find_confirmation, is_kept
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.models.folder import WEIGHTS_FILE
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from storm_storages import small_disk

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
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    ray.shutdown()  # what ran in this process before may have left a connection
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found = {
        name: cluster.add_node(num_cpus=1, env_vars={"MEDFATHOM_STORAGE": str(workdir / name)})
        for name in ("one", "two")
    }
    yield cluster, found
    ray.shutdown()  # the next test has a cluster of its own
    cluster.shutdown()


def medfathom(*arguments: str, code: int = 0) -> str:
    """Run the program with the default storage folder; returns what it prints. It ends with a code."""
    environment = {k: v for k, v in os.environ.items() if k != "MEDFATHOM_STORAGE"}
    done = subprocess.run(
        [sys.executable, "-c", "from medfathom.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stdout
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
    # A study that starts from that model: its nodes do not have it.
    second = STUDY.replace('name = "spread"', 'name = "second"') + '[space.init]\nvalue = "study:spread"\n'
    (workdir / "second.toml").write_text(second)
    medfathom("run", "second.toml", "--address", cluster.address, "--set", "budget.trials=3")
    trials = read_study(default_url(), "second").get_trials()
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert all("study spread" in t.user_attrs["init_source"] for t in trials)
    sent = [path for name in ("one", "two") for path in (workdir / name).rglob(WEIGHTS_FILE)]
    assert 1 <= len(sent) <= 2
    assert not list(workdir.rglob("*.part"))


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program at work, with the default storage folder."""
    environment = {k: v for k, v in os.environ.items() if k != "MEDFATHOM_STORAGE"}
    with subprocess.Popen(
        [sys.executable, "-c", "from medfathom.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def until(driver: subprocess.Popen[str], found: Callable[[str], bool]) -> list[str]:
    """The lines up to the first that is looked for."""
    assert driver.stdout
    printed = []
    for line in driver.stdout:
        printed.append(line)
        if found(line):
            break
    return printed


def rest(driver: subprocess.Popen[str], printed: list[str]) -> str:
    """All that the program printed; pytest shows it where a test fails."""
    assert driver.stdout
    whole = "".join([*printed, driver.stdout.read()])
    print(whole)  # noqa: T201
    return whole


def is_of_a_trial(line: str) -> bool:
    """Whether a trial ended."""
    return line.startswith("trial")


def assert_all_complete() -> None:
    """Five trials, each with all of its epochs."""
    trials = read_study(default_url(), "spread").get_trials()
    assert [t.number for t in trials] == list(range(5))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, 7))
        assert trial.value == trial.user_attrs["auc"]


@pytest.mark.parametrize("shared_checkpoints", [False, True])
def test_a_node_is_lost(workdir: Path, nodes: tuple[Any, dict[str, Any]], shared_checkpoints: bool) -> None:
    cluster, found = nodes
    (workdir / "spread.toml").write_text(STUDY)
    command = ["run", "spread.toml", "--address", cluster.address]
    if shared_checkpoints:
        command += ["--set", f"resources.checkpoint_url='file://{workdir}/everyone'"]
    with running(*command) as driver:
        printed = until(
            driver,
            lambda line: is_of_a_trial(line) and bool(list((workdir / "two" / "checkpoints").rglob("*.pt"))),
        )
        cluster.remove_node(found["two"], allow_graceful=False)
        assert "5 of 5 trials (5 complete)" in rest(driver, printed)
    assert_all_complete()
    for name in ("one", "two"):
        assert list((workdir / name / "cache" / "datasets").glob("*/prepared.json"))
    assert len(list((workdir / "one" / "checkpoints").rglob("*.pt"))) <= 2  # the last ones
    if shared_checkpoints:
        assert [p for p in (workdir / "everyone").rglob("*") if p.is_file()] == []


def test_a_node_that_comes_late(workdir: Path) -> None:
    """As an autoscaler adds it: the study begins without a node, says that it waits, and goes on."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    (workdir / "spread.toml").write_text(STUDY)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    command = ["run", "spread.toml", "--address", cluster.address, "--set", "budget.trials=12"]
    try:
        refused = subprocess.run(
            [sys.executable, "-c", "from medfathom.cli import main; main()", *command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert refused.returncode == 1
        assert "set resources.concurrent to wait for nodes that will come" in refused.stderr
        with running(*command, "--set", "resources.concurrent=2") as driver:
            printed = until(driver, lambda line: "waiting for nodes" in line)
            cluster.add_node(num_cpus=1, env_vars={"MEDFATHOM_STORAGE": str(workdir / "one")})
            printed += until(driver, is_of_a_trial)
            cluster.add_node(num_cpus=1, env_vars={"MEDFATHOM_STORAGE": str(workdir / "two")})
            assert "12 of 12 trials (12 complete)" in rest(driver, printed)
    finally:
        cluster.shutdown()
    for name in ("one", "two"):  # each has worked
        assert list((workdir / name / "cache" / "datasets").glob("*/prepared.json"))


def test_a_node_is_taken_away_with_notice(workdir: Path, nodes: tuple[Any, dict[str, Any]]) -> None:
    """As a cloud takes a spot instance: Ray is told, and gives the node no more work; then it is gone."""
    cluster, found = nodes
    (workdir / "spread.toml").write_text(STUDY)
    shared = f"resources.checkpoint_url='file://{workdir}/everyone'"
    with running("run", "spread.toml", "--address", cluster.address, "--set", shared) as driver:
        printed = until(driver, is_of_a_trial)
        drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address]
        drain += ["--node-id", found["two"].node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        drain += ["--reason-message", "spot", "--deadline-remaining-seconds", "30"]
        told = subprocess.run(drain, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        printed += until(driver, is_of_a_trial)
        cluster.remove_node(found["two"], allow_graceful=True)
        assert "5 of 5 trials (5 complete)" in rest(driver, printed)
    assert_all_complete()


def test_a_node_that_others_hold(workdir: Path, nodes: tuple[Any, dict[str, Any]]) -> None:
    """All trials run on the other one."""
    import ray  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    cluster, found = nodes
    (workdir / "spread.toml").write_text(STUDY)

    @ray.remote(num_cpus=1)
    class Tenant:
        def is_here(self) -> bool:
            return True

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        there = NodeAffinitySchedulingStrategy(found["two"].node_id, soft=False)
        tenant = Tenant.options(scheduling_strategy=there).remote()  # type: ignore[attr-defined]
        assert ray.get(tenant.is_here.remote())
        assert "5 of 5 trials (5 complete)" in medfathom("run", "spread.toml", "--address", cluster.address)
    finally:
        ray.shutdown()
    assert_all_complete()
    assert list((workdir / "one" / "cache" / "datasets").glob("*/prepared.json"))
    assert not (workdir / "two" / "cache").exists()


def test_a_node_whose_disk_is_full(workdir: Path, nodes: tuple[Any, dict[str, Any]]) -> None:
    """Its trials run on the other node. Where both are full the run ends, and goes on when one has room."""
    cluster, _ = nodes
    (workdir / "spread.toml").write_text(STUDY)
    command = ("run", "spread.toml", "--address", cluster.address)
    folders = [workdir / "one", workdir / "two"]
    with ExitStack() as disks:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            if not disks.enter_context(small_disk(folder, 256)):
                pytest.skip("no file system can be mounted here")
            fill(folder)
        both = medfathom(*command, code=1)
        assert re.search(r"trial \d: node \S+: .* are needed, .*mend this or take the node out of", both)
        (folders[0] / "filler").unlink()
        one = medfathom(*command)
        assert "5 of 5 trials (5 complete)" in one
        assert one.count("its trials go to the other nodes") <= 1
        assert not list((folders[1]).rglob("*.pt"))
    assert_all_complete()


def test_an_address_where_no_cluster_answers(workdir: Path) -> None:
    (workdir / "spread.toml").write_text(STUDY)
    said = medfathom("run", "spread.toml", "--address", "127.0.0.1:9", code=1)
    assert "--address 127.0.0.1:9: no Ray cluster answers, or it has another token (" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("late", [False, True])
def test_a_node_without_medfathom(workdir: Path, late: bool) -> None:
    """The run ends and names it; no trial is lost there, and the study continues without it."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    # Its trials must still run when the late node has joined, on a fast machine too.
    (workdir / "spread.toml").write_text(STUDY.replace("n_train = 36", "n_train = 600") if late else STUDY)
    (workdir / "empty" / "medfathom").mkdir(parents=True)
    (workdir / "empty" / "medfathom" / "__init__.py").write_text("raise ImportError('nothing is installed')")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    command = ["run", "spread.toml", "--address", cluster.address]
    lacking = {"num_cpus": 1, "env_vars": {"PYTHONPATH": str(workdir / "empty")}}
    try:
        cluster.add_node(num_cpus=1, env_vars={"MEDFATHOM_STORAGE": str(workdir / "one")})
        bad = None if late else cluster.add_node(**lacking)
        with running(*command) as driver:
            printed = []
            if late:
                printed = until(driver, is_of_a_trial)
                bad = cluster.add_node(**lacking)
            whole = rest(driver, printed)
        assert driver.returncode == 1
        assert re.search(r"node \S+: medfathom cannot be imported there \(.*nothing is installed\); ", whole)
        cluster.remove_node(bad, allow_graceful=True)
        assert "5 of 5 trials (5 complete)" in medfathom(*command)
    finally:
        cluster.shutdown()
    assert_all_complete()


def fill(folder: Path) -> None:
    """Leave no byte on a disk."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(2**12)):
            pass


def test_nodes_of_different_memory(workdir: Path) -> None:
    """A trial that asks for memory runs where so much is; one that asks for more than any has is refused."""
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    ray.shutdown()
    (workdir / "spread.toml").write_text(STUDY)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    command = ("run", "spread.toml", "--address", cluster.address, "--set")
    try:
        for name, gigabytes in (("one", 1), ("two", 4)):
            storage = {"MEDFATHOM_STORAGE": str(workdir / name)}
            cluster.add_node(num_cpus=1, memory=gigabytes * 10**9, env_vars=storage)
        refused = medfathom(*command, "resources.memory_gb_per_trial=8", code=1)
        assert "memory_gb_per_trial = 8, but the largest node has 4.0 GB for trials; ask for less" in refused
        assert "5 of 5 trials (5 complete)" in medfathom(*command, "resources.memory_gb_per_trial=2")
    finally:
        cluster.shutdown()
    assert_all_complete()
    assert list((workdir / "two" / "cache" / "datasets").glob("*/prepared.json"))
    assert not (workdir / "one" / "cache").exists()
