"""A worker's parts without Ray: the process that enforces its time limit, and its rest."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_work import other_data, quick
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.scheduling import trainable
from medfathom.scheduling.messages import METRIC, Order, Result, RunSettings, Work
from medfathom.scheduling.trainable import TimeLimit, TrialActor
from medfathom.study.assignment import Assignment

WORKER = """
import os, signal, sys
from medfathom.scheduling.trainable import TimeLimit
limit = TimeLimit(minutes=float(sys.argv[1]))
print(limit._killer.pid, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
SOON_S = 60.0
"""What is bound to happen is waited for so long."""


def worker(minutes: float) -> subprocess.Popen[str]:
    """A process under a time limit that does nothing any more."""
    return subprocess.Popen([sys.executable, "-c", WORKER, str(minutes)], stdout=subprocess.PIPE, text=True)


def session(leader: int) -> set[int]:
    """The processes of a session that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == leader and state != "Z":
                found.add(int(path.parent.name))
    return found


def ends(pid: int) -> bool:
    """Whether a process, not a child of ours, ends soon."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], SOON_S)[0])
    finally:
        os.close(handle)


def test_the_killer_ends_with_its_worker() -> None:
    """Else it would kill whatever has the worker's process id by then."""
    with worker(minutes=60.0) as process:
        assert process.stdout
        killer = int(process.stdout.readline())
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        members = session(killer)
        assert killer in members
        process.kill()
    assert all(ends(pid) for pid in members)
    assert all(ends(pid) for pid in session(killer))


@pytest.mark.large
def test_a_stopped_worker_is_killed_at_its_limit() -> None:
    with worker(minutes=0.01) as process:
        assert process.stdout
        killer = int(process.stdout.readline())
        assert process.wait(SOON_S) == -signal.SIGKILL
    assert ends(killer)
    assert all(ends(pid) for pid in session(killer))


def test_a_lifted_time_limit_kills_nobody() -> None:
    limit = TimeLimit(minutes=1.0)
    limit.check()
    limit.lift()
    assert limit._killer.returncode == -signal.SIGKILL
    assert all(ends(pid) for pid in session(limit._killer.pid))


def test_a_limit_is_lifted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The killer's process id may be another's afterwards."""
    limit = TimeLimit(minutes=1.0)
    limit.lift()
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _: killed.append(group))
    limit.lift()
    assert not killed


def actor(folder: Path, order: Order, work: Work = other_data) -> TrialActor:
    """A worker, made as Tune makes it, but in this process."""
    settings = RunSettings(load_definition("demo"), folder, 1, "cpu", folder, "data", work=work)
    made = TrialActor.__new__(TrialActor)
    made.setup({"order": order}, settings)
    return made


def first_order(unfinished: tuple[int, ...] | None) -> Order:
    """Of trial 0; `unfinished` as on one node or on several."""
    params = TrialParams.model_validate({"architecture": "a", "init": "random", "unfreeze_depth": 0})
    return Order(Assignment(0, params, "a", 0, {}), checkpoint="trial-00000.pt", unfinished=unfinished)


def test_a_worker_on_a_node_that_cannot_take_part_keeps_its_place_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n1"))
    monkeypatch.setattr(trainable, "ASKED_AGAIN_S", 0.01)
    monkeypatch.setattr(trainable, "REST_S", 0.015)
    worker = actor(tmp_path, first_order(unfinished=(0,)))
    told = worker.step()
    assert (told["failure"].node, told["done"]) == ("n1", False)
    assert told["failure"].reason == "the data here have changed"
    rests = [worker.step(), worker.step()]
    assert [(r["rests"], r["done"]) for r in rests] == [(True, False), (True, True)]
    worker.reset_config({"order": first_order(unfinished=(0,))})  # the next trial is tried there
    assert "failure" in worker.step()


def test_the_only_node_ends_its_trial_at_once(tmp_path: Path) -> None:
    told = actor(tmp_path, first_order(unfinished=None)).step()
    assert (told["failure"].node, told["done"]) == ("", True)


def test_what_cannot_be_imported_is_the_node_s_fault(tmp_path: Path) -> None:
    """The next trials would fail there too, until the budget is spent."""

    def broken(settings: RunSettings, order: Order) -> Iterator[Result]:
        raise ModuleNotFoundError("No module named 'timm'")
        yield from quick(settings, order)

    failure = actor(tmp_path, first_order(unfinished=None), broken).step()["failure"]
    assert failure.reason.endswith(": no trial can begin there (ModuleNotFoundError: No module named 'timm')")
    assert failure.mend.startswith("mend its Python environment")


def test_a_worker_that_died_at_rest_does_not_begin_the_trial_again(tmp_path: Path) -> None:
    """Another one has it by now."""
    over = replace(first_order(unfinished=(0,)), over=True)
    told = actor(tmp_path, over, quick).step()
    assert (told["rests"], told["done"]) == (True, True)
    assert METRIC not in told
