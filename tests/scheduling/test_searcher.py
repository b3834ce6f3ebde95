"""The searcher by itself: what becomes of a trial whose worker is gone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

import fake_work
from fake_work import quick
from medfathom.definitions.load import load_definition
from medfathom.definitions.space import TrialParams
from medfathom.scheduling.cluster import Node, slots_from
from medfathom.scheduling.halt import Halt
from medfathom.scheduling.messages import Failure, Lost, Parcel, Rest, RunSettings
from medfathom.scheduling.searcher import AskTell
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.growth import asked
from medfathom.study.open import open_study
from medfathom.study.watcher import Watcher
from medfathom.trial.alike import can_fit_beside


@pytest.fixture
def driver(workdir: Path) -> Iterator[Driver]:
    config = load_definition("demo", ["budget.trials=3", "sampler=random", "scheduler=none"])
    with open_study(config, default_url(), "data") as opened:
        yield opened


class Notes(Watcher):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def searcher_of(
    driver: Driver,
    folder: Path,
    nodes: int = 2,
    watcher: Watcher | None = None,
    halt: Halt | None = None,
    places: int = 2,
) -> AskTell:
    settings = RunSettings(driver.config, folder, 1, "cpu", folder, "data", work=quick)
    machines = [Node(places, id=f"node {i}") for i in range(nodes)]
    slots = replace(slots_from(driver.config, machines), concurrent=places)
    return AskTell(driver, watcher or Watcher(), halt or Halt(driver.config, driver), lambda: slots, settings)


def full_disk(node: str) -> dict[str, object]:
    """A worker's result on a node whose disk is full."""
    return Failure("node a: No space left on device", mend="mend this", node=node).to_tune()


def test_a_trial_of_a_node_that_cannot_take_part_goes_to_another(driver: Driver, workdir: Path) -> None:
    notes, halt = Notes(), Halt(driver.config, driver)
    searcher = searcher_of(driver, workdir, watcher=notes, halt=halt)
    first = searcher.suggest("a")["order"].assignment
    searcher.on_trial_result("a", full_disk("node 0"))
    assert notes.told == ["node a: No space left on device; its trials go to the other nodes"]
    assert searcher.suggest("b")["order"].assignment == first
    assert searcher.suggest("c") is None  # one of two places is held by the worker that rests
    assert not halt("a", Rest(over=False).to_tune())
    searcher.on_trial_result("a", Rest(over=False).to_tune())
    searcher.on_trial_complete("a", Rest(over=True).to_tune())
    assert searcher.suggest("c")["order"].assignment != first
    searcher.on_trial_result("c", full_disk("node 0"))  # it has been tried again: nothing new is told
    assert len(notes.told) == 1
    for name, trial in zip("bd", [first.number, 1], strict=True):
        if name == "d":
            assert searcher.suggest("d")["order"].assignment.number == trial
        searcher.on_trial_complete(name, epoch(driver, driver.config.budget.epochs))
    searcher.suggest("e")
    searcher.on_trial_complete("e", epoch(driver, driver.config.budget.epochs))
    assert [t.state for t in driver.trials()] == [TrialState.COMPLETE] * 3
    assert halt("c", Rest(over=False).to_tune())  # nothing is left to do: its rest ends now
    assert not halt.reason


def test_a_run_ends_when_no_node_is_left(driver: Driver, workdir: Path) -> None:
    halt = Halt(driver.config, driver)
    searcher = searcher_of(driver, workdir, halt=halt)
    first = searcher.suggest("a")["order"].assignment
    searcher.on_trial_result("a", full_disk("node 0"))
    assert not halt.reason
    assert searcher.suggest("b")["order"].assignment == first
    searcher.on_trial_result("b", full_disk("node 1"))
    assert halt.reason == "trial 0: node a: No space left on device; mend this"
    assert [t.state for t in driver.trials()] == [TrialState.RUNNING]  # the same command goes on with it


def test_a_full_node_of_many_workers_leaves_the_run_to_the_others(driver: Driver, workdir: Path) -> None:
    halt = Halt(driver.config, driver)
    searcher = searcher_of(driver, workdir, halt=halt, places=8)
    for worker in "abcdefgh":  # each place that becomes free takes the trial that was sent on
        order = searcher.suggest(worker)["order"]
        assert order.assignment.number == 0
        searcher.on_trial_result(worker, full_disk("node 0"))
        assert not halt.reason
    order = searcher.suggest("i")["order"]
    assert order.refused == {"node 0"}  # a trial that needs a whole machine asks for another one
    searcher.on_trial_complete("i", epoch(driver, driver.config.budget.epochs))
    assert [t.state for t in driver.trials()] == [TrialState.COMPLETE]


