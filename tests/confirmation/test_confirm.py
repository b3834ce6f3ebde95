"""What confirm does before it trains: bad input, its queue, other drivers; how it continues."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

import fake_confirm
from made_confirmations import confirmed, load, searched
from medfathom import confirm, scheduling
from medfathom.confirm import _queue, _without_stopping, confirm_study
from medfathom.confirmation import efficiency
from medfathom.confirmation import worker as confirm_worker
from medfathom.confirmation.find import CONFIRMS, confirmation_name, confirmed_folder, find_confirmation
from medfathom.confirmation.jobs import Job, list_jobs
from medfathom.confirmation.openings import OPENINGS
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.data.leakage import DEFINED_IN
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.errors import DataError, StorageError
from medfathom.models.folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.read import read_studies
from medfathom.study.summary import WITHDRAWN
from medfathom.study.watcher import Watcher
from medfathom.terminal.confirmation import confirmation_text


def test_an_unknown_study_is_answered_before_anything_heavy_is_imported(config: StudyConfig) -> None:
    searched(config, ended=1)
    code = (
        "import sys; from medfathom.cli import main\n"
        "sys.argv = ['medfathom', 'confirm', 'nosuch']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "heavy = {'torch', 'ray', 'matplotlib', 'scipy.stats', 'pandas', 'statsmodels', 'timm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "no study 'nosuch'" in done.stderr
    assert done.stdout == "[]\n"


def test_nothing_is_confirmed_before_a_trial_is_complete(config: StudyConfig) -> None:
    searched(config, complete=False)
    with pytest.raises(StorageError, match="no trial is complete yet"):
        confirm_study(config.name)


def test_other_data_and_a_test_split_of_one_class_are_refused(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(config)
    with pytest.raises(StorageError, match="was searched on other data"):
        confirm_study(config.name)
    assert "test_openings" not in load(config.name).user_attrs

    from medfathom.data import sizes  # noqa: PLC0415

    real = sizes.prepare_sizes

    def without_test(*arguments: Any, **options: Any) -> Any:
        data = real(*arguments, **options)
        from dataclasses import replace  # noqa: PLC0415

        return replace(
            data, fingerprint=study.user_attrs["dataset_fingerprint"], sizes={**data.sizes, "test": 0}
        )

    monkeypatch.setattr(sizes, "prepare_sizes", without_test)
    with pytest.raises(DataError, match="has no test split"):
        confirm_study(config.name)


def test_a_confirmation_of_another_study_of_that_name_does_not_count(
    config: StudyConfig, data: PreparedData
) -> None:
    study = searched(config)
    confirmed(config, study)
    with open_study(config, default_url(), "data", fresh=True):
        pass
    assert find_confirmation(load(config.name)) is None

    anew, live = searched(config), confirmation_name(config.name)
    queue(anew, data, list_jobs(anew, 1, None, []))
    known = {s.study_name: s for s in read_studies(default_url())}
    aside = [name for name in known if name.startswith(f"{live} (until ")]
    assert len(aside) == 1
    assert live in known
    # The search that was set aside can be confirmed too, and has its own confirmation.
    old = next(s for name, s in known.items() if name.startswith(f"{config.name} (until "))
    queue(old, data, list_jobs(old, 1, None, []))
    assert {old.study_name, confirmation_name(old.study_name)} <= {
        s.study_name for s in read_studies(default_url())
    }
    assert find_confirmation(anew) is not None


def queue(study: Any, data: PreparedData, jobs: list[Job], url: str = "") -> bool:
    """What `confirm` does before it trains."""
    with opened(study, data, url or default_url()) as driver:
        return _queue(driver, study, data, jobs, Watcher())


def opened(study: Any, data: PreparedData, url: str) -> AbstractContextManager[Driver]:
    """The study's confirmation, as `confirm` opens it."""
    marks = {CONFIRMS: study.user_attrs["uid"]}
    return confirm.open_study(_without_stopping(study), url, data.fingerprint, marks=marks)


def in_queue(study: Any) -> dict[tuple[int, int], list[str]]:
    """(search trial, seed) -> the states of its trials in the confirmation."""
    found: dict[tuple[int, int], list[str]] = {}
    confirmation = find_confirmation(study)
    assert confirmation is not None
    for trial in confirmation.get_trials():
        key = trial.user_attrs["search_trial"], trial.user_attrs["seed_index"]
        found.setdefault(key, []).append(trial.state.name)
    return found


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation's trials are done by the driver itself, at once; their value is their number / 1000."""

    def run_trials(config: StudyConfig, driver: Driver, watcher: Watcher, *more: Any) -> str:
        folder = more[-1].keywords["folder"]
        for assignment in [*driver.adopt(), *iter(driver.assign, None)]:
            number = assignment.number
            driver.complete(number, number / 1000, fake_confirm.keep(folder, number))
        assert driver.done()
        return ""

    monkeypatch.setattr(scheduling, "run_trials", run_trials)
    monkeypatch.setattr(efficiency, "keep", lambda *_: None)


