"""Real Ray: whether each node has the medfathom of this command."""

import pytest
import ray

import medfathom
from medfathom.errors import RunError
from medfathom.scheduling.cluster import Node
from medfathom.scheduling.nodes import ANSWER_S, Versions

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def here() -> Node:
    (found,) = ray.nodes()
    return Node(2, id=found["NodeID"], name="here")


def test_a_node_with_the_same_version_takes_part(here: Node) -> None:
    versions = Versions()
    versions.check([here], ANSWER_S)
    versions.check([here])
    versions.check([])


def test_a_node_with_another_version_is_named(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    there = medfathom.__version__
    monkeypatch.setattr(medfathom, "__version__", "99.0", raising=False)
    with pytest.raises(RunError, match=rf"node here: medfathom {there} is installed there, 99\.0 here; "):
        Versions().check([here], ANSWER_S)


def test_a_node_that_left_meanwhile_says_nothing(here: Node) -> None:
    gone = Node(2, id="e" * len(here.id), name="gone")
    Versions().check([gone], ANSWER_S)
