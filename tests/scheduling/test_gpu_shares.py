"""Shares of a GPU from measured memory: the arithmetic, and a whole run on pretended GPUs."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medfathom.definitions.space import TrialParams
from medfathom.study.connection import default_url
from medfathom.study.read import read_study as load
from medfathom.trial.gpu_shares import MOST_PER_GPU, MeasuredShares

GIB = 2**30


def params(batch_size: int = 32, depth: int = 5) -> TrialParams:
    return TrialParams(architecture="resnet50", unfreeze_depth=depth, batch_size=batch_size)


def took(peak: float) -> dict[str, float]:
    return {"peak_memory_bytes": peak, "device_memory_bytes": 80.0 * GIB}


def test_what_was_never_measured_gets_a_whole_gpu() -> None:
    shares = MeasuredShares()
    shares.learn(params(), {"peak_memory_bytes": 1.0})  # on a CPU
    assert shares.share(params()) == shares.smallest() == 1.0
    shares.learn(params(), took(10 * GIB))
    assert shares.share(params(depth=0)) == 1.0
    assert shares.share(params()) == 1 / 6  # 10 GiB x 1.25 + 0.75 GiB: six in 80 GiB


@example(measured=[(2, 1.0), (3, 11.0)], batch=3)
@given(
    measured=st.lists(st.tuples(st.integers(2, 512), st.floats(0.1, 200.0)), min_size=1, max_size=4),
    batch=st.integers(2, 512),
)
def test_shares_fit_side_by_side(measured: list[tuple[int, float]], batch: int) -> None:
    shares = MeasuredShares()
    for size, gigabytes in measured:
        shares.learn(params(size), took(gigabytes * GIB))
    share = shares.share(params(batch))
    assert 1 / MOST_PER_GPU <= share <= 1.0
    assert (1 / share) % 1 < 1e-9 or (1 / share) % 1 > 1 - 1e-9
    assert share <= shares.share(params(batch + 64))
    assert shares.smallest() <= share
    same = [gigabytes for size, gigabytes in measured if size == batch]
    larger = [gigabytes for size, gigabytes in measured if size >= batch]
    if same and max(same) == min(larger, default=0):
        assert share >= min(1.0, max(same) / 80)


DRIVER = """
import ray
from pathlib import Path
ray.init("local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
from fake_work import on_gpu
from medfathom.definitions.load import load_definition
from medfathom.study.watcher import Watcher
from medfathom.scheduling import run_trials
from medfathom.study.connection import default_url
from medfathom.study.open import open_study
config = load_definition(
    "demo",
    ["budget.trials=8", "budget.epochs=2", "sampler=random", "scheduler=none", "space.unfreeze_depth.value=5",
     "space.architecture.choices=['resnet18']"],
)
with open_study(config, default_url(), "data") as driver:
    print("halted:", run_trials(config, driver, Watcher(), Path("cache"), work=on_gpu))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_the_first_trial_measures_and_others_share(workdir: Path) -> None:
    run = subprocess.run([sys.executable, "-c", DRIVER], capture_output=True, text=True, check=False)
    assert "halted: \n" in run.stdout, run.stderr
    given = [trial.user_attrs["gpus"] for trial in load(default_url(), "demo").get_trials()]
    assert given[0] == 1.0
    assert {round(1 / share) for share in given[1:]} == {7}  # 8 GiB x 1.25 + 0.75 GiB: seven in 80 GiB
