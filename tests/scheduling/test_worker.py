"""What a worker does with an assignment before it trains."""

from pathlib import Path
from typing import Any

import pytest

from medfathom.definitions.load import load_definition
from medfathom.errors import OtherDataError
from medfathom.scheduling.messages import Plan
from medfathom.scheduling.worker import _checkpoint, task_of


@pytest.fixture
def plan(workdir: Path) -> Plan:
    return Plan(load_definition("demo", []), workdir, 1, "cpu", workdir, "data")


def assignment(number: int, running: list[int] | None) -> dict[str, Any]:
    """What is known when a trial is handed out."""
    return {"checkpoint": f"study/trial-{number:05d}.pt", "running": running}


def left(plan: Plan, *numbers: int) -> Path:
    """Checkpoints that trials left on this node."""
    folder = plan.storage / "checkpoints" / "study"
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"trial-{number:05d}.pt").touch()
    return folder


def kept(folder: Path) -> list[int]:
    """Numbers of the trials whose checkpoints are still there."""
    return sorted(int(path.stem.removeprefix("trial-")) for path in folder.glob("trial-*.pt"))


def test_checkpoints_of_ended_trials_are_removed(plan: Plan) -> None:
    folder = left(plan, 0, 1, 2)
    assert _checkpoint(plan, assignment(3, [1, 3])) == folder / "trial-00003.pt"
    assert kept(folder) == [1]


def test_checkpoints_of_trials_begun_since_stay(plan: Plan) -> None:
    """A trial whose worker died hours later is given out again as it was: 4, 5 and 7 were begun meanwhile."""
    folder = left(plan, 0, 1, 3, 4, 5, 7)
    _checkpoint(plan, assignment(3, [1, 2, 3]))
    assert kept(folder) == [1, 3, 4, 5, 7]


def test_an_adopted_trial_knows_of_higher_numbers(plan: Plan) -> None:
    folder = left(plan, 0, 1, 5, 6, 7)
    _checkpoint(plan, assignment(1, [1, 6]))
    assert kept(folder) == [1, 6, 7]


def test_one_node_alone_leaves_them_to_the_driver(plan: Plan) -> None:
    folder = left(plan, 0, 1)
    _checkpoint(plan, assignment(2, None))
    assert kept(folder) == [0, 1]


def test_a_worker_trains_on_the_studys_data_only(plan: Plan) -> None:
    """The demo's data are drawn from a seed; the plan names others."""
    with pytest.raises(OtherDataError, match=r"the data here have changed.*the study's is data\)"):
        task_of(plan, assignment(0, None))