def test_what_is_not_asked_for_any_more_leaves_the_queue(
    config: StudyConfig, data: PreparedData, no_workers: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    once, thrice = list_jobs(study, 1, None, []), list_jobs(study, 3, None, [])
    assert queue(study, data, thrice)
    with open_study(_without_stopping(study), default_url(), data.fingerprint) as driver:
        for _ in range(len(once) + 1):  # interrupted in the middle of a second seed
            assert driver.assign() is not None

    outcome = confirm_study(config.name, seeds=1)
    assert outcome.halted == ""
    assert {m.seed for result in outcome.summary.strata for m in result.models} == {0}
    assert outcome.summary.failures == ()
    for (_, seed), states in in_queue(study).items():
        assert states == (["FAIL"] if seed else ["COMPLETE"])
    confirmation = find_confirmation(study)
    assert confirmation is not None
    ended = confirmation.get_trials(states=[TrialState.FAIL])
    assert {t.user_attrs["stop_reason"] for t in ended} == {
        "withdrawn: a later `confirm` did not ask for this model"
    }
    assert all(t.user_attrs[WITHDRAWN] for t in ended)

    assert queue(study, data, thrice)
    again = in_queue(study)
    assert again.keys() == {job.key for job in thrice}
    assert all(
        states == (["FAIL", "WAITING"] if seed else ["COMPLETE"]) for (_, seed), states in again.items()
    )


def test_a_call_that_comes_as_soon_as_it_can_takes_nothing_away(
    config: StudyConfig, data: PreparedData, no_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not come between the queue of another call and its training."""
    searched(config, fingerprint=data.fingerprint)
    real = confirm.open_study

    @contextmanager
    def followed(*arguments: Any, **options: Any) -> Iterator[Driver]:
        with real(*arguments, **options) as driver:
            yield driver
        monkeypatch.setattr(confirm, "open_study", real)
        confirm_study(config.name, seeds=1)

    monkeypatch.setattr(confirm, "open_study", followed)
    summary = confirm_study(config.name, seeds=3).summary
    assert {m.seed for result in summary.strata for m in result.models} == {0, 1, 2}


def test_models_whose_files_are_gone_are_trained_again_and_count_once(
    config: StudyConfig, data: PreparedData, no_workers: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    jobs = list_jobs(study, 3, None, [])
    confirm_study(config.name, seeds=3)
    assert not queue(study, data, jobs)
    for number, name in enumerate(("test.parquet", WEIGHTS_FILE, CONFIG_FILE)):
        (confirmed_folder(study) / f"trial-{number:05d}" / name).unlink()
    with pytest.raises(
        StorageError, match=r"test\.parquet: the predictions are missing; confirm the study again"
    ):
        summarize_confirmation(study, find_confirmation(study))

    again = confirm_study(config.name, seeds=3).summary
    models = {m.trial for result in again.strata for m in result.models}
    assert models == set(range(3, len(jobs) + 3))
    assert sum(len(result.models) for result in again.strata) == len(jobs)
    assert not queue(study, data, jobs)


class Listening(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("ended", "words"), [(6, "the search has ended 6 of 8 trials; "), (8, None)])
def test_a_search_that_is_not_at_its_end_is_said_to_be(
    config: StudyConfig, data: PreparedData, no_workers: None, ended: int, words: str | None
) -> None:
    searched(config, fingerprint=data.fingerprint, ended=ended)
    watcher = Listening()
    summary = confirm_study(config.name, seeds=1, watcher=watcher).summary
    said = [note for note in watcher.notes if note.startswith("the search has ended")]
    assert said == ([summary.unfinished] if words else [])
    console = Console(width=200)
    with console.capture() as printed:
        console.print(confirmation_text(summary))
    if words:
        assert summary.unfinished is not None
        assert summary.unfinished.startswith(words)
        assert f"T{words[1:]}" in printed.get()
    else:
        assert summary.unfinished is None
        assert "search has ended" not in printed.get()


def test_its_hints_name_the_definition_s_file(
    config: StudyConfig, data: PreparedData, no_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(config, fingerprint=data.fingerprint)
    load(config.name).set_user_attr(DEFINED_IN, "here/mine.toml")
    monkeypatch.setattr(confirm, "leakage_note", lambda *arguments: f"to see it: {arguments[-1]}")
    watcher = Listening()
    confirm_study(config.name, seeds=1, watcher=watcher)
    assert "to see it: here/mine.toml" in watcher.notes


def test_two_confirmations_that_begin_at_once_are_one(
    config: StudyConfig, data: PreparedData, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = config.model_copy(update={"name": "begun-twice"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    jobs = list_jobs(study, 2, None, [])
    real = confirm.open_study

    def late(*arguments: Any, **options: Any) -> Any:
        """The other driver does all of it just before this one opens the confirmation."""
        monkeypatch.setattr(confirm, "open_study", real)
        assert queue(load(named.name, postgresql), data, jobs, postgresql)
        return real(*arguments, **options)

    monkeypatch.setattr(confirm, "open_study", late)
    assert queue(study, data, jobs, postgresql)
    mine = [s.study_name for s in read_studies(postgresql) if s.study_name.startswith(named.name)]
    assert sorted(mine) == [named.name, confirmation_name(named.name)]
    assert in_queue(study) == {job.key: ["WAITING"] for job in jobs}


def test_many_drivers_queue_each_job_once(config: StudyConfig, data: PreparedData, postgresql: str) -> None:
    named = config.model_copy(update={"name": "queued-by-many"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    jobs = list_jobs(study, 4, None, [])
    together = threading.Barrier(4)

    def driver() -> None:
        own = load(named.name, postgresql)
        together.wait()
        queue(own, data, jobs, postgresql)

    threads = [threading.Thread(target=driver) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_queue(study) == {job.key: ["WAITING"] for job in jobs}
    assert len(study.user_attrs[OPENINGS]) == 1


def test_nothing_is_taken_out_of_the_queue_while_another_driver_is_at_work(
    config: StudyConfig, data: PreparedData, postgresql: str
) -> None:
    named = config.model_copy(update={"name": "at-work"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    twice = list_jobs(study, 2, None, [])
    assert queue(study, data, twice, postgresql)
    with open_study(_without_stopping(study), postgresql, data.fingerprint) as other:
        assert other.assign() is not None
        assert queue(study, data, list_jobs(study, 1, None, []), postgresql)
        assert {s for states in in_queue(study).values() for s in states} == {"RUNNING", "WAITING"}
    assert queue(study, data, list_jobs(study, 1, None, []), postgresql)
    assert all((states == ["FAIL"]) == (seed == 1) for (_, seed), states in in_queue(study).items())


def test_nothing_is_taken_out_of_the_queue_of_a_driver_that_has_not_begun(
    config: StudyConfig, data: PreparedData, postgresql: str
) -> None:
    """It starts Ray, which takes seconds."""
    named = config.model_copy(update={"name": "not-begun"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    once, twice = (list_jobs(study, n, None, []) for n in (1, 2))
    with opened(study, data, postgresql) as other:
        assert _queue(other, study, data, twice, Watcher())
        assert queue(study, data, once, postgresql)
        assert in_queue(study) == {job.key: ["WAITING"] for job in twice}
    assert queue(study, data, once, postgresql)
    assert in_queue(study) == {job.key: ["FAIL"] if job.key[1] else ["WAITING"] for job in twice}


class Interrupting(Watcher):
    """Presses Ctrl-C when the first trial has ended."""

    def trial_ends(self, number: int, state: str, auc: float | None, reason: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confirmed models come from `fake_confirm`, and nobody times them."""
    monkeypatch.setattr(confirm_worker, "confirmed_results", fake_confirm.results)
    monkeypatch.setattr(efficiency, "keep", lambda *_: None)


@pytest.mark.slow
def test_an_interrupted_confirmation_goes_on(
    config: StudyConfig, data: PreparedData, ray_cluster: None, no_training: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    jobs = list_jobs(study, 2, None, [])
    interrupted = confirm_study(config.name, seeds=2, watcher=Interrupting())
    assert interrupted.halted == "interrupted"
    before = fake_confirm.begun(confirmed_folder(study))
    assert 0 < sum(len(result.models) for result in interrupted.summary.strata) < len(jobs)
    done = {m.trial for result in interrupted.summary.strata for m in result.models}

    gc.collect()  # workers of the fit that ended in the midst of it
    again = confirm_study(config.name, seeds=2)
    assert again.halted == ""
    assert in_queue(study) == {job.key: ["COMPLETE"] for job in jobs}
    assert sum(len(result.models) for result in again.summary.strata) == len(jobs)
    after = fake_confirm.begun(confirmed_folder(study))[len(before) :]
    assert done.isdisjoint(after)
    assert len(after) == len(set(after)) == len(jobs) - len(done)
    assert [sorted(opening.models) for opening in again.summary.openings] == [sorted(job.key for job in jobs)]
