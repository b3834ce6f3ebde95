"""How many trials run at once on the machines at hand, and what one of them asks for."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.scheduling.cluster import GB, Node, Slots, slots_from
from medfathom.scheduling.messages import Order
from medfathom.study.assignment import Assignment


def config(**resources: Any) -> StudyConfig:
    return load_definition("demo", [f"resources.{key}={value}" for key, value in resources.items()])


def asked(slots: Slots, *, alone: bool = False, refused: Sequence[str] = ()) -> dict[str, float]:
    params = TrialParams.model_validate({"architecture": "a", "init": "random", "unfreeze_depth": 0})
    assignment, nodes = Assignment(0, params, "a", 0, {}), frozenset(refused)
    return slots.request({"order": Order(assignment, "trial-00000.pt", alone=alone, refused=nodes)})


machines = st.builds(Node, st.integers(0, 16), st.just(0.0), st.integers(1, 64).map(lambda gb: 1.0 * gb * GB))


@given(st.lists(machines, min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 16))
def test_every_trial_that_is_asked_for_has_its_cpus_and_its_memory_on_one_machine(
    nodes: list[Node], cpus: int, gigabytes: int
) -> None:
    study = config(cpus_per_trial=cpus, memory_gb_per_trial=gigabytes)
    places = sum(min(node.cpus // cpus, int(node.memory / GB) // gigabytes) for node in nodes)
    if places == 0:
        with pytest.raises(RunError, match=r"resources\.(cpus|memory_gb)_per_trial = \d+, but the largest"):
            slots_from(study, nodes)
        return
    slots = slots_from(study, nodes)
    assert slots.concurrent == places
    assert asked(slots) == {"cpu": cpus, "gpu": 0, "memory": gigabytes * GB}


def test_a_trial_that_ran_out_of_memory_gets_the_machine_with_the_most() -> None:
    nodes = [Node(32, memory=16.0 * GB), Node(8, memory=64.0 * GB), Node(0, memory=256.0 * GB)]
    slots = slots_from(config(), nodes)
    assert slots.concurrent == 40
    assert asked(slots) == {"cpu": 1, "gpu": 0, "memory": 0}
    assert asked(slots, alone=True) == {"cpu": 8, "gpu": 0, "memory": 64 * GB}
    only = slots_from(config(), [Node(4, memory=16.0 * GB)])
    assert asked(only, alone=True) == {"cpu": 4, "gpu": 0, "memory": 0}  # its CPUs keep others away


def test_it_asks_for_no_machine_that_has_refused_it() -> None:
    """Only that machine has as much: it would be given the trial again and again."""
    full, good = Node(8, memory=64.0 * GB + 1, id="full"), Node(6, memory=64.0 * GB, id="good")
    slots = slots_from(config(), [full, good])
    assert asked(slots, alone=True)["cpu"] == 8
    assert asked(slots, alone=True, refused=["full"]) == {"cpu": 6, "gpu": 0, "memory": 64 * GB}


def test_machines_without_a_gpu_take_no_trial_that_needs_one() -> None:
    nodes = [Node(8, gpus=2.0), Node(64)]
    assert slots_from(config(), nodes).concurrent == 8  # GPUs are shared by measured memory
    assert slots_from(config(gpus_per_trial=1), nodes).concurrent == 2
    assert slots_from(config(gpus_per_trial=0), nodes).concurrent == 72
    assert [node.cpus for node in slots_from(config(), nodes).able] == [8]
    with pytest.raises(RunError, match="gpus_per_trial = 3, but the cluster has 2"):
        slots_from(config(gpus_per_trial=3), nodes)
    with pytest.raises(RunError, match="no node has the GPU, the 16 CPUs and the memory"):
        slots_from(config(cpus_per_trial=16), nodes)


def test_trials_are_asked_for_that_only_nodes_to_come_can_take() -> None:
    study = config(concurrent=3, cpus_per_trial=4)
    waiting = slots_from(study, [Node(0)], awaited=3, own=False)
    assert (waiting.concurrent, waiting.able) == (3, ())
    assert asked(waiting, alone=True)["cpu"] == 4
    with pytest.raises(RunError, match=r"or set resources\.concurrent to wait for nodes that will come"):
        slots_from(config(cpus_per_trial=4), [Node(0)], own=False)