def test_a_run_ends_when_every_node_rests_and_nothing_is_at_work(driver: Driver, workdir: Path) -> None:
    """Each could refuse its own trial again and again."""
    halt = Halt(driver.config, driver)
    searcher = searcher_of(driver, workdir, halt=halt, places=8)
    for worker in "ab":
        searcher.suggest(worker)
    searcher.on_trial_result("a", full_disk("node 0"))
    assert not halt.reason
    searcher.on_trial_result("b", full_disk("node 1"))
    assert halt.reason.startswith("trial 1: node a")


def test_trials_that_two_nodes_refuse_are_each_tried_on_the_other(driver: Driver, workdir: Path) -> None:
    halt = Halt(driver.config, driver)
    searcher = searcher_of(driver, workdir, halt=halt, places=8)
    one, two, _ = (searcher.suggest(worker)["order"].assignment.number for worker in "abz")
    searcher.on_trial_result("a", full_disk("node 0"))
    searcher.on_trial_result("b", full_disk("node 1"))
    assert not halt.reason  # other workers of both may have room: what they prepared is there
    assert [searcher.suggest(worker)["order"].assignment.number for worker in "cd"] == [one, two]
    searcher.on_trial_complete("a", Rest(over=True).to_tune())
    searcher.on_trial_result("c", full_disk("node 1"))
    assert not halt.reason  # node 0 is tried again by now
    assert searcher.suggest("e")["order"].assignment.number == one
    searcher.on_trial_result("e", full_disk("node 0"))
    assert halt.reason.startswith(f"trial {one}: node a")


def test_a_worker_gone_before_it_took_a_trial_is_no_failure_of_the_trial(
    driver: Driver, workdir: Path
) -> None:
    searcher = searcher_of(driver, workdir)
    first = searcher.suggest("a")["order"].assignment
    searcher.lost["a"] = Lost("the worker was lost", began=False)
    searcher.on_trial_complete("a", error=True)
    assert [t.state for t in driver.trials()] == [TrialState.RUNNING]
    assert searcher.suggest("b")["order"].assignment == first
    searcher.lost["b"] = Lost("the worker was lost (ActorDiedError: killed)")
    searcher.on_trial_complete("b", error=True)
    (trial,) = driver.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"] == "the worker was lost (ActorDiedError: killed)"


def last_result(driver: Driver, parcel: Parcel) -> dict[str, object]:
    """A trial's last epoch, with a model."""
    settings = RunSettings(driver.config, Path(), 1, "cpu", Path(), "data")
    return replace(fake_work.result(settings, driver.config.budget.epochs, 0.9), parcel=parcel).to_tune()


def made(folder: Path) -> Path:
    """A model folder that a worker made."""
    (folder / "head").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "head" / "config.json").write_text("{}")
    return folder


def test_a_model_is_written_where_the_driver_is(driver: Driver, workdir: Path) -> None:
    searcher = searcher_of(driver, workdir)
    searcher.suggest("a")
    source, target = made(workdir / "node" / "trial-00000"), workdir / "driver" / "trial-00000"
    result = last_result(driver, Parcel.pack(source, target))
    assert not source.exists()
    searcher.on_trial_complete("a", result)
    assert (target / "weights").read_bytes() == bytes(range(256))
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == [
        "head/config.json",
        "weights",
    ]
    assert [t.state for t in driver.trials()] == [TrialState.COMPLETE]
    assert result["parcel"].files == {}  # Tune keeps the result  # type: ignore[attr-defined]


