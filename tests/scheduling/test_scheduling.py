"""Real Ray, real SQLite, trials that train nothing: states, early stopping, resume, interrupts."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from optuna.trial import TrialState

from fake_work import Unreadable, by_number, greedy, other_data, quick, slow, stuck, until_all_came
from killing import descendants
from medfathom.data.prepare import prepare
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import NodeError, RunError
from medfathom.files import home
from medfathom.scheduling import cluster, run_trials, stall
from medfathom.scheduling.halt import Halt, since_best
from medfathom.scheduling.run import CLUSTER_RETRIES
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.read import read_study as load
from medfathom.study.summary import count_states
from medfathom.study.watcher import Watcher
from medfathom.trial.precision import runs_in_bfloat16

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return load_definition(
        "demo", ["budget.trials=12", "budget.epochs=4", "sampler=random", "scheduler=asha"]
    )


@pytest.fixture
def driver(config: StudyConfig) -> Iterator[Driver]:
    with open_study(config, default_url(), "data") as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, workdir: Path) -> str:
    """Both kinds of storage."""
    return default_url() if request.param == "sqlite" else str(request.getfixturevalue("postgresql"))


class Recorder(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str, str]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ends(self, number: int, state: str, auc: float | None, reason: str) -> None:
        self.ends.append((number, state, reason))


def test_a_worker_with_other_data_ends_the_run_and_keeps_the_trial(driver: Driver, workdir: Path) -> None:
    with pytest.raises(RunError, match="the data here have changed"):
        run_trials(driver.config, driver, Watcher(), workdir, work=other_data)
    assert {t.state for t in driver.trials()} == {TrialState.RUNNING}


def test_a_study_runs_to_its_budget_with_true_states(
    config: StudyConfig, driver: Driver, workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = logging.getLogger("ray.tune").level
    assert run_trials(config, driver, Watcher(), workdir, work=quick) == ""
    assert "".join(capfd.readouterr()) == ""  # in a process that was connected to Ray, too
    assert logging.getLogger("ray.tune").level == level
    trials = driver.trials()
    assert [t.number for t in trials] == list(range(12))
    counts = count_states(trials)
    assert counts.running == counts.failed == 0
    assert counts.complete
    assert counts.pruned
    for trial in trials:
        steps = list(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert trial.user_attrs["epochs"] == len(steps)
        if trial.state == TrialState.COMPLETE:
            assert len(steps) == 4
            assert trial.value == trial.intermediate_values[4]
        else:
            assert trial.state == TrialState.PRUNED
            assert len(steps) < 4
            assert trial.user_attrs["stop_reason"] == f"stopped by asha at epoch {len(steps)}"


def test_trials_shorter_than_the_start_of_a_worker_use_all_workers(workdir: Path) -> None:
    """Tune alone gives each worker that becomes free to the trial whose own worker is on its way.

    What they write to relative paths lies in the driver's folder.
    """
    config = load_definition("demo", ["budget.trials=80", "budget.epochs=1", "sampler=random"])
    with open_study(config, default_url(), "data") as driver:
        run_trials(config, driver, Watcher(), workdir / "cache", work=until_all_came)
        assert driver.counts().complete == 80
    assert len(list(workdir.glob("worker-*"))) == 2


@pytest.mark.slow
def test_failures_are_told_with_their_reasons(workdir: Path, url: str) -> None:
    recorder = Recorder()
    overrides = ["name=failing", "budget.trials=8", "budget.epochs=4", "sampler=random", "scheduler=none"]
    config = load_definition("demo", overrides)
    with open_study(config, url, "data") as driver:
        run_trials(config, driver, recorder, workdir, work=by_number)
        trials = driver.trials()
    reasons = {number: reason for number, state, reason in recorder.ends if state == "FAIL"}
    assert reasons[0] == "ValueError: a message of two lines"
    assert reasons[1] == "non-finite loss at epoch 2"
    assert reasons[2].startswith(
        "the worker was lost (its process was killed or crashed, or its node is gone;"
    )
    assert sorted(reasons) == [0, 1, 2]
    assert recorder.notes == ["trial 2 lost its worker; another worker goes on with it"] * CLUSTER_RETRIES
    assert [t.number for t in trials] == list(range(8))
    assert [t.state for t in trials[:3]] == [TrialState.FAIL] * 3
    assert all(t.state == TrialState.COMPLETE for t in trials[3:])
    assert trials[1].user_attrs["epochs"] == 1


UNREADABLE = (
    r"^node \S+: no trial can begin there \(ImportError: libcudart\.so: no such file\); mend its Python "
    r"environment or take the node out of the cluster, then the same command continues$"
)


DRIVER = """
import sys
from pathlib import Path
from fake_work import slow
from medfathom.definitions.load import load_definition
from medfathom.terminal.progress import PlainLines
from medfathom.scheduling import run_trials
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from rich.console import Console
config = load_definition("demo", ["budget.trials=12", "budget.epochs=4", "sampler=random", "scheduler=asha"])
with open_study(config, default_url(), "data") as driver:
    print("halted:", run_trials(config, driver, PlainLines(Console()), Path("cache"), work=slow), flush=True)
