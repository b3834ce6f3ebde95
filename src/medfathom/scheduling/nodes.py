"""Whether every node of a cluster that others started has the medfathom of this command."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import medfathom
from medfathom.errors import RunError
from medfathom.scheduling.cluster import Node
from medfathom.scheduling.messages import said_last
from medfathom.text import command

ANSWER_S = 30.0
"""So long, in seconds, a run waits at its start for the nodes; a later answer is looked at when it comes."""


class Versions:
    """Asks each node once, without waiting for slow ones.

    A worker of a node without medfathom, or with another version, dies before it runs any of our code: trials
    would fail there one after another, for a reason that Ray does not tell.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._open: dict[ray.ObjectRef, Node] = {}

    def check(self, nodes: Sequence[Node], wait_s: float = 0.0) -> None:
        """Ask the nodes that are new; look at the answers that have come.

        Raises:
            RunError: a node cannot take part.
        """
        for node in nodes:
            if node.id not in self._asked:
                there = NodeAffinitySchedulingStrategy(node.id, soft=False)
                self._asked.add(node.id)
                self._open[_version.options(scheduling_strategy=there).remote()] = node
        if not self._open:
            return
        answered, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=wait_s)
        for ref in answered:
            node = self._open.pop(ref)
            if lacks := _lacks(ref):
                raise RunError(
                    f"node {node.name}: {lacks}; give it the Python environment of this machine or "
                    f"take it out of the cluster, then `{command('run')}` continues"
                )


def _lacks(answer: ray.ObjectRef) -> str:
    """What keeps a node from taking part, in words; empty: nothing."""
    try:
        version = ray.get(answer)
    except RayTaskError as error:
        return f"medfathom cannot be imported there ({said_last(error)})"
    except RayError:  # the node left the cluster before it answered
        return ""
    here = medfathom.__version__
    return "" if version == here else f"medfathom {version} is installed there, {here} here"


@ray.remote(num_cpus=0, max_calls=1, max_retries=0)  # type: ignore[untyped-decorator]
def _version() -> str:
    return medfathom.__version__
