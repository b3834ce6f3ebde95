"""A trial's time limit, without Ray: the process that enforces it, and when that ends."""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from medfathom.scheduling.trainable import TimeLimit

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
