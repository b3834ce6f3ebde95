"""What happens to the processes, disk, clock and storage of a study: one function a kind of fault.

Each is given the storm, the run that it is meant for, and a generator for what it draws. It returns False
where it could not be done just now.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from killing import descendants, kill_worker, some_worker
from storm_storages import Server, SqliteFile
from wrong_clock import set_clock

if TYPE_CHECKING:
    from storms import Run, Storm

CLOCK_JUMPS_S = (-86_400, -600, 600, 86_400)
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
REFUSED_S = 120.0
"""A driver must have refused a storage that cannot be written within this time."""


def driver(storm: Storm, run: Run, generator: random.Random) -> bool:
    """SIGKILL."""
    run.kill()
    return True


def worker(storm: Storm, run: Run, generator: random.Random) -> bool:
    """SIGKILL."""
    assert run.process
    return kill_worker(run.process.pid, generator)


def node(storm: Storm, run: Run, generator: random.Random) -> bool:
    """Ray's own server of the node: the driver ends with it."""
    assert run.process
    servers = [pid for pid, title in descendants(run.process.pid) if "raylet/raylet" in title]
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    return bool(servers)


def group(storm: Storm, run: Run, generator: random.Random) -> bool:
    """SIGTERM to all processes of a run, as `timeout` and batch systems send it."""
    _send(signal.SIGTERM, run)
    return True


def stopped(storm: Storm, run: Run, generator: random.Random) -> bool:
    """All processes of a run stand still, as in a suspended virtual machine."""
    told = _send(signal.SIGSTOP, run)
    time.sleep(storm.pause_s)
    for pid in told:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return True


def _send(number: signal.Signals, run: Run) -> list[int]:
    assert run.process
    pids = [*(pid for pid, _ in descendants(run.process.pid)), run.process.pid]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


def memory(storm: Storm, run: Run, generator: random.Random) -> bool:
    """The kernel kills a worker that asks for more memory than its group has."""
    assert run.process
    pid = some_worker(run.process.pid, generator)
    if pid is None:
        return False
    limits = MEMORY_GROUPS / f"storm-{os.getpid()}-{pid}"
    limits.mkdir()
    with suppress(OSError):  # the worker has ended
        (limits / "cgroup.procs").write_text(str(pid))
        (limits / "memory.limit_in_bytes").write_text("4096")
        time.sleep(storm.pause_s)
        os.kill(pid, signal.SIGKILL)  # it asked for nothing
    while (limits / "cgroup.procs").read_text():
        time.sleep(0.1)
    limits.rmdir()
    return True


def full(storm: Storm, run: Run, generator: random.Random) -> bool:
    """No byte is left on the file system of the storage."""
    filler = storm.place / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**16))
            file.flush()
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    time.sleep(storm.pause_s)
    filler.unlink()
    return True


def too_large(storm: Storm, run: Run, generator: random.Random) -> bool:
    """Whatever the driver writes to a file fails."""
    assert run.process
    before = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    time.sleep(storm.pause_s)
    with suppress(ProcessLookupError):
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, before)
    return True


def read_only(storm: Storm, run: Run, generator: random.Random) -> bool:
    """The storage takes no writes. A server's drivers wait, a file's are killed and refused."""
    if isinstance(storm.storage, Server):
        with storm.storage.read_only():
            time.sleep(storm.pause_s)
        return True
    assert isinstance(storm.storage, SqliteFile)
    for each in storm.runs:
        each.kill()
    run.older = False  # older versions end with a traceback
    with storm.storage.read_only():
        run.start(storm)
        assert run.process
        run.process.wait(REFUSED_S)
    return run.process.returncode > 0


def older_copy(storm: Storm, run: Run, generator: random.Random) -> bool:
    """A copy of the storage is taken, work goes on, then the copy is brought back, as from a backup."""
    storm.storage.copy()
    time.sleep(storm.pause_s)
    for each in storm.runs:
        each.kill()
        each.done = False
    storm.storage.bring_back()
    return True


def clock(storm: Storm, run: Run, generator: random.Random) -> bool:
    """The clock of all processes jumps, forth or back, by minutes or a day."""
    assert storm.clock
    set_clock(storm.clock, generator.choice(CLOCK_JUMPS_S))
    return True


def server(storm: Storm, run: Run, generator: random.Random) -> bool:
    """The database server is killed, and started again."""
    assert isinstance(storm.storage, Server)
    storm.storage.kill()
    time.sleep(storm.pause_s)
    storm.storage.start()
    return True


def network(storm: Storm, run: Run, generator: random.Random) -> bool:
    """Nothing passes between driver and server; connections may be forgotten on the way."""
    assert isinstance(storm.storage, Server)
    with storm.storage.relay.cut(forgets=generator.random() < 0.5):
        time.sleep(storm.pause_s)
    return True


def other_version(storm: Storm, run: Run, generator: random.Random) -> bool:
    """A driver of an older version joins on a server; on a file it takes over, then the present one does."""
    if storm.storage.shared:
        storm.join(run)
        return True
    run.kill()
    run.older = not run.older
    return True


Fault = Callable[["Storm", "Run", random.Random], bool]
FAULTS: dict[str, Fault] = {
    "driver": driver,
    "worker": worker,
    "node": node,
    "group": group,
    "stopped": stopped,
    "memory": memory,
    "full": full,
    "too large": too_large,
    "read-only": read_only,
    "older copy": older_copy,
    "clock": clock,
    "server": server,
    "network": network,
    "other version": other_version,
}
"""Kind of fault -> what does it to a run."""


def dealt(kinds: Sequence[str], hand: int, size: int) -> list[str]:
    """The faults of one of many storms: dealt from shuffled packs, so that every kind comes as often."""
    pack: list[str] = []
    for shuffled in count():
        if len(pack) >= (hand + 1) * size:
            return pack[hand * size : (hand + 1) * size]
        pack += random.Random(shuffled).sample(list(kinds), len(kinds))
    raise AssertionError


def possible(storage: SqliteFile | Server, *, older: bool, wrong_clock: bool) -> list[str]:
    """Kinds of faults that can be made here."""
    on_server = isinstance(storage, Server)
    mounted = not on_server and storage.mounted is not None
    missing = {
        "memory": not os.access(MEMORY_GROUPS / "memory.limit_in_bytes", os.W_OK),
        "full": not mounted,
        "read-only": not (on_server or mounted),
        "clock": not wrong_clock,
        "server": not on_server,
        "network": not on_server,
        "other version": not older,
    }
    return [kind for kind in FAULTS if not missing.get(kind)]