"""


def _driver() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_an_interrupted_study_goes_on(config: StudyConfig, workdir: Path, how: signal.Signals) -> None:
    with _driver() as driver:
        assert driver.stdout
        for line in driver.stdout:
            if line.startswith("trial"):
                break
        driver.send_signal(how)
        rest = driver.stdout.read()
        driver.wait(timeout=15)
    if how != signal.SIGKILL:
        assert "halted: interrupted" in rest
    before = load(default_url(), "demo").get_trials()
    ended = {t.number: t for t in before if t.state.is_finished()}
    assert len(ended) < 12
    with open_study(config, default_url(), "data") as driver:
        assert run_trials(config, driver, Watcher(), workdir, work=quick) == ""
        after = driver.trials()
    assert [t.number for t in after] == list(range(12))
    assert all(t.state.is_finished() for t in after)
    assert count_states(after).failed == 0
    assert len({tuple(t.params.items()) for t in after}) == 12
    for number, trial in ended.items():
        assert after[number].intermediate_values == trial.intermediate_values
        assert after[number].state == trial.state


@pytest.mark.slow
def test_a_study_trains_in_one_precision(workdir: Path) -> None:
    """What the first worker can do is written down; what is written down is kept to."""
    space = "space={architecture={value='resnet10t'},init={value='random'},unfreeze_depth={value=0}}"
    changes = [space, "budget.trials=1", "budget.epochs=1", "sampler=random", "dataset.image_size=32"]
    seen = {}
    for name in ("free", "settled"):
        config = load_definition("demo", [f"name={name}", *changes])
        fingerprint = prepare(config.dataset, home() / "cache").fingerprint
        with open_study(config, default_url(), fingerprint) as driver:
            if name == "settled":
                driver.settle_precision("float32")
            assert run_trials(config, driver, Watcher(), home()) == ""
            (trial,) = driver.trials()
            seen[name] = (trial.user_attrs.get("compute_type"), driver.study.user_attrs["precision"])
    own_choice = "bfloat16" if runs_in_bfloat16("auto", torch.device("cpu")) else "float32"
    assert seen == {"free": (own_choice, own_choice), "settled": ("float32", "float32")}


def test_minutes_end_a_run_and_leave_the_rest_to_the_next(config: StudyConfig, workdir: Path) -> None:
    short = config.model_copy(update={"budget": config.budget.model_copy(update={"minutes": 1e-9})})
    with open_study(short, default_url(), "data") as driver:
        assert "minutes are over" in run_trials(short, driver, Watcher(), workdir, work=quick)
        assert driver.counts().finished < 12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "none"])
def test_every_scheduler_runs(workdir: Path, name: str) -> None:
    config = load_definition("demo", ["budget.trials=9", f"scheduler={name}", "sampler=random"])
    with open_study(config, default_url(), "data") as driver:
        assert run_trials(config, driver, Watcher(), workdir, work=quick) == ""
        assert driver.counts().finished == 9
        if name == "none":
            assert driver.counts().complete == 9


def test_no_improvement_ends_a_run(config: StudyConfig, driver: Driver) -> None:
    for auc in (0.9, 0.8, 0.7):
        assignment = driver.assign()
        assert assignment
        driver.complete(assignment.number, auc, {"train_seconds": 1800.0})
    assert since_best(driver.trials()) == 2
    for change, words in (
        ({"patience": 2}, "no better AUC in 2"),
        ({"device_hours": 1.5}, "device-hours are spent"),
    ):
        halt = Halt(config.model_copy(update={"budget": config.budget.model_copy(update=change)}), driver)
        assert halt.stop_all()
        assert words in halt.reason
    assert not Halt(config, driver).stop_all()


def test_a_withdrawn_trial_does_not_wear_out_patience(config: StudyConfig, driver: Driver) -> None:
    for auc in (0.9, 0.8):
        assignment = driver.assign()
        assert assignment
        driver.complete(assignment.number, auc, {})
    for _ in range(3):
        assert driver.assign()
    driver.stop_in_hand({}, "no better AUC")  # no epoch of them was run
    budget = config.budget.model_copy(update={"patience": 2})
    assert not Halt(config.model_copy(update={"budget": budget}), driver).stop_all()


@pytest.mark.slow
def test_no_trial_stays_running_where_the_budget_leaves_no_more(config: StudyConfig, workdir: Path) -> None:
    """Patience ends the run within its first trials; others are under way, and no run goes on with them."""
    limits = {"patience": 1, "epochs": 3}
    short = config.model_copy(
        update={
            "budget": config.budget.model_copy(update=limits),
            "scheduler": config.scheduler.model_copy(update={"name": "none"}),
        }
    )
    notes: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    for _ in range(2):  # again: it ends at once, and begins nothing that counts
        with open_study(short, default_url(), "data") as driver:
            assert "(budget.patience)" in run_trials(short, driver, Listening(), workdir, work=slow)
            trials, counts = driver.trials(), driver.counts()
        assert counts.running == 0
        assert 2 <= counts.finished < 12
        assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    stopped = [t for t in trials if t.state != TrialState.COMPLETE]
    for trial in stopped:
        assert "no better AUC in 1 trials" in trial.user_attrs["stop_reason"]
        assert (trial.state == TrialState.FAIL) == ("withdrawn" in trial.user_attrs)
        if trial.state == TrialState.PRUNED:
            assert trial.user_attrs["epochs"] == len(trial.intermediate_values) > 0
    assert bool(stopped) == any("running trials were stopped" in note for note in notes)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A gate that runs in the background of a shell ignores the signal, and so would its tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_lets_go_of_the_workers_of_a_process_that_stays_connected(
    config: StudyConfig, workdir: Path
) -> None:
    class Interrupting(Watcher):
        def epoch(self, number: int, epoch: int, auc: float) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with open_study(config, default_url(), "data") as driver:
        assert run_trials(config, driver, Interrupting(), workdir, work=slow) == "interrupted"
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "workers of the interrupted run still hold CPUs"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_driver_whose_ray_server_is_gone_ends_soon(workdir: Path) -> None:
    """As where `timeout` sends SIGTERM to the whole process group. Ray itself waits for 60 s."""
    with _driver() as driver:
        assert driver.stdout
        for line in driver.stdout:
            if line.startswith("trial"):
                break
        servers = [pid for pid, title in descendants(driver.pid) if "gcs_server" in title]
        assert servers
        os.kill(servers[0], signal.SIGKILL)
        driver.stdout.read()
        assert driver.wait(timeout=50) != 0


@pytest.mark.slow
def test_a_hung_trial_ends_by_its_time_limit(workdir: Path, url: str) -> None:
    overrides = ["budget.trials=3", "budget.epochs=4", "budget.trial_minutes=0.05", "sampler=random"]
    config = load_definition("demo", [*overrides, "scheduler=none", "name=hung"])
    with open_study(config, url, "data") as driver:
        run_trials(config, driver, Watcher(), workdir, work=stuck)
        trials = driver.trials()
    assert [t.state for t in trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[0].user_attrs["stop_reason"] == "out of time: ran longer than budget.trial_minutes = 0.05"
    assert trials[1].user_attrs["stop_reason"].startswith("out of time: an epoch hung beyond")


@pytest.mark.slow
def test_a_trial_whose_worker_is_lost_early_is_described(workdir: Path) -> None:
    """Its limit ends long before a worker has imported torch."""
    space = "space={architecture={value='resnet10t'},init={value='random'},unfreeze_depth={value=0}}"
    changes = [
        space,
        "budget.trials=1",
        "budget.trial_minutes=0.001",
        "sampler=random",
        "dataset.image_size=32",
    ]
    config = load_definition("demo", ["name=early", *changes])
    fingerprint = prepare(config.dataset, home() / "cache").fingerprint
    with open_study(config, default_url(), fingerprint) as driver:
        run_trials(config, driver, Watcher(), home())
        (trial,) = driver.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"].startswith("out of time")
    assert trial.user_attrs["architecture"] == "resnet10t"
    assert trial.user_attrs["family"] == "resnet"
    assert trial.user_attrs["n_params"] > 4_000_000
    assert trial.user_attrs["dataset_fingerprint"] == fingerprint
    assert trial.user_attrs["epochs"] == 0


@pytest.mark.slow
def test_out_of_memory_is_tried_once_more_alone(workdir: Path, url: str) -> None:
    overrides = ["name=greedy", "budget.trials=6", "budget.epochs=4", "sampler=random"]
    config = load_definition("demo", overrides)
    with open_study(config, url, "data") as driver:
        run_trials(config, driver, Watcher(), workdir, work=greedy)
        trials = driver.trials()
    assert trials[0].state == TrialState.FAIL
    assert "one image does not fit" in trials[0].user_attrs["stop_reason"]
    assert trials[1].state != TrialState.FAIL
    assert count_states(trials).failed == 1


def test_workers_that_cannot_be_made_end_the_run_and_cost_no_trial(driver: Driver, workdir: Path) -> None:
    """As on a node whose torch cannot be imported: a confirmation's work is not even read there."""
    recorder = Recorder()
    with pytest.raises(NodeError, match=UNREADABLE):
        run_trials(driver.config, driver, recorder, workdir, work=Unreadable())
    assert recorder.ends == []
    assert {t.state for t in driver.trials()} == {TrialState.RUNNING}
    driver.release()
    run_trials(driver.config, driver, recorder, workdir, work=quick)
    assert driver.done()
    assert driver.counts().failed == 0


