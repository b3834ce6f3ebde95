"""`submit --slurm` with a stand-in for Slurm: a preempted job is queued again, and no epoch is lost."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killing import descendants
from medfathom.study.connection import default_url
from medfathom.study.read import read_study

pytest.importorskip("submitit")
STAND_INS = {
    "sbatch": 'cp "$1" job.sh\necho "Submitted batch job 7"\n',
    # Options come first, each with its value behind `=` or in the next word, as submitit writes them.
    "srun": 'while [ "$1" != "--unbuffered" ]; do shift; done\nshift\n'
    'while [ "${1#--}" != "$1" ]; do shift 2; done\nexec "$@" >>job.out 2>&1\n',
    "scontrol": 'echo "$@" >>scontrol.txt\n',
}
EPOCHS = 15
STUDY = [
    "name=preempted",
    "budget.trials=1",
    f"budget.epochs={EPOCHS}",
    "scheduler=none",
    "sampler=random",
    "dataset.image_size=32",
    "dataset.n_train=48",
    "dataset.n_val=24",
    "dataset.n_test=24",
    "space.architecture.choices=['tf_efficientnet_lite0']",
    "resources.concurrent=1",
]


@pytest.fixture
def slurm(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = workdir / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return workdir


def started() -> subprocess.Popen[bytes]:
    """The job as Slurm starts it."""
    return subprocess.Popen(["bash", "job.sh"])


def epochs_told() -> list[tuple[int, int]]:
    """Trial and epoch of every line of the logs."""
    logs = sorted(Path("storage/logs").glob("run-*.log")) if Path("storage/logs").is_dir() else []
    text = "".join(log.read_text() for log in logs)
    return [(int(a), int(b)) for a, b in re.findall(r"trial (\d+) epoch (\d+):", text)]


def wait_for(n_epochs: int, job: subprocess.Popen[bytes]) -> None:
    while len(epochs_told()) < n_epochs:
        assert job.poll() is None, Path("job.out").read_text()
        time.sleep(0.05)


def test_a_preempted_job_is_queued_again_and_loses_no_epoch(slurm: Path) -> None:
    words = [sys.executable, "-m", "medfathom", "submit", "demo", "--slurm", "--minutes", "60", "--cpus", "1"]
    sets = [word for text in STUDY for word in ("--set", text)]
    said = subprocess.run(
        [*words, "--sbatch", "qos=low", *sets], capture_output=True, text=True, check=True
    ).stdout
    assert "Slurm job 7: study 'demo'" in said
    script = Path("job.sh").read_text()
    for line in ("--time=60", "--requeue", "--qos=low", "--signal=USR2@120", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script

    job = started()
    wait_for(3, job)
    # Slurm signals every process of a job step; Ray's, which do not know the signal, die of it.
    for pid, _ in descendants(job.pid):
        os.kill(pid, signal.SIGUSR2)
    assert job.wait(timeout=120) != 0
    assert Path("scontrol.txt").read_text() == "requeue 7\n"
    before = epochs_told()
    (running,) = (t for t in read_study(default_url(), "preempted").get_trials() if not t.state.is_finished())

    assert started().wait(timeout=240) == 0, Path("job.out").read_text()
    trials = read_study(default_url(), "preempted").get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"]
    assert all(list(t.intermediate_values) == list(range(1, EPOCHS + 1)) for t in trials)
    again = epochs_told()[len(before) :]
    assert again[0][0] == running.number
    assert again[0][1] > max(epoch for number, epoch in before if number == running.number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --slurm"),
        (["--slurm", "--set", "budget.trails=3"], "did you mean 'trials'"),
    ],
)
def test_refused_before_anything_is_sent(slurm: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medfathom", "submit", "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not Path("job.sh").exists()