def test_a_trial_whose_model_cannot_be_written_failed(driver: Driver, workdir: Path) -> None:
    searcher = searcher_of(driver, workdir)
    searcher.suggest("a")
    (workdir / "driver").write_text("a file where the folder should be")
    parcel = Parcel.pack(made(workdir / "trial-00000"), workdir / "driver" / "trial-00000")
    searcher.on_trial_complete("a", last_result(driver, parcel))
    (trial,) = driver.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"].startswith(f"its model cannot be written to {parcel.folder} (")


def queue_heads(driver: Driver, seeds: Sequence[int], **changes: object) -> None:
    """Queue trials that train a head alone, as a confirmation queues its models."""
    driver.queue_only = True
    chosen = driver.config.space.dimensions["architecture"].choices
    assert chosen
    base = {"architecture": chosen[0], "init": "imagenet", "unfreeze_depth": 0, "learning_rate": 0.01}
    params = TrialParams.model_validate({**base, **changes})
    for seed in seeds:
        given, _ = asked(params, driver.config.space)
        driver.study.enqueue_trial(given, user_attrs={"seed": seed})


def epoch(driver: Driver, number: int) -> dict[str, object]:
    """A trial's result after an epoch."""
    settings = RunSettings(driver.config, Path(), 1, "cpu", Path(), "data")
    return fake_work.result(settings, number, 0.9).to_tune()


def test_heads_that_wait_are_fitted_beside_the_first_and_then_have_their_turn(
    driver: Driver, workdir: Path
) -> None:
    queue_heads(driver, [11, 12])
    queue_heads(driver, [13], unfreeze_depth=1)
    queue_heads(driver, [14])
    queue_heads(driver, [15], unfreeze_depth=1)
    searcher, epochs = searcher_of(driver, workdir, nodes=1), driver.config.budget.epochs

    def begins(name: str) -> tuple[int, list[tuple[int, int]]]:
        order = searcher.suggest(name)["order"]
        assert order.checkpoint.endswith(f"trial-{order.assignment.number:05d}.pt")
        return order.assignment.number, [(o.assignment.number, o.assignment.seed) for o in order.beside]

    assert begins("a") == (0, [(1, 12), (3, 14)])
    assert begins("b") == (2, [])
    searcher.on_trial_result("a", epoch(driver, epochs - 1))
    searcher.on_trial_complete("b", epoch(driver, epochs))
    assert begins("c") == (4, [])  # the queue comes first: every configuration's first seed
    searcher.on_trial_complete("a", epoch(driver, epochs))
    assert begins("d") == (1, [])
    searcher.on_trial_complete("c", epoch(driver, epochs))
    assert begins("e") == (3, [])
    for name in "de":
        assert not driver.done()
        searcher.on_trial_complete(name, epoch(driver, epochs))
    assert driver.done()
    assert {t.state for t in driver.trials()} == {TrialState.COMPLETE}


def test_what_is_beside_a_trial_waits_for_it(driver: Driver, workdir: Path) -> None:
    queue_heads(driver, [11, 12])
    searcher = searcher_of(driver, workdir, nodes=1)
    assert len(searcher.suggest("a")["order"].beside) == 1
    assert searcher.suggest("b") is None
    assert not driver.done()
    searcher.on_trial_result("a", epoch(driver, driver.config.budget.epochs - 1))
    assert searcher.suggest("b")["order"].assignment.number == 1


def test_heads_beside_one_whose_worker_is_lost_have_their_turn_too(driver: Driver, workdir: Path) -> None:
    queue_heads(driver, [11, 12, 13])
    searcher = searcher_of(driver, workdir, nodes=1)
    assert len(searcher.suggest("a")["order"].beside) == 2
    searcher.lost["a"] = Lost("the worker was lost (ActorDiedError: killed)")
    searcher.on_trial_complete("a", error=True)
    numbers = [searcher.suggest(name)["order"].assignment.number for name in "bc"]
    assert numbers == [1, 2]
    assert [t.state.name for t in driver.trials()] == ["FAIL", "RUNNING", "RUNNING"]


def test_heads_beside_one_are_taken_up_after_their_driver_is_gone(driver: Driver, workdir: Path) -> None:
    queue_heads(driver, [11, 12, 13])
    assert len(searcher_of(driver, workdir, nodes=1).suggest("a")["order"].beside) == 2
    driver.release()  # as when its process is killed
    again = searcher_of(driver, workdir, nodes=1)
    order = again.suggest("a")["order"]
    assert order.assignment.number == 0
    assert [other.assignment.number for other in order.beside] == [1, 2]


def test_on_several_nodes_each_head_is_fitted_by_itself(driver: Driver, workdir: Path) -> None:
    queue_heads(driver, [11, 12])
    assert searcher_of(driver, workdir, nodes=2).suggest("a")["order"].beside == ()


def test_an_order_names_the_trials_that_wait_too(driver: Driver, workdir: Path) -> None:
    """A worker removes what the others left on its node; one that waits may be begun by then."""
    for rate in (1e-3, 2e-3):
        driver.study.enqueue_trial({"learning_rate": rate})
    order = searcher_of(driver, workdir).suggest("a")["order"]
    assert (order.assignment.number, order.unfinished) == (0, (0, 1))
    assert searcher_of(driver, workdir, nodes=1).suggest("b")["order"].unfinished is None


def test_a_trial_with_a_limit_of_time_does_not_pay_for_others() -> None:
    assert can_fit_beside(load_definition("demo"))
    assert not can_fit_beside(load_definition("demo", ["budget.trial_minutes=5"]))