@ray.remote(num_cpus=1)
class Squatter:
    """Holds a CPU that the run counts on, until it is killed."""

    def here(self) -> None:
        """Answer once it runs."""


@pytest.mark.slow
def test_a_fit_without_a_worker_is_begun_again(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "NO_WORKER_S", 15.0)
    squatters = [Squatter.remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
    ray.get([squatter.here.remote() for squatter in squatters])

    class Freeing(Recorder):
        def note(self, text: str) -> None:
            notes.append(text)
            stall.NO_WORKER_S = 300.0  # a busy machine needs longer to start a worker
            for squatter in squatters:
                ray.kill(squatter)

    notes: list[str] = []
    config = load_definition("demo", ["name=late", "budget.trials=2", "budget.epochs=2", "sampler=random"])
    with open_study(config, default_url(), "data") as driver:
        run_trials(config, driver, Freeing(), workdir, work=quick)
        assert driver.counts().failed == 0
        assert driver.done()
    assert notes == ["Ray ended its run early (NoWorkerError: no worker came for 15 s); continuing"]


LOST_CPUS = """
import ray
from pathlib import Path
from fake_work import quick
from medfathom.definitions.load import load_definition
from medfathom.scheduling import run_trials, stall
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
from medfathom.study.watcher import Watcher

stall.NO_WORKER_S = 10.0

@ray.remote(num_cpus=1)
class Squatter:
    def here(self):
        pass

class Squatting(Watcher):
    def begin(self, config, driver, concurrent):
        self.squatters = [Squatter.remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
        ray.get([squatter.here.remote() for squatter in self.squatters])

    def note(self, text):
        print(text)
        stall.NO_WORKER_S = 300.0  # a busy machine needs longer to start a worker

config = load_definition("demo", ["budget.trials=2", "budget.epochs=2", "sampler=random"])
with open_study(config, default_url(), "data") as driver:
    run_trials(config, driver, Squatting(), Path("cache"), work=quick)
    print(f"done: {driver.done()}, failed: {driver.counts().failed}")
"""


@pytest.mark.slow
def test_a_ray_of_our_own_whose_cpus_are_lost_is_started_anew(workdir: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LOST_CPUS], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == [
        "Ray ended its run early (NoWorkerError: no worker came for 10 s); continuing",
        "done: True, failed: 0",
    ], run.stderr


def test_no_temporary_folder_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a full disk: Python finds none in which it can write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match=r"no temporary folder can be written to \(.*\); make room"):
        cluster(None).__enter__()


def test_the_temporary_folder_is_short_and_removed() -> None:
    with cluster(None) as at_hand:
        assert at_hand.folder.is_dir()
        assert len(str(at_hand.folder)) < 40
    assert not at_hand.folder.exists()
