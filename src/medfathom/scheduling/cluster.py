"""Ray for the length of a run, and how many trials it takes at once."""

from __future__ import annotations

import gc
import logging
import math
import os
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from medfathom.definitions.config import ResourcesConfig, StudyConfig
from medfathom.errors import RunError
from medfathom.machine import cpus
from medfathom.scheduling.halt import callers_sigterm
from medfathom.scheduling.messages import Order

OBJECT_STORE_BYTES = 128 * 1024**2
GONE_S = 20
"""Seconds after which a driver gives up the Ray server on its machine. Ray's 60 s are for a network: where a
signal to the whole process group (`timeout`, `kill -- -GROUP`) ended that server, nothing brings it back. Not
fewer: on a machine that is busy with other work a server that lives may not answer for as long as that."""
TEMP_PREFIX = "mf-"
ASKED_AGAIN_S = 5.0
"""So often, in seconds, a cluster that others started is asked for its nodes."""


GB = 10**9


@dataclass(frozen=True)
class Node:
    """What a machine gives to trials."""

    cpus: int
    gpus: float = 0.0
    memory: float = math.inf
    """Bytes; infinite: not known."""
    id: str = ""
    """Ray's."""
    name: str = ""
    """Of the machine."""

    def fits(self, resources: ResourcesConfig) -> int:
        """How many trials it takes at once, by their CPUs and their memory."""
        by_cpus = self.cpus // resources.cpus_per_trial
        needed = resources.memory_gb_per_trial
        return by_cpus if needed is None else int(min(by_cpus, self.memory // (needed * GB)))


@dataclass(frozen=True)
class Slots:
    """What one trial takes, and how many run at once."""

    resources: ResourcesConfig
    gpus_per_trial: float
    """Of a trial whose own share is not measured."""
    concurrent: int
    nodes: tuple[Node, ...]
    """All of the cluster, those too that take no trial."""
    measured_gpus: float = 0.0
    """GPUs to be shared out by measured memory; 0: every trial takes the same."""

    @property
    def cpus_per_trial(self) -> int:
        """CPU threads of a trial."""
        return self.resources.cpus_per_trial

    @property
    def device(self) -> str:
        """What trials run on: `cuda` or `cpu`."""
        return "cuda" if self.gpus_per_trial else "cpu"

    @property
    def able(self) -> tuple[Node, ...]:
        """The nodes that can take a trial."""
        return tuple(node for node in self.nodes if node.fits(self.resources) and self._has_gpus(node))

    def _has_gpus(self, node: Node) -> bool:
        return node.gpus >= min(1.0, self.gpus_per_trial)

    def request(self, config: Mapping[str, Order]) -> dict[str, float]:
        """Ray's resources for a trial. One that ran out of memory beside others gets a whole machine.

        That is the one with the most memory, of those that did not refuse it. Ray knows of memory only what
        is asked for: where trials do not ask, CPUs keep others away.
        """
        order = config["order"]
        needed = self.resources.memory_gb_per_trial
        if order.alone:
            able = self.able or (Node(self.cpus_per_trial),)
            left = [node for node in able if node.id not in order.refused] or able
            roomiest = max(left, key=lambda node: (node.memory, node.cpus))
            known = len(able) > 1 and roomiest.memory < math.inf
            return {
                "cpu": roomiest.cpus,
                "gpu": max(1.0, self.gpus_per_trial) if self.gpus_per_trial else 0,
                "memory": int(roomiest.memory) if known else 0,
            }
        return {
            "cpu": self.cpus_per_trial,
            "gpu": self.gpus_per_trial if order.gpus is None else order.gpus,
            "memory": 0 if needed is None else int(needed * GB),
        }


@dataclass(frozen=True)
class Cluster:
    """Ray for the length of a run."""

    folder: Path
    """Private and temporary, with a short name (socket paths are limited to about 107 bytes)."""
    own: bool
    """This run started Ray on this machine, and nobody else uses it."""

    def begin_anew(self) -> None:
        """Start a Ray of our own again: one that has lost count of its CPUs never finds them."""
        if self.own:
            ray.shutdown()
            _connect(None, self.folder)


@contextmanager
def cluster(address: str | None) -> Iterator[Cluster]:
    """Ray for the length of a run: the cluster at `address`, or one of our own on this machine.

    A process that is connected to Ray already stays so.
    """
    try:
        _remove_leftovers()
        folder = Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-"))
    except OSError as error:
        raise RunError(
            f"no temporary folder can be written to ({error.strerror}); make room, or name one in TMPDIR"
        ) from None
    connects = not ray.is_initialized()
    try:
        if connects:
            _connect(address, folder)
        with _hushed():
            yield Cluster(folder, connects and address is None)
    finally:
        if connects:
            ray.shutdown()
        else:
            gc.collect()  # Tune's objects hold each other, and with them the workers of an interrupted fit
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*-*"):
        owner = folder.name.removeprefix(TEMP_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _give_token() -> None:
    """Let a cluster of our own start where HOME cannot be written.

    Ray keeps a cluster's token in `~/.ray/auth_token`. A token from the environment needs no file, and two
    runs that start at the same time cannot overwrite each other's.
    """
    if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _knock(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try it for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from None


def _no_answer(address: str, reason: str) -> RunError:
    return RunError(
        f"--address {address}: no Ray cluster answers, or it has another token ({reason}); give the address "
        "of its first node, and that node's ~/.ray/auth_token in RAY_AUTH_TOKEN"
    )


def _connect(address: str | None, folder: Path) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    own: dict[str, Any] = {
        "num_cpus": cpus(),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": str(folder / "ray"),
        "_system_config": {"gcs_rpc_server_reconnect_timeout_s": GONE_S},
    }
    if (quoted := shlex.quote(sys.executable)) != sys.executable:
        # Ray starts workers by a line of shell, and does not quote Python's path in it.
        own["runtime_env"] = {"py_executable": quoted}
    if address is None:
        _give_token()
    else:
        _knock(address)
    try:
        with warnings.catch_warnings(), callers_sigterm():
            warnings.simplefilter("ignore")
            # "local": else it would join whatever cluster runs on this machine
            ray.init(address=address or "local", **quiet, **({} if address else own))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        if address is not None and isinstance(error, ConnectionError | RuntimeError | ValueError):
            raise _no_answer(address, reason) from None
        if type(error) is Exception:  # what Ray raises where its processes are too slow to come
            raise RunError(
                f"Ray did not start on this machine ({reason}); end other programs, then give the same "
                "command again"
            ) from error
        raise


@contextmanager
def _hushed() -> Iterator[None]:
    """Ray's loggers tell only what is critical: Tune warns of files of each trial that nobody wrote."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def slots_for(config: StudyConfig, *, own: bool = True) -> Slots:
    """What one trial takes and how many run at once on the cluster at hand.

    Args:
        config: the definition.
        own: whether it is a Ray of our own. On another one `resources.concurrent` may be more than the nodes
            of now can take: others are awaited (an autoscaler adds nodes only for trials that wait).

    Raises:
        RunError: a trial asks for more than there is, and no node is awaited.
    """
    nodes = [_node(found) for found in ray.nodes() if found["Alive"]]
    return slots_from(config, nodes, awaited=0 if own else config.resources.concurrent or 0, own=own)


def _node(found: Mapping[str, Any]) -> Node:
    has = found["Resources"]
    return Node(
        int(has.get("CPU", 0)),
        float(has.get("GPU", 0)),
        has.get("memory", math.inf),
        found["NodeID"],
        found["NodeManagerHostname"],
    )


def followed(
    config: StudyConfig, first: Slots, check: Callable[[Sequence[Node]], None] | None
) -> Callable[[], Slots]:
    """What the cluster takes now, asked anew every `ASKED_AGAIN_S`: nodes of another's cluster come and go.

    The device stays that of the beginning.

    Args:
        config: the definition.
        first: what the cluster took at the beginning.
        check: is given the nodes that take trials each time; None: a Ray of our own, which stays as it is.
    """
    latest, asked = first, time.monotonic()

    def now() -> Slots:
        nonlocal latest, asked
        if check is not None and time.monotonic() - asked > ASKED_AGAIN_S:
            asked = time.monotonic()
            try:
                found = slots_for(config, own=False)
            except RunError:  # for a moment no node is there
                return latest
            latest = found if found.device == first.device else latest
            check(latest.able)
        return latest

    return now


def slots_from(config: StudyConfig, nodes: Sequence[Node], *, awaited: int = 0, own: bool = True) -> Slots:
    """The same on these nodes.

    Args:
        config: the definition.
        nodes: of the cluster.
        awaited: so many trials are asked for in any case: for nodes that will come.
        own: as in `slots_for`.

    Raises:
        RunError: a trial asks for more than there is.
    """
    wanted = config.resources.gpus_per_trial
    gpus = sum(node.gpus for node in nodes)
    if wanted != "auto":
        gpus = max(gpus, awaited * float(wanted))
    gpus_per_trial = (1.0 if gpus else 0.0) if wanted == "auto" else float(wanted)
    if gpus_per_trial > gpus:
        raise RunError(f"resources.gpus_per_trial = {gpus_per_trial:g}, but the cluster has {gpus:g}")
    measured_gpus = gpus if wanted == "auto" else 0.0
    slots = Slots(config.resources, gpus_per_trial, 1, tuple(nodes), measured_gpus)
    fits = max(sum(node.fits(config.resources) for node in slots.able), awaited)
    if fits < 1:
        raise RunError(_too_much(config.resources, nodes) + ("" if own else AWAIT))
    if gpus_per_trial and not measured_gpus:
        fits = min(fits, _side_by_side(gpus, gpus_per_trial))
    return replace(slots, concurrent=min(fits, config.resources.concurrent or fits))


AWAIT = ", or set resources.concurrent to wait for nodes that will come"


def _too_much(resources: ResourcesConfig, nodes: Sequence[Node]) -> str:
    """What of a trial's demands no node meets, in words."""
    most = max((node.cpus for node in nodes), default=0)
    if most < resources.cpus_per_trial:
        return (
            f"resources.cpus_per_trial = {resources.cpus_per_trial}, but the largest node has {most} CPUs; "
            "ask for fewer"
        )
    able = [node for node in nodes if node.cpus >= resources.cpus_per_trial]
    memory = max(node.memory for node in able) / GB
    if resources.memory_gb_per_trial is not None and memory < resources.memory_gb_per_trial:
        return (
            f"resources.memory_gb_per_trial = {resources.memory_gb_per_trial:g}, but the largest node has "
            f"{memory:.1f} GB for trials; ask for less"
        )
    return (
        f"no node has the GPU, the {resources.cpus_per_trial} CPUs and the memory of a trial together; "
        "ask for less (resources)"
    )


def _side_by_side(gpus: float, per_trial: float) -> int:
    """A fraction of a GPU is never put together from two."""
    return int(gpus) * int(1 / per_trial + 1e-9) if per_trial < 1 else int(gpus / per_trial)
